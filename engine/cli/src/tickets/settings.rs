//! `[tickets.NAME]` in `runbook.toml`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::Regex;
use runbook_model::plan::SecretRef;
use runbook_tickets::{Address, Fields, KINDS, Login, Moves};

use crate::settings::section::Section;

/// How long an answer is waited for unless the settings say otherwise.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The longest that they may say: a message is claimed for longer than a write takes.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// How long a write is tried unless the settings say otherwise.
const GIVE_UP_MS: u64 = 24 * 3_600_000;
/// Where Trello is.
const TRELLO: &str = "https://api.trello.com";
/// The label of a card with CUI.
const CUI: &str = "CUI";

/// A system of tickets.
#[derive(Debug, Clone)]
pub(crate) struct System {
    pub(crate) name: String,
    pub(crate) address: Address,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) login: Login<SecretRef>,
    pub(crate) kind: Kind,
    /// Which tickets are its own: their whole name.
    pub(crate) pattern: Regex,
    /// Whether the report is attached.
    pub(crate) report: Report,
    /// How long an answer is waited for.
    pub(crate) timeout: Duration,
    /// How long a write is tried.
    pub(crate) give_up_ms: u64,
}

impl PartialEq for System {
    fn eq(&self, other: &Self) -> bool {
        let rest = |one: &Self| (one.report, one.timeout, one.give_up_ms);
        self.name == other.name
            && self.address == other.address
            && self.ca == other.ca
            && self.login == other.login
            && self.kind == other.kind
            && self.pattern.as_str() == other.pattern.as_str()
            && rest(self) == rest(other)
    }
}

impl Eq for System {}

/// What it is, and what its states mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Jira(Fields),
    ServiceNow { cui: Option<String>, moves: Moves },
    Trello { fields: Fields, cui: String },
}

impl Kind {
    /// As in the settings.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Kind::Jira(_) => "jira",
            Kind::ServiceNow { .. } => "servicenow",
            Kind::Trello { .. } => "trello",
        }
    }
}

/// Whether a run's report is attached to its ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// Unless a host of the run holds CUI: what steps printed there may be CUI, and the system may be anybody's.
    WithoutCui,
    Always,
    Never,
}

/// What every kind may have.
const COMMON: [&str; 9] = ["url", "ca", "pattern", "report", "timeout", "give_up", "begun", "done", "failed"];

fn keys(kind: &str) -> &'static [&'static str] {
    match kind {
        "jira" => &["user", "token", "approved", "rejected", "closed", "starts", "ends", "assets", "cui"],
        "servicenow" => &["user", "password", "token", "cui"],
        _ => &["key", "token", "approved", "rejected", "closed", "assets", "cui"],
    }
}

/// Reads one section. Each problem is given with the key that it is at; `None` when there was any.
pub(crate) fn read(
    name: &str,
    table: &toml::Table,
    folder: &Path,
    problem: &mut dyn FnMut(&str, String),
) -> Option<System> {
    let mut section = Section { table, folder, problem, bad: false };
    section.named(name, "a system's");
    if name == runbook_model::ticket::HERE {
        section.wrong("kind", format!("`{name}` is where the project keeps its own tickets, and no system's name"));
    }
    let kind = section.kind(&KINDS, "system of tickets", "a system of tickets needs")?;
    let known: Vec<&str> = COMMON.iter().chain(keys(kind)).copied().collect();
    section.only(&known, &format!("tickets of kind {kind}"));
    let usual = (kind == "trello").then(|| TRELLO.to_owned());
    let url = section.text("url").or(usual);
    if url.is_none() && !table.contains_key("url") {
        section.wrong("kind", format!("tickets of kind {kind} need `url`"));
    }
    let address = url.and_then(|url| match url.parse::<Address>() {
        Ok(address) => Some(address),
        Err(why) => {
            section.wrong("url", format!("`url` cannot be used: {why}"));
            None
        }
    });
    let login = login(&mut section, kind);
    let pattern = pattern(&mut section);
    let report = match section.text("report").as_deref() {
        None | Some("without-cui") => Report::WithoutCui,
        Some("always") => Report::Always,
        Some("never") => Report::Never,
        Some(other) => {
            let other = other.escape_debug();
            section.wrong("report", format!("`{other}` is not one of \"without-cui\", \"always\", \"never\""));
            Report::Never
        }
    };
    let timeout = section.timeout(TIMEOUT, TIMEOUT_MAX);
    let give_up_ms = section.duration("give_up").unwrap_or(GIVE_UP_MS);
    let kind = self::kind(&mut section, kind);
    let ca = section.path("ca");
    if section.bad {
        return None;
    }
    Some(System {
        name: name.to_owned(),
        address: address?,
        ca,
        login: login?,
        kind,
        pattern: pattern?,
        report,
        timeout,
        give_up_ms,
    })
}

