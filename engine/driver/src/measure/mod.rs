//! Measures what is on a host's disk, and which services run.
//!
//! Two calls per measurement: one lists paths with their metadata, the second hashes the files whose metadata are not
//! those of a file already hashed in this run. Nothing is installed on the host: `find` and `sha256sum` are enough, GNU's
//! or busybox's; `getfacl` and `systemctl` are used where they are.

pub mod globs;
pub mod listing;
pub mod script;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use runbook_model::Sha256;
use runbook_model::host::{Host, Os};
use runbook_model::manifest::{Entry, Manifest};
use runbook_model::outcome::{Exit, Obstacle, ObstacleKind};
use runbook_model::shell::ShellKind;
use runbook_ports::transport::{Completion, Invocation, OutputSink, Program, Stream};
use runbook_ports::{SecretBytes, Session};
use tokio_util::sync::CancellationToken;

use globs::Globs;
use listing::{Listed, Listing, Meta};

/// Paths in one measurement, at most: beyond that the manifest would no longer be something to look at.
const PATHS_MAX: usize = 1_000_000;

/// One call may take so long: hashing 100 GB at 200 MB/s.
const LIMIT: Duration = Duration::from_secs(600);

/// What a call says on standard error is kept so far.
const NOISE_BYTES_MAX: usize = 4 << 10;

/// What is measured.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which paths.
    pub globs: Globs,
    /// The account that reads them.
    pub account: Option<String>,
    /// Running services too.
    pub services: bool,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measured {
    /// By path.
    pub manifest: Manifest,
    /// Files whose content could not be read, and what else the host complained about.
    pub gaps: Vec<String>,
}

/// What was hashed before on a host: a file whose metadata are the same is not read again.
#[derive(Debug, Default)]
pub struct Known {
    files: BTreeMap<String, Hashed>,
}

#[derive(Debug)]
struct Hashed {
    meta: Meta,
    sha256: Sha256,
    /// The host's clock when it was listed.
    at_s: u64,
}

impl Known {
    /// The digest of a file that is surely the one that was hashed. A file changed in the second in which it was listed
    /// may have been changed once more since.
    fn digest(&self, path: &str, meta: &Meta) -> Option<Sha256> {
        let hashed = self.files.get(path)?;
        (hashed.meta == *meta && meta.ctime_s() + 1 < hashed.at_s).then_some(hashed.sha256)
    }
}

/// Measures on an open session.
///
/// # Errors
/// When it cannot be done; nothing on the host was changed in any case.
pub async fn measure(
    session: &dyn Session,
    host: &Host,
    request: &Request,
    known: &mut Known,
) -> Result<Measured, Obstacle> {
    if host.os == Os::Windows {
        return Err(cannot(host, "paths cannot be measured on Windows hosts by this version"));
    }
    let text = script::list(&request.globs, request.services, false);
    let mut listing = Listing::new(PATHS_MAX);
    let said = call(session, host, text, None, request.account.as_deref(), &mut listing).await?;
    let listing = listing.finish().map_err(|why| cannot(host, &why))?;
    let Listing { time_s, acl, services, .. } = listing;
    let mut gaps = lines(&said);
    let mut manifest = Manifest { entries: BTreeMap::new(), acl, services };

    let mut unknown = Vec::new();
    for (path, listed) in &listing.paths {
        if !request.globs.covers(path) {
            continue;
        }
        let mut entry = entry(listed);
        if listed.kind == "file" {
            entry.sha256 = known.digest(path, &listed.meta);
            if entry.sha256.is_none() {
                unknown.push(path.clone());
            }
        }
        manifest.entries.insert(path.clone(), entry);
    }
    if !unknown.is_empty() {
        let mut names = Vec::new();
        for path in &unknown {
            names.extend_from_slice(listing.paths[path].raw.as_deref().unwrap_or(path.as_bytes()));
            names.push(0);
        }
        let mut digests = listing::Digests::default();
        let said = call(
            session,
            host,
            script::hash().into(),
            Some(SecretBytes::new(names)),
            request.account.as_deref(),
            &mut digests,
        )
        .await?;
        gaps.extend(lines(&said));
        let digests = digests.finish();
        for path in unknown {
            let Some(sha256) = digests.get(&path) else {
                gaps.push(format!("{path}: its content was not read"));
                continue;
            };
            let listed = &listing.paths[&path];
            manifest.entries.get_mut(&path).expect("put in above").sha256 = Some(*sha256);
            known.files.insert(path, Hashed { meta: listed.meta.clone(), sha256: *sha256, at_s: time_s });
        }
    }
    Ok(Measured { manifest, gaps })
}

