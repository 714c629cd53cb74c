//! Can the anchors be reached, and what do they lack?

use runbook_driver::SystemClock;
use runbook_ports::{Clock as _, Store as _};
use runbook_report::text::{count, elapsed, parse_time};
use runbook_store::SqliteStore;
use tokio::task::JoinSet;

use super::{Check, Status};
use crate::anchors::settings::AnchorSettings;
use crate::anchors::{Receipts, build};
use crate::failure::Failure;
use crate::project::Project;
use crate::record;

/// What nobody outside holds for longer than that is an alarm.
const LAG_MS: u64 = 24 * 3_600_000;

/// Records read at once while the oldest one is looked for that an anchor lacks.
const PAGE: usize = 200;

/// A check per anchor. `offline`: nobody is asked.
pub(super) async fn checks(project: &Project, offline: bool) -> Vec<Check> {
    let anchors = &project.settings.anchors;
    let mut asked = JoinSet::new();
    if !offline {
        for settings in anchors {
            let (anchor, within) = (build(project, settings), settings.timeout);
            if let crate::anchors::settings::Kind::Git { .. } = settings.kind {
                let _ = crate::project::make_private(&project.state_path("anchors"));
            }
            asked.spawn(async move { (anchor.name().to_owned(), anchor.reach(within).await) });
        }
    }
    let mut reached = std::collections::BTreeMap::new();
    while let Some(Ok((name, answer))) = asked.join_next().await {
        reached.insert(name, answer);
    }
    let lags = lags(project).await;
    anchors
        .iter()
        .enumerate()
        .map(|(place, settings)| {
            let name = format!("anchor {}", settings.name);
            let lag = match &lags {
                Ok(lags) => lags.get(place).cloned().unwrap_or_default(),
                Err(failure) => return Check::new(&name, Status::Unknown, failure.message.clone()),
            };
            let (reach, reachable) = match reached.get(&settings.name) {
                None => ("not asked".to_owned(), true),
                Some(Ok(told)) => (told.clone(), true),
                Some(Err(error)) => (error.to_string(), false),
            };
            let status = match (lag.oldest_ms > LAG_MS, reachable) {
                (true, _) => Status::Bad,
                (false, false) => Status::Warning,
                (false, true) => Status::Good,
            };
            let check = Check::new(&name, status, format!("{reach}; {}", lag.text()));
            match status {
                Status::Good => check,
                _ if lag.oldest_ms > LAG_MS => {
                    check.mend(format!("`runbook evidence anchor {}` says why nothing comes through", settings.name))
                }
                _ => check.mend("what waits is given to it by the next run, or by `runbook evidence anchor`"),
            }
        })
        .collect()
}

/// What an anchor lacks.
#[derive(Debug, Clone, Default)]
struct Lag {
    /// Records of the last head that it holds, and when that was.
    last: Option<(u64, String)>,
    records: u64,
    /// Age of the oldest of them.
    oldest_ms: u64,
}

impl Lag {
    fn text(&self) -> String {
        let held = match &self.last {
            Some((size, at)) => format!("it holds {size} records since {at}"),
            None => "it holds nothing yet".into(),
        };
        match self.records {
            0 => format!("{held}, which is all"),
            n => format!("{held}; {} wait, the oldest for {}", count(n as usize, "record"), elapsed(self.oldest_ms)),
        }
    }
}

async fn lags(project: &Project) -> Result<Vec<Lag>, Failure> {
    let anchors = &project.settings.anchors;
    let store = match anchors.is_empty() {
        true => None,
        false => record::open_existing(project).await?,
    };
    let Some(store) = store else { return Ok(vec![Lag::default(); anchors.len()]) };
    let receipts = Receipts::read(&store).await?;
    let size = store.head().await.map_err(|error| record::failed(&error))?.size;
    let mut lags = Vec::new();
    for settings in anchors {
        lags.push(lag(&store, &receipts, settings, size).await?);
    }
    store.close().await;
    Ok(lags)
}

async fn lag(store: &SqliteStore, receipts: &Receipts, anchor: &AnchorSettings, size: u64) -> Result<Lag, Failure> {
    let last = receipts.largest(&anchor.name).map(|held| (held.size, held.at.clone()));
    let records = receipts.lacking(&anchor.name, size);
    let mut lag = Lag { last, records, oldest_ms: 0 };
    if records == 0 {
        return Ok(lag);
    }
    let mut next = receipts.size(&anchor.name);
    loop {
        let page = store.ledger(next, PAGE).await.map_err(|error| record::failed(&error))?;
        let Some(end) = page.last() else { return Ok(lag) };
        next = end.seq + 1;
        if let Some(oldest) = page.iter().find(|sealed| !receipts.is_notice(sealed.seq)) {
            let time = runbook_ledger::record::parse(&oldest.bytes).ok().and_then(|record| parse_time(&record.time));
            lag.oldest_ms = SystemClock::new().now_ms().saturating_sub(time.unwrap_or(0));
            return Ok(lag);
        }
    }
}
