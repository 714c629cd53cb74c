//! The files that a plan is made from: runbook, inventory, actions, and what steps send.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use runbook_lang::{ActionFile, Diagnostic, Inventory, Runbook, Selector, inventory, parse_action, parse_runbook};
use runbook_model::Sha256;
use runbook_model::digest::Hasher;
use runbook_model::plan::Plan;
use runbook_plan::{ActionSource, Files, Local, LocalFile, PlanRequest};
use runbook_report::Palette;

use crate::arguments::Sources;
use crate::failure::Failure;
use crate::library;
use crate::origins::Reading;
use crate::problems::{self, Tell};
use crate::project::Project;
use crate::settings;
use crate::shrink;

/// Reads at most `most` bytes and one more, so that whoever parses them can say that it was too much.
pub(crate) fn read(path: &Path, most: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A file of the project with its path; `None` when there is no project, or no such file in it.
pub(crate) fn of_project(project: &Project, name: &str) -> Result<Option<(PathBuf, Vec<u8>)>, Failure> {
    let Some(root) = &project.root else { return Ok(None) };
    let path = root.join(name);
    match read(&path, runbook_lang::FILE_BYTES_MAX) {
        Ok(bytes) => Ok(Some((path, bytes))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::file("RB0608", "read", &path, &error)),
    }
}

/// The runbook in a file.
pub(crate) fn runbook(path: &Path, palette: Palette) -> Result<Runbook, Failure> {
    let bytes =
        read(path, runbook_lang::FILE_BYTES_MAX).map_err(|error| Failure::file("RB0608", "read", path, &error))?;
    let parsed = parse_runbook(&path.display().to_string(), &bytes)
        .map_err(|found| problems::failure(&found, &path.display().to_string(), palette))?;
    problems::show(&parsed.warnings, palette);
    Ok(parsed.value)
}

/// The project's inventory; without a project, or without an inventory in it, this machine alone. An inventory that was
/// there once and is gone is noticed all the same: its hosts are remembered from the last run (see `shrink`).
pub(crate) fn inventory(project: &Project, palette: Palette) -> Result<Inventory, Failure> {
    let (inventory, warnings, _) = inventory_with_files(project, Tell::Shown(palette))?;
    problems::show(&warnings, palette);
    Ok(inventory)
}

/// The same with the warnings that are to be shown, and the digests of the files that it was read from.
pub(crate) fn inventory_with_files(
    project: &Project,
    tell: Tell,
) -> Result<(Inventory, Vec<Diagnostic>, Digests), Failure> {
    let Some(path) = project.inventory() else { return Ok((Inventory::here(), Vec::new(), Vec::new())) };
    let shown = shown(&path);
    let bytes = match read(&path, runbook_lang::INVENTORY_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok((Inventory::here(), Vec::new(), vec![(path, None)]));
        }
        Err(error) => return Err(Failure::file("RB0608", "read", &path, &error)),
    };
    let reading = Reading::new(project, &path, &shown, &bytes);
    let parsed = inventory::parse_inventory(&shown, &bytes, &reading).map_err(|found| tell.failure(&found, &shown))?;
    let read = reading.done(&parsed.value);
    Ok((parsed.value, parsed.warnings, read))
}

/// Files with the digests of what was read from them; `None`: it was not there.
pub(crate) type Digests = Vec<(PathBuf, Option<Sha256>)>;

/// A path as people typed it would be: relative to the current folder when it is below.
pub(crate) fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}

/// Files that an inventory includes; paths in it become absolute.
pub(crate) struct InventoryFiles;

impl inventory::Files for InventoryFiles {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        read(Path::new(path), runbook_lang::INVENTORY_BYTES_MAX).map_err(|error| error.to_string())
    }

    fn resolve(&self, from: &str, path: &str) -> String {
        let home = std::env::var("HOME").unwrap_or_default();
        let path = match path.strip_prefix("~/") {
            Some(rest) if !home.is_empty() => format!("{home}/{rest}"),
            _ => path.to_owned(),
        };
        let here = std::env::current_dir().map(|here| here.display().to_string()).unwrap_or_default();
        let joined = inventory::join(from, &path);
        if joined.starts_with('/') { joined } else { inventory::join(&format!("{here}/."), &joined) }
    }
}

/// Packaged actions: beside the runbook, in the project, and those that ship.
pub(crate) struct ActionFolders {
    folders: Vec<PathBuf>,
    known: Mutex<BTreeMap<String, Found>>,
}

type Found = Result<Option<Arc<ActionFile>>, Vec<Diagnostic>>;

