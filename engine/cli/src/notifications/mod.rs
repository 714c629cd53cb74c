//! News for people outside: put into the outbox at its moment, sent by whoever has time for it, and what became of it put
//! on record.
//!
//! Telling is writing a few rows; it never waits for a network and never makes a command fail. Sending is done by the
//! [`postman`] of a command that works on a run, by `notify send`, or by a daemon through [`send_due`].

mod deliver;
pub(crate) mod news;
mod postman;
pub(crate) mod settings;
mod text;

use std::path::PathBuf;
use std::sync::Arc;

use runbook_driver::SystemClock;
use runbook_model::News;
use runbook_notify::{Address, Secret, Security, Slack, Smtp, Teams, Webhook};
use runbook_ports::{Clock as _, Notifier};
use runbook_store::{Message, SqliteStore};
use runbook_wire::Tls;

pub(crate) use deliver::{died, reach, send_due, test};
pub(crate) use postman::{Postman, Telling};
use settings::{Channel, Kind, SmtpTls, Text};
pub(crate) use text::check as check_template;

use crate::output;
use crate::project::Project;
use crate::tickets;
use crate::tickets::settings::System;

/// Who is told of things: people through a channel, or a ticket in its system.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Channel(Box<Channel>),
    Ticket(Box<System>),
}

/// All of the project's.
pub(crate) fn targets(project: &Project) -> Vec<Target> {
    let channels = project.settings.notify.iter().cloned().map(|channel| Target::Channel(Box::new(channel)));
    channels.chain(project.settings.tickets.iter().cloned().map(|system| Target::Ticket(Box::new(system)))).collect()
}

impl Target {
    /// As messages have it. No channel is called like a system of tickets.
    pub(crate) fn name(&self) -> String {
        match self {
            Target::Channel(channel) => channel.name.clone(),
            Target::Ticket(system) => format!("ticket:{}", system.name),
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Target::Channel(channel) => channel.kind.name(),
            Target::Ticket(system) => system.kind.name(),
        }
    }

    /// Who is told, without secrets.
    pub(crate) fn to(&self) -> String {
        match self {
            Target::Channel(channel) => channel.kind.to(),
            Target::Ticket(system) => system.address.site(),
        }
    }

    fn wants(&self, project: &Project, news: &News) -> bool {
        match self {
            Target::Channel(channel) => channel.wants(news),
            Target::Ticket(system) => tickets::wants(project, system, news),
        }
    }

    /// How long a message is tried.
    pub(crate) fn give_up_ms(&self) -> u64 {
        match self {
            Target::Channel(channel) => channel.give_up_ms,
            Target::Ticket(system) => system.give_up_ms,
        }
    }
}

/// Puts the news into the outbox, for each channel that wants it; durable when it returns. The same news (by its
/// [`News::once`]) is told once, however often and from how many processes this is called. That it cannot be told is said
/// on standard error, and hinders nothing.
pub(crate) async fn tell(project: &Project, store: &SqliteStore, news: &News) {
    let mut news = news.clone().bounded();
    if news.controller.is_empty() {
        news.controller = crate::machine::name();
    }
    let now_ms = SystemClock::new().now_ms();
    let all = targets(project);
    let wanting = all.iter().filter(|target| target.wants(project, &news));
    let messages: Vec<Message> = wanting.map(|target| message(&target.name(), &news, now_ms)).collect();
    if messages.is_empty() {
        return;
    }
    if let Err(error) = store.outbox_put(messages).await {
        output::note(format!("nobody will be told the news \"{}\": {error}", news.kind.name().replace('_', " ")));
    }
}

fn message(channel: &str, news: &News, now_ms: u64) -> Message {
    let text = serde_json::to_string(news).expect("news is representable as JSON");
    Message::new(news.id(channel), channel.to_owned(), news.kind.name(), news.run.clone(), text, now_ms)
}

/// The notifier of a channel, with its secrets, which are resolved now.
///
/// # Errors
/// Why a secret is not to be had, or is none, without it.
async fn build(project: &Project, channel: &Channel) -> Result<Arc<dyn Notifier>, String> {
    let address = async |text: &Text| match text {
        Text::Here(text) => text.parse::<Address>(),
        Text::Elsewhere(secret) => {
            let value = project.secret(secret).await?;
            let text = std::str::from_utf8(value.expose()).map_err(|_| "the secret address is no text".to_owned())?;
            text.trim().parse::<Address>().map_err(|why| format!("the secret address cannot be used: {why}"))
        }
    };
    let trusting = |ca: &Option<PathBuf>| Tls { ca: ca.clone(), client: None };
    let name = channel.name.clone();
    Ok(match &channel.kind {
        Kind::Smtp(smtp) => {
            let login = match &smtp.login {
                Some((user, password)) => Some((user.clone(), project.secret(password).await?)),
                None => None,
            };
            Arc::new(Smtp {
                name,
                host: smtp.host.clone(),
                port: smtp.port,
                security: match smtp.tls {
                    SmtpTls::StartTls => Security::StartTls,
                    SmtpTls::Tls => Security::Tls,
                    SmtpTls::None => Security::None,
                },
                tls: trusting(&smtp.ca),
                login,
                from: smtp.from.clone(),
                to: smtp.to.clone(),
            })
        }
        Kind::Slack { url, ca } => Arc::new(Slack { name, address: address(url).await?, tls: trusting(ca) }),
        Kind::Teams { url, ca } => Arc::new(Teams { name, address: address(url).await?, tls: trusting(ca) }),
        Kind::Webhook { url, secret, ca } => {
            let secret = Secret::parse(&project.secret(secret).await?)?;
            Arc::new(Webhook { name, address: address(url).await?, tls: trusting(ca), secret })
        }
    })
}
