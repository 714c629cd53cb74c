//! Systems of change tickets: Jira, ServiceNow, Trello.
//!
//! A ticket is read as it stands at one moment, with the exact bytes that said so. What is written is there once, however often
//! it is written: a text ends with the mark of its entry, by which it is found again; a file is found by its name; a ticket that
//! is where it should be is not moved. A state is left only by a way that the system offers, and looked at again before. Everything
//! that comes from outside is bounded in length, and no redirect is followed.

mod fields;
mod jira;
mod servicenow;
mod site;
mod text;
mod trello;

pub use fields::{Fields, Moves};
pub use jira::Jira;
pub use runbook_wire::{Address, Login};
pub use servicenow::ServiceNow;
pub use site::Site;
pub use trello::Trello;

/// The kinds, as they are called in the settings and on record.
pub const KINDS: [&str; 3] = ["jira", "servicenow", "trello"];
