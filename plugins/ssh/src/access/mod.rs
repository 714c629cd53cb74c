//! Access for a run: certificates that are minted for it, and rules of sudo that are there while it is.
//!
//! Two keys, made anew in every process and never on a disk: they lie in memory that has no name in any file system
//! (`memfd`), which `ssh` opens through `/proc` and which goes with the process, however that ends. The run logs in with
//! the one, by a certificate for each host. The other is the installer's: each of its logins has a certificate of its own,
//! good for minutes and for one script, which the host runs instead of whatever it is asked for. So no account on a host
//! needs a right that lasts: it is enough that its sshd trusts the authority.

mod authority;
mod client;
mod encoding;
mod script;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ed25519_dalek::SigningKey;
use runbook_model::Sha256;
use runbook_model::access::{Access as Plan, Ending, Grant, Installed, Installer, Minted, Opened, Rule, rule_path};
use runbook_model::host::Host;
use runbook_model::id::{HostName, RunId};
use runbook_model::outcome::{Obstacle, ObstacleKind};
use runbook_model::units::rfc3339_ms;
use runbook_ports::Access;
use runbook_ports::access::{Ask, Given, Login, Unrevoked, Withdrawn};
use runbook_ports::clock::Clock;
use rustix::fs::{MemfdFlags, Mode};
use tempfile::TempDir;
use zeroize::Zeroizing;

pub use authority::{Authority, new_key, public_line};
use encoding::Wanted;
use script::{Said, Subject};

use crate::config::ONLY_CERTIFICATE;

/// Clocks of hosts may be behind by so much.
const BEHIND_MS: u64 = 5 * 60_000;
/// A login of the installer has so long to come to pass.
const INSTALLER_MS: u64 = 5 * 60_000;
/// It has ended within this.
const LOGIN_LIMIT: Duration = Duration::from_secs(60);
/// A login that must fail has failed within this.
const TRY_LIMIT: Duration = Duration::from_secs(30);

/// Until when a window is open now (Unix ms), or why it is not.
pub type WindowEnd = Arc<dyn Fn(&str, u64) -> Result<u64, String> + Send + Sync>;

/// What the operator sets.
#[derive(Clone)]
pub struct Settings {
    /// Who signs.
    pub authority: Authority,
    /// The account on the hosts that installs and removes; it must be root's.
    pub installer: String,
    /// Tells of windows, for accounts that may be open in one only.
    pub window_end: WindowEnd,
}

/// The port over SSH.
pub struct HostAccess {
    settings: Settings,
    ssh: crate::Settings,
    clock: Arc<dyn Clock>,
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    /// Certificates; they are no secret.
    folder: Option<TempDir>,
    /// Of each run, the newest last. Older ones may still be in use.
    runs: BTreeMap<RunId, Vec<Arc<MemoryKey>>>,
    /// Where the newest key of a run is revoked: what is given there again has another.
    revoked: BTreeSet<(RunId, HostName)>,
    installer: Option<Arc<MemoryKey>>,
    /// Where the key of each is, by its serial number.
    certificates: BTreeMap<String, PathBuf>,
    /// Keys with certificates that were made to be revoked together with those of a controller that is gone.
    probes: BTreeMap<(RunId, HostName), PathBuf>,
}

/// A private key that no file system has.
struct MemoryKey {
    public: [u8; 32],
    memory: OwnedFd,
}

impl MemoryKey {
    fn new(comment: &str) -> Result<Self, String> {
        let key = SigningKey::from_bytes(&Zeroizing::new(authority::random()?));
        let check = u32::from_be_bytes(authority::random()?);
        let said = |error: &dyn std::fmt::Display| format!("no memory for a key: {error}");
        let memory = rustix::fs::memfd_create("runbook-key", MemfdFlags::CLOEXEC).map_err(|error| said(&error))?;
        rustix::fs::fchmod(&memory, Mode::from_raw_mode(0o600)).map_err(|error| said(&error))?;
        let mut file = std::fs::File::from(memory);
        let text = encoding::private_file(&key, check, comment);
        file.write_all(text.as_bytes()).map_err(|error| said(&error))?;
        Ok(Self { public: key.verifying_key().to_bytes(), memory: file.into() })
    }

