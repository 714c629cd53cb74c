//! Plans as files: what `plan --out` writes and `apply` reads.
//!
//! The bytes may come from anywhere, so reading them trusts nothing: a file that is read is a plan that could have been
//! made here, or it is refused. Reading never panics.

use runbook_model::canonical;
use runbook_model::plan::{Plan, SCHEMA};

use crate::invariants;

mod strict;
#[cfg(test)]
mod tests;

/// The most that is read as a plan: 10,000 hosts with 100 steps each stay below a tenth of it.
pub const PLAN_BYTES_MAX: usize = 256 << 20;

/// Why a file is not used as a plan. Nothing was touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no JSON, or JSON that two readers could understand differently.
    #[error("this is not a saved plan: {0}")]
    NotJson(String),
    /// It is the document that `plan --format json` prints.
    #[error(
        "this is the printed form of a plan (`{schema}`), made for people and tools; save the plan itself with `plan --out FILE`"
    )]
    Preview {
        /// Its schema.
        schema: String,
    },
    /// It is of a version that this program does not know.
    #[error("the plan's schema is `{found}`, and this program reads `plan/v1`; plan again with this version")]
    Version {
        /// What it says, shortened.
        found: String,
    },
    /// It is JSON with keys or values that no plan has.
    #[error("this is not a plan that this program could have made: {0}")]
    Malformed(String),
    /// Its parts contradict each other.
    #[error("the plan contradicts itself: {}", .0.join("; "))]
    Broken(Vec<String>),
}

impl Error {
    /// The code of the page in `docs/errors`.
    pub fn code(&self) -> &'static str {
        match self {
            Error::NotJson(_) => "RB0280",
            Error::Preview { .. } => "RB0281",
            Error::Version { .. } => "RB0282",
            Error::Malformed(_) => "RB0283",
            Error::Broken(_) => "RB0284",
        }
    }
}

/// The plan as a file: its canonical JSON and a line end. Without the line end these are the bytes that are hashed, so
/// `head -c -1 FILE | sha256sum` prints the plan's digest.
pub fn save(plan: &Plan) -> Vec<u8> {
    let mut bytes = canonical::bytes(plan);
    bytes.push(b'\n');
    bytes
}

/// The plan in a file. White space and the order of keys do not matter.
///
/// # Errors
/// Anything that [`save`] could not have written for a plan that was built here.
pub fn load(bytes: &[u8]) -> Result<Plan, Error> {
    if bytes.len() > PLAN_BYTES_MAX {
        return Err(Error::NotJson(format!("it is larger than {} MiB", PLAN_BYTES_MAX >> 20)));
    }
    strict::check(bytes).map_err(|error| Error::NotJson(error.to_string()))?;
    // Only the schema is looked at first: a plan of another version must not be reported as a misspelt key.
    let head: Head = serde_json::from_slice(bytes).map_err(|error| Error::Malformed(error.to_string()))?;
    match head.schema.as_deref() {
        Some(SCHEMA) => {}
        Some(found) if found.starts_with("plan-preview/") => {
            return Err(Error::Preview { schema: crate::printable::text(&shortened(found)) });
        }
        Some(found) => return Err(Error::Version { found: crate::printable::text(&shortened(found)) }),
        None => return Err(Error::Malformed("the key `schema` is missing".into())),
    }
    let plan: Plan = serde_json::from_slice(bytes).map_err(|error| Error::Malformed(error.to_string()))?;
    let broken = invariants::violations(&plan);
    if broken.is_empty() { Ok(plan) } else { Err(Error::Broken(broken)) }
}

#[derive(serde::Deserialize)]
struct Head {
    #[serde(default)]
    schema: Option<String>,
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}
