//! Many ssh hosts on one machine: a real sshd for each, with an address, a host key and a home folder of its own.
//!
//! They share the machine's accounts and files, so they do for measuring and for nothing else; the lab of the tests has
//! real hosts. All of it is on loopback addresses.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::delay::Delay;
use crate::{Result, write};

/// So often an sshd is asked whether it listens, and how long each time.
const TRIES: usize = 200;

/// The hosts; they end with it.
pub(crate) struct Fleet {
    folder: TempDir,
    sshds: Vec<Child>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) user: String,
    /// Where they are reached.
    pub(crate) port: u16,
    /// Where their sshds listen: the same, unless there is a delay.
    sshd_port: u16,
    _delay: Option<Delay>,
}

/// One of them.
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) address: String,
}

impl Fleet {
    /// Starts `count` hosts.
    pub(crate) fn start(count: usize) -> Result<Self> {
        Self::far(count, Duration::ZERO)
    }

    /// Starts `count` hosts, from which an answer takes at least `round_trip`.
    pub(crate) fn far(count: usize, round_trip: Duration) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("fleet-").tempdir()?;
        apart(folder.path());
        let free = || Ok::<u16, std::io::Error>(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port());
        let sshd_port = free()?;
        let user = String::from_utf8(Command::new("id").arg("-un").output()?.stdout)?.trim().to_owned();
        let hosts: Vec<Host> = (0..count)
            .map(|n| Host { name: format!("h{n:03}"), address: format!("127.0.{}.{}", 1 + n / 250, 1 + n % 250) })
            .collect();
        let delay = if round_trip.is_zero() {
            None
        } else {
            let addresses = hosts.iter().map(|host| host.address.parse()).collect::<std::result::Result<_, _>>()?;
            Some(Delay::start(addresses, sshd_port, round_trip / 2)?)
        };
        let port = delay.as_ref().map_or(sshd_port, |delay| delay.port);
        let mut fleet = Self { folder, sshds: Vec::new(), hosts, user, port, sshd_port, _delay: delay };
        fleet.make()?;
        Ok(fleet)
    }

    fn make(&mut self) -> Result<()> {
        let folder = self.folder.path().to_path_buf();
        if self.user == "root" {
            std::fs::create_dir_all("/run/sshd")?;
        }
        generate(&self.key())?;
        let mut known = String::new();
        for host in &self.hosts {
            let own = folder.join(&host.name);
            std::fs::create_dir_all(own.join("home"))?;
            generate(&own.join("host_key"))?;
            let public = std::fs::read_to_string(own.join("host_key.pub"))?;
            writeln!(known, "[{}]:{} {}", host.address, self.port, public.trim())?;
            let config = format!(
                "ListenAddress {}\nPort {}\nHostKey {own}/host_key\nPidFile none\nAuthorizedKeysFile {folder}/key.pub\n\
                 StrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n\
                 KbdInteractiveAuthentication no\nPrintMotd no\nPrintLastLog no\nUseDNS no\nSetEnv HOME={own}/home\n",
                host.address,
                self.sshd_port,
                own = own.display(),
                folder = folder.display()
            );
            write(&own.join("sshd_config"), &config)?;
            let sshd = Command::new("/usr/sbin/sshd")
                .args(["-D", "-E"])
                .arg(own.join("log"))
                .arg("-f")
                .arg(own.join("sshd_config"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .map_err(|error| format!("sshd cannot be started (tests/setup installs it): {error}"))?;
            self.sshds.push(sshd);
        }
        write(&folder.join("known_hosts"), &known)?;
        let mut config = String::new();
        for host in &self.hosts {
            writeln!(config, "Host {}\n    HostName {}", host.name, host.address)?;
        }
        // curve25519 alone, as the libraries choose it: what OpenSSH prefers costs its client 0.1 s of CPU more.
        writeln!(
            config,
            "Host *\n    Port {}\n    User {}\n    IdentityFile {key}\n    IdentitiesOnly yes\n    UserKnownHostsFile \
             {folder}/known_hosts\n    GlobalKnownHostsFile /dev/null\n    KexAlgorithms curve25519-sha256\n    \
             BatchMode yes",
            self.port,
            self.user,
            key = self.key().display(),
            folder = folder.display()
        )?;
        write(&self.ssh_config(), &config)?;
        for host in &self.hosts {
            let address: SocketAddr = format!("{}:{}", host.address, self.sshd_port).parse()?;
            let up = (0..TRIES).any(|_| {
                let up = TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok();
                if !up {
                    std::thread::park_timeout(Duration::from_millis(25));
                }
                up
            });
            if !up {
                let log = std::fs::read_to_string(folder.join(&host.name).join("log")).unwrap_or_default();
                return Err(format!("the sshd of {} does not listen: {log}", host.name).into());
            }
        }
        Ok(())
    }

    /// The private key that opens all of them.
    pub(crate) fn key(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    /// The keys of all hosts.
    pub(crate) fn known_hosts(&self) -> PathBuf {
        self.folder.path().join("known_hosts")
    }

    /// How they are reached by name.
    pub(crate) fn ssh_config(&self) -> PathBuf {
        self.folder.path().join("ssh_config")
    }
}

/// `fleet N`: for looking at what a run does.
pub(crate) fn stay(mut words: impl Iterator<Item = String>) -> Result<()> {
    let fleet = Fleet::start(words.next().ok_or("fleet wants a number of hosts")?.parse()?)?;
    let folder = tempfile::tempdir()?;
    crate::peers::runbook(folder.path(), &fleet, "execute")?;
    println!("runbook apply --project {0} {0}/steps.yaml --yes", folder.path().display());
    println!("ssh -F {} {}", fleet.ssh_config().display(), fleet.hosts[0].name);
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for sshd in &mut self.sshds {
            // It may have ended already; what it serves ends with its client.
            let _ = sshd.kill();
            let _ = sshd.wait();
        }
    }
}

/// Has ext4 put each folder made in `folder` somewhere else. When it makes a file, ext4 goes past every file of that region
/// that was removed in the last minutes, one by one; hosts that share a region would slow each other down by what no real
/// hosts share. Other file systems know nothing of this and need it not.
fn apart(folder: &Path) {
    let _other_file_system = Command::new("chattr").arg("+T").arg(folder).stderr(Stdio::null()).status();
}

fn generate(key: &Path) -> Result<()> {
    let status =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f"]).arg(key).status()?;
    if status.success() { Ok(()) } else { Err("ssh-keygen failed".into()) }
}
