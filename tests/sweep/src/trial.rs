//! One point, carried out.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::Error;
use crate::controller::{Controller, Desk, Said};
use crate::field::{Before, Field, HOSTS};
use crate::laws;
use crate::mortal;
use crate::point::{Fault, Point, Side, Variant};
use crate::script::{self, STEPS};

/// A run that is taken up more often than this does not get on.
const LIVES_MAX: u32 = 200;

/// What came of a point.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The point.
    pub point: Point,
    /// The exit code of the program that ended the run; 7 when it first called it unknown.
    pub code: i32,
    /// The fault really happened: the record was reached, the step came to its gate.
    pub reached: bool,
    /// How many processes worked on the run.
    pub lives: u32,
    /// An outcome was unknown on the way, and said to be.
    pub unknown: bool,
    /// Which laws were broken. Empty: none.
    pub broken: Vec<String>,
    /// The project, kept for people when a law was broken.
    pub kept: Option<PathBuf>,
}

impl Verdict {
    /// Of a point that could not be tried.
    pub fn untried(point: Point, error: &Error) -> Self {
        Self {
            point,
            code: -1,
            reached: false,
            lives: 0,
            unknown: false,
            broken: vec![format!("not tried: {error}")],
            kept: None,
        }
    }

    /// It ended at once as it should have, and everything holds.
    pub fn as_without(&self) -> bool {
        self.broken.is_empty() && !self.unknown
    }
}

/// A run without any fault: which records went into which append, each as the first and the one behind the last.
/// Nobody can die between two records of one append.
pub type Appends = Vec<(u64, u64)>;

/// A project and everything that one trial needs.
pub struct Trial<'a> {
    field: &'a mut Field,
    program: &'a Path,
    project: TempDir,
    before: Before,
}

