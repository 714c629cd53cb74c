//! Those who know hosts beside the inventory's files. Each answers with its own words, or with why there are none.

pub mod command;
pub mod netbox;
mod pages;
pub mod servicenow;

pub use command::Command;
pub use netbox::Netbox;
pub use servicenow::{Login, ServiceNow};
