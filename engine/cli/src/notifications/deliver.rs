//! Sends what is due. By whom does not matter: the program that works on a run, `notify send`, a daemon. Two at once send
//! no message twice, unless one of them dies in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use runbook_driver::SystemClock;
use runbook_model::{News, Notice, RunId, RunOutcome};
use runbook_ports::Clock as _;
use runbook_ports::Store as _;
use runbook_ports::notifier::{Message as Told, Notifier, NotifyError};
use runbook_ports::store::{RunStatus, StoreError};
use runbook_store::{Attempt, Message, MessageState, SqliteStore};
use tokio::task::JoinSet;

use super::settings::{Channel, TIMEOUT_MAX};
use super::text::Wording;
use super::{Target, build, news, targets, tell};
use crate::failure::Failure;
use crate::project::Project;
use crate::{keys, notices, record, tickets};

/// The pause after the first attempt; each further one is three times as long.
const PAUSE_MS: u64 = 10_000;
/// No pause is longer than that, unless the other side asks for it.
const PAUSE_MS_MAX: u64 = 3_600_000;
/// A claim is kept for longer than any attempt takes, its secret's program included.
const CLAIM_MS: u64 = TIMEOUT_MAX.as_millis() as u64 + 120_000;
/// A run that ended longer ago is not told of any more.
const CATCH_UP_MS: u64 = 24 * 3_600_000;
/// How long a message waits for a channel that is not in the settings any more.
const ORPHAN_MS: u64 = 24 * 3_600_000;

/// What came of sending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) delivered: usize,
    /// Given up now.
    pub(crate) given_up: usize,
    /// Why messages wait, by channel.
    pub(crate) later: BTreeMap<String, String>,
    /// When the next one is due (Unix ms); `None`: none waits.
    pub(crate) next_ms: Option<u64>,
}

/// Tells what nobody has told, sends all that is due, and puts on record what was settled. For `notify send` and for a
/// daemon, which calls it again at `next_ms` or when it has told something.
///
/// # Errors
/// When the store or the record cannot be read or written. That a message is not taken is no error.
pub(crate) async fn send_due(project: &Project, store: &SqliteStore) -> Result<Sent, Failure> {
    catch_up(project, store).await?;
    let sent = send(project, store).await.map_err(|error| record::failed(&error))?;
    put_on_record(project, store).await?;
    Ok(sent)
}

/// Sends all that is due, to all channels at once. Puts nothing on record.
pub(crate) async fn send(project: &Project, store: &SqliteStore) -> Result<Sent, StoreError> {
    let mut under_way = JoinSet::new();
    for target in targets(project) {
        let (project, store) = (project.clone(), store.clone());
        under_way.spawn(async move { to(&project, &store, &target).await });
    }
    let mut sent = Sent::default();
    while let Some(done) = under_way.join_next().await {
        let one = done.unwrap_or_else(|error| Err(StoreError::Failed(format!("sending was broken off: {error}"))))?;
        sent.delivered += one.delivered;
        sent.given_up += one.given_up;
        sent.later.extend(one.later);
    }
    sent.given_up += orphans(project, store).await?;
    let channels: Vec<String> = targets(project).iter().map(Target::name).collect();
    sent.next_ms = store.outbox_next_ms(&channels).await?;
    Ok(sent)
}

