//! Those outside who are given the ledger's heads, for real and on this machine alone: a time stamp authority of `openssl
//! ts`, a collector that is rsyslog with TLS, and servers that mean harm.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use async_trait::async_trait;
use runbook_ledger::tree::{Frontier, leaf_hash};
use runbook_ledger::{Checkpoint, FileKey, VerifierKey, proof};
use runbook_model::Sha256;
use runbook_ports::anchor::{History, SignedHead};
use tempfile::TempDir;

/// Runs a program that must succeed.
fn must(program: &str, arguments: &[&str], folder: &Path) -> Vec<u8> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program} is here (tests/setup): {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A certification authority, and what it certifies. Files are PEM: `ca.pem`, `NAME.pem`, `NAME.key`.
pub struct Pki(TempDir);

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

impl Pki {
    /// A new authority.
    pub fn new() -> Self {
        let pki = Self(tempfile::tempdir().expect("a scratch folder"));
        let arguments =
            ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"];
        let more = ["-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=the test's authority"];
        must("openssl", &[&arguments[..], &more].concat(), pki.folder());
        pki
    }

    /// Where the files are.
    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    /// A file's path.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Certifies a new key. `days` may be negative: then it was never valid.
    pub fn certify(&self, name: &str, extensions: &str, days: i32) {
        let (key, request, certificate) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        let subject = format!("/CN={name}");
        let arguments = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", &key];
        must("openssl", &[&arguments[..], &["-out", &request, "-subj", &subject]].concat(), self.folder());
        std::fs::write(self.path("extensions"), format!("{extensions}\n")).expect("scratch");
        let days = days.to_string();
        let arguments = ["x509", "-req", "-in", &request, "-CA", "ca.pem", "-CAkey", "ca.key", "-out", &certificate];
        let more = ["-days", &days, "-extfile", "extensions"];
        must("openssl", &[&arguments[..], &more].concat(), self.folder());
    }

    /// A server's certificate, for 127.0.0.1 and localhost.
    pub fn certify_server(&self, name: &str) {
        self.certify(name, "subjectAltName=DNS:localhost,IP:127.0.0.1", 30);
    }
}

/// What a server answers to a request.
pub enum Answer {
    /// A whole answer: status with its words, content type, body.
    Whole(&'static str, &'static str, Vec<u8>),
    /// The head of one, and a body without end.
    Endless(&'static str),
    /// Nothing, for as long as the other side waits.
    Silence,
    /// These bytes, and the end.
    Bytes(&'static [u8]),
}

/// An HTTP server in a thread of its own, for as long as the test lives. It takes one connection after the other.
pub struct Server {
    /// `http://127.0.0.1:PORT`
    pub url: String,
}

impl Server {
    /// Answers each request's body as `answer` says.
    pub fn start(mut answer: impl FnMut(Vec<u8>) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("a port"));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // A peer that goes away in the middle is the test's business.
                let _ = Self::exchange(stream, &mut answer);
            }
        });
        Self { url }
    }

    /// Nobody listens there.
    pub fn nobody() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        format!("http://{}", listener.local_addr().expect("a port"))
    }

    fn exchange(mut stream: TcpStream, answer: &mut impl FnMut(Vec<u8>) -> Answer) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap_or(0);
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        match answer(body) {
            Answer::Whole(status, content_type, body) => {
                let length = body.len();
                write!(
                    stream,
                    "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n"
                )?;
                stream.write_all(&body)
            }
            Answer::Endless(content_type) => {
                write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n\r\n")?;
                loop {
                    stream.write_all(&[b'x'; 4096])?;
                }
            }
            Answer::Silence => {
                // Until the other side gives up.
                std::io::copy(&mut reader, &mut std::io::sink()).map(|_| ())
            }
            Answer::Bytes(bytes) => stream.write_all(bytes),
        }
    }
}

/// A time stamp authority: `openssl ts -reply` with a certificate of the test's own.
#[derive(Clone)]
pub struct Tsa {
    folder: PathBuf,
    section: String,
}

impl Tsa {
    /// Its certificate lasts `days`.
    pub fn new(pki: &Pki, name: &str, days: i32) -> Self {
        pki.certify(name, "extendedKeyUsage=critical,timeStamping", days);
        let folder = pki.folder().to_owned();
        let base = folder.display();
        // A missing key is an error to the later versions, a remark to the earlier ones.
        let text = format!(
            "[{name}]\nserial={base}/{name}.serial\nsigner_cert={base}/{name}.pem\ncerts={base}/ca.pem\n\
             signer_key={base}/{name}.key\nsigner_digest=sha256\ndefault_policy=1.2.3.4.1\ndigests=sha1,sha256\n\
             ess_cert_id_alg=sha256\n"
        );
        std::fs::write(pki.path(&format!("{name}.cnf")), text).expect("scratch");
        Self { folder, section: name.to_owned() }
    }

    /// The answer (DER) to a request.
    pub fn reply(&self, query: &[u8]) -> Vec<u8> {
        let folder = tempfile::tempdir().expect("a scratch folder");
        std::fs::write(folder.path().join("query"), query).expect("scratch");
        let config = self.folder.join(format!("{}.cnf", self.section));
        let config = config.to_str().expect("UTF-8");
        let arguments = ["ts", "-reply", "-queryfile", "query", "-out", "reply", "-config", config];
        // With a section named, it needs none of the file's own defaults.
        must("openssl", &[&arguments[..], &["-section", &self.section]].concat(), folder.path());
        std::fs::read(folder.path().join("reply")).expect("scratch")
    }