impl<'a> Trial<'a> {
    /// A new project, and hosts on which nothing has happened.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn new(field: &'a mut Field, program: &'a Path) -> Result<Self, Error> {
        let project = tempfile::tempdir().map_err(Error::io("making a project"))?;
        field.lab().write_project(project.path())?;
        let path = project.path().join("runbooks/sweep.yaml");
        std::fs::write(&path, script::RUNBOOK).map_err(Error::io("writing the runbook"))?;
        let before = field.reset();
        Ok(Self { field, program, project, before })
    }

    /// The program in the project.
    pub fn desk(&self) -> Desk<'_> {
        Desk { program: self.program, project: self.project.path() }
    }

    /// The hosts.
    pub fn field(&self) -> &Field {
        self.field
    }

    /// Which processes were on the hosts before.
    pub fn before(&self) -> &Before {
        &self.before
    }

    fn apply(&self, variant: Variant, env: &[(&str, &str)]) -> Result<Controller, Error> {
        let spoilt = match variant {
            Variant::Good => "spoilt=nobody",
            Variant::Bad => "spoilt=fs02",
        };
        self.desk().start(&["apply", "runbooks/sweep.yaml", "--yes", "--json-lines", "-p", spoilt], env)
    }

    /// Takes the run up again after a death; begins it when nothing was recorded.
    fn take_up(&self, variant: Variant, env: &[(&str, &str)]) -> Result<Said, Error> {
        let runs = self.desk().ask(&["runs", "--json"])?;
        let listed: Value = serde_json::from_slice(&runs.stdout).unwrap_or_default();
        if listed["runs"].as_array().is_none_or(Vec::is_empty) {
            return self.apply(variant, env)?.end();
        }
        self.desk().start(&["resume", "last", "--json-lines"], env)?.end()
    }

    /// The run without any fault.
    ///
    /// # Errors
    /// When it cannot be carried out.
    ///
    /// # Panics
    /// When it breaks a law: then the points prove nothing.
    pub fn reference(self, variant: Variant) -> Result<Appends, Error> {
        let file = self.project.path().join("appends");
        let said = self.apply(variant, &[(mortal::APPENDS, &file.display().to_string())])?.end()?;
        let code = said.code.unwrap_or(-1);
        let expected = expected(variant);
        assert!(code == expected, "without any fault it ends with {code}, not {expected}:\n{}", said.stderr);
        let broken = laws::broken(&self, code, false, Allowed::default())?;
        assert!(broken.is_empty(), "without any fault these laws are broken: {broken:#?}");
        let text = std::fs::read_to_string(&file).map_err(Error::io("reading what was appended"))?;
        let appends: Appends = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(first, end)| Some((first.parse().ok()?, end.parse().ok()?)))
            .collect();
        let shown = self.desk().ask(&["show", "last", "--json"])?;
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap_or_default();
        let records = shown["ledger"]["size"].as_u64();
        assert!(appends.len() > 20 && appends.last().map(|(_, end)| *end) == records, "{records:?} in {appends:?}");
        Ok(appends)
    }

    /// The point, with its fault.
    ///
    /// # Errors
    /// When it could not be carried out; what came of the run is then not known.
    pub fn carry_out(mut self, point: Point) -> Result<Verdict, Error> {
        let variant = point.variant();
        let (mut said, reached, allowed) = match point {
            Point::Kill(_, side, record) => {
                let side = match side {
                    Side::Before => "before",
                    Side::After => "after",
                };
                let death = format!("{side} {record}");
                let said = self.apply(variant, &[(mortal::VARIABLE, &death)])?.end()?;
                let reached = said.code.is_none();
                (said, reached, Allowed::default())
            }
            Point::Lives(_, appends) => {
                let death = format!("each {appends}");
                let said = self.apply(variant, &[(mortal::VARIABLE, &death)])?.end()?;
                let reached = said.code.is_none();
                (said, reached, Allowed::default())
            }
            Point::Fault(fault, step) => {
                let said = self.suffer(fault, STEPS[step])?;
                (said, true, Allowed::of(fault, STEPS[step]))
            }
        };
        let mut lives = 1;
        while said.code.is_none() && lives < LIVES_MAX {
            lives += 1;
            said = match point {
                Point::Lives(_, appends) => self.take_up(variant, &[(mortal::VARIABLE, &format!("each {appends}"))])?,
                _ => self.take_up(variant, &[])?,
            };
        }
        let mut code = said.code.unwrap_or(-1);
        let mut ended_before = false;
        // Killed behind its last record, it has nothing left to resume.
        if code == 2 && said.stderr.contains("has ended") {
            code = laws::recorded_code(&self)?;
            ended_before = true;
        }
        let unknown = code == 7;
        if unknown {
            // What an operator does first.
            said = self.take_up(variant, &[])?;
            lives += 1;
            code = said.code.unwrap_or(-1);
        }
        let expected = allowed.code.unwrap_or_else(|| expected(variant));
        let allowed = Allowed { left: ended_before, ..allowed };
        let mut broken = laws::broken(&self, code, unknown, allowed)?;
        if code != expected && code != 7 {
            let last: Vec<&str> = said.stderr.lines().rev().take(30).collect();
            let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
            broken.insert(0, format!("it ends with {code}, and without the fault with {expected}:\n{last}"));
        }
        let kept = (!broken.is_empty()).then(|| self.project.keep());
        Ok(Verdict { point, code: if unknown { 7 } else { code }, reached, lives, unknown, broken, kept })
    }

    /// Lets something happen in the middle of a step.
    fn suffer(&mut self, fault: Fault, step: &str) -> Result<Said, Error> {
        let clock = self.project.path().join("clock");
        let fake = fake_time();
        let clock_name = clock.display().to_string();
        let mut env: Vec<(&str, &str)> = Vec::new();
        let own_clock = |text: &str| std::fs::write(&clock, text).map_err(Error::io("stepping the program's clock"));
        match fault {
            Fault::OwnAhead | Fault::OwnBehind => {
                own_clock("+0\n")?;
                let fake = fake.to_str().unwrap_or_default();
                env = vec![
                    ("LD_PRELOAD", fake),
                    ("FAKETIME_TIMESTAMP_FILE", &clock_name),
                    ("FAKETIME_NO_CACHE", "1"),
                    ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
                ];
            }
            Fault::HostAhead | Fault::HostBehind => self.field.first().step_clock(0),
            _ => {}
        }
        self.field.close_gate(step);
        let mut controller = self.apply(Variant::Good, &env)?;
        if let Err(error) = self.field.wait_at_gate(step) {
            drop(controller);
            return Err(error);
        }
        let host = self.field.first();
        match fault {
            Fault::Cut => {
                host.cut_link()?;
                self.pass(step)?;
                self.field.first().mend_link()?;
            }
            Fault::Lost => {
                host.cut_link()?;
                self.pass(step)?;
                let lost = controller.wait_for(is_lost)?;
                self.field.first().mend_link()?;
                must_be_lost(lost)?;
            }
            Fault::Closed => {
                host.kill_connections();
                self.pass(step)?;
            }
            Fault::Reset => {
                host.reset_connections()?;
                self.pass(step)?;
            }
            Fault::Frozen => {
                host.freeze_sshd();
                self.pass(step)?;
                self.field.first().thaw_sshd();
            }
            Fault::FrozenLong => {
                host.freeze_sshd();
                self.pass(step)?;
                let lost = controller.wait_for(is_lost)?;
                self.field.first().thaw_sshd();
                must_be_lost(lost)?;
            }
            Fault::Paused => {
                host.pause();
                let lost = controller.wait_for(is_lost)?;
                self.field.first().go_on();
                must_be_lost(lost)?;
                self.pass(step)?;
            }
            Fault::Full => {
                host.fill_disk();
                self.field.open_gate(step)?;
                let name = step.to_owned();
                controller.wait_for(move |record| {
                    let event = &record["event"];
                    event["type"] == "attempt_ended"
                        && event["attempt"]["step"] == name.as_str()
                        && event["attempt"]["host"] == HOSTS[0]
                })?;
                self.field.first().empty_disk();
            }
            Fault::HostAhead | Fault::HostBehind => {
                host.step_clock(if fault == Fault::HostAhead { 3600 } else { -3600 });
                self.pass(step)?;
            }
            Fault::OwnAhead | Fault::OwnBehind => {
                own_clock(if fault == Fault::OwnAhead { "+3600\n" } else { "-3600\n" })?;
                self.pass(step)?;
            }
            Fault::Reboot => self.field.reboot_first()?,
        }
        self.field.remove_gate(step);
        let said = controller.end();
        if matches!(fault, Fault::HostAhead | Fault::HostBehind) {
            self.field.first().right_clock();
        }
        said
    }

    fn pass(&self, step: &str) -> Result<(), Error> {
        self.field.open_gate(step)?;
        self.field.wait_behind_gate(step)
    }
}

