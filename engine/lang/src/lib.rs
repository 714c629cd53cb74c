//! The runbook language: documents with positions, diagnostics, schemas, templates, expressions.

pub mod action;
pub mod codes;
pub mod diagnostic;
pub mod inventory;
pub mod parse;
pub mod runbook;
pub mod selector;
pub mod source;

pub use action::ActionFile;
pub use codes::Code;
pub use diagnostic::{Diagnostic, Parsed, Severity};
pub use inventory::Inventory;
pub use parse::{parse_action, parse_inventory, parse_runbook, resolve_parameters};
pub use runbook::Runbook;
pub use selector::Selector;
pub use source::{Source, Span, Spanned, Text};

/// The largest file that is read: runbooks that people write are a hundredth of this.
pub const FILE_BYTES_MAX: usize = 1 << 20;