fn entry(listed: &Listed) -> Entry {
    Entry {
        kind: listed.kind.into(),
        sha256: (listed.kind == "link").then(|| Sha256::of(listed.target.as_bytes())),
        bytes: (listed.kind == "file").then_some(listed.meta.bytes),
        mode: listed.mode.clone(),
        owner: listed.owner.clone(),
        group: listed.group.clone(),
        acl: listed.acl.clone(),
    }
}

/// Takes the answer's standard output.
trait Reader: Send {
    fn read(&mut self, bytes: &[u8]);
}

impl Reader for Listing {
    fn read(&mut self, bytes: &[u8]) {
        self.push(bytes);
    }
}

impl Reader for listing::Digests {
    fn read(&mut self, bytes: &[u8]) {
        self.push(bytes);
    }
}

struct Into_<'a> {
    reader: &'a mut dyn Reader,
    noise: Vec<u8>,
    cut_off_by: Option<String>,
}

#[async_trait]
impl OutputSink for Into_<'_> {
    async fn write(&mut self, stream: Stream, bytes: &[u8]) {
        match stream {
            Stream::Stdout => self.reader.read(bytes),
            Stream::Stderr => {
                let room = NOISE_BYTES_MAX - self.noise.len();
                self.noise.extend_from_slice(&bytes[..room.min(bytes.len())]);
            }
        }
    }

    async fn cut_off(&mut self, _stream: Stream, by: &str) {
        self.cut_off_by = Some(by.to_owned());
    }
}

/// Runs a script attached. What it said on standard error is the answer; what it printed went to the reader.
async fn call(
    session: &dyn Session,
    host: &Host,
    text: String,
    stdin: Option<SecretBytes>,
    account: Option<&str>,
    reader: &mut dyn Reader,
) -> Result<Vec<u8>, Obstacle> {
    let invocation = Invocation {
        program: Program::Shell { shell: ShellKind::Sh, text, strict: false },
        account: account.map(str::to_owned),
        cwd: Some("/".into()),
        env: vec![("LC_ALL".into(), "C".into())],
        stdin,
    };
    let mut sink = Into_ { reader, noise: Vec::new(), cut_off_by: None };
    let stop = CancellationToken::new();
    let grace = Duration::from_secs(2);
    let completion = {
        let run = session.run(None, &invocation, &mut sink, &stop, grace);
        tokio::pin!(run);
        tokio::select! {
            completion = &mut run => completion,
            () = tokio::time::sleep(LIMIT) => {
                stop.cancel();
                let _ = tokio::time::timeout(grace * 5, &mut run).await;
                let limit = LIMIT.as_secs() / 60;
                return Err(cannot(host, &format!("measuring paths took longer than {limit} minutes")));
            }
        }
    };
    if let Some(by) = sink.cut_off_by {
        return Err(cannot(host, &format!("{by} passed on a part only of what was measured")));
    }
    match completion {
        Completion::Exited(Exit::Code(0)) => Ok(sink.noise),
        Completion::Exited(Exit::Code(script::UNABLE)) => {
            let said = String::from_utf8_lossy(&sink.noise);
            Err(cannot(host, said.lines().last().unwrap_or("the host lacks what is needed to measure paths")))
        }
        Completion::Exited(exit) => {
            let said = String::from_utf8_lossy(&sink.noise).trim_end().to_owned();
            Err(cannot(host, &format!("measuring paths failed ({exit:?}): {said}")))
        }
        Completion::NotStarted(obstacle) => Err(obstacle),
        Completion::Lost(why) | Completion::Unknown(why) => {
            let message = format!("the connection broke while paths were measured: {why}");
            Err(Obstacle { kind: ObstacleKind::Session, message })
        }
        Completion::Killed => Err(cannot(host, "measuring paths was stopped")),
    }
}

fn cannot(host: &Host, why: &str) -> Obstacle {
    Obstacle { kind: ObstacleKind::Local, message: format!("{}: {why}", host.name) }
}

fn lines(said: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(said).lines().map(str::to_owned).collect()
}
