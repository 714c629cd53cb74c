//! `runbook.toml`: what holds for a whole project.

pub(crate) mod section;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use runbook_model::Sha256;
use runbook_model::retention::Periods;
use runbook_model::units::{parse_duration_ms, parse_size};
use runbook_ssh::access::Authority;

use crate::anchors::settings::{self as anchors, AnchorSettings};
use crate::failure::Failure;
use crate::monitoring::settings::{self as monitoring, System};
use crate::notifications::settings::{self as notify, Channel};
use crate::tickets::settings::{self as tickets, System as TicketSystem};

/// Snapshots older than this count as expired unless the settings say otherwise.
const KEEP_MS: u64 = 30 * 86_400_000;

/// No evidence is kept for less: what the requirements ask for.
const MONTHS_MIN: u32 = 12;
/// A century: more is a slip.
const MONTHS_MAX: u32 = 1_200;

/// The settings, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// An ssh_config used instead of the user's.
    pub(crate) ssh_config: Option<PathBuf>,
    /// Hosts are asked once more what is left of their sessions, after these were closed.
    pub(crate) check_closed: bool,
    /// Hosts worked on at once, at most, in any run.
    pub(crate) parallel: Option<u32>,
    /// Bytes kept of each output stream, at most.
    pub(crate) output_bytes_max: Option<u64>,
    /// How long a snapshot counts as wanted.
    pub(crate) snapshots_keep_ms: u64,
    /// How long evidence is kept.
    pub(crate) retention: Periods,
    /// Who is given the ledger's heads, by name.
    pub(crate) anchors: Vec<AnchorSettings>,
    /// Who is told of what happens, by name.
    pub(crate) notify: Vec<Channel>,
    /// Who gives hosts access for a run; `None`: nobody.
    pub(crate) access: Option<AccessSettings>,
    /// Systems of change tickets, by name.
    pub(crate) tickets: Vec<TicketSystem>,
    /// Who is muted while runs work, by name.
    pub(crate) monitoring: Vec<System>,
}

/// `[access]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccessSettings {
    /// Who signs certificates.
    pub(crate) authority: Authority,
    /// The account on hosts that installs and removes.
    pub(crate) installer: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ssh_config: None,
            check_closed: false,
            parallel: None,
            output_bytes_max: None,
            snapshots_keep_ms: KEEP_MS,
            retention: Periods::default(),
            anchors: Vec::new(),
            notify: Vec::new(),
            access: None,
            monitoring: Vec::new(),
            tickets: Vec::new(),
        }
    }
}

/// Which keys there are.
const KNOWN: &[(&str, &[&str])] = &[
    ("ssh", &["config", "check_closed"]),
    ("store", &["url"]),
    ("limits", &["parallel", "output_bytes_max"]),
    ("snapshots", &["keep"]),
    ("retention", &["operational", "default", "cui"]),
    ("access", &["ca", "command", "installer"]),
    ("anchors", &[]),
    ("notify", &[]),
    ("monitoring", &[]),
    ("tickets", &[]),
    ("plugins", &[]),
];

impl Settings {
    /// Reads `runbook.toml`, and its digest; paths in it are relative to its folder.
    pub(crate) fn read(path: &Path) -> Result<(Self, Sha256), Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| Failure::file("RB0603", "read", path, &error))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let settings = Self::parse(&text, folder).map_err(|problems| {
            let mut failure = Failure::usage("RB0603", format!("{} is not right", path.display()));
            for problem in problems {
                failure = failure.detail(problem);
            }
            failure.next("correct the file; `runbook init` in an empty folder shows one with every key explained")
        })?;
        Ok((settings, Sha256::of(text.as_bytes())))
    }

    /// All problems at once.
    fn parse(text: &str, folder: &Path) -> Result<Self, Vec<String>> {
        let table: toml::Table = toml::from_str(text).map_err(|error| {
            let place = error.span().map(|span| format!("line {}: ", line_of(text, span.start))).unwrap_or_default();
            vec![format!("{place}{}", error.message())]
        })?;
        let mut reader = Reader { text, folder, problems: Vec::new() };
        let settings = reader.settings(&table);
        if reader.problems.is_empty() { Ok(settings) } else { Err(reader.problems) }
    }
}

/// Reads a section that has a name of its own; gives each problem with the key that it is at.
type ReadNamed<T> = fn(&str, &toml::Table, &Path, &mut dyn FnMut(&str, String)) -> Option<T>;