    /// Where `ssh` opens it.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.memory.as_raw_fd())
    }
}

impl HostAccess {
    /// With these settings, over `ssh` as those say.
    pub fn new(settings: Settings, ssh: crate::Settings, clock: Arc<dyn Clock>) -> Self {
        Self { settings, ssh, clock, made: Mutex::default() }
    }

    fn made(&self) -> std::sync::MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, run: &RunId, host: &HostName) -> Result<Arc<MemoryKey>, String> {
        let mut made = self.made();
        let is_revoked = made.revoked.remove(&(run.clone(), host.clone()));
        let keys = made.runs.entry(run.clone()).or_default();
        if let Some(key) = keys.last().filter(|_| !is_revoked) {
            return Ok(Arc::clone(key));
        }
        let key = Arc::new(MemoryKey::new(&format!("runbook {run}"))?);
        keys.push(Arc::clone(&key));
        Ok(key)
    }

    fn installer_key(&self) -> Result<Arc<MemoryKey>, String> {
        let mut made = self.made();
        if let Some(key) = &made.installer {
            return Ok(Arc::clone(key));
        }
        let key = Arc::new(MemoryKey::new("runbook installer")?);
        made.installer = Some(Arc::clone(&key));
        Ok(key)
    }

    /// Puts a certificate beside its key, as `ssh` finds it: it then needs no other key to be allowed. Gives the key's path.
    fn keep(&self, serial: &str, line: &str, key: &MemoryKey) -> Result<PathBuf, String> {
        let mut made = self.made();
        let folder = match &made.folder {
            Some(folder) => folder.path().to_owned(),
            None => {
                let runtime = crate::master::runtime_folder(&self.ssh);
                let folder = tempfile::Builder::new()
                    .prefix("rb-")
                    .rand_bytes(8)
                    .tempdir_in(&runtime)
                    .map_err(|error| format!("no private folder in {}: {error}", runtime.display()))?;
                made.folder.insert(folder).path().to_owned()
            }
        };
        let folder = folder.join(serial);
        let said = |error: std::io::Error| format!("{}: {error}", folder.display());
        std::fs::create_dir(&folder).map_err(said)?;
        std::fs::write(folder.join("key-cert.pub"), format!("{}\n", line.trim())).map_err(said)?;
        std::os::unix::fs::symlink(key.path(), folder.join("key")).map_err(said)?;
        Ok(folder.join("key"))
    }

    async fn mint(&self, ask: &Ask<'_>, principals: &[String], plan: &Plan) -> Result<Minted, Obstacle> {
        let certificate = plan.certificate.as_ref();
        let local = |message| about(ask.host, message);
        let valid_for_ms = certificate.map_or(0, |certificate| certificate.valid_for_ms);
        let until_ms = ends(ask, valid_for_ms)?;
        let key = self.key(ask.run, &ask.host.name).map_err(local)?;
        let wanted = Wanted {
            key: key.public,
            serial: serial().map_err(local)?,
            key_id: format!("runbook/{}/{}/{}", ask.run, ask.plan_sha256, ask.host.name),
            principals: principals.to_vec(),
            valid_after_s: ask.now_ms.saturating_sub(BEHIND_MS) / 1000,
            // Never past the end, and so never rounded up.
            valid_before_s: until_ms / 1000,
            force_command: None,
            source_address: certificate.map(|certificate| certificate.source_address.clone()).unwrap_or_default(),
        };
        let (line, signed) = self.settings.authority.sign(&wanted).await.map_err(local)?;
        let serial = signed.serial.to_string();
        let path = self.keep(&serial, &line, &key).map_err(local)?;
        self.made().certificates.insert(serial.clone(), path);
        Ok(Minted {
            serial,
            key_id: signed.key_id,
            public_key: encoding::public_line(&key.public, &format!("runbook {}", ask.run)),
            authority: signed.authority,
            principals: signed.principals,
            source_address: wanted.source_address,
            valid_after_ms: signed.valid_after_s.saturating_mul(1000),
            valid_until_ms: signed.valid_before_s.saturating_mul(1000),
        })
    }

    /// A certificate that can do nothing, for the names of one whose key is gone: revoked together with that, it shows that
    /// the host heeds its list. Gives its public key.
    async fn probe(&self, given: &Given<'_>, of: &Minted) -> Result<String, Obstacle> {
        let local = |message| about(given.host, message);
        let key = self.key(given.run, &given.host.name).map_err(local)?;
        let now_ms = self.clock.now_ms();
        let wanted = Wanted {
            key: key.public,
            serial: serial().map_err(local)?,
            key_id: format!("runbook-probe/{}/{}", given.run, given.host.name),
            principals: of.principals.clone(),
            valid_after_s: now_ms.saturating_sub(BEHIND_MS) / 1000,
            valid_before_s: now_ms.saturating_add(INSTALLER_MS) / 1000,
            force_command: Some("exit 0".into()),
            source_address: of.source_address.clone(),
        };
        let (line, signed) = self.settings.authority.sign(&wanted).await.map_err(local)?;
        let path = self.keep(&signed.serial.to_string(), &line, &key).map_err(local)?;
        self.made().probes.insert((given.run.clone(), given.host.name.clone()), path);
        Ok(encoding::public_line(&key.public, &format!("runbook {}", given.run)))
    }

    fn rule(&self, ask: &Ask<'_>, plan: &Plan, until_ms: Option<u64>) -> Result<Option<Rule>, Obstacle> {
        let Some(sudo) = &plan.sudo else { return Ok(None) };
        let Some(user) = &ask.host.user else {
            return Err(about(ask.host, "the inventory does not say as whom it is logged in to".into()));
        };
        // The rule ends with the certificate, where there is one.
        let valid_until_ms = match until_ms {
            Some(until_ms) => until_ms,
            None => ends(ask, runbook_model::access::RULE_FOR_MS)?,
        };
        let mut text = format!(
            "# runbook: run {}, plan {}. Removed when the run is through with this host.\n",
            ask.run, ask.plan_sha256
        );
        let (from, to) = (sudo_time(ask.now_ms.saturating_sub(BEHIND_MS)), sudo_time(valid_until_ms));
        for command in &sudo.commands {
            let _ = writeln!(
                text,
                "{user} ALL=({}) NOTBEFORE={from} NOTAFTER={to} NOPASSWD: {}",
                sudo.run_as,
                escaped(command)
            );
        }
        let sha256 = Sha256::of(text.as_bytes());
        Ok(Some(Rule { path: rule_path(ask.run), user: user.clone(), text, sha256, valid_until_ms }))
    }

    fn opened(&self, ask: &Ask<'_>, plan: &Plan) -> Result<Option<Opened>, Obstacle> {
        let Some(account) = &plan.account else { return Ok(None) };
        let until_ms = (self.settings.window_end)(&account.window, ask.now_ms).map_err(|why| {
            let message = format!("the account {} is not opened: {why}", account.name);
            about(ask.host, message)
        })?;
        let until_ms = ask.until_ms.map_or(until_ms, |end| end.min(until_ms));
        // From midnight (UTC) of that day on it is over, and hosts know nothing finer.
        let day = rfc3339_ms(until_ms.saturating_add(86_400_000 - 1)).chars().take(10).collect();
        let (name, window) = (account.name.clone(), account.window.clone());
        Ok(Some(Opened { name, window, until_ms, expires_on: day }))
    }

    /// Runs one script by a login that can do nothing else.
    async fn run(&self, run: &RunId, host: &Host, plan: &Plan, script: String) -> Result<(Said, Installer), Obstacle> {
        let local = |message| about(host, message);
        let now_ms = self.clock.now_ms();
        let key = self.installer_key().map_err(local)?;
        let login = self.settings.installer.clone();
        let wanted = Wanted {
            key: key.public,
            serial: serial().map_err(local)?,
            key_id: format!("runbook-installer/{run}/{}", host.name),
            principals: vec![login.clone()],
            valid_after_s: now_ms.saturating_sub(BEHIND_MS) / 1000,
            valid_before_s: now_ms.saturating_add(INSTALLER_MS) / 1000,
            force_command: Some(format!("exec /bin/sh -c {}", runbook_model::shell::quote_posix(&script))),
            source_address: plan.certificate.as_ref().map(|known| known.source_address.clone()).unwrap_or_default(),
        };
        let (line, signed) = self.settings.authority.sign(&wanted).await.map_err(local)?;
        let path = self.keep(&signed.serial.to_string(), &line, &key).map_err(local)?;
        let as_installer = alone(&Host { user: Some(login.clone()), ..host.clone() }, &path);
        let ended = client::login(&as_installer, &self.ssh, None, LOGIN_LIMIT).await;
        // It is of no use any more; what is left of a failure is removed with the folder.
        let _ = path.parent().map(std::fs::remove_dir_all);
        let ended = ended?;
        let said = Said::read(&ended.stdout);
        if !said.has_begun() {
            let begun = ended.code != Some(255) || ended.logins() > host.jumps.len();
            let mut obstacle = client::obstacle(&as_installer, &ended);
            if begun {
                obstacle.kind = ObstacleKind::Session;
            }
            obstacle.message = format!(
                "the login `{login}`, which installs and removes access, did not work: {}. Does its sshd trust the authority \
                 (TrustedUserCAKeys), and may this account log in (PermitRootLogin forced-commands-only)?",
                obstacle.message.trim_end().trim_end_matches('.')
            );
            return Err(obstacle);
        }
        if let (Some(script::REFUSED), Some(why)) = (ended.code, said.get("refused")) {
            let message = format!("{}: access was not given: {why}", host.name);
            return Err(Obstacle { kind: ObstacleKind::Elevation, message });
        }
        if !said.is_done() {
            let last = ended.stderr.lines().rfind(|line| !line.starts_with("debug")).unwrap_or("it said nothing");
            let message = format!("{}: what gives and removes access did not come to its end: {last}", host.name);
            return Err(Obstacle { kind: ObstacleKind::Session, message });
        }
        let installer = Installer {
            login,
            serial: signed.serial.to_string(),
            valid_until_ms: signed.valid_before_s.saturating_mul(1000),
            script_sha256: Sha256::of(script.as_bytes()),
        };
        Ok((said, installer))
    }
}

