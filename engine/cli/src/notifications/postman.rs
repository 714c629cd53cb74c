//! Tells and sends while a command works: in a thread of its own, with a connection of its own to the store. The run waits
//! for nothing here, and at the end of the command it is waited for shortly.

use std::sync::Arc;

use runbook_driver::SystemClock;
use runbook_model::id::Cell;
use runbook_model::outcome::Wait;
use runbook_model::plan::Plan;
use runbook_model::record::Record;
use runbook_model::{Event, News};
use runbook_ports::Clock as _;
use runbook_ports::Observer;
use runbook_ports::store::Holder;
use runbook_ports::transport::Stream;
use runbook_report::RunView;
use runbook_report::text::{count, escape_line};
use runbook_store::SqliteStore;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::deliver::{self, AT_END, Sent};
use super::{news, targets, tell};
use crate::output::note;
use crate::project::Project;
use crate::signals;

enum Job {
    Tell(Box<News>),
    /// Send all that is due now, say what came of it, and end.
    Finish(oneshot::Sender<Sent>),
}

/// The thread.
#[derive(Clone)]
pub(crate) struct Postman(mpsc::UnboundedSender<Job>);

impl Postman {
    /// Begins. `None`: there is no channel, so there is nothing to do. That no thread could be made is told.
    pub(crate) fn start(project: &Project) -> Option<Self> {
        if targets(project).is_empty() {
            return None;
        }
        let (jobs, taken) = mpsc::unbounded_channel();
        let project = project.clone();
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(work(&project, taken)),
                Err(error) => note(format!("nobody is told anything now: {error}")),
            }
        };
        match std::thread::Builder::new().name("postman".into()).spawn(work) {
            Ok(_) => Some(Self(jobs)),
            Err(error) => {
                note(format!("nobody is told anything now: {error}"));
                None
            }
        }
    }

    /// Has the news told. Returns at once.
    pub(crate) fn tell(&self, news: News) {
        let _ = self.0.send(Job::Tell(Box::new(news)));
    }

    /// Sends all that is due, waits shortly for it, puts on record what was settled, and says what waits. A signal ends the
    /// waiting.
    pub(crate) async fn finish(&self, project: &Project, store: &SqliteStore) {
        let (say, said) = oneshot::channel();
        let _ = self.0.send(Job::Finish(say));
        let sent = tokio::select! {
            sent = tokio::time::timeout(AT_END, said) => sent.ok().and_then(Result::ok),
            () = signals::asked_to_end() => None,
        };
        if let Err(failure) = deliver::put_on_record(project, store).await {
            note(format!("what became of messages could not be put on record yet: {}", failure.message));
        }
        if let Some(line) = waiting(store, sent.as_ref()).await {
            note(line);
        }
    }
}

/// What is to be said of messages that were not taken.
async fn waiting(store: &SqliteStore, sent: Option<&Sent>) -> Option<String> {
    let outbox = store.outbox().await.ok()?;
    let waiting = outbox.iter().filter(|one| one.state == runbook_store::MessageState::Waiting).count();
    let given_up = sent.map_or(0, |sent| sent.given_up);
    let mut lines = Vec::new();
    if waiting > 0 {
        let why = sent.and_then(|sent| sent.later.iter().next());
        let why = why.map(|(channel, why)| format!(" ({channel}: {why})")).unwrap_or_default();
        lines.push(format!("{} not sent yet{why}: `runbook notify send` tries again", count(waiting, "message")));
    }
    if given_up > 0 {
        lines.push(format!("{} given up: `runbook notify list` says why", count(given_up, "message")));
    }
    let text = lines.iter().map(|line| escape_line(line.as_bytes())).collect::<Vec<_>>().join("\n");
    (!text.is_empty()).then_some(text)
}

async fn work(project: &Project, mut jobs: mpsc::UnboundedReceiver<Job>) {
    let store = match SqliteStore::open(&project.state).await {
        Ok(store) => store,
        Err(error) => return note(format!("nobody is told anything now: {error}")),
    };
    let (mut passes, mut sent) = (JoinSet::new(), Sent::default());
    let mut finish = None;
    // What an earlier command left.
    begin(&mut passes, project, &store);
    loop {
        let now_ms = SystemClock::new().now_ms();
        let pause = sent.next_ms.map(|next| std::time::Duration::from_millis(next.saturating_sub(now_ms).max(500)));
        tokio::select! {
            job = jobs.recv(), if finish.is_none() => match job {
                Some(Job::Tell(news)) => {
                    tell(project, &store, &news).await;
                    begin(&mut passes, project, &store);
                }
                Some(Job::Finish(say)) => {
                    finish = Some(say);
                    begin(&mut passes, project, &store);
                }
                None => return,
            },
            Some(done) = passes.join_next(), if !passes.is_empty() => match done {
                Ok(Ok(one)) => {
                    sent.delivered += one.delivered;
                    sent.given_up += one.given_up;
                    sent.later.extend(one.later);
                    sent.next_ms = one.next_ms;
                }
                Ok(Err(error)) => tracing::warn!(target: "runbook", %error, "messages cannot be sent now"),
                Err(error) => tracing::warn!(target: "runbook", %error, "messages cannot be sent now"),
            },
            () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() && passes.is_empty() && finish.is_none() => {
                begin(&mut passes, project, &store);
            }
        }
        if passes.is_empty()
            && let Some(say) = finish.take()
        {
            let _ = say.send(sent);
            store.close().await;
            return;
        }
    }
}

/// Another pass, beside those that wait for somebody slow: no message is sent by two of them.
fn begin(passes: &mut JoinSet<Result<Sent, runbook_ports::store::StoreError>>, project: &Project, store: &SqliteStore) {
    let (project, store) = (project.clone(), store.clone());
    passes.spawn(async move { deliver::send(&project, &store).await });
}

/// Stands between the run and whoever watches it, and has its beginning told.
pub(crate) struct Telling {
    pub(crate) inner: Arc<dyn Observer>,
    pub(crate) postman: Postman,
    pub(crate) plan: Arc<Plan>,
}

impl Observer for Telling {
    fn committed(&self, record: &Record) {
        self.inner.committed(record);
        if let Event::RunOpened(_) = &record.event {
            let view = RunView::of(Arc::clone(&self.plan), [record]);
            if let Some(news) = news::started(&view) {
                self.postman.tell(news);
            }
        }
    }

    fn held(&self, what: &str, by: &Holder) {
        self.inner.held(what, by);
    }

    fn output(&self, cell: &Cell, stream: Stream, bytes: &[u8]) {
        self.inner.output(cell, stream, bytes);
    }

    fn waiting(&self, cell: &Cell, wait: Option<&Wait>) {
        self.inner.waiting(cell, wait);
    }

    fn progress(&self, cell: &Cell, bytes_done: u64, bytes_total: u64) {
        self.inner.progress(cell, bytes_done, bytes_total);
    }
}