struct Reader<'a> {
    text: &'a str,
    folder: &'a Path,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn settings(&mut self, table: &toml::Table) -> Settings {
        let mut settings = Settings::default();
        for (section, value) in table {
            let Some((_, keys)) = KNOWN.iter().find(|(name, _)| name == section) else {
                self.unknown("section", section, KNOWN.iter().map(|(name, _)| *name));
                continue;
            };
            let toml::Value::Table(entries) = value else {
                self.problem(section, format!("`{section}` is a section: write [{section}] and its keys below"));
                continue;
            };
            if section == "plugins" {
                if !entries.is_empty() {
                    self.problem(section, "[plugins] is for a later version; this one has no plugins to set up".into());
                }
                continue;
            }
            if section == "access" {
                settings.access = self.access(entries);
                continue;
            }
            if section == "anchors" {
                let read = |(name, value): (&String, &toml::Value)| self.named(section, name, value, anchors::read);
                settings.anchors = entries.iter().filter_map(read).collect();
                settings.anchors.sort_by(|a, b| a.name.cmp(&b.name));
                continue;
            }
            if section == "notify" {
                let read = |(name, value): (&String, &toml::Value)| self.named(section, name, value, notify::read);
                settings.notify = entries.iter().filter_map(read).collect();
                settings.notify.sort_by(|a, b| a.name.cmp(&b.name));
                continue;
            }
            if section == "tickets" {
                let read = |(name, value): (&String, &toml::Value)| self.named(section, name, value, tickets::read);
                settings.tickets = entries.iter().filter_map(read).collect();
                settings.tickets.sort_by(|a, b| a.name.cmp(&b.name));
                continue;
            }
            if section == "monitoring" {
                let read = |(name, value): (&String, &toml::Value)| self.named(section, name, value, monitoring::read);
                settings.monitoring = entries.iter().filter_map(read).collect();
                settings.monitoring.sort_by(|a, b| a.name.cmp(&b.name));
                continue;
            }
            for (key, value) in entries {
                if keys.contains(&key.as_str()) {
                    self.value(&mut settings, section, key, value);
                } else {
                    self.unknown(&format!("key in [{section}]"), key, keys.iter().copied());
                }
            }
        }
        settings
    }

    /// Reads `[access]`.
    fn access(&mut self, entries: &toml::Table) -> Option<AccessSettings> {
        let (mut authorities, mut installer) = (Vec::new(), "root".to_owned());
        for (key, value) in entries {
            match (key.as_str(), value) {
                ("ca", toml::Value::String(path)) => authorities.push(Authority::File(self.folder.join(path))),
                ("command", toml::Value::Array(words)) => {
                    let texts: Vec<String> = words.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect();
                    if texts.is_empty() || texts.len() < words.len() {
                        self.problem(key, "`command` in [access] must be a program and its arguments, as texts".into());
                    }
                    authorities.push(Authority::Command(texts));
                }
                ("installer", toml::Value::String(name)) if !name.is_empty() && !name.starts_with('-') => {
                    installer.clone_from(name);
                }
                ("ca" | "installer", _) => {
                    self.problem(key, format!("`{key}` in [access] must be a text in quotes"));
                }
                ("command", _) => self.problem(key, "`command` in [access] must be a list of texts".into()),
                _ => self.unknown("key in [access]", key, ["ca", "command", "installer"].into_iter()),
            }
        }
        if authorities.len() != 1 {
            self.problem("access", "[access] says who signs certificates: either `ca` or `command`".into());
        }
        authorities.pop().map(|authority| AccessSettings { authority, installer })
    }

    /// Reads `[SECTION.NAME]`.
    fn named<T>(&mut self, section: &str, name: &str, value: &toml::Value, read: ReadNamed<T>) -> Option<T> {
        let toml::Value::Table(table) = value else {
            self.problem(name, format!("`{name}` in [{section}] is a section of its own: write [{section}.{name}]"));
            return None;
        };
        let (text, problems) = (self.text, &mut self.problems);
        let header = format!("[{section}.{name}]");
        read(name, table, self.folder, &mut |key, problem| {
            // The key's line below the section's own; a key that is missing has the section's.
            let mut lines = text.lines().enumerate().skip_while(|(_, line)| line.trim() != header);
            let section = lines.next().map(|(line, _)| line);
            let own = lines
                .take_while(|(_, line)| !line.trim_start().starts_with('['))
                .find(|(_, line)| {
                    line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
                })
                .map(|(line, _)| line);
            problems.push(match own.or(section) {
                Some(line) => format!("line {}: {header} {problem}", line + 1),
                None => format!("{header} {problem}"),
            });
        })
    }

    fn value(&mut self, settings: &mut Settings, section: &str, key: &str, value: &toml::Value) {
        match (section, key, value) {
            ("ssh", "config", toml::Value::String(path)) => settings.ssh_config = Some(self.folder.join(path)),
            ("ssh", "check_closed", toml::Value::Boolean(wanted)) => settings.check_closed = *wanted,
            ("store", "url", toml::Value::String(url)) => self.store(key, url),
            ("limits", "parallel", toml::Value::Integer(n)) => match u32::try_from(*n) {
                Ok(n) if n > 0 => settings.parallel = Some(n),
                _ => self.problem(key, "`parallel` must be a number from 1 on".into()),
            },
            ("limits", "output_bytes_max", toml::Value::Integer(n)) => match u64::try_from(*n) {
                Ok(n) => settings.output_bytes_max = Some(n),
                Err(_) => self.problem(key, "`output_bytes_max` must not be negative".into()),
            },
            ("limits", "output_bytes_max", toml::Value::String(text)) => match parse_size(text) {
                Ok(n) => settings.output_bytes_max = Some(n),
                Err(error) => self.problem(key, error.to_string()),
            },
            ("snapshots", "keep", toml::Value::String(text)) => match parse_duration_ms(text) {
                Ok(ms) => settings.snapshots_keep_ms = ms,
                Err(error) => self.problem(key, error.to_string()),
            },
            ("retention", key, toml::Value::Integer(n)) => match u32::try_from(*n) {
                Ok(months) if (MONTHS_MIN..=MONTHS_MAX).contains(&months) => match key {
                    "operational" => settings.retention.operational = months,
                    "cui" => settings.retention.cui = months,
                    _ => settings.retention.default = months,
                },
                _ => self.problem(key, format!("`{key}` in [retention] must be {MONTHS_MIN} to {MONTHS_MAX} months")),
            },
            _ => {
                let expected = match (section, key) {
                    ("retention", _) => "a number of months",
                    ("limits", "parallel") => "a whole number",
                    ("limits", _) => "a size such as \"64MiB\"",
                    ("snapshots", _) => "a duration such as \"30d\"",
                    _ => "a text in quotes",
                };
                self.problem(key, format!("`{key}` in [{section}] must be {expected}"));
            }
        }
    }

    fn store(&mut self, key: &str, url: &str) {
        if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            self.problem(key, "a PostgreSQL store is for a later version; leave [store] url out to use SQLite".into());
        } else if url != "sqlite" && url != "sqlite:.runbook/runbook.db" {
            self.problem(
                key,
                format!("`{url}` is not a store that this version knows; leave [store] url out to use SQLite"),
            );
        }
    }

    fn unknown<'k>(&mut self, what: &str, key: &str, known: impl Iterator<Item = &'k str>) {
        let hint = section::hint(key, known);
        self.problem(key, format!("unknown {what} `{key}`{hint}"));
    }

    fn problem(&mut self, key: &str, text: String) {
        // The parser keeps no places for values that it took; the key's own line is found again.
        let line = self.text.lines().position(|line| {
            let line = line.trim_start().trim_start_matches('[');
            line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(['=', ']']))
        });
        self.problems.push(match line {
            Some(line) => format!("line {}: {text}", line + 1),
            None => text,
        });
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Parameters given as `name=value`.
pub(crate) fn parameters(texts: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut out = BTreeMap::new();
    for text in texts {
        let Some((name, value)) = text.split_once('=') else {
            return Err(Failure::usage("RB0604", format!("`{text}` is not a parameter"))
                .next("write -p NAME=VALUE, for example -p package=samba"));
        };
        if out.insert(name.trim().to_owned(), value.to_owned()).is_some() {
            return Err(Failure::usage("RB0604", format!("parameter `{}` is given twice", name.trim())));
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        Settings::parse(text, Path::new("/p")).unwrap_err()
    }

    #[test]
    fn every_documented_key_is_read() {
        let text = "[ssh]\nconfig = \"lab/ssh_config\"\ncheck_closed = true\n[store]\nurl = \"sqlite\"\n[limits]\nparallel = 5\n\
                    output_bytes_max = \"1MiB\"\n[snapshots]\nkeep = \"14d\"\n[retention]\noperational = 13\ndefault = 40\ncui = 84\n[access]\nca = \"keys/user_ca\"\n[plugins]\n";
        let settings = Settings::parse(text, Path::new("/p")).unwrap();
        assert_eq!(
            settings,
            Settings {
                ssh_config: Some("/p/lab/ssh_config".into()),
                check_closed: true,
                parallel: Some(5),
                output_bytes_max: Some(1 << 20),
                snapshots_keep_ms: 14 * 86_400_000,
                retention: Periods { operational: 13, default: 40, cui: 84 },
                anchors: Vec::new(),
                notify: Vec::new(),
                access: Some(AccessSettings {
                    authority: Authority::File("/p/keys/user_ca".into()),
                    installer: "root".into(),
                }),
                monitoring: Vec::new(),
                tickets: Vec::new(),
            }
        );
        assert_eq!(Settings::parse("", Path::new("/p")), Ok(Settings::default()));
    }

    #[test]
    fn access_has_one_authority() {
        let settings = Settings::parse("[access]\ncommand = [\"vault-sign\", \"-x\"]\n", Path::new("/p")).unwrap();
        let authority = settings.access.map(|access| access.authority);
        assert_eq!(authority, Some(Authority::Command(vec!["vault-sign".into(), "-x".into()])));
        for wrong in
            ["", "ca = \"x\"\ncommand = [\"y\"]", "command = []", "ca = 1", "ca = \"x\"\ninstaller = \"\"", "key = 1"]
        {
            assert!(!problems(&format!("[access]\n{wrong}\n")).is_empty(), "{wrong}");
        }
    }

    #[test]
    fn all_problems_are_reported_with_their_line() {
        let found = problems("[limits]\nparalel = 5\noutput_bytes_max = \"lots\"\n[shs]\nconfig = 1\n");
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.iter().any(|text| text == "line 2: unknown key in [limits] `paralel`; did you mean `parallel`?"));
        assert!(found.iter().any(|text| text.starts_with("line 3: `lots` is not a size")));
        assert!(found.iter().any(|text| text == "line 4: unknown section `shs`; did you mean `ssh`?"));
    }

    #[test]
    fn what_later_versions_bring_is_refused_and_not_ignored() {
        assert!(problems("[store]\nurl = \"postgres://db/runbook\"\n")[0].contains("later version"));
        assert!(problems("[plugins]\naws = \"runbook-plugin-aws\"\n")[0].contains("later version"));
        assert!(problems("[retention]\ncui = 6\n")[0].contains("12 to 1200 months"));
        assert!(problems("[ssh\n")[0].starts_with("line 1"), "{:?}", problems("[ssh\n"));
    }

    #[test]
    fn every_kind_of_anchor_is_read_and_its_files_are_the_projects() {
        let public = runbook_ledger::FileKey::from_seed([1; 32]).public_key();
        let key = runbook_ledger::WitnessKey::new("w", &public).unwrap();
        let text = format!(
            "[anchors.w]\nkind = \"witness\"\nurl = \"https://w.example/\"\nkey = \"{key}\"\nca = \"ca.pem\"\n\
             timeout = \"5s\"\n[anchors.tsa]\nkind = \"rfc3161\"\nurl = \"http://tsa.example\"\ntsa_ca = \"/tsa.pem\"\n\
             [anchors.git]\nkind = \"git\"\nremote = \"git@git.example:heads.git\"\n[anchors.file]\nkind = \"file\"\n\
             path = \"heads\"\n[anchors.siem]\nkind = \"syslog\"\naddress = \"siem.example\"\n"
        );
        let settings = Settings::parse(&text, Path::new("/p")).unwrap();
        let names: Vec<_> = settings.anchors.iter().map(|anchor| (anchor.name.as_str(), anchor.kind.name())).collect();
        let expected = [("file", "file"), ("git", "git"), ("siem", "syslog"), ("tsa", "rfc3161"), ("w", "witness")];
        assert_eq!(names, expected);
        assert_eq!(settings.anchors[0].kind, anchors::Kind::File { path: "/p/heads".into() });
        assert_eq!(settings.anchors[4].timeout.as_secs(), 5);
        assert!(
            matches!(&settings.anchors[3].kind, anchors::Kind::Rfc3161 { tsa_ca: Some(ca), .. } if ca == Path::new("/tsa.pem"))
        );
    }

    #[test]
    fn all_problems_of_anchors_are_reported_at_their_lines() {
        let found = problems(
            "[anchors.a]\nkind = \"witnes\"\n[anchors.b]\nkind = \"file\"\npaht = \"x\"\n[anchors.c]\nkind = \"rfc3161\"\n\
             url = \"ftp://x\"\ntimeout = \"soon\"\n[anchors.D]\nkind = \"file\"\npath = \"x\"\n[anchors.e]\nkind = \"git\"\n\
             remote = \"https://me:secret@git.example/\"\n",
        );
        let has = |text: &str| assert!(found.iter().any(|found| found.contains(text)), "{text}: {found:#?}");
        has("line 2: [anchors.a] there is no anchor of kind `witnes`; did you mean `witness`?");
        has("line 5: [anchors.b] unknown key `paht` for an anchor of kind file; did you mean `path`?");
        has("line 4: [anchors.b] an anchor of kind file needs `path`");
        has("line 8: [anchors.c] `ftp://x` does not begin with http:// or https://");
        has("line 9: [anchors.c] ");
        has("[anchors.D] `D` cannot be an anchor's name");
        has("without a password");
        assert_eq!(found.len(), 7, "{found:#?}");
    }

    #[test]
    fn parameters_are_name_and_value() {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(parameters(&texts(&["a=1", "b=x=y"])).unwrap()["b"], "x=y");
        assert!(parameters(&texts(&["a"])).is_err());
        assert!(parameters(&texts(&["a=1", "a=2"])).is_err());
    }
}
