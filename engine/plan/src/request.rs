//! What a plan is made from.

use std::collections::BTreeMap;
use std::sync::Arc;

use runbook_lang::{ActionFile, Diagnostic, Inventory, Runbook, Selector};
use runbook_model::Sha256;
use runbook_model::evaluate::Evaluate;

/// What a plan is made from.
#[derive(Clone, Copy)]
pub struct PlanRequest<'a> {
    /// The runbook.
    pub runbook: &'a Runbook,
    /// The hosts that there are.
    pub inventory: &'a Inventory,
    /// Texts of the command line, by parameter (`-p name=value`).
    pub parameters: &'a BTreeMap<String, String>,
    /// `--limit`: of the hosts that the runbook selects only these.
    pub limit: Option<&'a Selector>,
    /// Packaged actions.
    pub actions: &'a dyn ActionSource,
    /// Local files.
    pub files: &'a dyn Files,
    /// Renders texts.
    pub evaluate: &'a dyn Evaluate,
}

/// Where packaged actions come from: the caller's folders first, then the shipped library.
pub trait ActionSource {
    /// The action called `name`; `None` when there is none.
    ///
    /// # Errors
    /// What is wrong with its file.
    fn find(&self, name: &str) -> Result<Option<Arc<ActionFile>>, Vec<Diagnostic>>;

    /// The names of all, for "did you mean".
    fn names(&self) -> Vec<String>;
}

/// Local files, as they are when the plan is made. The caller keeps their bytes under the digests that it gives, for
/// the run: a plan holds digests alone.
pub trait Files {
    /// What is at `path`, as written in the file called `base` and relative to its folder.
    ///
    /// # Errors
    /// Why it cannot be read, for people.
    fn look(&self, base: &str, path: &str) -> Result<Local, String>;
}

/// A local file or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Local {
    /// A file.
    File(LocalFile),
    /// The files of a folder and its folders, by path relative to it, with `/` between the parts on every system.
    Folder(BTreeMap<String, LocalFile>),
}

/// A local file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalFile {
    /// The digest of its bytes.
    pub sha256: Sha256,
    /// Its length.
    pub bytes: u64,
    /// Its permission bits; 0o644 where the system has none.
    pub mode: u32,
}
