//! Where the inventory comes from: files are read, and others who know hosts are asked, each once in a command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runbook_driver::SystemClock;
use runbook_lang::{Inventory, inventory};
use runbook_model::Sha256;
use runbook_model::origin::{Login, Origin, Question};
use runbook_ports::hosts::SourceError;
use runbook_ports::{Clock as _, HostSource};
use runbook_sources::{Command, Netbox, ServiceNow};
use runbook_store::SqliteStore;
use runbook_wire::Tls;

use crate::failure::Failure;
use crate::project::Project;
use crate::record;
use crate::sources::{self, Digests, InventoryFiles};

/// What was answered in this command. Whoever is asked again hears the same.
#[derive(Debug, Default)]
pub(crate) struct Answers(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    answers: BTreeMap<String, Asked>,
    /// Of the inventory that was read last.
    parts: Vec<Part>,
    offline: bool,
}

/// Somebody who was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) question: Question,
    pub(crate) answer: Result<Arc<[u8]>, String>,
    asked_ms: u64,
    pub(crate) took: Duration,
}

/// A part of the inventory.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) origin: Origin,
    /// The names of its hosts.
    pub(crate) hosts: Vec<String>,
    /// A file was last changed then (Unix ms).
    pub(crate) changed_ms: Option<u64>,
    /// What its hosts' places are named after.
    name: String,
    bytes: Arc<[u8]>,
}

impl Answers {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nobody is asked.
    pub(crate) fn go_offline(&self) {
        self.lock().offline = true;
    }

    /// Whoever was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.lock().answers.values().cloned().collect()
    }

    /// The parts of the inventory that was read last.
    pub(crate) fn parts(&self) -> Vec<Part> {
        self.lock().parts.clone()
    }

    /// Puts the inventory that was read last into the store; what the run's opening says of it.
    pub(crate) async fn keep(&self, store: &SqliteStore) -> Result<Vec<Origin>, Failure> {
        use runbook_ports::BlobStore as _;
        let parts = self.parts();
        for part in parts.iter().filter(|part| !part.origin.withheld) {
            store.put(&part.bytes).await.map_err(|error| record::failed(&error))?;
        }
        Ok(parts.into_iter().map(|part| part.origin).collect())
    }
}

/// The files of an inventory and whoever else is asked, noted as they answer.
pub(crate) struct Reading<'p> {
    project: &'p Project,
    parts: Mutex<Vec<Part>>,
}

impl<'p> Reading<'p> {
    /// Begins with the file at `path`, whose hosts' places are named after `name`.
    pub(crate) fn new(project: &'p Project, path: &Path, name: &str, bytes: &[u8]) -> Self {
        let reading = Self { project, parts: Mutex::default() };
        reading.note_file(path, name, bytes);
        reading
    }

    fn note(&self, part: Part) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).push(part);
    }

    fn note_file(&self, path: &Path, name: &str, bytes: &[u8]) {
        let root = self.project.root.as_deref();
        let from = root.and_then(|root| path.strip_prefix(root).ok()).unwrap_or(path).display().to_string();
        let changed = std::fs::metadata(path).and_then(|found| found.modified()).ok();
        let since = changed.and_then(|changed| changed.duration_since(std::time::UNIX_EPOCH).ok());
        let (sha256, asked_ms) = (Sha256::of(bytes), SystemClock::new().now_ms());
        self.note(Part {
            origin: Origin { kind: "file".into(), from, sha256, asked_ms, hosts: 0, withheld: false },
            hosts: Vec::new(),
            changed_ms: since.and_then(|since| u64::try_from(since.as_millis()).ok()),
            name: name.to_owned(),
            bytes: bytes.into(),
        });
    }

    /// The inventory was read: notes which hosts came from where. The files among its parts, with their digests.
    pub(crate) fn done(self, inventory: &Inventory) -> Digests {
        let mut parts = self.parts.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut hosts: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (name, host) in &inventory.hosts {
            hosts.entry(host.span.source().name()).or_default().push(name.to_string());
        }
        for part in &mut parts {
            part.hosts = hosts.remove(part.name.as_str()).unwrap_or_default();
            part.origin.hosts = part.hosts.len() as u64;
            part.origin.withheld = inventory.secretive.contains(&part.name);
        }
        let root = self.project.root.clone().unwrap_or_default();
        let files = parts.iter().filter(|part| part.origin.kind == "file");
        let files = files.map(|part| (root.join(&part.origin.from), Some(part.origin.sha256))).collect();
        self.project.answers.lock().parts = parts;
        files
    }
}

