//! `people.yaml`: who works here, as people write it.

use runbook_model::people::People;

use crate::diagnostic::{Diagnostic, Parsed};
use crate::parse;
use crate::read;

/// The people in the bytes of the file called `name`.
///
/// # Errors
/// All that is wrong with it.
pub fn parse_people(name: &str, bytes: &[u8]) -> Result<Parsed<People>, Vec<Diagnostic>> {
    parse::parse(name, bytes, read::people::people)
}