/// One message after the other.
async fn to(project: &Project, store: &SqliteStore, target: &Target) -> Result<Sent, StoreError> {
    let clock = SystemClock::new();
    let channel = target.name();
    let name = std::slice::from_ref(&channel);
    let mut sent = Sent::default();
    loop {
        let now_ms = clock.now_ms();
        let Some(message) = store.outbox_claim(name, now_ms, now_ms + CLAIM_MS).await? else { return Ok(sent) };
        let tried = match target {
            Target::Ticket(system) => tickets::attempt(project, store, system, &message).await,
            Target::Channel(channel) => match build(project, channel).await {
                Ok(notifier) => attempt(&*notifier, channel, &message, now_ms).await,
                Err(why) => Err(NotifyError::later(why)),
            },
        };
        let at_ms = clock.now_ms();
        let waits = Attempt {
            state: MessageState::Waiting,
            at_ms,
            next_ms: at_ms + pause_ms(message.attempts),
            answer: String::new(),
            sha256: None,
        };
        let attempt = match tried {
            Ok((answer, sha256)) => {
                sent.delivered += 1;
                Attempt { state: MessageState::Delivered, answer, sha256: Some(sha256), ..waits }
            }
            Err(NotifyError::Never(answer)) => {
                sent.given_up += 1;
                Attempt { state: MessageState::GivenUp, answer, ..waits }
            }
            Err(NotifyError::Later { why, .. }) if at_ms.saturating_sub(message.created_ms) >= target.give_up_ms() => {
                sent.given_up += 1;
                Attempt { state: MessageState::GivenUp, answer: why, ..waits }
            }
            Err(NotifyError::Later { why, after_ms }) => {
                sent.later.insert(channel.clone(), why.clone());
                let next_ms = waits.next_ms.max(at_ms.saturating_add(after_ms.unwrap_or(0)));
                // The last attempt is at the end of the time, not beyond it.
                let end_ms = message.created_ms + target.give_up_ms();
                let next_ms = if at_ms < end_ms { next_ms.min(end_ms) } else { next_ms };
                Attempt { answer: why, next_ms, ..waits }
            }
        };
        store.outbox_tried(&message.id, attempt).await?;
    }
}

async fn attempt(
    notifier: &dyn Notifier,
    channel: &Channel,
    message: &Message,
    now_ms: u64,
) -> Result<(String, runbook_model::Sha256), NotifyError> {
    let news: News = serde_json::from_str(&message.news)
        .map_err(|error| NotifyError::Never(format!("a newer version of runbook wrote it: {error}")))?;
    let wording = Wording::of(&news, channel.template.as_deref());
    let told = Told {
        id: &message.id,
        made_ms: message.created_ms,
        now_ms,
        subject: &wording.subject,
        text: &wording.text,
        kind: &message.kind,
        news: &message.news,
    };
    let delivered = notifier.deliver(told, channel.timeout).await?;
    Ok((delivered.answer, delivered.sha256))
}

/// With a fifth more or less, so that what failed together does not come back together.
fn pause_ms(attempts: u32) -> u64 {
    let pause = PAUSE_MS.saturating_mul(3_u64.saturating_pow(attempts.min(10))).min(PAUSE_MS_MAX);
    let chance = keys::random::<2>().map_or(0x8000, u16::from_be_bytes);
    pause - pause / 5 + (pause * 2 / 5) * u64::from(chance) / u64::from(u16::MAX)
}

/// Gives up what waits for channels that are not in the settings any more.
async fn orphans(project: &Project, store: &SqliteStore) -> Result<usize, StoreError> {
    let now_ms = SystemClock::new().now_ms();
    let all: Vec<String> = targets(project).iter().map(Target::name).collect();
    let known = |name: &str| all.iter().any(|known| known == name);
    let mut given_up = 0;
    for message in store.outbox().await? {
        let old = now_ms.saturating_sub(message.created_ms) >= ORPHAN_MS;
        if message.state != MessageState::Waiting || known(&message.channel) || !old {
            continue;
        }
        let Some(claimed) =
            store.outbox_claim(std::slice::from_ref(&message.channel), now_ms, now_ms + CLAIM_MS).await?
        else {
            continue;
        };
        let answer = "there is no such channel in the settings any more".to_owned();
        let attempt = Attempt { state: MessageState::GivenUp, at_ms: now_ms, next_ms: now_ms, answer, sha256: None };
        given_up += usize::from(store.outbox_tried(&claimed.id, attempt).await?);
    }
    Ok(given_up)
}

/// Puts on record what became of the messages that were settled. Whoever dies in the middle of it puts it there once more,
/// under the same message.
pub(crate) async fn put_on_record(project: &Project, store: &SqliteStore) -> Result<(), Failure> {
    let failed = |error| record::failed(&error);
    let settled = store.outbox_unrecorded().await.map_err(failed)?;
    if settled.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = settled.iter().map(|message| message.id.clone()).collect();
    let notices = settled.into_iter().map(|message| notice(project, message)).collect();
    notices::append(project, store, notices, Vec::new()).await?;
    store.outbox_recorded(&ids).await.map_err(failed)
}

