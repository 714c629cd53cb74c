//! Who works here: what `people.yaml` says, as data. What follows from it for a run is decided by `runbook_policy`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// All persons, by their short names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct People {
    /// By short name.
    pub people: BTreeMap<String, Member>,
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// As people call them.
    pub name: String,
    /// What they may decide or do.
    pub roles: BTreeSet<String>,
    /// With what they sign.
    pub keys: Vec<Key>,
    /// Their login names on the controller.
    pub accounts: BTreeSet<String>,
    /// What they were trained in, and the last day (UTC) on which that counts.
    pub training: BTreeMap<String, Date>,
    /// Whom they work for, when not for us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<Vendor>,
    /// Who supervises their work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervisor: Option<String>,
}

/// A public key of OpenSSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Its type and its base64, without a comment.
    pub key: String,
    /// The last day (UTC) on which it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Date>,
    /// From this day (UTC) on nothing that it signed counts any more, whenever that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Date>,
}

/// A firm that works for us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vendor {
    /// Its name.
    pub company: String,
    /// Its statement of work.
    pub sow: String,
    /// The last day (UTC) of that.
    pub sow_until: Date,
    /// The last day (UTC) of its agreement not to disclose.
    pub nda_until: Date,
    /// Who of ours supervises its work.
    pub supervisor: String,
}

impl People {
    /// Who has that login name on the controller.
    pub fn with_account(&self, account: &str) -> Option<(&str, &Member)> {
        self.find(|member| member.accounts.contains(account))
    }

    /// Who has that public key (its type and its base64).
    pub fn with_key(&self, key: &str) -> Option<(&str, &Member)> {
        self.find(|member| member.keys.iter().any(|own| own.key == key))
    }

    fn find(&self, is: impl Fn(&Member) -> bool) -> Option<(&str, &Member)> {
        self.people.iter().find(|(_, member)| is(member)).map(|(id, member)| (id.as_str(), member))
    }
}
