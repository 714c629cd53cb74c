//! Monitoring systems that are muted while a run works on their hosts: from the settings to the driver, and what is left
//! muted when a program dies.
//!
//! Before anything is muted for a run, a file of its name and the system's is made in the state's folder, and removed once it
//! is on record that nothing is muted any more. So whoever works here next knows whom to ask, and asks nobody otherwise.

mod pattern;
pub(crate) mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use runbook_driver::{DriverError, Muting};
use runbook_model::plan::Plan;
use runbook_model::record::Record;
use runbook_model::{HostName, RunId};
use runbook_monitoring::Alertmanager;
use runbook_ports::monitor::{Matcher, Monitor, MonitorError, Mute, Muted, Unmuted};
use runbook_ports::person::Answer;
use runbook_ports::store::RunIndex;
use runbook_ports::{Confirmer, Observer, Store as _};
use runbook_report::RunView;
use runbook_report::list::short;
use runbook_store::SqliteStore;
use runbook_wire::Tls;
use settings::System;

use crate::failure::Failure;
use crate::output::note;
use crate::project::{Project, make_private};
use crate::{head, keys, login, person, record, wiring};

/// The folder of the files.
const FOLDER: &str = "muted";
/// What could not be unmuted is not tried again before.
const AGAIN: Duration = Duration::from_secs(60);
/// What is in the file then.
const TRIED: &[u8] = b"tried\n";
/// A system that is not in the settings any more is waited for so long: every mute has ended by itself long since.
const FORGET: Duration = Duration::from_secs(7 * 86_400);

/// The systems that are muted while a run of `plan` works.
pub(crate) async fn of(project: &Project, plan: &Plan) -> Vec<Muting> {
    let mut out = Vec::new();
    for system in project.settings.monitoring.iter().filter(|system| system.wants(plan)) {
        out.push(muting(project, system, hosts(system, plan)).await);
    }
    out
}

type Hosts = Result<Arc<BTreeMap<HostName, Vec<Matcher>>>, String>;

/// What the alerts of each host have.
fn hosts(system: &System, plan: &Plan) -> Hosts {
    let of = |host| pattern::matchers(&system.matchers, host);
    let hosts: Result<_, String> = plan.hosts.iter().map(|(name, host)| Ok((name.clone(), of(host)?))).collect();
    hosts.map(Arc::new)
}

async fn muting(project: &Project, system: &System, hosts: Hosts) -> Muting {
    let inner = build(project, system).await;
    let (folder, for_ms, within) = (project.state_path(FOLDER), system.for_ms, system.timeout);
    Muting { monitor: Arc::new(Noted { inner, folder }), hosts, for_ms, within, refuse: system.refuse }
}

/// The system, with its secrets, which are resolved now.
async fn build(project: &Project, system: &System) -> Arc<dyn Monitor> {
    match login::resolve(&system.login, project).await {
        Ok(login) => {
            let (name, address) = (system.name.clone(), system.address.clone());
            Arc::new(Alertmanager { name, address, tls: Tls { ca: system.ca.clone(), client: None }, login })
        }
        Err(why) => Arc::new(Unusable { name: system.name.clone(), site: system.address.site(), why }),
    }
}

/// Whether a system answers and lets us in, for `doctor`.
pub(crate) async fn reach(project: &Project, system: &System) -> Result<String, String> {
    build(project, system).await.reach(system.timeout).await.map_err(|error| error.why)
}

/// One whose secret is not to be had.
struct Unusable {
    name: String,
    site: String,
    why: String,
}

impl Unusable {
    fn error(&self, maybe: bool) -> MonitorError {
        MonitorError { why: self.why.clone(), maybe }
    }
}

#[async_trait]
impl Monitor for Unusable {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "alertmanager"
    }

    fn site(&self) -> String {
        self.site.clone()
    }

    async fn mute(&self, mute: Mute<'_>, _: Duration) -> Result<Muted, MonitorError> {
        Err(self.error(mute.known.is_some()))
    }

    async fn unmute(&self, _: &RunId, _: &[String], _: Duration) -> Result<Unmuted, MonitorError> {
        Err(self.error(true))
    }

    async fn reach(&self, _: Duration) -> Result<String, MonitorError> {
        Err(self.error(false))
    }
}

/// One whose mutes are noted before they are asked for.
struct Noted {
    inner: Arc<dyn Monitor>,
    folder: PathBuf,
}

#[async_trait]
impl Monitor for Noted {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn site(&self) -> String {
        self.inner.site()
    }

    async fn mute(&self, mute: Mute<'_>, within: Duration) -> Result<Muted, MonitorError> {
        let path = self.folder.join(format!("{}.{}", mute.run, self.name()));
        let noted = make_private(&self.folder).map_err(|failure| failure.message).and_then(|()| {
            fs::write(&path, "").map_err(|error| format!("{} could not be written: {error}", path.display()))
        });
        noted.map_err(|why| MonitorError { why, maybe: mute.known.is_some() })?;
        self.inner.mute(mute, within).await
    }

    async fn unmute(&self, run: &RunId, ids: &[String], within: Duration) -> Result<Unmuted, MonitorError> {
        self.inner.unmute(run, ids, within).await
    }

    async fn reach(&self, within: Duration) -> Result<String, MonitorError> {
        self.inner.reach(within).await
    }
}

