//! The ways in: bytes to documents. All that is wrong with a file is reported at once, in the order of its places.

use crate::FILE_BYTES_MAX;
use crate::action::ActionFile;
use crate::diagnostic::{Diagnostic, Parsed, any_error, sorted};
use crate::read;
use crate::read::fields::Problems;
use crate::runbook::Runbook;
use crate::yaml::{self, NODES_MAX, Node};

/// A runbook from the bytes of the file called `name`.
///
/// # Errors
/// All that is wrong with it.
pub fn parse_runbook(name: &str, bytes: &[u8]) -> Result<Parsed<Runbook>, Vec<Diagnostic>> {
    parse(name, bytes, read::runbook::runbook)
}

/// A packaged action from the bytes of the file called `name`.
///
/// # Errors
/// All that is wrong with it.
pub fn parse_action(name: &str, bytes: &[u8]) -> Result<Parsed<ActionFile>, Vec<Diagnostic>> {
    parse(name, bytes, read::action::action)
}

pub(crate) fn parse<T>(
    name: &str,
    bytes: &[u8],
    read: fn(&Node, &mut Problems) -> Option<T>,
) -> Result<Parsed<T>, Vec<Diagnostic>> {
    let source = yaml::source(name, bytes, FILE_BYTES_MAX).map_err(|problem| vec![*problem])?;
    let mut problems = Problems::new(&source);
    let document = yaml::tree(&source, NODES_MAX, &mut problems.list).and_then(|node| read(&node, &mut problems));
    let problems = sorted(problems.list);
    match document {
        Some(value) if !any_error(&problems) => Ok(Parsed { value, warnings: problems }),
        _ => Err(problems),
    }
}
