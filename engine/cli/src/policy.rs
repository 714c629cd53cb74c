//! The project's people and policy, and what persons decided about plans.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use runbook_lang::{Inventory, PolicyFile, parse_people, parse_policy};
use runbook_ledger::sshsig;
use runbook_model::approval::{self, Approval, Decision};
use runbook_model::people::People;
use runbook_model::plan::Plan;
use runbook_model::rehearsal;
use runbook_model::rules::Presence;
use runbook_model::{HostName, Notice, RunId, Sha256};
use runbook_policy::approvals::{Offered, Signed};
use runbook_policy::rehearsal::Tried;
use runbook_policy::{Act, Case};
use runbook_ports::store::RunStatus;
use runbook_ports::{BlobStore as _, Store as _};
use runbook_report::Palette;
use runbook_store::SqliteStore;

use crate::failure::{Failure, REFUSED};
use crate::output::note;
use crate::project::Project;
use crate::{problems, record, sources};

/// The type of the notices with decisions.
pub(crate) const DECIDED: &str = "plan_decided";
/// Decisions that are looked at; more than that are a mistake.
const APPROVALS_MAX: usize = 10_000;

/// The people of `people.yaml`.
pub(crate) struct Staff {
    pub(crate) people: People,
    pub(crate) bytes: Vec<u8>,
}

impl Staff {
    /// `None` when the project has no `people.yaml`.
    pub(crate) fn of(project: &Project, palette: Palette) -> Result<Option<Self>, Failure> {
        let Some((path, bytes)) = sources::of_project(project, "people.yaml")? else { return Ok(None) };
        let shown = sources::shown(&path);
        let parsed = parse_people(&shown, &bytes).map_err(|found| problems::failure(&found, &shown, palette))?;
        problems::show(&parsed.warnings, palette);
        for (person, member) in &parsed.value.people {
            for key in &member.keys {
                sshsig::check_person_key(&key.key).map_err(|error| {
                    Failure::usage("RB0013", format!("{shown}: a key of {person} cannot be used: {error}"))
                        .next("copy the whole line of the .pub file")
                })?;
            }
        }
        Ok(Some(Self { people: parsed.value, bytes }))
    }

    /// The same, or an error that says what to do.
    pub(crate) fn must(project: &Project, palette: Palette) -> Result<Self, Failure> {
        Self::of(project, palette)?.ok_or_else(|| {
            Failure::usage("RB0723", "the project has no `people.yaml`, so nobody is known here")
                .next("write one: docs/language/people.md has an example")
        })
    }
}

/// The rules of `policy.yaml`, with the people that they ask for.
pub(crate) struct Policy {
    pub(crate) file: PolicyFile,
    pub(crate) bytes: Vec<u8>,
    pub(crate) staff: Option<Staff>,
}

impl Policy {
    /// `None` when the project has no `policy.yaml`.
    pub(crate) fn of(project: &Project, palette: Palette) -> Result<Option<Self>, Failure> {
        let Some((path, bytes)) = sources::of_project(project, "policy.yaml")? else { return Ok(None) };
        let shown = sources::shown(&path);
        let parsed = parse_policy(&shown, &bytes).map_err(|found| problems::failure(&found, &shown, palette))?;
        problems::show(&parsed.warnings, palette);
        Ok(Some(Self { file: parsed.value, bytes, staff: Staff::of(project, palette)? }))
    }

