//! `[monitoring.NAME]` in `runbook.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runbook_model::Plan;
use runbook_model::plan::{SecretRef, Tier};
use runbook_monitoring::{Address, KINDS, Login};

use super::pattern::Pattern;
use crate::settings::section::{Section, names};

/// How long an answer is waited for unless the settings say otherwise: a run waits for it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that they may say.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// A mute ends by itself after so long, unless the settings say otherwise. While the run goes on it is lengthened, so this is
/// how long alerts stay unseen when its controller dies.
const FOR_MS: u64 = 30 * 60_000;
const FOR_MS_MIN: u64 = 60_000;
const FOR_MS_MAX: u64 = 24 * 3_600_000;

/// Which alerts are a host's own unless the settings say otherwise: as Prometheus has it, with a port or without.
const MATCHERS: [(&str, &str); 1] = [("instance", "=~{{ host.name }}(:[0-9]+)?")];

/// One system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct System {
    pub(crate) name: String,
    pub(crate) address: Address,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) login: Login<SecretRef>,
    /// What a host's alerts have, by label.
    pub(crate) matchers: BTreeMap<String, Pattern>,
    /// A mute ends by itself after so long.
    pub(crate) for_ms: u64,
    /// Without it nothing is begun.
    pub(crate) refuse: bool,
    /// Only of these runbooks; a `*` at the end stands for the rest of a name. Empty: of all.
    pub(crate) runbooks: Vec<String>,
    /// Only of these tiers. Empty: of all.
    pub(crate) tiers: Vec<Tier>,
    /// How long an answer is waited for.
    pub(crate) timeout: Duration,
}

impl System {
    /// Whether it is muted for a plan.
    pub(crate) fn wants(&self, plan: &Plan) -> bool {
        names(&self.runbooks, &plan.runbook.name) && (self.tiers.is_empty() || self.tiers.contains(&plan.runbook.tier))
    }
}

const KEYS: [&str; 11] = [
    "url",
    "ca",
    "user",
    "password",
    "token",
    "matchers",
    "for_at_most",
    "when_unreachable",
    "runbooks",
    "tiers",
    "timeout",
];

/// Reads one section. Each problem is given with the key that it is at; `None` when there was any.
pub(crate) fn read(
    name: &str,
    table: &toml::Table,
    folder: &Path,
    problem: &mut dyn FnMut(&str, String),
) -> Option<System> {
    let mut section = Section { table, folder, problem, bad: false };
    section.named(name, "a system's");
    section.kind(&KINDS, "monitoring", "monitoring needs");
    section.only(&KEYS, "monitoring");
    if !table.contains_key("url") {
        section.wrong("kind", "monitoring needs `url`".into());
    }
    let address = section.text("url").and_then(|url| match url.parse::<Address>() {
        Ok(address) => Some(address),
        Err(why) => {
            section.wrong("url", format!("`url` cannot be used: {why}"));
            None
        }
    });
    let login = match (section.text("user"), section.secret("password"), section.secret("token")) {
        (None, None, None) => Login::None,
        (Some(user), Some(password), None) if !user.contains(':') => Login::Basic(user, password),
        (None, None, Some(token)) => Login::Bearer(token),
        _ => {
            let key = if table.contains_key("user") { "user" } else { "token" };
            section.wrong(key, "a login is `user` (without a colon) and `password`, or `token` alone".into());
            Login::None
        }
    };
    let matchers = matchers(&mut section);
    let for_ms = section.duration("for_at_most").unwrap_or(FOR_MS);
    if !(FOR_MS_MIN..=FOR_MS_MAX).contains(&for_ms) {
        section.wrong("for_at_most", "`for_at_most` must be from 1 minute to 24 hours".into());
    }
    let refuse = match section.text("when_unreachable").as_deref() {
        None | Some("go-on") => false,
        Some("refuse") => true,
        Some(other) => {
            section
                .wrong("when_unreachable", format!("`{}` is not one of \"go-on\", \"refuse\"", other.escape_debug()));
            false
        }
    };
    let tiers = section.tiers();
    let runbooks = section.list("runbooks").unwrap_or_default();
    let timeout = section.timeout(TIMEOUT, TIMEOUT_MAX);
    let ca = section.path("ca");
    let bad = section.bad;
    address.filter(|_| !bad).map(|address| System {
        name: name.to_owned(),
        address,
        ca,
        login,
        matchers,
        for_ms,
        refuse,
        runbooks,
        tiers,
        timeout,
    })
}

