//! What the daemon tells: a line for people, or a line of JSON.

use runbook_model::RunId;
use runbook_model::schedule::Occurrence;
use serde::Serialize;
use serde_json::json;

use crate::output::{self, note};

/// As people write it.
fn key<S: serde::Serializer>(occurrence: &&Occurrence, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(occurrence)
}

/// What happened.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub(super) enum Said<'a> {
    /// It watches.
    Ready { schedules: usize, next: Option<String> },
    /// The schedule was read anew.
    Changed { schedules: usize, next: Option<String> },
    /// The schedule does not read, and nothing new is begun.
    Invalid { why: String },
    /// The run of an occurrence was begun by a process.
    Fired {
        #[serde(serialize_with = "key")]
        occurrence: &'a Occurrence,
        process: u32,
        late_ms: u64,
        log: String,
    },
    /// It could not be begun, and is tried again.
    Waiting {
        #[serde(serialize_with = "key")]
        occurrence: &'a Occurrence,
        why: &'a str,
        until: String,
    },
    /// It was not run, and will not be.
    Missed {
        #[serde(serialize_with = "key")]
        occurrence: &'a Occurrence,
        why: &'a str,
    },
    /// It was refused; that is on the record.
    Refused {
        #[serde(serialize_with = "key")]
        occurrence: &'a Occurrence,
        why: &'a str,
    },
    /// The process has ended.
    Ended {
        #[serde(serialize_with = "key")]
        occurrence: &'a Occurrence,
        run: &'a RunId,
        outcome: &'a str,
    },
    /// Another program has settled it.
    Elsewhere {
        #[serde(serialize_with = "key")]
        occurrence: &'a Occurrence,
    },
    /// A run whose process died is taken up.
    Resumed { run: &'a RunId, process: u32, attempt: u32 },
    /// A run could not be taken up, and somebody must look.
    GivenUp { run: &'a RunId, why: &'a str },
    /// One that is to come.
    Upcoming {
        #[serde(serialize_with = "key")]
        occurrence: &'a Occurrence,
    },
    /// The clock was set back.
    ClockSetBack,
    /// Something does not work; it goes on.
    Failed { why: String },
    /// It ends.
    Stopped { running: usize },
}

impl Said<'_> {
    /// Tells it.
    pub(super) fn tell(&self, as_json: bool) {
        if as_json {
            let mut line = json!({"schema": "serve/v1", "at": jiff::Timestamp::now()});
            if let (Some(line), Ok(serde_json::Value::Object(own))) = (line.as_object_mut(), serde_json::to_value(self))
            {
                line.extend(own);
            }
            // Whoever has stopped reading is not to stop the daemon.
            let _ = output::json_line(&line);
            return;
        }
        note(self.text());
    }

    fn text(&self) -> String {
        let next = |next: &Option<String>| {
            next.as_ref().map_or_else(|| "nothing is due".to_owned(), |next| format!("next {next}"))
        };
        match self {
            Self::Ready { schedules, next: at } => {
                format!("watching {}; {}", runbook_report::text::count(*schedules, "schedule"), next(at))
            }
            Self::Changed { schedules, next: at } => {
                format!("read anew: {}; {}", runbook_report::text::count(*schedules, "schedule"), next(at))
            }
            Self::Invalid { why } => format!("NOTHING NEW IS BEGUN until this is mended: {why}"),
            Self::Fired { occurrence, process, late_ms, log } => {
                let late = if *late_ms < 60_000 { String::new() } else { format!(", {} min late", late_ms / 60_000) };
                format!("{occurrence}: begun by process {process}{late}; what it says is in {log}")
            }
            Self::Waiting { occurrence, why, until } => format!("{occurrence}: tried again until {until}: {why}"),
            Self::Missed { occurrence, why } => format!("{occurrence}: MISSED, on record: {why}"),
            Self::Refused { occurrence, why } => format!("{occurrence}: REFUSED, on record: {why}"),
            Self::Ended { occurrence, run, outcome } => {
                format!("{occurrence}: {outcome}: `runbook show {}`", runbook_report::list::short(run.as_str()))
            }
            Self::Elsewhere { occurrence } => format!("{occurrence}: another program has it"),
            Self::Resumed { run, process, attempt } => {
                format!("run {run}: its process died; taken up by process {process} (attempt {attempt})")
            }
            Self::GivenUp { run, why } => format!("run {run}: COULD NOT BE TAKEN UP, somebody must look: {why}"),
            Self::Upcoming { occurrence } => format!("{occurrence}: to come"),
            Self::ClockSetBack => "the clock was set back; what was run is not run again".to_owned(),
            Self::Failed { why } => format!("it goes on, but: {why}"),
            Self::Stopped { running: 0 } => "stopped".to_owned(),
            Self::Stopped { running } => {
                let runs = runbook_report::text::count(*running, "run");
                format!("stopped; {runs} still worked on by a process of its own, which the next start looks after")
            }
        }
    }
}
