//! Single values in schemas. YAML's plain words are JSON's numbers and booleans to an editor, so a text may be either.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

macro_rules! value {
    ($(#[$doc:meta])* $name:ident, $id:literal, $($schema:tt)*) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                $id.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($($schema)*)
            }
        }
    };
}

value! {
    /// Any scalar, as written.
    Text, "text", {"type": ["string", "number", "boolean"]}
}
value! {
    /// A scalar or nothing: `NAME:` in `env` is an empty value.
    Optional, "optionalText", {"type": ["string", "number", "boolean", "null"]}
}
value! {
    /// A duration.
    Duration, "duration", {
        "description": "A duration: 90s, 15m, 1h30m.",
        "anyOf": [
            {"type": "string", "minLength": 1, "pattern": "^(0|([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?)$"},
            {"const": 0}
        ]
    }
}
value! {
    /// A size.
    Size, "size", {
        "description": "A size: 512MiB, 2GB.",
        "anyOf": [
            {"type": "string", "pattern": "^[0-9]+ *(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?$"},
            {"type": "integer", "minimum": 0}
        ]
    }
}
value! {
    /// A count or a percentage.
    Share, "share", {
        "description": "A count (2) or a percentage (50%).",
        "anyOf": [
            {"type": "string", "pattern": "^[+]?([0-9]+|0*([0-9]{1,2}|100)%)$"},
            {"type": "integer", "minimum": 0}
        ]
    }
}
value! {
    /// A runbook's name.
    Name, "name", {"type": ["string", "number"], "pattern": "^[a-z0-9-]+$", "maxLength": 63}
}
value! {
    /// A step's id.
    Id, "id", {"type": ["string", "number"], "pattern": "^[a-z0-9_-]+$", "maxLength": 63}
}
value! {
    /// A packaged action's name.
    ActionName, "actionName", {
        "type": ["string", "number"],
        "pattern": "^[a-z0-9][a-z0-9_-]*(/[a-z0-9][a-z0-9_-]*)?$",
        "maxLength": 127
    }
}
value! {
    /// Octal permission bits.
    Mode, "mode", {
        "anyOf": [
            {"type": "string", "pattern": "^(0o)?[0-7]{3,4}$"},
            {"type": "integer", "minimum": 0}
        ]
    }
}
value! {
    /// A SHA-256 digest.
    Digest, "sha256", {"type": ["string", "number"], "pattern": "^[0-9a-fA-F]{64}$"}
}
value! {
    /// A growth.
    Backoff, "backoff", {"type": ["number", "string"], "minimum": 1, "maximum": 100}
}
value! {
    /// A path or glob on a host.
    HostPath, "hostPath", {"type": "string", "pattern": "^([/\\\\]|\\{\\{|[A-Za-z]:[\\\\/])"}
}
value! {
    /// Any value.
    Anything, "anything", {}
}
value! {
    /// A true or false.
    Flag, "flag", {"type": "boolean"}
}
value! {
    /// A TCP port.
    Port, "port", {"type": "integer", "minimum": 1, "maximum": 65535}
}
value! {
    /// Where a step runs.
    On, "on", {
        "description": "`controller`, or `host:<name>`; the host itself when it is left out.",
        "type": "string",
        "pattern": "^(controller|host:.*[^ ].*)$"
    }
}

/// One of `T`, or a list of them.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}