fn notice(project: &Project, message: Message) -> Notice {
    let target = targets(project).into_iter().find(|target| target.name() == message.channel);
    Notice::Notified {
        channel: message.channel,
        kind: target.as_ref().map_or_else(String::new, |target| target.kind().to_owned()),
        to: target.as_ref().map_or_else(String::new, Target::to),
        message: message.id,
        news: message.kind,
        about_run: message.run,
        message_sha256: message.sha256,
        attempts: message.attempts,
        outcome: message.state.name().to_owned(),
        answer: message.answer,
    }
}

/// Tells of runs whose program died before it could: those that ended without being told of, and those that it died on.
async fn catch_up(project: &Project, store: &SqliteStore) -> Result<(), Failure> {
    if targets(project).is_empty() {
        return Ok(());
    }
    let failed = |error| record::failed(&error);
    let now_ms = SystemClock::new().now_ms();
    let told = store.outbox().await.map_err(failed)?;
    let is_told = |run: &RunId, kind: &str| told.iter().any(|one| one.kind == kind && one.run.as_ref() == Some(run));
    for index in store.runs().await.map_err(failed)? {
        let run = &index.header.run;
        match index.status {
            RunStatus::Ended => {
                let age = now_ms.saturating_sub(index.ended_ms.unwrap_or(0));
                if age > CATCH_UP_MS || is_told(run, "ended") {
                    continue;
                }
                let view = record::view(store, &index).await?;
                let code = view.outcome.map(RunOutcome::exit_code);
                if let Some(news) = news::of_run(&view, code, Default::default()) {
                    tell(project, store, &news).await;
                }
            }
            RunStatus::Running => {
                let holder = store.holder(run).await.map_err(failed)?;
                if holder.is_some_and(|holder| holder.alive) {
                    continue;
                }
                died(project, store, &record::view(store, &index).await?, &told).await;
            }
            RunStatus::Suspended => {}
        }
    }
    Ok(())
}

/// Tells that the program that worked on a run has died; not when it said before it left the run that it does.
pub(crate) async fn died(project: &Project, store: &SqliteStore, view: &runbook_report::RunView, told: &[Message]) {
    let Some(news) = news::died(view).filter(|news| now_within(news.at_ms)) else { return };
    let left = format!("\"suspended/{}\"", news.once.trim_start_matches("died/"));
    if !told.iter().any(|message| message.run == news.run && message.news.contains(&left)) {
        tell(project, store, &news).await;
    }
}

fn now_within(at_ms: u64) -> bool {
    SystemClock::new().now_ms().saturating_sub(at_ms) <= CATCH_UP_MS
}

/// Whether a channel can be told, as far as that is known without telling.
pub(crate) async fn reach(project: &Project, channel: &Channel) -> Result<String, String> {
    let notifier: Arc<dyn Notifier> = build(project, channel).await?;
    notifier.reach(channel.timeout).await.map_err(|error| error.to_string())
}

/// Sends one message now and says what came of it. It is not kept, and is tried once.
pub(crate) async fn test(project: &Project, channel: &Channel) -> Result<String, String> {
    let notifier: Arc<dyn Notifier> = build(project, channel).await?;
    let now_ms = SystemClock::new().now_ms();
    let once = keys::random::<16>().map(u128::from_be_bytes).map_err(|failure| failure.message)?;
    let mut news = News::new(runbook_model::NewsKind::Test, format!("test/{once:032x}"), now_ms);
    news.controller = crate::machine::name();
    news.operator = Some(crate::person::operator().name);
    news.lines = vec![format!("somebody on {} tries whether news arrives here", news.controller)];
    let text = serde_json::to_string(&news).map_err(|error| error.to_string())?;
    let message = Message::new(news.id(&channel.name), channel.name.clone(), "test", None, text, now_ms);
    let (answer, _) = attempt(&*notifier, channel, &message, now_ms).await.map_err(|error| error.to_string())?;
    Ok(answer)
}

/// After that it is not waited for any longer what a command has to tell at its end.
pub(crate) const AT_END: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_within_their_bounds() {
        for (attempts, pause) in [(0, 10_000), (1, 30_000), (3, 270_000), (9, 3_600_000), (u32::MAX, 3_600_000)] {
            let found = pause_ms(attempts);
            assert!(found >= pause - pause / 5 && found <= pause + pause / 5, "{attempts}: {found}");
        }
    }
}
