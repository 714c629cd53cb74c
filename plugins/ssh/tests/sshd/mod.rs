//! A real sshd on the loopback interface, started by the test and ended with it: own host key, own user key, a free high
//! port, a home of its own.
#![allow(dead_code, unreachable_pub)]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runbook_model::host::Host;
use runbook_model::outcome::Obstacle;
use runbook_ports::clock::Clock;
use runbook_ports::transport::{Session, Transport};
use runbook_ssh::{Settings, Ssh};
use runbook_testkit::transport_suite::Subject;

pub struct WallClock;

impl Clock for WallClock {
    #[allow(clippy::disallowed_methods)]
    fn now_ms(&self) -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn mono_ms(&self) -> u64 {
        self.now_ms()
    }
}

pub struct Sshd {
    pub folder: tempfile::TempDir,
    pub port: u16,
    pub pid: u32,
    daemon: Child,
    pub user: String,
}

fn keygen(path: &Path) {
    let made =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]).arg(path).status();
    assert!(made.expect("ssh-keygen is here").success());
}

impl Sshd {
    pub fn start() -> Self {
        Self::with("")
    }

    /// With more lines in its configuration.
    pub fn with(more: &str) -> Self {
        Self::with_tools(more, |_| None)
    }

    /// With more lines in its configuration, and where `tools` fills a folder, with that as its `PATH`.
    pub fn with_tools(more: &str, tools: impl Fn(&Path) -> Option<()>) -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let path = |name: &str| folder.path().join(name);
        keygen(&path("host"));
        keygen(&path("id"));
        std::fs::create_dir(path("home")).expect("scratch");
        std::fs::create_dir_all("/run/sshd").expect("sshd's folder");
        std::fs::copy(path("id.pub"), path("authorized")).expect("scratch");
        // A port that was free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        let host_key = std::fs::read_to_string(path("host.pub")).expect("a key");
        std::fs::write(path("known"), format!("[127.0.0.1]:{port} {host_key}")).expect("scratch");
        let base = folder.path().display();
        std::fs::create_dir(path("tools")).expect("scratch");
        let search = tools(&path("tools")).map(|()| format!(" PATH={base}/tools")).unwrap_or_default();
        let text = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {base}/host\nAuthorizedKeysFile {base}/authorized\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nPidFile none\nStrictModes no\n\
             PermitRootLogin prohibit-password\nSetEnv HOME={base}/home{search}\nMaxStartups 100\n{more}\n"
        );
        std::fs::write(path("sshd_config"), text).expect("scratch");
        let mut daemon = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(path("sshd_config"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sshd is here (package openssh-server)");
        let mut said = BufReader::new(daemon.stderr.take().expect("a pipe"));
        let mut line = String::new();
        while !line.contains("Server listening") {
            line.clear();
            assert_ne!(said.read_line(&mut line).expect("a pipe"), 0, "sshd ended: see its configuration");
        }
        // Somebody must read on, or it blocks.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let user = whoami();
        Self { pid: daemon.id(), daemon, folder, port, user }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The host as an inventory has it, with these keys changed.
    pub fn host(&self, more: serde_json::Value) -> Host {
        let mut whole = serde_json::json!({
            "name": "fs01", "transport": "ssh", "address": "127.0.0.1", "port": self.port, "os": "linux",
            "user": self.user, "identity": self.path("id").display().to_string(),
        });
        if let (Some(whole), Some(more)) = (whole.as_object_mut(), more.as_object()) {
            whole.extend(more.clone());
        }
        serde_json::from_value(whole).expect("a host")
    }

    /// The transport, with a known_hosts file of the test's.
    pub fn ssh(&self) -> Ssh {
        self.ssh_with(&self.path("known"), "")
    }

    pub fn ssh_with(&self, known: &Path, more: &str) -> Ssh {
        let config = self.path("client_config");
        let known = known.display();
        let text = format!("Host *\n  UserKnownHostsFile {known}\n  GlobalKnownHostsFile /dev/null\n{more}\n");
        std::fs::write(&config, text).expect("scratch");
        Ssh::new(Settings { config: Some(config), ..Settings::default() }, Arc::new(WallClock))
    }

    pub async fn open(&self) -> Result<Box<dyn Session>, Obstacle> {
        self.ssh().open(&self.host(serde_json::json!({})), Duration::from_secs(30)).await
    }

    /// Every process below the daemon: one per connection and what runs in it.
    pub fn connections(&self) -> Vec<u32> {
        children(self.pid)
    }
}

pub fn whoami() -> String {
    let said = Command::new("id").arg("-un").output().expect("id is here");
    String::from_utf8_lossy(&said.stdout).trim().to_owned()
}

pub fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

pub fn kill(signal: &str, pid: u32) {
    let done = Command::new("kill").args(["-s", signal, &pid.to_string()]).status().expect("kill is here");
    assert!(done.success());
}

impl Drop for Sshd {
    fn drop(&mut self) {
        for connection in self.connections() {
            for child in children(connection) {
                drop(Command::new("kill").args(["-s", "KILL", &child.to_string()]).stderr(Stdio::null()).status());
            }
            drop(Command::new("kill").args(["-s", "KILL", &connection.to_string()]).stderr(Stdio::null()).status());
        }
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}

#[async_trait]
impl Subject for Sshd {
    async fn session(&self) -> Box<dyn Session> {
        self.open().await.expect("sshd lets us in")
    }

    fn scratch(&self) -> &Path {
        self.folder.path()
    }
}
