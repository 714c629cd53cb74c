//! The real program, in a project of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use runbook_testkit::bad_disk::{BadDisk, Failure};
use runbook_testkit::lab::Lab;
use serde_json::Value;
use tempfile::TempDir;

/// The program that `cargo build -p runbook-cli` made, beside the tests. Built when it is not there.
///
/// # Panics
/// When it cannot be built.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a file");
    // target/debug/deps/TEST
    let folder = test.ancestors().nth(2).expect("tests are in target/PROFILE/deps");
    let program = folder.join("runbook");
    if !program.exists() {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "-p", "runbook-cli", "--target-dir"])
            .arg(folder.parent().expect("a target folder"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo starts");
        assert!(built.success() && program.exists(), "the program cannot be built");
    }
    program
}

/// What the program said, and how it ended.
#[derive(Debug, Clone)]
pub struct Said {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Said {
    /// That it ended with `code`.
    ///
    /// # Panics
    /// When not, with all that it said.
    #[track_caller]
    pub fn expect_code(&self, code: i32) -> &Self {
        assert!(
            self.code == Some(code),
            "exit {:?} instead of {code}\n--- stdout\n{}\n--- stderr\n{}",
            self.code,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Its standard output as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A project in a temporary folder.
pub struct Project {
    folder: TempDir,
}

impl Project {
    /// An empty folder: no project yet.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn empty() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// A project with the lab's hosts.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn with_lab(lab: &Lab) -> Self {
        let project = Self::empty();
        lab.write_project(project.path()).expect("the project can be written");
        project
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file of it.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder can be made");
        std::fs::write(path, text).expect("a file can be written");
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .current_dir(self.path())
            .env_remove("RUNBOOK_PROJECT")
            .env("XDG_STATE_HOME", self.path().join("state"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Said {
        self.run_with(arguments, &[])
    }

    /// The same with more environment.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run_with(&self, arguments: &[&str], env: &[(&str, &str)]) -> Said {
        let output = self.command(arguments).envs(env.iter().copied()).output().expect("the program starts");
        Said {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The same on a disk that fails: files below the folder `below` of the project cannot be written as told.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run_on(&self, disk: &BadDisk, below: &str, failure: Failure, arguments: &[&str]) -> Said {
        let mut command = self.command(arguments);
        disk.under(&mut command, &self.path().join(below), failure);
        let output = command.output().expect("the program starts");
        Said {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts the program and goes on.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(&self, arguments: &[&str]) -> Running {
        self.start_with(arguments, &[])
    }

    /// The same with more environment.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_with(&self, arguments: &[&str], env: &[(&str, &str)]) -> Running {
        let mut child = self.command(arguments).envs(env.iter().copied()).spawn().expect("the program starts");
        let (say, hear) = mpsc::channel();
        let stdout = collect(child.stdout.take().expect("a pipe"), say.clone());
        let stderr = collect(child.stderr.take().expect("a pipe"), say);
        Running { child, hear, heard: String::new(), streams: Some((stdout, stderr)) }
    }

    /// `show last --json`.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn last(&self) -> Value {
        self.run(&["show", "last", "--json"]).expect_code(0).json()
    }

    /// The outcomes of the last run: its own, then each host's by name.
    ///
    /// # Panics
    /// When they cannot be shown.
    #[track_caller]
    pub fn outcomes(&self) -> String {
        let run = self.last();
        let mut hosts: Vec<String> = run["hosts"]
            .as_array()
            .expect("a list of hosts")
            .iter()
            .map(|host| format!("{}={}", host["name"].as_str().unwrap_or("?"), host["outcome"].as_str().unwrap_or("?")))
            .collect();
        hosts.sort();
        format!("{} {}", run["outcome"].as_str().unwrap_or("?"), hosts.join(" "))
    }
}

/// A program that runs.
pub struct Running {
    child: Child,
    hear: mpsc::Receiver<String>,
    /// What it said and no test has waited for yet.
    heard: String,
    streams: Option<(JoinHandle<String>, JoinHandle<String>)>,
}

impl Running {
    /// Sends it a signal, by name.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "the program has ended already");
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has said something that contains `text`, on standard output or standard error, after what was waited
    /// for last.
    ///
    /// # Panics
    /// When it ends without, or says nothing for two minutes.
    #[track_caller]
    pub fn hear(&mut self, text: &str) {
        loop {
            if let Some(at) = self.heard.find(text) {
                self.heard.drain(..at + text.len());
                return;
            }
            match self.hear.recv_timeout(Duration::from_secs(120)) {
                Ok(said) => self.heard.push_str(&said),
                Err(error) => panic!("`{text}` was not said ({error}): {}", self.heard),
            }
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn wait(mut self) -> Said {
        let status = self.child.wait().expect("it can be waited for");
        let (stdout, stderr) = self.streams.take().expect("taken once");
        Said {
            code: status.code(),
            stdout: stdout.join().expect("it is read"),
            stderr: stderr.join().expect("it is read"),
        }
    }

    /// Whether it has ended.
    ///
    /// # Panics
    /// When nobody can tell.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it can be asked").is_some()
    }

    /// Ends it if it has not ended already, and gives what it said.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn stop(mut self) -> Said {
        // It may have ended by itself.
        let _ = self.child.kill();
        self.wait()
    }

    /// Kills it, as a crash does.
    ///
    /// # Panics
    /// When it had ended already.
    pub fn crash(self) -> Said {
        self.signal("KILL");
        self.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(mut stream: impl std::io::Read + Send + 'static, say: mpsc::Sender<String>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut piece = [0; 4096];
        // What was read before an error is what there is.
        while let Ok(n @ 1..) = stream.read(&mut piece) {
            bytes.extend_from_slice(&piece[..n]);
            // Nobody listens any more once the test only waits for the end.
            let _ = say.send(String::from_utf8_lossy(&piece[..n]).into_owned());
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
