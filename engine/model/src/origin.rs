//! Where hosts come from: who is asked for them beside the inventory's files, and what stays on record of that.

use serde::{Deserialize, Serialize};

use crate::Sha256;
use crate::plan::SecretRef;

/// Who is asked for hosts, and for which. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Question {
    /// A program on the controller that prints them.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
        /// Where it works.
        folder: String,
        /// It has so long, in milliseconds.
        within_ms: u64,
    },
    /// NetBox, over its REST API.
    Netbox {
        /// Where it is, without `/api`.
        url: String,
        /// Its token.
        token: SecretRef,
        /// `dcim/devices` or `virtualization/virtual-machines`.
        list: String,
        /// Names and values of the query.
        filter: Vec<(String, String)>,
        /// A file with the authorities that are believed; `None`: the system's.
        ca: Option<String>,
        /// For all pages, in milliseconds.
        within_ms: u64,
    },
    /// A table of ServiceNow, over its Table API.
    Servicenow {
        /// Where it is.
        url: String,
        /// Who logs in.
        login: Login,
        /// The table.
        table: String,
        /// `sysparm_query`.
        query: String,
        /// Which fields of a record are wanted.
        fields: Vec<String>,
        /// As for NetBox.
        ca: Option<String>,
        /// For all pages, in milliseconds.
        within_ms: u64,
    },
}

/// How somebody logs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Login {
    /// Account and password.
    Password {
        /// The account.
        user: String,
        /// Its password.
        password: SecretRef,
    },
    /// A bearer token.
    Token(SecretRef),
}

impl Question {
    /// In one word.
    pub fn kind(&self) -> &'static str {
        match self {
            Question::Command { .. } => "command",
            Question::Netbox { .. } => "netbox",
            Question::Servicenow { .. } => "servicenow",
        }
    }

    /// Who is asked, for people.
    pub fn from(&self) -> String {
        match self {
            Question::Command { argv, .. } => argv.join(" "),
            Question::Netbox { url, list, .. } => format!("{}/api/{list}/", url.trim_end_matches('/')),
            Question::Servicenow { url, table, .. } => format!("{}/api/now/table/{table}", url.trim_end_matches('/')),
        }
    }

    /// How long it may take, in milliseconds.
    pub fn within_ms(&self) -> u64 {
        match self {
            Question::Command { within_ms, .. }
            | Question::Netbox { within_ms, .. }
            | Question::Servicenow { within_ms, .. } => *within_ms,
        }
    }
}

/// A part of the inventory that a run was opened with: a file, or what somebody answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// `file`, or the kind of the question.
    pub kind: String,
    /// The file's path below the project, or who was asked.
    pub from: String,
    /// Digest of its bytes, which are kept under it.
    pub sha256: Sha256,
    /// When it was read or asked (Unix ms).
    pub asked_ms: u64,
    /// So many hosts stand in it.
    pub hosts: u64,
    /// It holds a password, so its bytes are not kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withheld: bool,
}
