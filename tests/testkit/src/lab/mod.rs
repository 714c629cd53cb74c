//! Real hosts on one machine, for tests that must not believe fakes.
//!
//! A [`Lab`] is a small network of hosts. Each host is a network namespace with an own address on a bridge, an own
//! process tree, a private root folder (the machine's file tree with a private layer over it, on the host's own btrfs
//! file system on a loop device), a real `sshd` with its own host key, a login user with keys, a certificate and sudo
//! rights, and a real `apt`/`dpkg` with an archive of its own, from which a small file service is installed, patched and
//! broken ([`Update`]). Hosts behind a jump host have no other way in.
//!
//! Nothing outlives the test: every host ends when the pipe to its first process closes, also when the test is killed;
//! addresses, bridges and folders carry the number of a slot that is held by a file lock, and whoever makes a lab first
//! removes what slots without a holder left behind.
//!
//! Needs root, Linux with btrfs and overlay, and what `tests/setup` installs: start each test with [`require`].

mod cgroup;
mod command;
mod fault;
mod host;
mod keys;
mod network;
mod package;
mod rpm;
mod slot;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

pub use command::Output;
pub use host::LabHost;
pub use package::Update;

use keys::Keys;
use network::Network;
use slot::Slot;

/// What went wrong while the lab was made or used; a test can only stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program that the lab needs failed.
    #[error("{program} failed: {detail}")]
    Program {
        /// What was run.
        program: String,
        /// What it said.
        detail: String,
    },
    /// A file could not be read or written, or a program not started.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A host did not come up, or did something else than it was asked for.
    #[error("lab host {host}: {detail}")]
    Host {
        /// Its name.
        host: String,
        /// What happened, with the end of its log.
        detail: String,
    },
    /// All slots are held by other labs.
    #[error("no free slot for a lab: {0} labs are running")]
    Full(u8),
}

impl Error {
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }
}

/// Whether this machine can carry a lab. When it cannot, says so (`SKIPPED: …`, which `tests/run` counts) and gives
/// false: the test must then return. With `CI=true` nothing may be skipped: it panics.
pub fn require() -> bool {
    match slot::obstacle() {
        None => true,
        Some(reason) => {
            skip(&reason);
            false
        }
    }
}

/// [`require`] for a lab with hosts whose first process is systemd ([`HostSpec::systemd`]).
pub fn require_systemd() -> bool {
    match slot::obstacle().or_else(cgroup::obstacle) {
        None => true,
        Some(reason) => {
            skip(&reason);
            false
        }
    }
}

/// Where `tests/setup` keeps packages for the lab's hosts alone, a folder for each set.
pub const KEPT_PACKAGES: &str = "/var/cache/runbook-tests";

/// Whether this machine has a program, or `tests/setup` keeps the packages `set` that have it; when neither, skips the
/// test as [`require`] does.
pub fn require_kept(set: &str, program: &str) -> bool {
    let is_kept = std::fs::read_dir(Path::new(KEPT_PACKAGES).join(set))
        .is_ok_and(|files| files.flatten().any(|file| file.path().extension().is_some_and(|end| end == "deb")));
    if is_kept || has_program(program) {
        return true;
    }
    skip(&format!("{program} is missing; run tests/setup"));
    false
}

/// Whether this machine has a program of that name, also where only root looks.
pub fn has_program(name: &str) -> bool {
    slot::has_program(name)
}

/// Whether this machine has these programs too; when it has not, skips the test as [`require`] does.
pub fn require_programs(names: &[&str]) -> bool {
    let missing: Vec<&str> = names.iter().copied().filter(|name| !slot::has_program(name)).collect();
    if missing.is_empty() {
        return true;
    }
    skip(&format!("programs are missing ({}); run tests/setup", missing.join(", ")));
    false
}

/// Says that a test is skipped, loudly: on standard error, and in the file that `RUNBOOK_SKIPPED` names.
///
/// # Panics
/// With `CI=true`.
#[allow(clippy::print_stderr, reason = "a skipped test has to say so")]
pub fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} cannot be skipped in CI: {reason}");
    eprintln!("SKIPPED: {test}: {reason}");
    if let Some(path) = std::env::var_os("RUNBOOK_SKIPPED") {
        use std::io::Write as _;
        if let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(path) {
            // A lost line only makes the count smaller; the line on standard error was printed.
            let _ = writeln!(file, "{test}: {reason}");
        }
    }
}