    /// A request (DER) for these bytes with this digest, such as `-sha256`.
    pub fn query(bytes: &[u8], digest: &str) -> Vec<u8> {
        let folder = tempfile::tempdir().expect("a scratch folder");
        std::fs::write(folder.path().join("data"), bytes).expect("scratch");
        must("openssl", &["ts", "-query", "-data", "data", digest, "-cert", "-out", "query"], folder.path());
        std::fs::read(folder.path().join("query")).expect("scratch")
    }

    /// Serves it.
    pub fn serve(&self) -> Server {
        let own = self.clone();
        Server::start(move |query| Self::answer(own.reply(&query)))
    }

    /// A response, over HTTP.
    pub fn answer(response: Vec<u8>) -> Answer {
        Answer::Whole("200 OK", "application/timestamp-reply", response)
    }
}

/// rsyslogd with an input that speaks TLS, as syslog collectors are.
pub struct Rsyslog {
    daemon: Child,
    /// Its port on 127.0.0.1.
    pub port: u16,
    messages: mpsc::Receiver<String>,
    _folder: TempDir,
}

impl Rsyslog {
    /// Starts it with the certificate `name` of `pki`; with `clients`, it takes messages only from those with a certificate
    /// of the same authority.
    pub fn start(pki: &Pki, name: &str, clients: bool) -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let base = folder.path().display();
        must("mkfifo", &["port"], folder.path());
        let (ca, certificate, key) =
            (pki.path("ca.pem"), pki.path(&format!("{name}.pem")), pki.path(&format!("{name}.key")));
        let mode = if clients { "x509/certvalid" } else { "anon" };
        let text = format!(
            "global(workDirectory=\"{base}\" DefaultNetstreamDriver=\"gtls\" DefaultNetstreamDriverCAFile=\"{}\" \
             DefaultNetstreamDriverCertFile=\"{}\" DefaultNetstreamDriverKeyFile=\"{}\" maxMessageSize=\"64k\")\n\
             module(load=\"imtcp\" StreamDriver.Name=\"gtls\" StreamDriver.Mode=\"1\" StreamDriver.AuthMode=\"{mode}\")\n\
             template(name=\"raw\" type=\"string\" string=\"%rawmsg%\\n\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"0\" listenPortFileName=\"{base}/port\")\n\
             action(type=\"omfile\" file=\"/dev/stdout\" template=\"raw\")\n",
            ca.display(),
            certificate.display(),
            key.display()
        );
        std::fs::write(folder.path().join("conf"), text).expect("scratch");
        let mut daemon = Command::new("/usr/sbin/rsyslogd")
            .args(["-n", "-f", "conf", "-i"])
            .arg(folder.path().join("pid"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("rsyslogd is here (tests/setup)");
        let port = std::fs::read_to_string(folder.path().join("port")).expect("a pipe");
        let port: u16 = port.trim().parse().expect("a port");
        // It tells the port before it listens.
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(daemon.try_wait().expect("our child").is_none(), "rsyslogd ended: see its configuration");
            std::thread::yield_now();
        }
        let out = BufReader::new(daemon.stdout.take().expect("a pipe"));
        let (say, messages) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = say.send(line);
            }
        });
        Self { daemon, port, messages, _folder: folder }
    }

    /// The next message of ours that it took; waits for it. What it says of itself is passed over.
    pub fn message(&self) -> String {
        loop {
            let line = self.messages.recv_timeout(Duration::from_secs(30)).expect("a message arrives");
            if line.starts_with("<109>") {
                return line;
            }
        }
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}

/// A ledger of `size` records with its key, as anchors see it.
pub struct Ledger {
    /// Its private key.
    pub secret: FileKey,
    /// Its public key.
    pub key: VerifierKey,
    leaves: Vec<Sha256>,
}

impl Ledger {
    /// Records are told apart by `salt`: two ledgers with other salts from a record on are forks of each other.
    pub fn new(size: u64, salt: impl Fn(u64) -> u8) -> Self {
        let secret = FileKey::from_seed([7; 32]);
        let key = VerifierKey::new("runbook-test", &secret.public_key()).expect("a name");
        let leaves = (0..size).map(|seq| leaf_hash(&[&seq.to_be_bytes()[..], &[salt(seq)]].concat())).collect();
        Self { secret, key, leaves }
    }

    fn root_of(&self, size: u64) -> Sha256 {
        let mut tree = Frontier::new();
        self.leaves[..usize::try_from(size).expect("small")].iter().for_each(|leaf| tree.push(*leaf));
        tree.root()
    }

    /// The signed head of the first `size` records.
    pub fn head(&self, size: u64) -> SignedHead {
        let head = Checkpoint { origin: self.key.name().to_owned(), size, root: self.root_of(size) };
        let note = head.sign(None, &self.key, |bytes| Ok(self.secret.sign(bytes))).expect("signed");
        SignedHead { origin: head.origin, size, root: head.root, note }
    }
}

#[async_trait]
impl History for Ledger {
    async fn root(&self, size: u64) -> Result<Sha256, String> {
        if size > self.leaves.len() as u64 {
            return Err("there are not so many".into());
        }
        Ok(self.root_of(size))
    }

    async fn consistency(&self, smaller: u64, larger: u64) -> Result<Vec<Sha256>, String> {
        let leaves = self.leaves.get(..usize::try_from(larger).expect("small")).ok_or("there are not so many")?;
        proof::consistency(leaves, usize::try_from(smaller).expect("small")).ok_or_else(|| "no proof".into())
    }
}