impl inventory::Files for Reading<'_> {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        let most = runbook_lang::INVENTORY_BYTES_MAX;
        let bytes = sources::read(Path::new(path), most).map_err(|error| error.to_string())?;
        self.note_file(Path::new(path), path, &bytes);
        Ok(bytes)
    }

    fn resolve(&self, from: &str, path: &str) -> String {
        InventoryFiles.resolve(from, path)
    }

    fn ask(&self, question: &Question, name: &str) -> Result<Vec<u8>, String> {
        let asked = ask(self.project, question);
        let bytes = asked.answer?;
        let (kind, sha256) = (question.kind().to_owned(), Sha256::of(&bytes));
        let from = question.from();
        self.note(Part {
            origin: Origin { kind, from, sha256, asked_ms: asked.asked_ms, hosts: 0, withheld: false },
            hosts: Vec::new(),
            changed_ms: None,
            name: name.to_owned(),
            bytes: bytes.clone(),
        });
        Ok(bytes.to_vec())
    }
}

/// The answer to a question, asked now unless it was before.
fn ask(project: &Project, question: &Question) -> Asked {
    let key = format!("{question:?}");
    // Held meanwhile: nobody is asked the same twice.
    let mut kept = project.answers.lock();
    if let Some(asked) = kept.answers.get(&key) {
        return asked.clone();
    }
    let asked_ms = SystemClock::new().now_ms();
    let begun = tokio::time::Instant::now();
    let answer = match kept.offline {
        true => Err("nobody is asked with --offline".to_owned()),
        false => on_a_thread(project, question),
    };
    let answer = answer.map(Arc::from);
    let asked = Asked { question: question.clone(), answer, asked_ms, took: begun.elapsed() };
    kept.answers.insert(key, asked.clone());
    asked
}

/// Reading an inventory waits for it; whoever called may be in the middle of other work of this program.
fn on_a_thread(project: &Project, question: &Question) -> Result<Vec<u8>, String> {
    let work = || -> Result<Vec<u8>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| error.to_string())?.block_on(answer(project, question))
    };
    let joined = std::thread::scope(|scope| scope.spawn(work).join());
    joined.unwrap_or_else(|_| Err("whoever asks it has a fault of its own".into()))
}

async fn answer(project: &Project, question: &Question) -> Result<Vec<u8>, String> {
    let source = source(project, question).await?;
    let within = Duration::from_millis(question.within_ms());
    let answer = source.ask(within, runbook_lang::INVENTORY_BYTES_MAX).await;
    answer.map_err(|error: SourceError| error.to_string())
}

async fn source(project: &Project, question: &Question) -> Result<Box<dyn HostSource>, String> {
    let tls = |ca: &Option<String>| Tls { ca: ca.as_ref().map(PathBuf::from), client: None };
    Ok(match question {
        Question::Command { argv, folder, .. } => {
            Box::new(Command { argv: argv.clone(), folder: PathBuf::from(folder) })
        }
        Question::Netbox { url, token, list, filter, ca, .. } => Box::new(Netbox {
            url: url.parse()?,
            tls: tls(ca),
            token: project.secret(token).await?,
            list: list.clone(),
            filter: filter.clone(),
        }),
        Question::Servicenow { url, login, table, query, fields, ca, .. } => Box::new(ServiceNow {
            url: url.parse()?,
            tls: tls(ca),
            login: match login {
                Login::Token(token) => runbook_sources::Login::Token(project.secret(token).await?),
                Login::Password { user, password } => {
                    runbook_sources::Login::Password { user: user.clone(), password: project.secret(password).await? }
                }
            },
            table: table.clone(),
            query: query.clone(),
            fields: fields.clone(),
        }),
    })
}
