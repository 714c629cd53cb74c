//! Doubles of systems outside (`tests/doubles`), and third parties' clients with which these are judged.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::lab;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../doubles")
}

/// The Python with the clients of `tests/judges.txt` (pynetbox, pysnow, jira, py-trello, jira820). When it is missing, skips
/// the test as [`lab::require`] does.
pub fn judges() -> Option<PathBuf> {
    let folder = Path::new(lab::KEPT_PACKAGES).join("judges");
    if !folder.join("installed.txt").exists() {
        lab::skip("the judges of the doubles are missing; run tests/setup");
        return None;
    }
    Some(folder.join("bin/python3"))
}

/// Runs a script with the Python of [`judges`]; gives what it printed.
///
/// # Panics
/// When the script fails: then its last words are told.
pub fn judge(python: &Path, script: &str, arguments: &[&str]) -> String {
    let output = Command::new(python)
        .args(["-W", "error::UserWarning:__main__", "-c", script])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the judges' Python starts");
    assert!(output.status.success(), "the judge says no:\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A double that runs. It ends with this, and with the test's process however that ends.
pub struct Double {
    process: Child,
    orders: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    url: String,
    _seed: TempDir,
}

impl Double {
    /// Starts `tests/doubles/NAME.py` with `seed` (what it holds is written there). When there is no Python, skips the test as
    /// [`lab::require`] does.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(name: &str, seed: &Value) -> Option<Self> {
        if !lab::require_programs(&["python3"]) {
            return None;
        }
        let place = tempfile::tempdir().expect("a scratch folder");
        let file = place.path().join("seed.json");
        std::fs::write(&file, seed.to_string()).expect("scratch");
        let mut process = Command::new("python3")
            .arg("-B")
            .arg(folder().join(format!("{name}.py")))
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let orders = process.stdin.take().expect("a pipe");
        let mut answers = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut line = String::new();
        let read = answers.read_line(&mut line).expect("the double says where it is");
        assert!(read > 0, "the double {name} did not start");
        let told: Value = serde_json::from_str(&line).expect("the double says where it is");
        let url = told["url"].as_str().expect("a URL").to_owned();
        Some(Self { process, orders: Mutex::new((orders, answers)), url, _seed: place })
    }

    /// Where it is: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `127.0.0.1:PORT`.
    pub fn authority(&self) -> &str {
        self.url.split_once("://").map_or(&*self.url, |(_, authority)| authority)
    }

    /// Gives it an order (`{"do": …}`, see its head); what it answers.
    ///
    /// # Panics
    /// When it cannot do it.
    pub fn tell(&self, order: &Value) -> Value {
        let mut pipes = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let (orders, answers) = &mut *pipes;
        writeln!(orders, "{order}").and_then(|()| orders.flush()).expect("the double runs");
        let mut line = String::new();
        answers.read_line(&mut line).expect("the double answers");
        let answer: Value = serde_json::from_str(&line).expect("the double answers in JSON");
        assert!(answer.get("wrong").is_none(), "the double cannot {order}: {answer}");
        answer
    }

    /// Answers to come are spoiled: `{"fault": NAME, "times": 1, …}`.
    pub fn misbehave(&self, fault: Value) {
        let mut order = fault;
        order["do"] = json!("misbehave");
        self.tell(&order);
    }

    /// Answers are good again.
    pub fn behave(&self) {
        self.tell(&json!({"do": "behave"}));
    }

    /// All that was asked so far: `method`, `target`, the kind of `authorization` and `user_agent`.
    pub fn requests(&self) -> Vec<Value> {
        self.tell(&json!({"do": "requests"})).as_array().cloned().unwrap_or_default()
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
