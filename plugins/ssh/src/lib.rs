//! Steps over the system's OpenSSH, one connection per host.
//!
//! One `ssh` master process per session carries every step, transfer and question of a host as a channel; no client
//! process is started per step (the channels are opened through the master's socket). OpenSSH reads the user's own
//! `ssh_config`, so agents, certificates, hardware keys, GSSAPI and jump hosts work as they do by hand; what must not
//! depend on it (strict host keys, no passwords, no questions) is fixed before it: see [`config`].

pub mod access;
pub mod certificate;
pub mod config;
pub mod diagnosis;
mod login;
mod master;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runbook_model::host::Host;
use runbook_model::outcome::Obstacle;
use runbook_ports::clock::Clock;
use runbook_ports::posix::session::PosixSession;
use runbook_ports::transport::{Capabilities, Session, Transport};

/// What the operator can set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Read instead of `~/.ssh/config` and `/etc/ssh/ssh_config` (`[ssh] config`). Absolute.
    pub config: Option<PathBuf>,
    /// The program (`[ssh] program`).
    pub program: PathBuf,
    /// Channels at once on one connection. sshd allows 10 unless told otherwise (`MaxSessions`); when it refuses one, the
    /// session uses fewer from then on.
    pub sessions_max: usize,
    /// A connection on which nothing answers for three times this long is given up.
    pub alive_interval: Duration,
    /// Where the private folder of a connection is made. Short: a socket's path has room for about 90 bytes.
    pub runtime: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            config: None,
            program: "ssh".into(),
            sessions_max: 8,
            alive_interval: Duration::from_secs(15),
            runtime: None,
        }
    }
}

/// The transport `ssh`.
pub struct Ssh {
    settings: Settings,
    clock: Arc<dyn Clock>,
}

impl Ssh {
    /// With these settings.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        Self { settings, clock }
    }
}

#[async_trait]
impl Transport for Ssh {
    fn name(&self) -> &str {
        "ssh"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { reattach: true, concurrency: self.settings.sessions_max, remote: true }
    }

    async fn open(&self, host: &Host, limit: Duration) -> Result<Box<dyn Session>, Obstacle> {
        let master = master::Master::connect(host, &self.settings, limit).await.map_err(|obstacle| {
            let jumps = host.jumps.iter().filter_map(|jump| jump.certificate.as_deref());
            certificate::explain(obstacle, jumps.chain(host.certificate.as_deref()), self.clock.now_ms())
        })?;
        let wire = wire::SshWire::new(master, self.settings.sessions_max);
        Ok(Box::new(PosixSession::new(wire, Arc::clone(&self.clock))))
    }
}
