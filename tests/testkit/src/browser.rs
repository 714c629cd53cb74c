//! A real Chromium, driven over its DevTools pipe: what a page asks for, what it shows, what axe-core says of it.
//!
//! Calls wait for their answer without a limit; a browser that hangs is ended with its test.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::lab;

/// What this machine calls its Chromium.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Where `tests/setup` puts axe-core.
fn axe_file() -> PathBuf {
    Path::new(lab::KEPT_PACKAGES).join("axe/axe_playwright_python/axe.min.js")
}

/// Whether this machine has a Chromium and axe-core; when it has not, skips the test as [`lab::require`] does.
pub fn require() -> bool {
    if !NAMES.iter().any(|name| lab::has_program(name)) {
        lab::skip("chromium is missing; run tests/setup");
        return false;
    }
    if !axe_file().exists() {
        lab::skip("axe-core is missing; run tests/setup");
        return false;
    }
    true
}

/// A browser with one page.
pub struct Browser {
    child: Child,
    write: ChildStdin,
    read: BufReader<ChildStdout>,
    session: Option<String>,
    last: u64,
    events: Vec<Value>,
    // Removed once the browser is gone.
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser with an empty page.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start() -> Self {
        let name = NAMES.iter().find(|name| lab::has_program(name)).expect("`require` was asked first");
        let profile = tempfile::Builder::new().prefix("runbook-browser-").tempdir().expect("a temporary folder");
        // The pipe's two ends are descriptors 3 and 4 of the browser.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null", "sh", name])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"])
            .args(["--disable-component-update", "--disable-extensions", "--disable-sync", "--no-first-run"])
            .args(["--disable-dev-shm-usage", "--remote-debugging-pipe", "about:blank"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the browser starts");
        let write = child.stdin.take().expect("it is piped");
        let read = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut browser = Self { child, write, read, session: None, last: 0, events: vec![], _profile: profile };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", &attach);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        assert!(browser.session.is_some(), "{session}");
        for domain in ["Page", "Runtime", "Network"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    /// Shows a page and returns once it is loaded.
    ///
    /// # Panics
    /// When it cannot be shown.
    pub fn open(&mut self, url: &str) {
        self.events.clear();
        let navigated = self.call("Page.navigate", &json!({"url": url}));
        assert!(navigated.get("errorText").is_none(), "{navigated}");
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let message = self.receive();
            self.events.push(message);
        }
    }

    /// Every address that was asked for since the page was opened, the page's own first.
    pub fn requests(&self) -> Vec<String> {
        let asked = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        asked.filter_map(|event| event["params"]["request"]["url"].as_str().map(str::to_owned)).collect()
    }

    /// Those that the page's own policy stopped before they were sent.
    pub fn blocked(&self) -> Vec<String> {
        let failed = self
            .events
            .iter()
            .filter(|event| event["method"] == "Network.loadingFailed" && event["params"]["blockedReason"] == "csp");
        let ids: Vec<&Value> = failed.map(|event| &event["params"]["requestId"]).collect();
        let asked = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        asked
            .filter(|event| ids.contains(&&event["params"]["requestId"]))
            .filter_map(|event| event["params"]["request"]["url"].as_str().map(str::to_owned))
            .collect()
    }

    /// A window of this size, in light or dark.
    pub fn look(&mut self, width: u32, height: u32, dark: bool) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
        let value = if dark { "dark" } else { "light" };
        let feature = json!({"features": [{"name": "prefers-color-scheme", "value": value}]});
        self.call("Emulation.setEmulatedMedia", &feature);
    }

    /// What an expression is in the page; a promise is waited for.
    ///
    /// # Panics
    /// When it throws.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let mut said = self.call("Runtime.evaluate", &asked);
        assert!(said.get("exceptionDetails").is_none(), "{said}");
        said["result"]["value"].take()
    }

    /// What axe-core finds wrong in the page, one line for each: the rule, and where.
    ///
    /// # Panics
    /// When it cannot run there.
    pub fn axe(&mut self) -> Vec<String> {
        let source = std::fs::read_to_string(axe_file()).expect("`require` was asked first");
        self.evaluate(&format!("{source};0"));
        let said = self.evaluate(
            "axe.run().then(r => ({rules: r.passes.length + r.violations.length, wrong: r.violations.flatMap(v => \
             v.nodes.map(n => v.id + ' at ' + n.target.join(' ') + ': ' + n.failureSummary))}))",
        );
        assert!(said["rules"].as_u64() > Some(10), "axe has hardly looked: {said}");
        let wrong = said["wrong"].as_array().expect("a list");
        wrong.iter().filter_map(|line| line.as_str().map(str::to_owned)).collect()
    }

    /// A command of the DevTools protocol.
    ///
    /// # Panics
    /// When the browser is gone or refuses.
    pub fn call(&mut self, method: &str, params: &Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let mut bytes = serde_json::to_vec(&message).expect("JSON");
        bytes.push(0);
        self.write.write_all(&bytes).expect("the browser reads");
        loop {
            let mut message = self.receive();
            if message["id"] == self.last {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].take();
            }
            self.events.push(message);
        }
    }

    fn receive(&mut self) -> Value {
        let mut bytes = Vec::new();
        self.read.read_until(0, &mut bytes).expect("the browser answers");
        assert_eq!(bytes.pop(), Some(0), "the browser is gone");
        serde_json::from_slice(&bytes).expect("JSON")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may be gone already; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
