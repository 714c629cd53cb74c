//! The real program in a folder of its own, on this machine; on a terminal, if need be.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// What the program said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert!(self.code == Some(code), "exit {:?}, not {code}\n{}\n{}", self.code, self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}\n{}\n{}", self.stdout, self.stderr))
    }
}

/// A folder of its own, with a project in it or not.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn empty() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(place.path("home")).unwrap();
        place
    }

    pub(crate) fn project() -> Self {
        let place = Self::empty();
        place.run(&["init"]).code(0);
        place
    }

    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runbook"));
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env_remove("RUNBOOK_PROJECT")
            .env("XDG_STATE_HOME", self.path("state"))
            .env("HOME", self.path("home"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        let output = self.command(arguments).output().unwrap();
        Said {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), text).unwrap();
    }

    /// The greeting's folder belongs to this test alone.
    pub(crate) fn folder(&self) -> String {
        format!("folder={}", self.path("greeting").display())
    }

    /// Writes a runbook whose change says when it has begun and then waits for the file `go`; starts it, and returns
    /// once it has begun on the host.
    pub(crate) fn start_waiting(&self) -> Child {
        self.start_waiting_with(&[])
    }

    /// The same with these variables.
    pub(crate) fn start_waiting_with(&self, env: &[(&str, &str)]) -> Child {
        let folder = self.0.path().display();
        let text = format!(
            "schema: runbook/v1\nname: waiting\ntargets: {{select: here}}\nexecute:\n  - id: work\n    run: |\n      \
             touch {folder}/changed\n      echo begun > {folder}/begun\n      while [ ! -e {folder}/go ]; do sleep 0.05; \
             done\n    changes: [{folder}/changed]\n    undo: {{run: rm -f {folder}/changed}}\n"
        );
        self.write("runbooks/waiting.yaml", &text);
        assert!(Command::new("mkfifo").arg(self.path("begun")).status().unwrap().success());
        let child = self.start_with("runbooks/waiting.yaml", "work", env);
        assert_eq!(std::fs::read_to_string(self.path("begun")).unwrap(), "begun\n");
        child
    }

    /// Starts `apply` and returns once the start of `step` is on record.
    pub(crate) fn start(&self, runbook: &str, step: &str) -> Child {
        self.start_with(runbook, step, &[])
    }

    fn start_with(&self, runbook: &str, step: &str, env: &[(&str, &str)]) -> Child {
        let mut child = self
            .command(&["apply", runbook, "--json-lines"])
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        // Nobody reads on afterwards: the program must not care.
        let begun = out.lines().map_while(Result::ok).any(|line| {
            let record: Value = serde_json::from_str(&line).unwrap_or_default();
            let event = &record["event"];
            event["type"] == "attempt_started" && event["attempt"]["step"] == step
        });
        if !begun {
            let _ = child.wait();
            panic!("{step} never began");
        }
        child
    }
}

pub(crate) fn step<'a>(run: &'a Value, id: &str) -> &'a Value {
    run["hosts"][0]["steps"].as_array().unwrap().iter().find(|step| step["id"] == id).unwrap()
}

/// A program that runs, and what it says.
pub(crate) struct Running {
    child: Child,
    /// What a person types; on a terminal alone.
    keys: Option<ChildStdin>,
    hear: mpsc::Receiver<Vec<u8>>,
    pub(crate) said: String,
    heard: usize,
}

impl Place {
    /// Starts the program and goes on.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        Running::of(command)
    }

    /// The same under `nohup`.
    pub(crate) fn begin_under_nohup(&self, arguments: &[&str]) -> Running {
        let program = self.command(arguments);
        let mut command = Command::new("nohup");
        command.arg(program.get_program()).args(program.get_args());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.current_dir(self.root()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Running::of(command)
    }

    /// The same, where its standard output is what is heard.
    pub(crate) fn begin_heard(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        Running::of(command)
    }

    /// Starts the program on a terminal of its own, 80 columns wide: `script` holds it, what is typed goes through the
    /// kernel's line discipline, so a Ctrl-C is a real one.
    pub(crate) fn on_a_terminal(&self, arguments: &[&str]) -> Running {
        let program = self.command(arguments);
        let words: Vec<String> = std::iter::once(program.get_program())
            .chain(program.get_args())
            .map(|word| format!("'{}'", word.to_str().unwrap()))
            .collect();
        let line = format!("stty cols 80 rows 24 -echo; exec {}", words.join(" "));
        let mut command = Command::new("script");
        command.args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"]);
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env("TERM", "xterm").env("SHELL", "/bin/sh").current_dir(self.root());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        Running::of(command)
    }
}

impl Running {
    fn of(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let keys = child.stdin.take();
        let (say, hear) = mpsc::channel();
        let out = child.stdout.take().map(|out| Box::new(out) as Box<dyn std::io::Read + Send>);
        let err = child.stderr.take().map(|err| Box::new(err) as Box<dyn std::io::Read + Send>);
        let mut stream = out.or(err).expect("one of them is a pipe");
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = stream.read(&mut piece) {
                // Nobody listens any more once the test has ended.
                let _ = say.send(piece[..n].to_vec());
            }
        });
        Self { child, keys, hear, said: String::new(), heard: 0 }
    }

    /// Waits until it has said `text`, after what was waited for last.
    #[track_caller]
    pub(crate) fn hear(&mut self, text: &str) {
        loop {
            if let Some(at) = self.said[self.heard..].find(text) {
                self.heard += at + text.len();
                return;
            }
            match self.hear.recv_timeout(Duration::from_secs(120)) {
                Ok(bytes) => self.said.push_str(&String::from_utf8_lossy(&bytes)),
                Err(error) => panic!("`{text}` was not said ({error}): {}", self.said),
            }
        }
    }

    /// Types on its terminal.
    pub(crate) fn types(&mut self, keys: &str) {
        self.keys.as_mut().expect("it runs on a terminal").write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn code(mut self) -> (Option<i32>, String) {
        // A terminal is held open until then.
        let keys = self.keys.take();
        let code = self.child.wait().unwrap().code();
        drop(keys);
        while let Ok(bytes) = self.hear.recv() {
            self.said.push_str(&String::from_utf8_lossy(&bytes));
        }
        (code, std::mem::take(&mut self.said))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