impl ActionFolders {
    /// For a runbook at `runbook` (its folder counts first).
    pub(crate) fn new(project: &Project, runbook: Option<&Path>) -> Self {
        let beside = runbook.map(|path| path.parent().unwrap_or(Path::new("")).join("actions"));
        let own = project.root.as_ref().map(|root| root.join("actions"));
        let mut folders: Vec<PathBuf> = beside.into_iter().chain(own).collect();
        folders.dedup();
        Self { folders, known: Mutex::new(BTreeMap::new()) }
    }

    /// Where the action is, and its text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<(String, Vec<u8>)>, String> {
        // A name is a file's name in a folder and nothing more.
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            return Ok(None);
        }
        for folder in &self.folders {
            let path = folder.join(format!("{name}.yaml"));
            match read(&path, runbook_lang::FILE_BYTES_MAX) {
                Ok(bytes) => return Ok(Some((shown(&path), bytes))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
            }
        }
        Ok(library::action(name).map(|text| (format!("(shipped) actions/{name}.yaml"), text.as_bytes().to_vec())))
    }

    fn load(&self, name: &str) -> Found {
        let (place, bytes) = match self.text(name) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(why) => {
                let source = runbook_lang::Source::new(name, "");
                let span = runbook_lang::Span::start_of(&source);
                return Err(vec![Diagnostic::error(runbook_lang::Code::Unreadable, &span, why)]);
            }
        };
        Ok(Some(Arc::new(parse_action(&place, &bytes)?.value)))
    }
}

impl ActionSource for ActionFolders {
    fn find(&self, name: &str) -> Found {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(name) {
            return found.clone();
        }
        let found = self.load(name);
        known.insert(name.to_owned(), found.clone());
        found
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = library::ACTIONS.iter().map(|(name, _)| (*name).to_owned()).collect();
        for folder in &self.folders {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let paths = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "yaml"));
            names.extend(paths.filter_map(|path| path.file_stem()?.to_str().map(str::to_owned)));
        }
        names.sort();
        names.dedup();
        names
    }
}

/// Local files that steps send, as they are now.
pub(crate) struct SentFiles;

impl SentFiles {
    fn file(&self, path: &Path) -> Result<LocalFile, String> {
        let why = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
        let (sha256, bytes) = digest(path).map_err(why)?;
        let mode = fs::metadata(path).map_err(why)?.permissions().mode() & 0o7777;
        Ok(LocalFile { sha256, bytes, mode })
    }

    fn folder(
        &self,
        folder: &Path,
        prefix: &str,
        out: &mut BTreeMap<String, LocalFile>,
        depth: usize,
    ) -> Result<(), String> {
        if depth > 64 {
            return Err(format!("{} is nested too deeply (a link that leads back to itself?)", folder.display()));
        }
        let entries = fs::read_dir(folder).map_err(|error| format!("{} cannot be read: {error}", folder.display()))?;
        for entry in entries {
            let entry = entry.map_err(|error| format!("{} cannot be read: {error}", folder.display()))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                return Err(format!("{} has a name that is not UTF-8", entry.path().display()));
            };
            let relative = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
            let path = entry.path();
            if path.is_dir() {
                self.folder(&path, &relative, out, depth + 1)?;
            } else {
                out.insert(relative, self.file(&path)?);
            }
        }
        Ok(())
    }
}

impl Files for SentFiles {
    fn look(&self, base: &str, path: &str) -> Result<Local, String> {
        let path = Path::new(base).parent().unwrap_or(Path::new("")).join(path);
        let kind = fs::metadata(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        if kind.is_dir() {
            let mut files = BTreeMap::new();
            self.folder(&path, "", &mut files, 0)?;
            return Ok(Local::Folder(files));
        }
        Ok(Local::File(self.file(&path)?))
    }
}

/// Digest and length of a file.
pub(crate) fn digest(path: &Path) -> std::io::Result<(Sha256, u64)> {
    let mut file = fs::File::open(path)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 1 << 16];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hasher.finish(), bytes)),
            n => {
                hasher.update(&buffer[..n]);
                bytes += n as u64;
            }
        }
    }
}

/// A plan that was just made.
pub(crate) struct Planned {
    pub(crate) plan: Plan,
    /// The names in the inventory that it was made with.
    pub(crate) inventory: BTreeSet<String>,
}

/// Makes a plan of the runbook in `path`.
pub(crate) fn plan(project: &Project, path: &Path, sources: &Sources, palette: Palette) -> Result<Planned, Failure> {
    plan_on(project, path, None, sources, palette)
}