    /// What is known of `plan` and of the one who asks, for the decision.
    ///
    /// # Errors
    /// A selection that names what is not in the inventory, or no host: a rule that is for nobody would ask nothing of
    /// anybody.
    pub(crate) fn case(&self, inventory: &Inventory, plan: &Plan, act: Act, palette: Palette) -> Result<Case, Failure> {
        let same = |name: &HostName, host: &runbook_model::Host| {
            inventory.hosts.get(name).is_some_and(|found| found.host == *host)
        };
        let strangers: BTreeSet<HostName> =
            plan.hosts.iter().filter(|(name, host)| !same(name, host)).map(|(name, _)| name.clone()).collect();
        let mut selected = Vec::new();
        for rule in &self.file.policy.rules {
            let Some((_, selector)) = rule.hosts.as_ref().and_then(|text| self.file.selections.get(text)) else {
                selected.push(plan.hosts.keys().cloned().collect());
                continue;
            };
            let hosts = selector.hosts(inventory).map_err(|found| problems::failure(&found, "policy.yaml", palette))?;
            let mut hosts: BTreeSet<HostName> = hosts.into_iter().collect();
            // A host that has left the inventory since may still be taken back, by what is asked of any host.
            hosts.extend(plan.hosts.keys().filter(|name| !inventory.hosts.contains_key(*name)).cloned());
            selected.push(hosts);
        }
        let mut staging = Vec::new();
        for rule in &self.file.policy.rules {
            let selector = rule.rehearsal.as_ref().and_then(|rule| self.file.selections.get(&rule.hosts));
            let hosts = selector.map(|(_, selector)| selector.hosts(inventory)).transpose();
            let hosts = hosts.map_err(|found| problems::failure(&found, "policy.yaml", palette))?;
            staging.push(hosts.unwrap_or_default().into_iter().collect());
        }
        let strangers = if matches!(act, Act::TakeBack | Act::Resume) { BTreeSet::new() } else { strangers };
        Ok(Case { selected, strangers, staging, ..Case::default() })
    }
}

/// A decision as it lies in the project: its exact bytes, and those of its signature.
pub(crate) struct Found {
    pub(crate) offered: Offered,
    pub(crate) bytes: Vec<u8>,
    pub(crate) armored: Vec<u8>,
}

/// The folder of decisions.
pub(crate) fn folder(project: &Project) -> Result<PathBuf, Failure> {
    Ok(project.folder()?.join("approvals"))
}

/// Where the signature of a file is.
pub(crate) fn signature_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sig");
    PathBuf::from(name)
}

/// Everything in the project's folder `approvals`, in the order of the names.
pub(crate) async fn decisions(project: &Project, store: Option<&SqliteStore>) -> Result<Vec<Found>, Failure> {
    let Some(root) = &project.root else { return Ok(Vec::new()) };
    let folder = root.join("approvals");
    let unusable = |error: std::io::Error| Failure::file("RB0724", "read", &folder, &error);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries.collect::<Result<Vec<_>, _>>().map_err(unusable)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(unusable(error)),
    };
    let mut paths: Vec<PathBuf> = Vec::new();
    for path in entries.iter().map(std::fs::DirEntry::path) {
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    if paths.len() > APPROVALS_MAX {
        return Err(Failure::usage("RB0724", format!("{} holds {} decisions", folder.display(), paths.len()))
            .next("move those of plans that are over elsewhere"));
    }
    paths.sort();
    let mut found = on_record(store).await?;
    let used = used(store).await?;
    for path in &paths {
        match read(path)? {
            Some(one) if found.iter().any(|known| known.offered.document == one.offered.document) => {}
            Some(mut one) => {
                one.offered.used_by = used.get(&one.offered.approval.nonce).cloned();
                found.push(one);
            }
            None => note(format!("{} is no decision as it is signed, and is passed over", sources::shown(path))),
        }
    }
    Ok(found)
}

/// Rejections that are on the record: removing their files does not take them back.
async fn on_record(store: Option<&SqliteStore>) -> Result<Vec<Found>, Failure> {
    let Some(store) = store else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (told, notice) in record::notices(store, &[DECIDED]).await? {
        let Notice::PlanDecided { decision: Decision::Reject, document, signature, .. } = notice else { continue };
        let get = |digest: Sha256| async move {
            let most = u64::try_from(approval::BYTES_MAX).unwrap_or(u64::MAX);
            store.get(&digest, most).await.map_err(|error| record::failed(&error))
        };
        let (bytes, armored) = (get(document).await?, get(signature).await?);
        let approval = Approval::parse(&bytes).ok_or_else(|| {
            Failure::new("RB0724", REFUSED, format!("the rejection in record {} does not read", told.seq))
        })?;
        let signed = signed(&bytes, &armored, approval::NAMESPACE);
        let file = format!("record {}", told.seq);
        let offered = Offered { file, approval, document, signature, signed, used_by: None };
        found.push(Found { offered, bytes, armored });
    }
    Ok(found)
}