/// What a fault may change, beside an honest unknown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allowed {
    /// How the run ends, where that is not as it would end without the fault.
    pub code: Option<i32>,
    /// The step whose own end cannot be as without the fault.
    pub hurt: Option<&'static str>,
    /// The run's end was on record when the program died: nobody takes it up to remove what is left on the hosts.
    pub left: bool,
}

impl Allowed {
    fn of(fault: Fault, step: &'static str) -> Self {
        match fault {
            // The step fails or is gone; the plan says that the host is then taken back.
            Fault::Full | Fault::Reboot => Self { code: Some(5), hurt: Some(step), left: false },
            _ => Self::default(),
        }
    }
}

fn expected(variant: Variant) -> i32 {
    match variant {
        Variant::Good => 0,
        Variant::Bad => 5,
    }
}

fn is_lost(record: &Value) -> bool {
    record["event"]["type"] == "attempt_lost" && record["event"]["attempt"]["host"] == HOSTS[0]
}

fn must_be_lost(lost: bool) -> Result<(), Error> {
    if lost { Ok(()) } else { Err(Error::Course("the program ended without noticing that the host was away".into())) }
}

/// The library that tells a program another time.
fn fake_time() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    folders
        .map(|folder| folder.path().join("faketime/libfaketime.so.1"))
        .find(|path| path.exists())
        .expect("libfaketime is there: tests/setup installs it")
}
