//! The ways in: bytes to documents.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::action::ActionFile;
use crate::diagnostic::{Diagnostic, Parsed};
use crate::inventory::Inventory;
use crate::runbook::{Parameter, Runbook};

/// Reads further files for an inventory (`include`); paths are relative to the folder of the file that names them, already joined to it.
pub trait Files {
    /// The bytes of the file at `path`, or why it cannot be read. Need not return more than
    /// [`crate::FILE_BYTES_MAX`] + 1 bytes.
    fn read(&self, path: &str) -> Result<Vec<u8>, String>;
}

/// A runbook from the bytes of the file called `name`, or all that is wrong with it (in order of place).
pub fn parse_runbook(name: &str, bytes: &[u8]) -> Result<Parsed<Runbook>, Vec<Diagnostic>> {
    let _ = (name, bytes);
    Err(Vec::new())
}

/// A packaged action, in the same way.
pub fn parse_action(name: &str, bytes: &[u8]) -> Result<Parsed<ActionFile>, Vec<Diagnostic>> {
    let _ = (name, bytes);
    Err(Vec::new())
}

/// An inventory, in the same way. `name` is also the path to which includes are relative.
pub fn parse_inventory(name: &str, bytes: &[u8], files: &dyn Files) -> Result<Parsed<Inventory>, Vec<Diagnostic>> {
    let _ = (name, bytes, files);
    Err(Vec::new())
}

/// The values of a runbook's parameters: `given` are texts of the command line (`-p name=value`); defaults fill the
/// rest. A secret parameter's value is `{"secret": NAME}`, and the second map says where each such secret comes from.
/// Optional parameters without a value are absent.
pub fn resolve_parameters(
    parameters: &BTreeMap<String, Parameter>,
    given: &BTreeMap<String, String>,
) -> Result<ParameterValues, Vec<Diagnostic>> {
    let _ = (parameters, given);
    Err(Vec::new())
}

/// What [`resolve_parameters`] makes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParameterValues {
    /// Typed values by name, without floating-point numbers.
    pub values: BTreeMap<String, Value>,
    /// Where the values of secret parameters come from, by parameter.
    pub secrets: BTreeMap<String, runbook_model::plan::SecretRef>,
}
