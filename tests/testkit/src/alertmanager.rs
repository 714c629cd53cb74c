//! A real Alertmanager on this machine alone, and `amtool`, which says what it makes of what we did.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::anchors::Pki;
use crate::lab;

/// The account's name where a login is asked for.
pub const USER: &str = "runbook";
/// Its password.
pub const PASSWORD: &str = "a secret of monitoring";
/// The password's bcrypt.
const HASH: &str = "$2b$04$ruV9cm5zG7.zSM3539owk.utVD8CzO01N0xLgppZLoc6OODmIh8Ne";

/// An Alertmanager.
pub struct Alertmanager {
    folder: TempDir,
    process: Option<Child>,
    port: u16,
    tls: bool,
}

impl Alertmanager {
    /// Starts one that lets everybody in. When there is none on this machine, skips the test as [`lab::require`] does.
    pub fn start() -> Option<Self> {
        Self::with("", false)
    }

    /// One that asks for [`USER`] and [`PASSWORD`], over TLS with the certificate `name`.
    pub fn guarded(pki: &Pki, name: &str) -> Option<Self> {
        let file = |end: &str| pki.path(&format!("{name}.{end}")).display().to_string();
        let web = format!(
            "tls_server_config:\n  cert_file: {}\n  key_file: {}\nbasic_auth_users:\n  {USER}: {HASH}\n",
            file("pem"),
            file("key")
        );
        Self::with(&web, true)
    }

    fn with(web: &str, tls: bool) -> Option<Self> {
        if !lab::require_programs(&["prometheus-alertmanager", "amtool"]) {
            return None;
        }
        let folder = tempfile::tempdir().expect("a scratch folder");
        let config = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n";
        std::fs::write(folder.path().join("config.yml"), config).expect("scratch");
        std::fs::write(folder.path().join("web.yml"), web).expect("scratch");
        let mut started = Self { folder, process: None, port: 0, tls };
        started.begin();
        Some(started)
    }

    /// Starts it, again if need be: on the port that it had, with what it knew.
    ///
    /// # Panics
    /// When it does not listen.
    pub fn begin(&mut self) {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let mut process = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", path("config.yml")))
            .arg(format!("--web.config.file={}", path("web.yml")))
            .arg(format!("--storage.path={}", path("data")))
            .arg(format!("--web.listen-address=127.0.0.1:{}", self.port))
            .arg("--cluster.listen-address=")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("prometheus-alertmanager starts");
        let mut said = BufReader::new(process.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let listens =
            said.by_ref().find_map(|line| line.split_once("\"Listening on\" address=127.0.0.1:")?.1.parse().ok());
        // Nobody else reads it, and it must not stand still for that.
        std::thread::spawn(move || said.for_each(drop));
        self.process = Some(process);
        self.port = listens.expect("it says where it listens");
    }

    /// Ends it; what it knows is kept.
    pub fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            let pid = rustix::process::Pid::from_child(&process);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let _ = process.wait();
        }
    }

    /// Ends it, and it forgets all.
    pub fn forget(&mut self) {
        self.end();
        let _ = std::fs::remove_dir_all(self.folder.path().join("data"));
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", if self.tls { "https" } else { "http" }, self.port)
    }

    /// `amtool` on it; it lets nobody in who needs a login.
    fn amtool(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("amtool");
        command.args(arguments).arg(format!("--alertmanager.url={}", self.url())).arg("--no-version-check");
        let http = self.folder.path().join("http.yml");
        if self.tls {
            let text = format!(
                "basic_auth: {{username: {USER}, password: '{PASSWORD}'}}\ntls_config: {{insecure_skip_verify: true}}\n"
            );
            std::fs::write(&http, text).expect("scratch");
            command.arg(format!("--http.config.file={}", http.display()));
        }
        command.env("HOME", self.folder.path()).stdin(Stdio::null()).output().expect("amtool runs")
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.amtool(&[arguments, &["-o", "json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        let found: Option<Vec<Value>> = serde_json::from_slice(&output.stdout).expect("JSON");
        found.unwrap_or_default()
    }

    /// An alert that fires for an hour.
    ///
    /// # Panics
    /// When it is not taken.
    pub fn fire(&self, labels: &[(&str, &str)]) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        let end = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
        let end = format!("--end={end:.0}");
        let mut arguments = vec!["alert", "add", end.as_str()];
        arguments.extend(labels.iter().map(String::as_str));
        let output = self.amtool(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The values of `label` of the alerts that people are told of.
    pub fn told(&self, label: &str) -> Vec<String> {
        self.alerts(&["alert", "query"], label)
    }

    /// The same for those that are silenced.
    pub fn silenced(&self, label: &str) -> Vec<String> {
        self.alerts(&["alert", "query", "--silenced"], label)
    }

    fn alerts(&self, arguments: &[&str], label: &str) -> Vec<String> {
        let found = self.json(arguments);
        let mut values: Vec<String> =
            found.iter().filter_map(|alert| Some(alert["labels"][label].as_str()?.to_owned())).collect();
        values.sort();
        values
    }

    /// The silences that are in force.
    pub fn silences(&self) -> Vec<Value> {
        self.json(&["silence", "query"])
    }

    /// Those that are over.
    pub fn over(&self) -> Vec<Value> {
        self.json(&["silence", "query", "--expired"])
    }

    /// Ends a silence, as a person does.
    ///
    /// # Panics
    /// When that fails.
    pub fn expire(&self, id: &str) {
        let output = self.amtool(&["silence", "expire", id]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
