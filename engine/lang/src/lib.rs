//! The runbook language: documents with positions, diagnostics, schemas, templates, expressions.
//!
//! Bytes go in through [`parse_runbook`], [`parse_action`] and [`inventory::parse_inventory`]; what comes out is typed and holds nothing
//! that is wrong, or it is a list of [`Diagnostic`]s with all that is. Pure: the only file that is ever opened is
//! opened by whoever implements [`inventory::Files`].

pub mod action;
pub mod codes;
pub mod diagnostic;
pub mod evaluate;
pub mod expression;
pub mod inventory;
pub mod parameter;
pub mod parse;
pub mod people;
pub mod policy;
mod read;
pub mod render;
pub mod runbook;
pub mod schedule;
pub mod schema;
pub mod selector;
pub mod similar;
pub mod source;
pub mod template;
pub mod windows;
mod yaml;

pub use action::ActionFile;
pub use codes::Code;
pub use diagnostic::{Diagnostic, Parsed, Severity};
pub use inventory::{Inventory, parse_inventory};
pub use parameter::{ParameterValues, resolve_parameters};
pub use parse::{parse_action, parse_runbook};
pub use people::parse_people;
pub use policy::{PolicyFile, parse_policy};
pub use runbook::Runbook;
pub use schedule::{ScheduleFile, parse_schedule};
pub use selector::Selector;
pub use source::{Source, Span, Spanned, Text};
pub use windows::{WindowsFile, parse_windows};
pub use yaml::load;

/// The largest runbook or action that is read: what people write is a hundredth of this.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// The largest inventory that is read: 10,000 hosts take about 2 MiB.
pub const INVENTORY_BYTES_MAX: usize = 8 << 20;
