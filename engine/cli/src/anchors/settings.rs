//! `[anchors.NAME]` in `runbook.toml`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use runbook_anchors::{Address, KINDS, Tls, Url};
use runbook_ledger::WitnessKey;
use runbook_model::units::parse_duration_ms;

use crate::settings::section::{hint, is_name};

/// How long an anchor is waited for unless the settings say otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);

/// One anchor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AnchorSettings {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// How long it is waited for.
    pub(crate) timeout: Duration,
}

/// What it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Rfc3161 {
        url: Url,
        tls: Tls,
        /// With which `evidence verify` checks its time stamps when the verifier brings nothing.
        tsa_ca: Option<PathBuf>,
    },
    Witness {
        url: Url,
        key: WitnessKey,
        tls: Tls,
    },
    Git {
        remote: String,
        branch: String,
    },
    File {
        path: PathBuf,
    },
    Syslog {
        address: Address,
        tls: Tls,
    },
}

impl Kind {
    /// As in the settings.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Kind::Rfc3161 { .. } => "rfc3161",
            Kind::Witness { .. } => "witness",
            Kind::Git { .. } => "git",
            Kind::File { .. } => "file",
            Kind::Syslog { .. } => "syslog",
        }
    }
}

/// The keys of a kind: those that must be there, and those that may.
fn keys(kind: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match kind {
        "rfc3161" => (&["url"], &["tsa_ca", "ca", "client_cert", "client_key", "timeout"]),
        "witness" => (&["url", "key"], &["ca", "client_cert", "client_key", "timeout"]),
        "git" => (&["remote"], &["branch", "timeout"]),
        "file" => (&["path"], &["timeout"]),
        _ => (&["address"], &["ca", "client_cert", "client_key", "timeout"]),
    }
}

/// Reads one section. Each problem is given with the key that it is at; `None` when there was any.
pub(crate) fn read(
    name: &str,
    table: &toml::Table,
    folder: &Path,
    problem: &mut dyn FnMut(&str, String),
) -> Option<AnchorSettings> {
    let mut bad = false;
    let mut wrong = |key: &str, text: String| {
        bad = true;
        problem(key, text);
    };
    if !is_name(name) {
        wrong("kind", format!("`{name}` cannot be an anchor's name: small letters, digits, `-` and `_`, at most 64"));
    }
    let kind = match table.get("kind") {
        Some(toml::Value::String(kind)) if KINDS.contains(&kind.as_str()) => kind.as_str(),
        Some(toml::Value::String(kind)) => {
            let hint = hint(kind, KINDS);
            wrong("kind", format!("there is no anchor of kind `{kind}`{hint}"));
            return None;
        }
        Some(_) | None => {
            wrong("kind", format!("an anchor needs `kind`, one of \"{}\"", KINDS.join("\", \"")));
            return None;
        }
    };
    let (needed, optional) = keys(kind);
    for (key, value) in table {
        let known = || needed.iter().chain(optional).copied();
        if key == "kind" {
            continue;
        }
        if !known().any(|name| name == key) {
            let hint = hint(key, known());
            wrong(key, format!("unknown key `{key}` for an anchor of kind {kind}{hint}"));
        } else if !value.is_str() {
            wrong(key, format!("`{key}` must be a text in quotes"));
        }
    }
    for key in needed {
        if !table.contains_key(*key) {
            wrong("kind", format!("an anchor of kind {kind} needs `{key}`"));
        }
    }
    let text = |key: &str| table.get(key).and_then(toml::Value::as_str);
    let path = |key: &str| text(key).map(|path| folder.join(path));
    let timeout = match text("timeout").map(parse_duration_ms) {
        None => TIMEOUT,
        Some(Ok(ms)) if ms > 0 => Duration::from_millis(ms),
        Some(Ok(_)) => {
            wrong("timeout", "`timeout` must not be 0".into());
            TIMEOUT
        }
        Some(Err(error)) => {
            wrong("timeout", error.to_string());
            TIMEOUT
        }
    };
    let client = match (path("client_cert"), path("client_key")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            wrong("client_cert", "`client_cert` and `client_key` belong together".into());
            None
        }
    };
    let tls = Tls { ca: path("ca"), client };
    // What is missing was told above.
    let mut parsed = |key: &str, what: Result<Kind, String>| what.map_err(|error| wrong(key, error)).ok();
    let kind = match kind {
        "rfc3161" => text("url")
            .and_then(|url| parsed("url", url.parse().map(|url| Kind::Rfc3161 { url, tls, tsa_ca: path("tsa_ca") }))),
        "witness" => text("url").zip(text("key")).and_then(|(url, key)| match key.parse::<WitnessKey>() {
            Ok(key) => parsed("url", url.parse().map(|url| Kind::Witness { url, key, tls })),
            Err(error) => parsed("key", Err(format!("`key` must be the line that the witness prints: {error}"))),
        }),
        "git" => text("remote").and_then(|remote| {
            let branch = text("branch").unwrap_or("heads").to_owned();
            let strange = |text: &str| text.is_empty() || text.starts_with('-') || text.chars().any(char::is_control);
            let no_branch = branch.contains([' ', '~', '^', ':', '?', '*', '[', '\\']) || branch.contains("..");
            if strange(&branch) || no_branch || branch.starts_with('/') || branch.ends_with('/') {
                return parsed("branch", Err(format!("`{branch}` cannot be a branch's name")));
            }
            match strange(remote) || has_password(remote) {
                true => parsed("remote", Err("`remote` must name a repository, without a password in it".into())),
                false => parsed("remote", Ok(Kind::Git { remote: remote.to_owned(), branch })),
            }
        }),
        "file" => path("path").map(|path| Kind::File { path }),
        _ => text("address")
            .and_then(|address| parsed("address", address.parse().map(|address| Kind::Syslog { address, tls }))),
    };
    if bad { None } else { kind.map(|kind| AnchorSettings { name: name.to_owned(), kind, timeout }) }
}

/// `https://user:password@host/…`: it would be on record with each receipt.
fn has_password(remote: &str) -> bool {
    let Some((_, rest)) = remote.split_once("://") else { return false };
    let authority = rest.split('/').next().unwrap_or_default();
    authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}
