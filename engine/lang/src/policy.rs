//! `policy.yaml`: what work needs before it may begin, as people write it.

use std::collections::BTreeMap;

use runbook_model::rules::Policy;

use crate::diagnostic::{Diagnostic, Parsed};
use crate::parse;
use crate::read;
use crate::selector::Selector;
use crate::source::Text;

/// A policy that was read.
#[derive(Debug, Clone)]
pub struct PolicyFile {
    /// What it says.
    pub policy: Policy,
    /// Every selection of it, by its text.
    pub selections: BTreeMap<String, (Text, Selector)>,
}

/// The policy in the bytes of the file called `name`.
///
/// # Errors
/// All that is wrong with it.
pub fn parse_policy(name: &str, bytes: &[u8]) -> Result<Parsed<PolicyFile>, Vec<Diagnostic>> {
    parse::parse(name, bytes, read::policy::policy)
}