/// Which run began with which nonce first.
async fn used(store: Option<&SqliteStore>) -> Result<BTreeMap<String, RunId>, Failure> {
    let Some(store) = store else { return Ok(BTreeMap::new()) };
    let mut runs = store.runs().await.map_err(|error| record::failed(&error))?;
    runs.sort_by_key(|index| std::cmp::Reverse(index.header.started_ms));
    let mut used = BTreeMap::new();
    for index in runs {
        for approval in &index.header.approvals {
            used.insert(approval.nonce.clone(), index.header.run.clone());
        }
    }
    Ok(used)
}

/// A decision and its signature, checked; `None` when the file is no decision.
pub(crate) fn read(path: &Path) -> Result<Option<Found>, Failure> {
    let bytes =
        sources::read(path, approval::BYTES_MAX).map_err(|error| Failure::file("RB0724", "read", path, &error))?;
    let Some(approval) = Approval::parse(&bytes) else { return Ok(None) };
    let armored = match sources::read(&signature_of(path), sshsig::BYTES_MAX) {
        Ok(armored) => armored,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Failure::file("RB0724", "read", &signature_of(path), &error)),
    };
    let signed = signed(&bytes, &armored, approval::NAMESPACE);
    let offered = Offered {
        file: sources::shown(path),
        approval,
        document: Sha256::of(&bytes),
        signature: Sha256::of(&armored),
        signed,
        used_by: None,
    };
    Ok(Some(Found { offered, bytes, armored }))
}

/// Who signed these bytes, or why nobody did.
pub(crate) fn signed(bytes: &[u8], armored: &[u8], namespace: &str) -> Result<Signed, String> {
    if armored.is_empty() {
        return Err("it is not signed".to_owned());
    }
    let text = std::str::from_utf8(armored).map_err(|_| "its signature is no text".to_owned())?;
    let by = sshsig::verify_person(text, namespace, bytes).map_err(|error| error.to_string())?;
    let presence = match (by.touched, by.verified) {
        (true, true) => Some(Presence::Pin),
        (true, false) => Some(Presence::Touch),
        (false, _) => None,
    };
    Ok(Signed { key: by.key, presence })
}

/// Rehearsals that are looked at, the latest ones.
const REHEARSALS_MAX: usize = 20;

/// The rehearsals of a plan's runbook, as their records tell them. Of one whose plan was another, no record is read.
pub(crate) async fn tried(store: &SqliteStore, plan: &Plan) -> Result<Vec<Tried>, Failure> {
    let mut runs = store.runs().await.map_err(|error| record::failed(&error))?;
    runs.retain(|index| index.header.rehearses && index.header.runbook == plan.runbook.name);
    runs.sort_by_key(|index| std::cmp::Reverse(index.header.started_ms));
    let wanted = rehearsal::digest(plan);
    let mut tried = Vec::new();
    for index in runs.into_iter().take(REHEARSALS_MAX) {
        let of = record::plan(store, &index.header).await?;
        let rehearsal_sha256 = rehearsal::digest(&of);
        let faults = match rehearsal_sha256 == wanted {
            true => runbook_report::rehearsal::faults(&record::view(store, &index).await?),
            false => Vec::new(),
        };
        tried.push(Tried {
            run: index.header.run.clone(),
            rehearsal_sha256,
            ended_ms: index.ended_ms.filter(|_| index.status == RunStatus::Ended),
            hosts: of.hosts.keys().cloned().collect(),
            faults,
        });
    }
    Ok(tried)
}
