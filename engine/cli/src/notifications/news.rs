//! What is told of a run.

use std::collections::BTreeMap;

use runbook_model::event::Person;
use runbook_model::plan::Plan;
use runbook_model::{HostOutcome, News, NewsKind, Sha256};
use runbook_report::RunView;
use runbook_report::list::short;
use runbook_report::summary::{self, Circumstances};
use runbook_report::text::list;
use runbook_report::view::RunState;

/// Hosts that are named for each bad outcome, at most.
const HOSTS_NAMED: usize = 8;

/// How a run stands now that its program leaves it; `None` for one that is only being worked on. `exit_code`: of the
/// command, where there is one.
pub(crate) fn of_run(view: &RunView, exit_code: Option<u8>, circumstances: Circumstances<'_>) -> Option<News> {
    let header = view.header.as_ref()?;
    let run = header.run.clone();
    let left = circumstances.detached || circumstances.unrecorded.is_some();
    let (kind, once, at_ms) = match view.state {
        RunState::Ended => (NewsKind::Ended, format!("ended/{run}"), view.ended_ms.unwrap_or(view.last_ms)),
        RunState::Running if !left => return None,
        RunState::Suspended | RunState::Running => {
            let at = view.last_seq.unwrap_or_default();
            (NewsKind::Suspended, format!("suspended/{run}/{at}"), view.last_ms)
        }
    };
    let mut news = about(view, News::new(kind, once, at_ms));
    news.outcome = view.outcome;
    news.exit_code = exit_code.or_else(|| view.outcome.map(HostOutcome::exit_code));
    news.counts = counts(view);
    if let Some(why) = circumstances.unrecorded {
        news.lines.push(format!("evidence could not be recorded: {why}"));
    }
    if circumstances.detached {
        news.lines.push("its operator has left it; nobody works on it now".into());
    }
    news.lines.extend(bad_hosts(view));
    news.next = summary::next_steps(view, circumstances);
    let id = short(run.as_str());
    news.next.push(format!("`runbook show {id}` shows it, `runbook evidence verify {id}` proves it"));
    Some(news)
}

/// A run has begun.
pub(crate) fn started(view: &RunView) -> Option<News> {
    let header = view.header.as_ref()?;
    Some(about(view, News::new(NewsKind::Started, format!("started/{}", header.run), header.started_ms)))
}

/// The program that worked on a run has died.
pub(crate) fn died(view: &RunView) -> Option<News> {
    let header = view.header.as_ref()?;
    let once = format!("died/{}/{}", header.run, view.last_seq.unwrap_or_default());
    let mut news = about(view, News::new(NewsKind::Died, once, view.last_ms));
    news.counts = counts(view);
    news.lines.push("what was under way on hosts goes on there and is found again by a resume".into());
    news.next = summary::next_steps(view, Circumstances::default());
    Some(news)
}

/// A run was asked for and not allowed. `record`: what only the record that says so has, in any ledger.
pub(crate) fn refused(
    plan: &Plan,
    record: Sha256,
    at_ms: u64,
    by: &Person,
    ticket: Option<&str>,
    why: &[String],
) -> News {
    let mut news = News::new(NewsKind::Refused, format!("refused/{record}"), at_ms).about(plan);
    news.operator = Some(by.name.clone());
    news.ticket = ticket.filter(|ticket| !ticket.is_empty()).map(str::to_owned);
    news.lines = why.to_vec();
    news.next = vec!["`runbook policy explain FILE` says rule by rule what is required, and what is missing".into()];
    news
}

fn about(view: &RunView, news: News) -> News {
    let mut news = news.about(&view.plan);
    if let Some(header) = &view.header {
        news.run = Some(header.run.clone());
        news.plan_sha256 = Some(header.plan_sha256);
        news.check_only = header.check_only;
        news.rehearses = header.rehearses;
        news.operator = Some(header.operator.name.clone());
        news.ticket.clone_from(&header.ticket);
        news.controller.clone_from(&header.controller);
        if let Some(occurrence) = &header.occurrence {
            news.schedule = Some(occurrence.schedule.clone());
            news.due_ms = Some(occurrence.at_ms);
        }
        if let Some(finished) = &header.takes_back {
            news.lines.push(format!("it takes run {} back", short(finished.as_str())));
        }
    }
    news.lines.extend(view.break_glass.iter().map(|why| format!("BREAK GLASS: {why}")));
    news
}

fn counts(view: &RunView) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for host in view.hosts.values() {
        let word = host.outcome.map_or("open", HostOutcome::name);
        *counts.entry(word.to_owned()).or_insert(0) += 1;
    }
    counts
}

/// Whom somebody has to look at, worst first. Why it is so is left to the record: the reason may quote a host.
fn bad_hosts(view: &RunView) -> Vec<String> {
    let worst =
        [HostOutcome::Unknown, HostOutcome::Stuck, HostOutcome::Failed, HostOutcome::RolledBack, HostOutcome::Blocked];
    let named = |outcome: HostOutcome| {
        let with: Vec<&str> = view
            .hosts
            .iter()
            .filter(|(_, host)| host.outcome == Some(outcome))
            .map(|(name, _)| name.as_str())
            .collect();
        let words = outcome.name().replace('_', " ");
        (!with.is_empty()).then(|| format!("{words}: {}", list(&with, HOSTS_NAMED)))
    };
    worst.into_iter().filter_map(named).collect()
}
