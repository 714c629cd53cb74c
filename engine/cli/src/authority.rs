//! What the project's rules say to what is asked for. Every command that begins or continues work comes through here.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use runbook_lang::{Inventory, WindowsFile, parse_windows};
use runbook_model::plan::{Plan, Tier};
use runbook_model::{HostName, HostOutcome, Notice, RunOutcome, Sha256};
use runbook_policy::calendar::Cover;
use runbook_policy::{Act, Ask, Calendar, Granted, Rules, authorize, estimate};
use runbook_ports::Store as _;
use runbook_report::Palette;
use runbook_store::SqliteStore;

use crate::failure::{Failure, REFUSED};
use crate::project::Project;
use crate::{notices, person, problems, record, sources};

/// So many of the latest runs of a runbook tell how long its hosts take.
const EARLIER_RUNS: usize = 20;

/// The project's windows, checked.
pub(crate) struct Windows {
    pub(crate) calendar: Calendar,
    file: WindowsFile,
    sha256: Sha256,
}

impl Windows {
    /// `None` when the project has no `windows.yaml`.
    pub(crate) fn of(project: &Project, palette: Palette) -> Result<Option<Self>, Failure> {
        let Some(path) = project.windows() else { return Ok(None) };
        let bytes = match sources::read(&path, runbook_lang::FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::file("RB0608", "read", &path, &error)),
        };
        Self::parse(&path, &bytes, palette).map(Some)
    }

    fn parse(path: &Path, bytes: &[u8], palette: Palette) -> Result<Self, Failure> {
        let shown = sources::shown(path);
        let parsed = parse_windows(&shown, bytes).map_err(|found| problems::failure(&found, &shown, palette))?;
        problems::show(&parsed.warnings, palette);
        let file = parsed.value;
        let calendar = Calendar::new(&file.windows).map_err(|misfits| {
            let found: Vec<_> =
                misfits.iter().map(|misfit| file.misfit(misfit.kind, &misfit.name, misfit.fault.to_string())).collect();
            problems::failure(&found, &shown, palette)
        })?;
        Ok(Self { calendar, file, sha256: Sha256::of(bytes) })
    }

    /// What of them is for each host, for work of that tier.
    ///
    /// # Errors
    /// A selection that names what is not in the inventory, or no host: a window that is for nobody would let everybody
    /// begin at any time.
    pub(crate) fn covers<'h>(
        &self,
        inventory: &Inventory,
        tier: Tier,
        hosts: impl IntoIterator<Item = &'h HostName>,
        palette: Palette,
    ) -> Result<BTreeMap<HostName, Cover>, Failure> {
        let mut selected = BTreeMap::new();
        for (text, (_, selector)) in &self.file.selections {
            let hosts =
                selector.hosts(inventory).map_err(|found| problems::failure(&found, &self.file_name(), palette))?;
            selected.insert(text.as_str(), hosts);
        }
        let cover = |host: &HostName| {
            self.calendar.cover(tier, |selection| selected.get(selection).is_some_and(|hosts| hosts.contains(host)))
        };
        Ok(hosts.into_iter().map(|host| (host.clone(), cover(host))).collect())
    }

    fn file_name(&self) -> String {
        "windows.yaml".into()
    }
}

/// Decides whether `act` may be done now. A refusal is on the record before it is told.
///
/// # Errors
/// RB0720 with the reasons; RB0721 when the windows cannot be made out.
pub(crate) async fn granted(
    project: &Project,
    store: &SqliteStore,
    act: Act,
    plan: &Plan,
    break_glass: Option<&str>,
    palette: Palette,
) -> Result<Granted, Failure> {
    if break_glass.is_some_and(|why| why.trim().is_empty()) {
        return Err(Failure::usage("RB0617", "--break-glass is empty; say why it cannot wait"));
    }
    let windows = Windows::of(project, palette)?;
    let now = Timestamp::now();
    let mut ask = Ask {
        act,
        now,
        hosts: BTreeMap::new(),
        estimate: estimate::of(plan, &[]),
        break_glass: break_glass.map(|why| why.trim().to_owned()),
    };
    if let Some(windows) = &windows {
        let inventory = sources::inventory(project, palette)?;
        ask.hosts = windows.covers(&inventory, plan.runbook.tier, plan.hosts.keys(), palette)?;
        ask.estimate = estimate::of(plan, &earlier(store, plan).await?);
    }
    let rules = Rules { calendar: windows.as_ref().map(|windows| (&windows.calendar, windows.sha256)) };
    let refusal = match authorize(rules, &ask) {
        Ok(granted) => return Ok(granted),
        Err(refusal) => refusal,
    };
    let act = match act {
        Act::TakeBack => "rollback",
        Act::Apply | Act::Check | Act::Resume => "apply",
    };
    let notice = Notice::RunRefused {
        runbook: plan.runbook.name.clone(),
        plan_sha256: plan.digest(),
        act: act.to_owned(),
        reasons: refusal.reasons.clone(),
        by: person::operator(),
    };
    notices::append(project, store, vec![notice], Vec::new()).await?;
    let mut failure = Failure::new("RB0720", REFUSED, "no host may be begun now");
    for reason in &refusal.reasons {
        failure = failure.detail(reason.clone());
    }
    if let Some(next) = refusal.next {
        failure = failure.next(format!("apply it at {next} or later; `runbook windows list` shows the openings"));
    }
    Err(failure.next("if it cannot wait, `--break-glass WHY` sets windows aside; that stays on the record"))
}

/// How long each host took in the latest runs of the runbook that ended well, in milliseconds.
async fn earlier(store: &SqliteStore, plan: &Plan) -> Result<Vec<u64>, Failure> {
    let runs = store.runs().await.map_err(|error| record::failed(&error))?;
    let mut same: Vec<_> = runs
        .into_iter()
        .filter(|index| {
            let header = &index.header;
            header.runbook == plan.runbook.name
                && index.outcome == Some(RunOutcome::Succeeded)
                && !header.check_only
                && header.takes_back.is_none()
        })
        .collect();
    same.sort_by_key(|index| std::cmp::Reverse(index.header.started_ms));
    let mut taken = Vec::new();
    for index in same.iter().take(EARLIER_RUNS) {
        let view = record::view(store, index).await?;
        taken.extend(view.hosts.values().filter_map(|host| match (host.started_ms, host.ended_ms, host.outcome) {
            (Some(start), Some(end), Some(HostOutcome::Succeeded)) => Some(end.saturating_sub(start)),
            _ => None,
        }));
    }
    Ok(taken)
}
