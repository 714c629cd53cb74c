//! `[notify.NAME]` in `runbook.toml`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use runbook_model::News;
use runbook_model::news::NewsKind;
use runbook_model::plan::{SecretRef, Tier};
use runbook_model::units::parse_duration_ms;
use runbook_notify::Address;
pub(crate) use runbook_notify::KINDS;

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
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => news.runbook.starts_with(beginning),
            None => *pattern == news.runbook,
        };
        self.on.contains(&news.kind)
            && (self.runbooks.is_empty() || self.runbooks.iter().any(fits))
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
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    let mut section = Section { table, folder, problem, bad: false };
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        section.wrong(
            "kind",
            format!("`{name}` cannot be a channel's name: small letters, digits, `-` and `_`, at most 64"),
        );
    }
    let kind = section.kind()?;
    let (needed, optional) = keys(kind);
    for key in table.keys().filter(|key| *key != "kind") {
        let known = || needed.iter().chain(optional).chain(&COMMON).copied();
        if !known().any(|name| name == key) {
            let hint = match runbook_lang::similar::nearest(key, known()) {
                Some(near) => format!("; did you mean `{near}`?"),
                None => format!("; known: {}", known().collect::<Vec<_>>().join(", ")),
            };
            section.wrong(key, format!("unknown key `{key}` for a channel of kind {kind}{hint}"));
        }
    }
    for key in needed {
        if !table.contains_key(*key) {
            section.wrong("kind", format!("a channel of kind {kind} needs `{key}`"));
        }
    }
    let on = section.on();
    let tiers = section.tiers();
    let runbooks = section.list("runbooks").unwrap_or_default();
    let template = section.path("template");
    let timeout = section.duration("timeout").map_or(TIMEOUT, Duration::from_millis);
    if timeout > TIMEOUT_MAX {
        section.wrong("timeout", format!("`timeout` must not be longer than {} s", TIMEOUT_MAX.as_secs()));
    }
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

/// A section that is being read; its problems are told as they are found.
pub(crate) struct Section<'a> {
    pub(crate) table: &'a toml::Table,
    pub(crate) folder: &'a Path,
    pub(crate) problem: &'a mut dyn FnMut(&str, String),
    pub(crate) bad: bool,
}

impl Section<'_> {
    pub(crate) fn wrong(&mut self, key: &str, text: String) {
        self.bad = true;
        (self.problem)(key, text);
    }

    fn kind(&mut self) -> Option<&'static str> {
        match self.table.get("kind") {
            Some(toml::Value::String(kind)) => {
                let known = KINDS.into_iter().find(|known| known == kind);
                if known.is_none() {
                    let hint = match runbook_lang::similar::nearest(kind, KINDS) {
                        Some(near) => format!("; did you mean `{near}`?"),
                        None => format!("; known: {}", KINDS.join(", ")),
                    };
                    self.wrong("kind", format!("there is no channel of kind `{kind}`{hint}"));
                }
                known
            }
            Some(_) | None => {
                self.wrong("kind", format!("a channel needs `kind`, one of \"{}\"", KINDS.join("\", \"")));
                None
            }
        }
    }

    pub(crate) fn text(&mut self, key: &str) -> Option<String> {
        match self.table.get(key)? {
            toml::Value::String(text) if !text.is_empty() => Some(text.clone()),
            _ => {
                self.wrong(key, format!("`{key}` must be a text in quotes"));
                None
            }
        }
    }

    pub(crate) fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.text(key).map(|path| self.folder.join(path))
    }

    pub(crate) fn duration(&mut self, key: &str) -> Option<u64> {
        match parse_duration_ms(&self.text(key)?) {
            Ok(0) => {
                self.wrong(key, format!("`{key}` must not be 0"));
                None
            }
            Ok(ms) => Some(ms),
            Err(error) => {
                self.wrong(key, error.to_string());
                None
            }
        }
    }

    /// Texts in brackets, at least one.
    pub(crate) fn list(&mut self, key: &str) -> Option<Vec<String>> {
        let texts = match self.table.get(key)? {
            toml::Value::Array(values) => {
                let texts: Option<Vec<String>> = values.iter().map(|value| value.as_str().map(str::to_owned)).collect();
                texts.filter(|texts| !texts.is_empty())
            }
            _ => None,
        };
        if texts.is_none() {
            self.wrong(key, format!("`{key}` must be a list of texts, such as [\"one\", \"other\"]"));
        }
        texts
    }

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

    pub(crate) fn tiers(&mut self) -> Vec<Tier> {
        let all = [Tier::Routine, Tier::Corrective, Tier::Emergency];
        let mut found = Vec::new();
        for word in self.list("tiers").unwrap_or_default() {
            match all.into_iter().find(|tier| tier.name() == word) {
                Some(tier) => found.push(tier),
                None => self.wrong("tiers", format!("`{word}` is no tier; known: routine, corrective, emergency")),
            }
        }
        found
    }

    /// `{ env = NAME }`, `{ file = PATH }` or `{ command = [PROGRAM, …] }`.
    pub(crate) fn secret(&mut self, key: &str) -> Option<SecretRef> {
        let value = self.table.get(key)?;
        let found = match value {
            toml::Value::Table(table) if table.len() == 1 => match table.iter().next() {
                Some((word, toml::Value::String(text))) if word == "env" && !text.is_empty() => {
                    Some(SecretRef::Env(text.clone()))
                }
                Some((word, toml::Value::String(text))) if word == "file" && !text.is_empty() => {
                    Some(SecretRef::File(text.clone()))
                }
                Some((word, toml::Value::Array(words))) if word == "command" && !words.is_empty() => {
                    let words: Option<Vec<String>> =
                        words.iter().map(|word| word.as_str().map(str::to_owned)).collect();
                    words.map(SecretRef::Command)
                }
                _ => None,
            },
            _ => None,
        };
        if found.is_none() {
            let hint = if value.is_str() { "a secret does not stand in this file: " } else { "" };
            self.wrong(
                key,
                format!(
                    "{hint}`{key}` must be {{ env = \"NAME\" }}, {{ file = \"PATH\" }} or {{ command = [\"PROGRAM\"] }}"
                ),
            );
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
                if !host.as_deref().is_some_and(is_loopback) {
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

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
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