fn login(section: &mut Section<'_>, kind: &str) -> Option<Login<SecretRef>> {
    let token = section.secret("token");
    let found = match kind {
        "trello" => section.secret("key").zip(token).map(|(key, token)| Login::Keys(key, token)),
        "jira" => match (section.text("user"), token) {
            (Some(user), Some(token)) if !user.contains(':') => Some(Login::Basic(user, token)),
            (None, Some(token)) => Some(Login::Bearer(token)),
            _ => None,
        },
        _ => match (section.text("user"), section.secret("password"), token) {
            (Some(user), Some(password), None) if !user.contains(':') => Some(Login::Basic(user, password)),
            (None, None, Some(token)) => Some(Login::Bearer(token)),
            _ => None,
        },
    };
    if found.is_none() {
        let what = match kind {
            "trello" => "`key` and `token`",
            "jira" => "`user` and `token` (Cloud), or `token` alone (Data Center)",
            _ => "`user` and `password`, or `token` alone",
        };
        section.wrong("kind", format!("the login of kind {kind} is {what}; a user's name has no colon"));
    }
    found
}

/// Without one every ticket is its own; with several systems one must not take what is another's.
fn pattern(section: &mut Section<'_>) -> Option<Regex> {
    let text = section.text("pattern").unwrap_or_else(|| ".+".to_owned());
    match Regex::new(&format!("^(?:{text})$")) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
            section.wrong("pattern", format!("`pattern` is not a regular expression: {why}"));
            None
        }
    }
}

