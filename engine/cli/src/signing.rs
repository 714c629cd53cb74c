//! How a person signs something: who they are, with which key, and what of the ledger they saw. For `approve` and `review`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use runbook_ledger::Sealer;
use runbook_model::approval::LedgerSeen;
use runbook_model::people::Member;
use runbook_ports::Store as _;
use runbook_store::SqliteStore;

use crate::arguments::rules::Signer;
use crate::failure::{Failure, REFUSED};
use crate::output::{Output, note};
use crate::policy::{self, Staff};
use crate::project::Project;
use crate::{keys, person, record, sources};

/// The person who signs.
pub(crate) fn signer<'s>(staff: &'s Staff, asked: Option<&str>) -> Result<(&'s str, &'s Member), Failure> {
    let unknown = |what: String| {
        let names: Vec<&str> = staff.people.people.keys().map(String::as_str).collect();
        Failure::usage("RB0725", what).next(format!("name yourself with --as; the people are: {}", names.join(", ")))
    };
    match asked {
        Some(id) => {
            let found = staff.people.people.get_key_value(id);
            found
                .map(|(id, member)| (id.as_str(), member))
                .ok_or_else(|| unknown(format!("people.yaml has nobody called {id}")))
        }
        None => {
            let account = person::operator().name;
            staff
                .people
                .with_account(&account)
                .ok_or_else(|| unknown(format!("the account {account} is nobody's in people.yaml")))
        }
    }
}

/// The head of the ledger as it is now.
pub(crate) async fn seen(project: &Project, store: Option<&SqliteStore>) -> Result<Option<LedgerSeen>, Failure> {
    let Some(store) = store else { return Ok(None) };
    let head = store.head().await.map_err(|error| record::failed(&error))?;
    if head.size == 0 {
        return Ok(None);
    }
    let sealer = Sealer::new(&head).map_err(crate::failure::fault)?;
    let origin = keys::public(project)?.name().to_owned();
    Ok(Some(LedgerSeen { origin, size: sealer.size(), root: sealer.root() }))
}

/// Drawn at random, for a document that counts once.
pub(crate) fn nonce() -> Result<String, Failure> {
    Ok(hex(&keys::random::<16>()?))
}

/// What is signed, and for what.
#[derive(Clone, Copy)]
pub(crate) struct Paper<'a> {
    pub(crate) namespace: &'static str,
    pub(crate) bytes: &'a [u8],
    /// The command that takes it in when it was signed elsewhere.
    pub(crate) command: &'static str,
}

/// The armored signature of `member`, who is asked `question` on a terminal; `None` when it is signed elsewhere.
///
/// # Errors
/// When they do not say yes, or cannot sign.
pub(crate) fn obtain(
    project: &Project,
    how: &Signer,
    member: &Member,
    paper: Paper<'_>,
    question: &str,
    output: Output,
) -> Result<Option<Vec<u8>>, Failure> {
    if let Some(path) = &how.request {
        request(path, member, paper.namespace, paper.bytes, paper.command)?;
        return Ok(None);
    }
    if output.person && !how.yes && person::ask(question) != Some(true) {
        return Err(Failure::new("RB0614", REFUSED, "you did not say yes, so nothing was signed"));
    }
    sign(project, how.key.as_deref(), member, paper.namespace, paper.bytes).map(Some)
}

/// Writes what is to be signed elsewhere, and says how. `command` takes it in with `import`.
fn request(path: &Path, member: &Member, namespace: &str, bytes: &[u8], command: &str) -> Result<(), Failure> {
    keys::write_new(path, 0o644, bytes)?;
    let (name, path) = (&member.name, path.display());
    note(format!(
        "nothing is signed yet; {name} signs it with\n  ssh-keygen -Y sign -f THEIR_KEY -n {namespace} {path}\nand whoever gets \
         both files back takes them in with\n  runbook {command} import {path}"
    ));
    Ok(())
}

fn failed(why: impl Into<String>) -> Failure {
    Failure::new("RB0726", REFUSED, why)
        .next("name the key with --key; or sign elsewhere: --request FILE writes what is to be signed")
}

/// Signs with the system's ssh-keygen, which asks for a passphrase, a touch or a PIN by itself.
fn sign(
    project: &Project,
    key: Option<&Path>,
    member: &Member,
    namespace: &str,
    bytes: &[u8],
) -> Result<Vec<u8>, Failure> {
    project.make_state()?;
    let work = tempdir(project)?;
    let result = (|| {
        let key = match key {
            Some(key) => key.to_owned(),
            None => own_key(member, &work)?,
        };
        let document = work.join("document.json");
        keys::write_new(&document, 0o600, bytes)?;
        let status = Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
            .arg(&key)
            .arg(&document)
            .stdout(Stdio::null())
            .status()
            .map_err(|error| failed(format!("ssh-keygen cannot be started: {error}")).next("install openssh-client"))?;
        if !status.success() {
            return Err(failed(format!("ssh-keygen did not sign with {}", key.display())));
        }
        let path = policy::signature_of(&document);
        std::fs::read(&path).map_err(|error| Failure::file("RB0726", "read", &path, &error))
    })();
    let _ = std::fs::remove_dir_all(&work);
    result
}

/// A folder that nobody else can write to.
fn tempdir(project: &Project) -> Result<PathBuf, Failure> {
    let work = project.state_path("run").join(format!("sign-{}", hex(&keys::random::<8>()?)));
    crate::project::make_private(&work)?;
    Ok(work)
}

/// The first key in ~/.ssh that is the person's; else a public one of theirs, for the agent to sign with.
fn own_key(member: &Member, work: &Path) -> Result<PathBuf, Failure> {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let counts: Vec<&str> = member
        .keys
        .iter()
        .filter(|key| key.revoked.is_none_or(|day| day > today) && key.until.is_none_or(|day| day >= today))
        .map(|key| key.key.as_str())
        .collect();
    let Some(first) = counts.first() else {
        return Err(failed(format!("{} has no key in people.yaml that counts today", member.name)));
    };
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default().join(".ssh");
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(&home).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for public in entries.iter().filter(|path| path.extension().is_some_and(|extension| extension == "pub")) {
        let line = sources::read(public, 16 << 10).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let private = public.with_extension("");
        if counts.iter().any(|key| line.starts_with(key)) && private.is_file() {
            return Ok(private);
        }
    }
    let in_agent = Command::new("ssh-add").arg("-L").stderr(Stdio::null()).output().ok();
    let in_agent = in_agent.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let chosen = counts.iter().find(|key| in_agent.lines().any(|line| line.starts_with(**key))).unwrap_or(first);
    let path = work.join("key.pub");
    keys::write_new(&path, 0o600, format!("{chosen}\n").as_bytes())?;
    Ok(path)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