/// When what is given ends: `valid_for_ms` from now, and never past the host's time.
fn ends(ask: &Ask<'_>, valid_for_ms: u64) -> Result<u64, Obstacle> {
    let until_ms = ask.now_ms.saturating_add(valid_for_ms);
    let until_ms = ask.until_ms.map_or(until_ms, |end| end.min(until_ms));
    if until_ms <= ask.now_ms.saturating_add(1000) {
        return Err(about(ask.host, "its time is over, so no access is given".into()));
    }
    Ok(until_ms)
}

fn about(host: &Host, message: String) -> Obstacle {
    Obstacle { kind: ObstacleKind::Local, message: format!("{}: {message}", host.name) }
}

/// At random, and small enough for every reader of numbers.
fn serial() -> Result<u64, String> {
    Ok((u64::from_be_bytes(authority::random()?) >> 11).max(1))
}

/// The host with the key at this path and its certificate, and with no other.
fn alone(host: &Host, key: &std::path::Path) -> Host {
    let mut host = Host { identity: Some(key.display().to_string()), certificate: None, ..host.clone() };
    host.options.insert(ONLY_CERTIFICATE.to_owned(), true.into());
    host
}

/// A time as sudoers has it: `20261128055000Z`.
fn sudo_time(ms: u64) -> String {
    let digits: String = rfc3339_ms(ms).chars().take(19).filter(char::is_ascii_digit).collect();
    format!("{digits}Z")
}