fn kind(section: &mut Section<'_>, kind: &str) -> Kind {
    let moves = |section: &mut Section<'_>| Moves {
        begun: section.text("begun"),
        done: section.text("done"),
        failed: section.text("failed"),
    };
    if kind == "servicenow" {
        let cui = section.text("cui");
        return Kind::ServiceNow { cui, moves: moves(section) };
    }
    let mut fields = Fields {
        approved: section.list("approved").unwrap_or_default(),
        rejected: section.list("rejected").unwrap_or_default(),
        closed: section.list("closed").unwrap_or_default(),
        assets: section.text("assets"),
        moves: moves(section),
        ..Fields::default()
    };
    if fields.approved.is_empty() {
        let what = if kind == "jira" { "states" } else { "lists" };
        section.wrong("approved", format!("`approved` must name the {what} in which work may be done"));
    }
    if let Some(begun) = fields.moves.begun.as_ref().filter(|_| !fields.approved.is_empty()) {
        // Else our own move would take the approval away.
        if !fields.approved.iter().any(|approved| approved.eq_ignore_ascii_case(begun)) {
            section.wrong("begun", format!("`begun` must be among `approved`, and `{}` is not", begun.escape_debug()));
        }
    }
    let cui = section.text("cui");
    if kind == "jira" {
        (fields.starts, fields.ends, fields.cui) = (section.text("starts"), section.text("ends"), cui);
        for (key, name) in
            [("starts", &fields.starts), ("ends", &fields.ends), ("assets", &fields.assets), ("cui", &fields.cui)]
        {
            // They stand in a list with commas.
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.as_ref().is_some_and(|name| !name.chars().all(plain)) {
                section.wrong(key, format!("`{key}` must be the id of a field, such as \"customfield_10010\""));
            }
        }
        return Kind::Jira(fields);
    }
    Kind::Trello { fields, cui: cui.unwrap_or_else(|| CUI.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<System, Vec<String>> {
        let table: toml::Table = toml::from_str(text).unwrap();
        let mut problems = Vec::new();
        let read =
            read("itsm", &table, Path::new("/p"), &mut |key, problem| problems.push(format!("{key}: {problem}")));
        read.ok_or(problems)
    }

    const NOW: &str = "kind = \"servicenow\"\nurl = \"https://firm.service-now.com\"\nuser = \"runbook\"\npassword = { env = \"NOW\" }\n";
    const JIRA: &str = "kind = \"jira\"\nurl = \"https://jira.example\"\ntoken = { file = \"jira.token\" }\napproved = [\"Approved\", \"Implementing\"]\n";

    #[test]
    fn every_documented_key_is_read() {
        let now = read_text(&format!(
            "{NOW}ca = \"ca.pem\"\npattern = \"CHG[0-9]{{7}}\"\nreport = \"always\"\ntimeout = \"5s\"\ngive_up = \"2h\"\ncui = \
             \"u_cui\"\nbegun = \"-1\"\ndone = \"0\"\nfailed = \"0\"\n"
        ))
        .unwrap();
        assert_eq!((now.report, now.timeout, now.give_up_ms), (Report::Always, Duration::from_secs(5), 7_200_000));
        assert!(now.pattern.is_match("CHG0030001") && !now.pattern.is_match("xCHG0030001"));
        let moves = Moves { begun: Some("-1".into()), done: Some("0".into()), failed: Some("0".into()) };
        assert_eq!(now.kind, Kind::ServiceNow { cui: Some("u_cui".into()), moves });
        let jira = read_text(&format!(
            "{JIRA}user = \"me@firm.example\"\nrejected = [\"Declined\"]\nclosed = [\"Old\"]\nstarts = \"customfield_1\"\nends = \
             \"customfield_2\"\nassets = \"labels\"\ncui = \"customfield_3\"\nbegun = \"Implementing\"\ndone = \"Done\"\nfailed = \
             \"Backed out\"\n"
        ))
        .unwrap();
        assert_eq!(jira.login, Login::Basic("me@firm.example".into(), SecretRef::File("jira.token".into())));
        let Kind::Jira(fields) = jira.kind else { panic!("it is a Jira") };
        assert_eq!(
            (fields.starts.as_deref(), fields.moves.failed.as_deref()),
            (Some("customfield_1"), Some("Backed out"))
        );
        let trello =
            read_text("kind = \"trello\"\nkey = { env = \"K\" }\ntoken = { env = \"T\" }\napproved = [\"Ready\"]\n")
                .unwrap();
        assert_eq!((trello.address.site().as_str(), trello.report), (TRELLO, Report::WithoutCui));
        assert!(matches!(trello.kind, Kind::Trello { cui, .. } if cui == "CUI"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_key() {
        let problems = |text: String| read_text(&text).unwrap_err().join("\n");
        for (text, why) in [
            (format!("{NOW}usr = 1\n"), "usr: unknown key `usr` for tickets of kind servicenow; did you mean `user`?"),
            (format!("{NOW}approved = [\"x\"]\n"), "unknown key `approved` for tickets of kind servicenow"),
            (format!("{NOW}token = {{ env = \"T\" }}\n"), "the login of kind servicenow is"),
            (format!("{NOW}pattern = \"(\"\n"), "is not a regular expression"),
            (format!("{NOW}report = \"maybe\"\n"), "is not one of"),
            (format!("{NOW}timeout = \"5m\"\n"), "must not be longer than 60 s"),
            (NOW.replace("https", "http"), "https://"),
            (NOW.replace("{ env = \"NOW\" }", "\"abc\""), "a secret does not stand in this file"),
            (JIRA.replace("approved = [\"Approved\", \"Implementing\"]\n", ""), "`approved` must name the states"),
            (format!("{JIRA}begun = \"Doing\"\n"), "`begun` must be among `approved`"),
            (format!("{JIRA}starts = \"Start date\"\n"), "must be the id of a field"),
            ("kind = \"jria\"\n".into(), "did you mean `jira`?"),
            ("kind = \"jira\"\n".into(), "need `url`"),
            ("url = \"https://x.example\"\n".into(), "needs `kind`"),
        ] {
            let found = problems(text.clone());
            assert!(found.contains(why), "{text}: {found}");
        }
    }
}
