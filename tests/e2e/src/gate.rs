//! Gates on lab hosts: a step stops at one until the test has seen it there and lets it through. So a test knows where
//! a run is without asking again and again.

use std::io::{Read as _, Write as _};
use std::sync::mpsc;
use std::time::Duration;

use runbook_testkit::lab::LabHost;

use crate::program::Running;

// Nothing in these tests takes as long on a machine that works at all.
const PATIENCE_SECONDS: u32 = 120;

/// A gate on a host.
pub struct Gate<'a> {
    host: &'a LabHost,
    name: String,
}

impl<'a> Gate<'a> {
    /// A closed gate.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new(host: &'a LabHost, name: &str) -> Self {
        host.sh(&format!(
            "mkdir -p /srv/gates; chmod 755 /srv/gates; cd /srv/gates
             mkfifo {name}.arrived {name}.open; chmod 666 {name}.*; : >{name}.count; chmod 666 {name}.count"
        ));
        Self { host, name: name.to_owned() }
    }

    /// The lines of a step that stops at the gate, and counts who came.
    pub fn text(name: &str) -> String {
        format!("echo came >>/srv/gates/{name}.count; echo came >/srv/gates/{name}.arrived; cat /srv/gates/{name}.open")
    }

    /// Waits until a step stands at the gate.
    ///
    /// # Panics
    /// When none comes, with what the program said meanwhile.
    pub fn wait_for(&self, mut running: Running) -> Running {
        let (say, hear) = mpsc::channel();
        let path = self.host.path(&format!("/srv/gates/{}.arrived", self.name));
        std::thread::spawn(move || {
            let mut text = String::new();
            let came = std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text));
            // Nobody listens any more when the test has given up.
            let _ = say.send(came.is_ok() && text.starts_with("came"));
        });
        for _ in 0..PATIENCE_SECONDS {
            match hear.recv_timeout(Duration::from_secs(1)) {
                Ok(true) => return running,
                Ok(false) => break,
                Err(_) if running.has_ended() => break,
                Err(_) => {}
            }
        }
        panic!("no step came to the gate {}: {:?}", self.name, running.stop());
    }

    /// Lets one step through.
    ///
    /// # Panics
    /// When none stands there.
    pub fn open(&self) {
        let path = self.host.path(&format!("/srv/gates/{}.open", self.name));
        let mut file = std::fs::OpenOptions::new().write(true).open(path).expect("a step stands at the gate");
        file.write_all(b"go\n").expect("a step stands at the gate");
    }

    /// How often a step came to it.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn arrivals(&self) -> usize {
        let path = self.host.path(&format!("/srv/gates/{}.count", self.name));
        std::fs::read_to_string(path).expect("a gate counts").lines().count()
    }
}
