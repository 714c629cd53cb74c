//! The program under test: a process whose records are followed as they become durable.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::Error;

/// A program that says nothing for so long hangs. Longer than anything that a run here waits for.
const PATIENCE: Duration = Duration::from_secs(240);

/// Where and how the program is started.
#[derive(Debug, Clone, Copy)]
pub struct Desk<'a> {
    /// The program's file.
    pub program: &'a Path,
    /// The project's folder.
    pub project: &'a Path,
}

/// How the program ended.
#[derive(Debug, Clone)]
pub struct Said {
    /// Its exit code; `None`: it was killed.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
}

impl Desk<'_> {
    fn command(&self, arguments: &[&str], env: &[(&str, &str)]) -> Command {
        let mut command = Command::new(self.program);
        command
            .args(arguments)
            .current_dir(self.project)
            .env_remove("RUNBOOK_PROJECT")
            .env_remove(crate::mortal::VARIABLE)
            .env("XDG_STATE_HOME", self.project.join("state"))
            .env("NO_COLOR", "1")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn ask(&self, arguments: &[&str]) -> Result<Said, Error> {
        let output = self.command(arguments, &[]).output().map_err(Error::io("starting the program"))?;
        Ok(Said {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Starts it. Its standard output must be lines of JSON.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, arguments: &[&str], env: &[(&str, &str)]) -> Result<Controller, Error> {
        let mut child = self.command(arguments, env).spawn().map_err(Error::io("starting the program"))?;
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut stderr = child.stderr.take().expect("a pipe");
        let (say, records) = mpsc::channel();
        std::thread::spawn(move || {
            // A killed program may leave half a line.
            for record in stdout.lines().map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok()) {
                if say.send(record).is_err() {
                    break;
                }
            }
        });
        let errors = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was read before an error is what there is.
            let _ = stderr.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Ok(Controller { child, records, errors: Some(errors), lately: VecDeque::new() })
    }
}

/// A running program.
pub struct Controller {
    child: Child,
    records: Receiver<Value>,
    errors: Option<JoinHandle<String>>,
    // For people: the last records before it hung or failed.
    lately: VecDeque<String>,
}

impl Controller {
    /// Waits for a record of which `wanted` is true. False: it has ended without one.
    ///
    /// # Errors
    /// When it hangs.
    pub fn wait_for(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<bool, Error> {
        loop {
            match self.records.recv_timeout(PATIENCE) {
                Ok(record) => {
                    if self.lately.len() == 12 {
                        self.lately.pop_front();
                    }
                    self.lately.push_back(record["event"].to_string());
                    if wanted(&record) {
                        return Ok(true);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
                Err(RecvTimeoutError::Timeout) => {
                    let lately = self.lately.iter().cloned().collect::<Vec<_>>().join("\n");
                    return Err(Error::Hangs(lately));
                }
            }
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it hangs.
    pub fn end(mut self) -> Result<Said, Error> {
        self.wait_for(|_| false)?;
        let status = self.child.wait().map_err(Error::io("waiting for the program"))?;
        let stderr = self.errors.take().and_then(|errors| errors.join().ok()).unwrap_or_default();
        Ok(Said { code: status.code(), stdout: Vec::new(), stderr })
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // It has ended already, unless the trial was given up.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
