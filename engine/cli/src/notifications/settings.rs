//! `[notify.NAME]` in `runbook.toml`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use runbook_model::News;
use runbook_model::news::NewsKind;
use runbook_model::plan::{SecretRef, Tier};
use runbook_notify::Address;
pub(crate) use runbook_notify::KINDS;
use runbook_wire::http::is_here;

use crate::settings::section::{Section, names};

/// How long one attempt may take unless the settings say otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest that they may say: a message is claimed for longer than that.
pub(crate) const TIMEOUT_MAX: Duration = Duration::from_secs(120);
/// How long a message is tried unless the settings say otherwise.
const GIVE_UP_MS: u64 = 24 * 3_600_000;

/// One channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Channel {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// What it is told of.
    pub(crate) on: Vec<NewsKind>,
    /// Only of these runbooks; a `*` at the end stands for the rest of a name. Empty: of all.
    pub(crate) runbooks: Vec<String>,
    /// Only of these tiers. Empty: of all.
    pub(crate) tiers: Vec<Tier>,
    /// What the message says, instead of what the program says of itself.
    pub(crate) template: Option<PathBuf>,
    /// How long one attempt may take.
    pub(crate) timeout: Duration,
    /// How long a message is tried.
    pub(crate) give_up_ms: u64,
}

/// What it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Smtp(Smtp),
    Slack { url: Text, ca: Option<PathBuf> },
    Teams { url: Text, ca: Option<PathBuf> },
    Webhook { url: Text, secret: SecretRef, ca: Option<PathBuf> },
}

/// A mail server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Smtp {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: SmtpTls,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) login: Option<(String, SecretRef)>,
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
}

/// How a mail server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SmtpTls {
    /// STARTTLS, always.
    StartTls,
    /// TLS from the first byte on.
    Tls,
    /// Not at all; on this machine alone.
    None,
}

/// What stands in the settings, or where it is taken from.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Text {
    Here(String),
    Elsewhere(SecretRef),
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // The address of a chat's webhook is all that is needed to write there.
            Text::Here(_) => f.write_str("Here(…)"),
            Text::Elsewhere(secret) => f.debug_tuple("Elsewhere").field(secret).finish(),
        }
    }
}

impl Kind {
    /// As in the settings.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Kind::Smtp(_) => "smtp",
            Kind::Slack { .. } => "slack",
            Kind::Teams { .. } => "teams",
            Kind::Webhook { .. } => "webhook",
        }
    }

    /// Who is told, without secrets.
    pub(crate) fn to(&self) -> String {
        match self {
            Kind::Smtp(smtp) => smtp.to.join(", "),
            Kind::Slack { url, .. } | Kind::Teams { url, .. } | Kind::Webhook { url, .. } => match url {
                Text::Here(text) => text.parse::<Address>().map(|address| address.site()).unwrap_or_default(),
                Text::Elsewhere(_) => String::new(),
            },
        }
    }
}

impl Channel {
    /// Whether it is told of it.
    pub(crate) fn wants(&self, news: &News) -> bool {
        self.on.contains(&news.kind)
            && names(&self.runbooks, &news.runbook)
            && (self.tiers.is_empty() || news.tier.is_some_and(|tier| self.tiers.contains(&tier)))
    }
}

/// The keys of a kind: those that must be there, and those that may.
fn keys(kind: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match kind {
        "smtp" => (&["host", "from", "to"], &["port", "tls", "ca", "user", "password"]),
        "webhook" => (&["url", "secret"], &["ca"]),
        _ => (&["url"], &["ca"]),
    }
}

/// What every kind may have.
const COMMON: [&str; 6] = ["on", "runbooks", "tiers", "template", "timeout", "give_up"];