/// A host that a lab shall have.
#[derive(Debug, Clone)]
pub struct HostSpec {
    name: String,
    jump: Option<String>,
    inventory: String,
    disk_mib: u64,
    systemd: bool,
}

impl HostSpec {
    /// A host on the front network, reachable from this machine.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), jump: None, inventory: String::new(), disk_mib: 512, systemd: false }
    }

    /// The host is on the back network, and reachable through `jump` alone.
    #[must_use]
    pub fn behind(mut self, jump: &str) -> Self {
        self.jump = Some(jump.into());
        self
    }

    /// More keys for its line of the inventory, in YAML's flow form: `groups: [web], cui: true`.
    #[must_use]
    pub fn inventory(mut self, keys: &str) -> Self {
        self.inventory = keys.into();
        self
    }

    /// Its first process is a real systemd; start such a test with [`require_systemd`].
    #[must_use]
    pub fn systemd(mut self) -> Self {
        self.systemd = true;
        self
    }

    /// The size of its disk (512 MiB unless said otherwise, at least 128).
    #[must_use]
    pub fn disk_mib(mut self, size: u64) -> Self {
        self.disk_mib = size;
        self
    }
}

/// A network of real hosts. Ends with the value.
pub struct Lab {
    // Fields are dropped in this order: hosts end before their network and their folder go.
    hosts: BTreeMap<String, LabHost>,
    keys: Keys,
    _network: Network,
    slot: Slot,
}

impl Lab {
    /// A lab with these hosts, all up: their sshd answers.
    ///
    /// # Errors
    /// What stood in the way; nothing is left behind.
    pub fn new(specs: &[HostSpec]) -> Result<Self, Error> {
        let slot = Slot::take()?;
        let keys = Keys::make(slot.folder())?;
        let network = Network::make(slot.number())?;
        let mut lab = Self { hosts: BTreeMap::new(), keys, _network: network, slot };
        for (place, spec) in specs.iter().enumerate() {
            let is_jump = specs.iter().any(|other| other.jump.as_deref() == Some(spec.name.as_str()));
            let host = LabHost::start(&lab.slot, &lab.keys, spec, place, is_jump)?;
            lab.hosts.insert(spec.name.clone(), host);
        }
        // All were started; now all are waited for, so that they come up at the same time.
        for host in lab.hosts.values_mut() {
            host.wait_until_up()?;
        }
        lab.write_ssh_files()?;
        Ok(lab)
    }

    /// A lab with plain hosts of these names.
    ///
    /// # Errors
    /// As [`Lab::new`].
    pub fn with_hosts(names: &[&str]) -> Result<Self, Error> {
        Self::new(&names.iter().map(|name| HostSpec::new(name)).collect::<Vec<_>>())
    }

    /// A host by name.
    ///
    /// # Panics
    /// When the lab has none of this name.
    pub fn host(&self, name: &str) -> &LabHost {
        self.hosts.get(name).unwrap_or_else(|| panic!("the lab has no host {name}"))
    }

    /// A host by name, to be switched off, rebooted or given other keys.
    ///
    /// # Panics
    /// When the lab has none of this name.
    pub fn host_mut(&mut self, name: &str) -> &mut LabHost {
        self.hosts.get_mut(name).unwrap_or_else(|| panic!("the lab has no host {name}"))
    }

    /// The control group of a host with systemd on this machine.
    pub fn control_group(&self, name: &str) -> Option<PathBuf> {
        self.host(name).has_systemd().then(|| cgroup::of(self.slot.number(), name)).flatten()
    }

    /// All hosts, by name.
    pub fn hosts(&self) -> impl Iterator<Item = &LabHost> {
        self.hosts.values()
    }

    /// A folder of the lab's own, removed with it.
    pub fn folder(&self) -> &Path {
        self.slot.folder()
    }

    /// An ssh_config with the lab's key and known hosts, strict host key checking and no password login; for
    /// `[ssh] config`. Each host's name is also an alias that goes through its jump host by itself.
    pub fn ssh_config(&self) -> PathBuf {
        self.folder().join("ssh_config")
    }

