//! `people/v1`.
#![allow(dead_code, reason = "only the schemas of these types are used")]

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::values::Text;
use super::windows::Day;

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct People {
    /// The kind and version of this file.
    schema: String,
    /// The people, by their short names.
    people: BTreeMap<String, Member>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Member {
    /// As people call them.
    name: Text,
    /// What they may decide or do.
    roles: Option<Vec<Text>>,
    /// With what they sign: public keys of OpenSSH.
    keys: Option<Vec<KeyOrLine>>,
    /// Their login names on the controller.
    accounts: Option<Vec<Text>>,
    /// What they were trained in, and until when that counts.
    training: Option<BTreeMap<String, Day>>,
    /// Whom they work for, when not for us.
    vendor: Option<Vendor>,
    /// Who supervises their work.
    supervisor: Option<Text>,
}

#[derive(JsonSchema)]
#[serde(untagged)]
enum KeyOrLine {
    /// A line of a `.pub` file.
    Line(String),
    /// One that does not count for ever.
    Key(Key),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Key {
    /// A line of a `.pub` file.
    key: String,
    /// The last day on which it counts.
    until: Option<Day>,
    /// From this day on nothing that it signed counts.
    revoked: Option<Day>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Vendor {
    /// The firm.
    company: Text,
    /// Its statement of work.
    sow: Text,
    /// The last day of that.
    sow_until: Day,
    /// The last day of its agreement not to disclose.
    nda_until: Day,
    /// Who of ours supervises its work.
    supervisor: Text,
}