/// A mute that may not be over.
struct Left {
    path: PathBuf,
    run: RunId,
    system: String,
    /// When it was noted, or tried last.
    since: SystemTime,
    /// Unmuting it was tried.
    tried: bool,
}

fn left(project: &Project) -> Vec<Left> {
    let Ok(files) = fs::read_dir(project.state_path(FOLDER)) else { return Vec::new() };
    let left = |file: fs::DirEntry| {
        let name = file.file_name().into_string().ok()?;
        let (run, system) = name.split_once('.')?;
        let meta = file.metadata().ok()?;
        Some(Left {
            path: file.path(),
            run: RunId::from(run),
            system: system.to_owned(),
            since: meta.modified().ok()?,
            tried: meta.len() > 0,
        })
    };
    files.flatten().filter_map(left).collect()
}

/// Runs of which something may still be muted, for `doctor`: each with the system.
pub(crate) fn maybe_muted(project: &Project) -> Vec<(RunId, String)> {
    left(project).into_iter().map(|left| (left.run, left.system)).collect()
}

/// What a run noted is forgotten where its record says that nothing is muted.
pub(crate) fn settled(project: &Project, view: &RunView) {
    let Some(run) = view.run() else { return };
    let open: BTreeSet<&str> = view.mutes.open().map(|(system, ..)| system).collect();
    let over = |left: &Left| left.run == *run && !open.contains(left.system.as_str());
    forget(&left(project).into_iter().filter(over).collect::<Vec<_>>());
}

/// Unmutes what runs have left muted that nobody works on, but for those that are to be spared: they are taken up now, and
/// mute anew. What came of it is said, and hinders nothing.
pub(crate) async fn settle(project: &Project, store: &SqliteStore, spare: impl Fn(&RunIndex) -> bool) {
    let mut runs: BTreeMap<RunId, Vec<Left>> = BTreeMap::new();
    for left in left(project) {
        let fresh = left.tried && left.since.elapsed().is_ok_and(|since| since < AGAIN);
        if !fresh {
            runs.entry(left.run.clone()).or_default().push(left);
        }
    }
    if runs.is_empty() {
        return;
    }
    let Ok(known) = store.runs().await else { return };
    for (run, files) in runs {
        // One that is not on record any more was removed after its time: every mute has ended by itself long since.
        let Some(index) = known.iter().find(|index| index.header.run == run) else {
            forget(&files);
            continue;
        };
        if spare(index) || record::is_worked_on(store, &run).await.unwrap_or(true) {
            continue;
        }
        if let Err(failure) = settle_run(project, store, index, &files).await {
            note(format!("monitoring may still be muted by run {}: {}", short(run.as_str()), failure.message));
        }
    }
}

async fn settle_run(project: &Project, store: &SqliteStore, index: &RunIndex, files: &[Left]) -> Result<(), Failure> {
    let run = &index.header.run;
    let mut monitors = Vec::new();
    let mut gone = Vec::new();
    for left in files {
        match project.settings.monitoring.iter().find(|system| system.name == left.system) {
            Some(system) => monitors.push(muting(project, system, Ok(Arc::default())).await),
            None if left.since.elapsed().is_ok_and(|since| since > FORGET) => forget([left]),
            None => gone.push(left.system.as_str()),
        }
    }
    if !monitors.is_empty() {
        let parts = wiring::parts(project, keys::open(project)?);
        let folder = project.root.clone().unwrap_or_else(|| project.state.clone());
        let mut engine = wiring::engine(&parts, store, Arc::new(Nobody), Arc::new(Nobody), folder);
        engine.monitors = monitors;
        let done = engine.unmute_left(run, &person::operator()).await;
        if let Ok(now) = store.head().await {
            head::keep(project, &now);
        }
        let view = record::view(store, index).await?;
        match done {
            Ok(true) => {
                settled(project, &view);
                note(format!("monitoring is unmuted: run {} had left it muted", short(run.as_str())));
            }
            Ok(false) => {
                tried(files);
                settled(project, &view);
                for line in runbook_report::monitoring::still_muted(&view, true) {
                    note(format!("{line}: left by run {}", short(run.as_str())));
                }
            }
            // Somebody took it up meanwhile.
            Err(DriverError::Held { .. }) => {}
            Err(error) => return Err(crate::commands::work::refused(&error)),
        }
    }
    if !gone.is_empty() {
        tried(files);
        let names = gone.join(", ");
        note(format!(
            "{names} is not in the settings any more, and run {} may have left it muted",
            short(run.as_str())
        ));
    }
    Ok(())
}

/// One that cannot be removed is looked at again, which harms nobody.
fn forget<'l>(files: impl IntoIterator<Item = &'l Left>) {
    for left in files {
        let _ = fs::remove_file(&left.path);
    }
}

/// One that cannot be written is tried again sooner.
fn tried(files: &[Left]) {
    for left in files {
        let _ = fs::write(&left.path, TRIED);
    }
}

/// Who is asked and who looks on where nobody is and nobody does.
struct Nobody;

#[async_trait]
impl Confirmer for Nobody {
    async fn confirm(&self, _: &str, _: &str) -> Answer {
        Answer::Nobody("nobody is asked here".into())
    }
}

impl Observer for Nobody {
    fn committed(&self, _: &Record) {}
}
