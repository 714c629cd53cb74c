//! Monitoring systems that are muted while a run works on their hosts: Alertmanager.
//!
//! Names, addresses and labels of hosts may hold anything; what is made of them mutes the alerts of these hosts and no others.
//! Everything that comes from outside is bounded in length. No redirect is followed.

mod alertmanager;
mod silences;

pub use alertmanager::Alertmanager;
pub use runbook_wire::{Address, Login};
pub use silences::{MARK, SILENCES_MAX, quoted};

/// The kinds, as they are called in the settings and on record.
pub const KINDS: [&str; 1] = ["alertmanager"];