/// A command with what sudoers would take for the end of it.
fn escaped(command: &str) -> String {
    let mut text = String::new();
    for c in command.chars() {
        if matches!(c, ',' | ':' | '=' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

fn subject<'a>(host: &'a Host, plan: &Plan, grants: &'a [Grant]) -> Subject<'a> {
    let keys = grants.iter().filter_map(|grant| Some(grant.certificate.as_ref()?.public_key.as_str()));
    let mut keys: Vec<&str> = keys.collect();
    keys.dedup();
    Subject {
        user: host.user.as_deref().unwrap_or_default(),
        keys,
        revoke: plan.certificate.as_ref().map(|certificate| certificate.revoke),
        rule: grants.iter().rev().find_map(|grant| grant.sudo.as_ref()),
        account: grants.iter().rev().find_map(|grant| grant.account.as_ref()),
    }
}

#[async_trait]
impl Access for HostAccess {
    async fn grant(&self, ask: &Ask<'_>) -> Result<Grant, Obstacle> {
        let account = self.opened(ask, ask.access)?;
        let certificate = match &ask.access.certificate {
            Some(certificate) => {
                let principals = certificate.principals.get(&ask.host.name).cloned().unwrap_or_default();
                // Without names it would be good for any account, to some who read it.
                if principals.is_empty() {
                    return Err(about(ask.host, "the plan has no names for its certificate".into()));
                }
                Some(self.mint(ask, &principals, ask.access).await?)
            }
            None => None,
        };
        let sudo = self.rule(ask, ask.access, certificate.as_ref().map(|minted| minted.valid_until_ms))?;
        Ok(Grant { certificate, sudo, account })
    }

    fn with(&self, host: &Host, grant: &Grant) -> Result<Host, Obstacle> {
        let Some(minted) = &grant.certificate else { return Ok(host.clone()) };
        let path = self.made().certificates.get(&minted.serial).cloned();
        let path = path.ok_or_else(|| about(host, "its certificate's key is not this program's".into()))?;
        Ok(alone(host, &path))
    }

    async fn install(&self, ask: &Ask<'_>, grant: &Grant) -> Result<Installed, Obstacle> {
        let grants = std::slice::from_ref(grant);
        let script = script::install(&subject(ask.host, ask.access, grants));
        let (said, installer) = self.run(ask.run, ask.host, ask.access, script).await?;
        let digest = |word: &str| said.get(word).and_then(|text| text.parse::<Sha256>().ok());
        Ok(Installed {
            at_ms: self.clock.now_ms(),
            revoked_keys: said.get("revoked-keys").map(str::to_owned),
            sudo_before: digest("sudo-before"),
            rule_sha256: digest("rule-sha256"),
            installer,
        })
    }

    async fn withdraw(&self, given: &Given<'_>) -> Result<Withdrawn, Obstacle> {
        let mut subject = subject(given.host, given.access, given.grants);
        let last = given.grants.iter().rev().find_map(|grant| grant.certificate.as_ref());
        let ours = last.is_none_or(|minted| self.made().certificates.contains_key(&minted.serial));
        let probe = match last.filter(|_| !ours) {
            Some(minted) => Some(self.probe(given, minted).await?),
            None => None,
        };
        subject.keys.extend(probe.as_deref());
        if last.is_some() {
            self.made().revoked.insert((given.run.clone(), given.host.name.clone()));
        }
        let (said, installer) = self.run(given.run, given.host, given.access, script::withdraw(&subject)).await?;
        let before = given.installed.and_then(|installed| installed.sudo_before);
        let after = said.get("sudo-after").and_then(|text| text.parse::<Sha256>().ok());
        let sudo = subject.rule.map(|rule| match said.get("rule-gone") {
            Some(path) => Ending::Proved(format!(
                "{path} is gone; sudo says: {}",
                said.get("sudo-words").filter(|words| !words.is_empty()).unwrap_or("nothing")
            )),
            None => Ending::Left {
                until_ms: Some(rule.valid_until_ms),
                why: format!("{} is still there: {}", rule.path, said.get("rule-left").unwrap_or_default()),
            },
        });
        let revoked =
            (!subject.keys.is_empty()).then(|| match (said.get("revoked-keys"), said.get("revoked-failed")) {
                (Some(file), _) => Ok(format!("revoked in {file}")),
                (None, Some(why)) => Err(Unrevoked::Failed(why.to_owned())),
                (None, None) => {
                    Err(Unrevoked::NoPlace(said.get("revoked-none").unwrap_or("it did not say").to_owned()))
                }
            });
        let account = subject.account.map(|account| {
            let expires = said.get("account-expires").unwrap_or_default();
            let password = said.get("account-password").unwrap_or_default();
            if expires == "1" && password == "locked" {
                let ended = said.get("account-ended").unwrap_or("0");
                Ending::Proved(format!(
                    "{} has expired and is locked (shadow: expires on day 1); {ended} of its processes were ended",
                    account.name
                ))
            } else {
                let why = format!(
                    "{}: expires on day `{expires}`, password {password}; {}",
                    account.name,
                    said.get("account-said").unwrap_or_default()
                );
                Ending::Left { until_ms: None, why }
            }
        });
        let sudo_as_before = before.is_some() && before == after;
        Ok(Withdrawn { at_ms: self.clock.now_ms(), sudo, sudo_as_before, revoked, account, installer })
    }

    async fn try_login(&self, run: &RunId, host: &Host, grant: &Grant) -> Login {
        let probe = self.made().probes.get(&(run.clone(), host.name.clone())).cloned();
        let with = match (self.with(host, grant), probe) {
            (Ok(with), _) => with,
            (Err(_), Some(probe)) => alone(host, &probe),
            (Err(obstacle), None) => return Login::Untried(obstacle.message),
        };
        let ended = match client::login(&with, &self.ssh, Some("exit 0"), TRY_LIMIT).await {
            Ok(ended) => ended,
            Err(obstacle) => return Login::Untried(obstacle.message),
        };
        if ended.logins() > host.jumps.len() {
            return Login::LetIn;
        }
        let offered =
            ended.stderr.lines().any(|line| line.contains("Offering public key: ") && line.contains("-CERT "));
        let refused = ended.stderr.lines().map(str::trim).rfind(|line| line.contains("Permission denied ("));
        match refused {
            Some(words) if offered && ended.logins() == host.jumps.len() => Login::Refused(words.to_owned()),
            _ => Login::Untried(client::obstacle(&with, &ended).message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_good_for_longer_than_its_hosts_time() {
        let (host, run) = (Host::named("fs01", "ssh"), RunId::from("run"));
        let access = Plan { certificate: None, sudo: None, account: None };
        let ask = |until_ms| Ask {
            run: &run,
            plan_sha256: Sha256::of(b""),
            host: &host,
            access: &access,
            now_ms: 1_000_000,
            until_ms,
        };
        assert_eq!(ends(&ask(None), 60_000).unwrap(), 1_060_000);
        assert_eq!(ends(&ask(Some(1_030_000)), 60_000).unwrap(), 1_030_000);
        assert_eq!(ends(&ask(Some(2_000_000)), 60_000).unwrap(), 1_060_000);
        assert!(ends(&ask(Some(1_000_000)), 60_000).is_err(), "its time is over");
    }

    #[test]
    fn times_and_commands_are_as_sudoers_has_them() {
        assert_eq!(sudo_time(1_767_225_600_999), "20260101000000Z");
        assert_eq!(escaped("/bin/a -o Dpkg::Options=x,y"), "/bin/a -o Dpkg\\:\\:Options\\=x\\,y");
        assert_eq!(escaped("ALL"), "ALL");
    }
}