    /// The same with the certificate (of a key that no host's `authorized_keys` has) instead of the key.
    pub fn ssh_config_with_certificate(&self) -> PathBuf {
        self.folder().join("ssh_config_certificate")
    }

    /// The key that all hosts accept.
    pub fn identity(&self) -> &Path {
        &self.keys.identity
    }

    /// A key that hosts accept only with [`Lab::certificate`].
    pub fn certified_identity(&self) -> &Path {
        &self.keys.certified
    }

    /// The certificate of [`Lab::certified_identity`], signed by an authority that all hosts trust.
    pub fn certificate(&self) -> &Path {
        &self.keys.certificate
    }

    /// Another certificate of [`Lab::certified_identity`] from the same authority, for `principal`, valid as
    /// `ssh-keygen -V` says it. Its file has no name under which ssh would find it by itself.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn certify(&self, name: &str, principal: &str, validity: &str) -> Result<PathBuf, Error> {
        self.keys.certify(&self.folder().join(name), principal, validity)
    }

    /// A key that no host accepts.
    pub fn stranger(&self) -> &Path {
        &self.keys.stranger
    }

    /// The inventory: every host of the lab.
    pub fn inventory(&self) -> String {
        let mut text = String::from(
            "schema: inventory/v1\ndefaults: {transport: ssh, user: maint, port: 22, os: linux}\nhosts:\n",
        );
        for host in self.hosts.values() {
            let mut keys = format!("address: {}", host.address());
            if let Some(jump) = host.jump() {
                let _ = write!(keys, ", jump: {jump}");
            }
            if !host.inventory_keys().is_empty() {
                let _ = write!(keys, ", {}", host.inventory_keys());
            }
            let _ = writeln!(text, "  {}: {{{keys}}}", host.name());
        }
        text
    }

    /// Writes `runbook.toml` and `inventory.yaml` into `folder`, and makes its `runbooks` and `actions` folders.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_project(&self, folder: &Path) -> Result<(), Error> {
        for name in ["runbooks", "actions"] {
            let path = folder.join(name);
            std::fs::create_dir_all(&path).map_err(Error::io(format!("making {}", path.display())))?;
        }
        let settings = format!("[ssh]\nconfig = {:?}\n", self.ssh_config().display().to_string());
        write(&folder.join("runbook.toml"), &settings)?;
        write(&folder.join("inventory.yaml"), &self.inventory())
    }

    /// Writes known hosts and ssh_config anew. Hosts that changed their key since are as strangers until then.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_ssh_files(&self) -> Result<(), Error> {
        let mut known = String::new();
        let mut aliases = String::new();
        for host in self.hosts.values() {
            let _ = writeln!(known, "{},{} {}", host.name(), host.address(), host.host_key()?);
            let _ = writeln!(aliases, "Host {}\n  HostName {}", host.name(), host.address());
            if let Some(jump) = host.jump() {
                let _ = writeln!(aliases, "  ProxyJump {}", self.host(jump).address());
            }
        }
        let known_hosts = self.folder().join("known_hosts");
        write(&known_hosts, &known)?;
        let certificate = format!("  CertificateFile {}\n", self.keys.certificate.display());
        for (path, identity, more) in [
            (self.ssh_config(), &self.keys.identity, ""),
            (self.ssh_config_with_certificate(), &self.keys.certified, certificate.as_str()),
        ] {
            let text = format!(
                "{aliases}Host *\n  User maint\n  IdentityFile {}\n{more}  IdentitiesOnly yes\n  IdentityAgent none\n  \
                 UserKnownHostsFile {}\n  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n  \
                 PasswordAuthentication no\n  KbdInteractiveAuthentication no\n  BatchMode yes\n  ConnectTimeout 10\n",
                identity.display(),
                known_hosts.display(),
            );
            write(&path, &text)?;
        }
        Ok(())
    }

    /// The system's ssh client with the lab's configuration: `ssh -F CONFIG HOST COMMAND`.
    ///
    /// # Errors
    /// When ssh cannot be started. That it failed is in the output.
    pub fn ssh(&self, host: &str, command: &str) -> Result<Output, Error> {
        command::run("ssh", ["-F".as_ref(), self.ssh_config().as_os_str(), host.as_ref(), command.as_ref()])
    }
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(Error::io(format!("writing {}", path.display())))
}
