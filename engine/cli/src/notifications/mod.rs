//! News for people outside: put into the outbox at its moment, sent by whoever has time for it, and what became of it put
//! on record.
//!
//! Telling is writing a few rows; it never waits for a network and never makes a command fail.

pub(crate) mod news;
pub(crate) mod settings;

use runbook_driver::SystemClock;
use runbook_model::News;
use runbook_ports::Clock as _;
use runbook_store::{Message, SqliteStore};

use crate::output;
use crate::project::Project;

/// Puts the news into the outbox, for each channel that wants it; durable when it returns. The same news (by its
/// [`News::once`]) is told once, however often and from how many processes this is called. That it cannot be told is said
/// on standard error, and hinders nothing.
pub(crate) async fn tell(project: &Project, store: &SqliteStore, news: &News) {
    let mut news = news.clone().bounded();
    if news.controller.is_empty() {
        news.controller = crate::machine::name();
    }
    let now_ms = SystemClock::new().now_ms();
    let wanting = project.settings.notify.iter().filter(|channel| channel.wants(&news));
    let messages: Vec<Message> = wanting.map(|channel| message(&channel.name, &news, now_ms)).collect();
    if messages.is_empty() {
        return;
    }
    if let Err(error) = store.outbox_put(messages).await {
        output::note(format!("nobody will be told that it {}: {error}", what(&news)));
    }
}

fn message(channel: &str, news: &News, now_ms: u64) -> Message {
    let text = serde_json::to_string(news).expect("news is representable as JSON");
    Message::new(news.id(channel), channel.to_owned(), news.kind.name(), news.run.clone(), text, now_ms)
}

fn what(news: &News) -> String {
    format!("is {} ({})", news.kind.name().replace('_', " "), news.once)
}