/// Reads one section. Each problem is given with the key that it is at; `None` when there was any.
pub(crate) fn read(
    name: &str,
    table: &toml::Table,
    folder: &Path,
    problem: &mut dyn FnMut(&str, String),
) -> Option<Channel> {
    let mut section = Section { table, folder, problem, bad: false };
    section.named(name, "a channel's");
    let kind = section.kind(&KINDS, "channel", "a channel needs")?;
    let (needed, optional) = keys(kind);
    let known: Vec<&str> = needed.iter().chain(optional).chain(&COMMON).copied().collect();
    section.only(&known, &format!("a channel of kind {kind}"));
    for key in needed {
        if !table.contains_key(*key) {
            section.wrong("kind", format!("a channel of kind {kind} needs `{key}`"));
        }
    }
    let on = section.on();
    let tiers = section.tiers();
    let runbooks = section.list("runbooks").unwrap_or_default();
    let template = section.path("template");
    let timeout = section.timeout(TIMEOUT, TIMEOUT_MAX);
    let give_up_ms = section.duration("give_up").unwrap_or(GIVE_UP_MS);
    let ca = section.path("ca");
    let kind = match kind {
        "smtp" => section.smtp(ca).map(Kind::Smtp),
        "slack" => section.url().map(|url| Kind::Slack { url, ca }),
        "teams" => section.url().map(|url| Kind::Teams { url, ca }),
        _ => {
            let (url, secret) = (section.url(), section.secret("secret"));
            url.zip(secret).map(|(url, secret)| Kind::Webhook { url, secret, ca })
        }
    };
    let bad = section.bad;
    kind.filter(|_| !bad).map(|kind| Channel {
        name: name.to_owned(),
        kind,
        on,
        runbooks,
        tiers,
        template,
        timeout,
        give_up_ms,
    })
}

impl Section<'_> {
    fn on(&mut self) -> Vec<NewsKind> {
        let Some(words) = self.list("on") else {
            return NewsKind::ALL.into_iter().filter(|kind| kind.is_usual()).collect();
        };
        let mut found = Vec::new();
        for word in words {
            match NewsKind::ALL.into_iter().find(|kind| kind.name() == word) {
                Some(kind) => found.push(kind),
                None if word == "all" => found.extend(NewsKind::ALL),
                None => {
                    let known: Vec<_> = NewsKind::ALL.into_iter().map(NewsKind::name).chain(["all"]).collect();
                    self.wrong("on", format!("there is no news called `{word}`; known: {}", known.join(", ")));
                }
            }
        }
        found
    }

    fn url(&mut self) -> Option<Text> {
        match self.table.get("url")? {
            toml::Value::String(text) => match text.parse::<Address>() {
                Ok(_) => Some(Text::Here(text.clone())),
                Err(why) => {
                    // What is wrong with it is said without it: it may be a secret.
                    self.wrong("url", format!("`url` cannot be used: {why}"));
                    None
                }
            },
            _ => self.secret("url").map(Text::Elsewhere),
        }
    }

    fn smtp(&mut self, ca: Option<PathBuf>) -> Option<Smtp> {
        let host = self.text("host");
        let tls = match self.text("tls").as_deref() {
            None | Some("starttls") => SmtpTls::StartTls,
            Some("tls") => SmtpTls::Tls,
            Some("none") => {
                if !host.as_deref().is_some_and(is_here) {
                    self.wrong("tls", "`tls = \"none\"` is for a mail server on this machine alone (127.0.0.1)".into());
                }
                SmtpTls::None
            }
            Some(other) => {
                self.wrong("tls", format!("`{other}` is not one of \"starttls\", \"tls\", \"none\""));
                SmtpTls::StartTls
            }
        };
        let usual = match tls {
            SmtpTls::StartTls => 587,
            SmtpTls::Tls => 465,
            SmtpTls::None => 25,
        };
        let port = match self.table.get("port") {
            None => usual,
            Some(value) => {
                let port = value.as_integer().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
                if port.is_none() {
                    self.wrong("port", "`port` must be a number from 1 to 65535".into());
                }
                port.unwrap_or(usual)
            }
        };
        let login = match (self.text("user"), self.secret("password")) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => None,
            _ => {
                self.wrong("user", "`user` and `password` belong together".into());
                None
            }
        };
        let from = self.text("from");
        let to = self.list("to").unwrap_or_default();
        for (key, mailbox) in from.iter().map(|from| ("from", from)).chain(to.iter().map(|to| ("to", to))) {
            if !is_mailbox(mailbox) {
                self.wrong(
                    key,
                    format!("`{}` is no plain mail address such as ops@example.com", mailbox.escape_debug()),
                );
            }
        }
        Some(Smtp { host: host?, port, tls, ca, login, from: from?, to })
    }
}

/// A mail address without anything that could be read as more than one, or as a command.
fn is_mailbox(text: &str) -> bool {
    let good = |c: char| {
        c.is_ascii_graphic() && !matches!(c, '<' | '>' | '(' | ')' | ',' | ';' | ':' | '\\' | '"' | '[' | ']' | '@')
    };
    text.len() <= 254
        && text.rsplit_once('@').is_some_and(|(local, domain)| {
            !local.is_empty() && !domain.is_empty() && local.chars().all(good) && domain.chars().all(good)
        })
}
