//! The live view: what a person sees while a run goes on.
//!
//! [`Screen`] is a model of a few terminal lines that are redrawn in place; [`plain`] is the same for a file or a CI log,
//! one line per notable event and no escapes. Both are driven by records, output and time that the caller gives them.

pub mod plain;
mod screen;
mod tail;

pub use screen::Screen;