/// Each is read, and together they say which host.
fn matchers(section: &mut Section<'_>) -> BTreeMap<String, Pattern> {
    let usual = || MATCHERS.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec();
    let texts: Vec<(String, String)> = match section.table.get("matchers") {
        None => usual(),
        Some(toml::Value::Table(table)) if !table.is_empty() && table.values().all(toml::Value::is_str) => {
            table.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
        }
        Some(_) => {
            section.wrong(
                "matchers",
                "`matchers` must be labels with their values, such as { instance = \"{{ host.name }}:9100\" }".into(),
            );
            usual()
        }
    };
    let mut out = BTreeMap::new();
    for (name, text) in texts {
        let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(letter) || name.is_empty() {
            section.wrong("matchers", format!("`{}` is no name of a label", name.escape_debug()));
        }
        match Pattern::parse(&text) {
            Ok(pattern) => {
                out.insert(name, pattern);
            }
            Err(why) => section.wrong("matchers", format!("the matcher for `{}`: {why}", name.escape_debug())),
        }
    }
    if !out.is_empty() && !out.values().any(Pattern::tells_hosts_apart) {
        section.wrong(
            "matchers",
            "`matchers` does not say which host: alerts of all would be muted; use {{ host.name }}, {{ host.address }} or \
             {{ host.labels.NAME }}"
                .into(),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<System, Vec<String>> {
        let table: toml::Table = toml::from_str(text).unwrap();
        let mut problems = Vec::new();
        let read =
            read("prod", &table, Path::new("/p"), &mut |key, problem| problems.push(format!("{key}: {problem}")));
        read.ok_or(problems)
    }

    const AM: &str = "kind = \"alertmanager\"\nurl = \"https://am.example\"\n";

    #[test]
    fn every_documented_key_is_read() {
        let system = read_text(&format!(
            "{AM}ca = \"ca.pem\"\nuser = \"runbook\"\npassword = {{ file = \"secrets/am\" }}\n\
             matchers = {{ instance = \"{{{{ host.address }}}}:9100\", env = \"prod\" }}\nfor_at_most = \"2h\"\n\
             when_unreachable = \"refuse\"\nrunbooks = [\"patch-*\"]\ntiers = [\"routine\"]\ntimeout = \"5s\"\n"
        ))
        .unwrap();
        assert_eq!((system.for_ms, system.refuse, system.timeout), (7_200_000, true, Duration::from_secs(5)));
        assert_eq!((system.ca, system.matchers.len()), (Some("/p/ca.pem".into()), 2));
        assert_eq!(system.login, Login::Basic("runbook".into(), SecretRef::File("secrets/am".into())));
        let usual = read_text(AM).unwrap();
        assert_eq!((usual.for_ms, usual.refuse, usual.login), (FOR_MS, false, Login::None));
        assert!(usual.matchers["instance"].tells_hosts_apart());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_key() {
        let problems = |more: &str| read_text(&format!("{AM}{more}")).unwrap_err().join("\n");
        for (more, why) in [
            ("matcher = {}\n", "matcher: unknown key `matcher` for monitoring; did you mean `matchers`?"),
            ("matchers = { env = \"prod\" }\n", "does not say which host"),
            ("matchers = { instance = \"{{ host.nam }}\" }\n", "did you mean `host.name`?"),
            ("matchers = { \"a-b\" = \"{{ host.name }}\" }\n", "is no name of a label"),
            ("for_at_most = \"5s\"\n", "from 1 minute"),
            ("when_unreachable = \"stop\"\n", "is not one of \"go-on\", \"refuse\""),
            ("user = \"runbook\"\n", "a login is"),
            ("token = \"abc\"\n", "a secret does not stand in this file"),
            ("timeout = \"5m\"\n", "must not be longer than 60 s"),
        ] {
            assert!(problems(more).contains(why), "{more}: {}", problems(more));
        }
        let of = |text: &str| read_text(text).unwrap_err().join("\n");
        assert!(of("kind = \"alertmanger\"\nurl = \"https://am.example\"\n").contains("did you mean `alertmanager`?"));
        assert!(of("kind = \"alertmanager\"\nurl = \"http://am.example\"\n").contains("https://"));
        assert!(of("kind = \"alertmanager\"\n").contains("needs `url`"));
    }
}