/// The same; with `on`, for these hosts instead of those that the runbook selects.
pub(crate) fn plan_on(
    project: &Project,
    path: &Path,
    on: Option<Selector>,
    sources: &Sources,
    palette: Palette,
) -> Result<Planned, Failure> {
    let parameters = settings::parameters(&sources.parameters)?;
    let mut runbook = runbook(path, palette)?;
    if on.is_some() {
        runbook.targets.select = on;
    }
    let inventory = inventory(project, palette)?;
    let limit = selector("--limit", sources.limit.as_deref(), palette)?;
    let actions = ActionFolders::new(project, Some(path));
    let names = inventory.hosts.keys().map(ToString::to_string).collect();
    shrink::check(project, &names, sources.allow_shrink)?;
    let request = PlanRequest {
        runbook: &runbook,
        inventory: &inventory,
        parameters: &parameters,
        limit: limit.as_ref(),
        actions: &actions,
        files: &SentFiles,
        evaluate: &runbook_lang::evaluate::Evaluator::new(),
    };
    let mut plan = runbook_plan::build(request)
        .map_err(|found| problems::failure(&found, &path.display().to_string(), palette))?;
    if let Some(most) = project.settings.parallel {
        plan.parallel = plan.parallel.min(most);
    }
    Ok(Planned { plan, inventory: names })
}

/// A selection given on the command line.
pub(crate) fn selector(option: &str, text: Option<&str>, palette: Palette) -> Result<Option<Selector>, Failure> {
    let parse = |text| runbook_lang::selector::parse_text(option, text);
    text.map(parse).transpose().map_err(|problem| problems::failure(&[problem], option, palette))
}

/// The plan that a file holds, or that is made of the runbook in it now.
pub(crate) fn plan_or_saved(
    project: &Project,
    path: &Path,
    sources: &Sources,
    palette: Palette,
) -> Result<Plan, Failure> {
    if !is_saved_plan(path)? {
        return Ok(plan(project, path, sources, palette)?.plan);
    }
    if !sources.parameters.is_empty() || sources.limit.is_some() {
        return Err(Failure::usage("RB0617", "a saved plan is frozen: it takes no -p and no --limit"));
    }
    saved_plan(path)
}

/// The folder of a file, absolute.
pub(crate) fn folder(path: &Path) -> Result<PathBuf, Failure> {
    let path = path.canonicalize().map_err(|error| Failure::file("RB0608", "read", path, &error))?;
    Ok(path.parent().unwrap_or(Path::new("/")).to_owned())
}

/// Whether a file is a saved plan, by its content: a plan is a JSON object, and a runbook is YAML written by people.
pub(crate) fn is_saved_plan(path: &Path) -> Result<bool, Failure> {
    let start = read(path, 4096).map_err(|error| Failure::file("RB0608", "read", path, &error))?;
    let first = start.iter().find(|byte| !byte.is_ascii_whitespace());
    let names_a_runbook = String::from_utf8_lossy(&start).contains("runbook/v1");
    Ok(first == Some(&b'{') && !names_a_runbook)
}

/// The plan in a file that `plan --out` wrote, checked.
pub(crate) fn saved_plan(path: &Path) -> Result<Plan, Failure> {
    let bytes = read(path, runbook_plan::saved::PLAN_BYTES_MAX)
        .map_err(|error| Failure::file("RB0608", "read", path, &error))?;
    runbook_plan::load(&bytes).map_err(|error| {
        Failure::usage(error.code(), format!("{}: {error}", path.display()))
            .next("make the plan anew with `runbook plan FILE --out PLAN`")
    })
}

/// What the paths of a saved plan's files are relative to: the first of the plan's own folder, the project's runbooks,
/// the project and the current folder in which all of them are; else the plan's folder, and the run is refused there.
pub(crate) fn folder_of_files(project: &Project, path: &Path, plan: &Plan) -> Result<PathBuf, Failure> {
    let own = folder(path)?;
    let root = project.root.clone();
    let here = std::env::current_dir().ok();
    let folders = std::iter::once(own.clone())
        .chain(root.iter().map(|root| root.join("runbooks")))
        .chain(root.clone())
        .chain(here);
    let has_all = |folder: &PathBuf| {
        plan.files
            .iter()
            .all(|(sha256, file)| digest(&folder.join(&file.path)).is_ok_and(|(found, _)| found == *sha256))
    };
    Ok(folders.into_iter().find(has_all).unwrap_or(own))
}
