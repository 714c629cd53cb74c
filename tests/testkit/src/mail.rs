//! Mail servers, for real and on this machine alone: Exim with STARTTLS and a login, and one that says what it is told to.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::anchors::Pki;
use crate::lab;

/// The account's name there.
pub const USER: &str = "runbook";
/// Its password.
pub const PASSWORD: &str = "a secret of mail";

/// An Exim. It takes mail in TLS from whoever has logged in, not to `nobody@…`, and to `later@…` only once [`Exim::knows`]
/// was called.
pub struct Exim {
    folder: TempDir,
    process: Child,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

impl Exim {
    /// Starts it with the certificate `name`. When there is none on this machine, skips the test as [`lab::require`] does.
    pub fn start(pki: &Pki, name: &str) -> Option<Self> {
        if !lab::require_programs(&["exim4"]) {
            return None;
        }
        let folder = tempfile::tempdir().expect("a scratch folder");
        let user = if rustix::process::getuid().is_root() { "Debian-exim".to_owned() } else { own_name() };
        // It gives up root for an account that must reach its files.
        open(folder.path());
        std::fs::create_dir(folder.path().join("work")).expect("scratch");
        let work = folder.path().join("work");
        for file in ["certificate", "key"] {
            let from = pki.path(&format!("{name}.{}", if file == "key" { "key" } else { "pem" }));
            std::fs::copy(from, work.join(file)).expect("scratch");
        }
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        let base = work.display();
        let text = format!(
            "primary_hostname = localhost\nexim_user = {user}\nexim_group = {user}\nspool_directory = {base}/spool\n\
             log_file_path = {base}/%slog\npid_file_path = {base}/pid\nlocal_interfaces = 127.0.0.1\n\
             daemon_smtp_ports = {port}\ntls_advertise_hosts = *\ntls_certificate = {base}/certificate\n\
             tls_privatekey = {base}/key\nauth_advertise_hosts = ${{if eq {{$tls_in_cipher}}{{}}{{}}{{*}}}}\n\
             acl_smtp_rcpt = rcpt\nacl_smtp_data = data\nkeep_environment =\nbegin acl\nrcpt:\n  \
             deny message = TLS is needed\n    ! encrypted = *\n  deny message = log in first\n    ! authenticated = *\n  \
             defer message = greylisted, come back\n    local_parts = later\n    condition = ${{if !exists{{{base}/known}}}}\n  \
             deny message = no such mailbox\n    local_parts = nobody\n  accept\ndata:\n  accept\nbegin routers\nall:\n  \
             driver = accept\n  transport = file\nbegin transports\nfile:\n  driver = appendfile\n  file = {base}/mbox\n  \
             user = {user}\n  group = {user}\n  mode_fail_narrower = false\nbegin authenticators\nplain:\n  \
             driver = plaintext\n  public_name = PLAIN\n  server_prompts = :\n  \
             server_condition = ${{if and{{{{eq{{$auth2}}{{{USER}}}}}{{eq{{$auth3}}{{{PASSWORD}}}}}}}}}\n  server_set_id = $auth2\n"
        );
        // Whoever else could write it would be obeyed by root.
        std::fs::write(folder.path().join("exim.conf"), text).expect("scratch");
        if rustix::process::getuid().is_root() {
            let done = Command::new("chown").args(["-R", &format!("{user}:{user}")]).arg(&work).status();
            assert!(done.is_ok_and(|status| status.success()), "the folder is Exim's");
        }
        let process = Command::new("exim4")
            .arg("-C")
            .arg(folder.path().join("exim.conf"))
            .args(["-bdf", "-oX", &format!("127.0.0.1.{port}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("exim4 starts");
        let exim = Self { folder, process, port };
        let listens = (0..300).any(|_| {
            let there = TcpStream::connect(("127.0.0.1", port)).is_ok();
            if !there {
                pause();
            }
            there
        });
        assert!(listens, "Exim does not listen: {}", exim.log());
        Some(exim)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("work").join(name)
    }

    /// Takes mail to `later@…` from now on.
    pub fn knows(&self) {
        std::fs::write(self.path("known"), "").expect("scratch");
    }

    /// What it wrote into its log.
    pub fn log(&self) -> String {
        ["mainlog", "rejectlog", "paniclog"]
            .map(|name| std::fs::read_to_string(self.path(name)).unwrap_or_default())
            .join("\n")
    }

    /// The mails that it has put into the mailbox, once there are so many, one text after the other.
    ///
    /// # Panics
    /// When there are not after a while.
    pub fn mails(&self, wanted: usize) -> Vec<String> {
        for _ in 0..400 {
            let text = std::fs::read_to_string(self.path("mbox")).unwrap_or_default();
            let mails: Vec<String> =
                text.split("\nFrom ").map(str::to_owned).filter(|mail| !mail.trim().is_empty()).collect();
            // The last one is whole when its empty line is there.
            if mails.len() >= wanted && text.ends_with("\n\n") {
                return mails;
            }
            pause();
        }
        panic!("{wanted} mails did not come: {}", self.log());
    }
}

impl Drop for Exim {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn own_name() -> String {
    let output = Command::new("id").arg("-un").output().expect("id");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn open(folder: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).expect("scratch");
}

#[allow(clippy::disallowed_methods, reason = "another process is waited for, which tells nobody when it is ready")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

/// A server that means harm, or is old: it greets, and answers each line by the script; without an answer it is silent.
pub struct Scripted {
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// The lines that it got.
    pub heard: std::sync::mpsc::Receiver<String>,
}

impl Scripted {
    /// `answer` gives what is said to a line, line ends included; `None`: nothing, ever. The first "line" is the empty one
    /// that stands for the connection.
    pub fn start(mut answer: impl FnMut(&str) -> Option<String> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("a port").port();
        let (say, heard) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let Ok(reading) = stream.try_clone() else { continue };
                let lines = BufReader::new(reading).lines().map_while(Result::ok);
                for line in std::iter::once(String::new()).chain(lines) {
                    let _ = say.send(line.clone());
                    if let Some(text) = answer(&line)
                        && stream.write_all(text.as_bytes()).is_err()
                    {
                        break;
                    }
                }
            }
        });
        Self { port, heard }
    }
}
