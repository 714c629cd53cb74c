//! `runs`, `show`, `explain`, `logs`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use runbook_ledger::segments::LINE_BYTES;
use runbook_model::event::RunHeader;
use runbook_model::outcome::OutputRef;
use runbook_model::{Cell, HostName, StepId};
use runbook_ports::{BlobStore as _, Store as _};
use runbook_report::json::RedactionLine;
use runbook_report::logs::{self, Entry};
use runbook_report::text::{escape_line, escape_lines};
use runbook_report::view::RunState;
use runbook_report::{RunView, explain, json, list, show};
use runbook_store::SqliteStore;

use crate::arguments::{Explain, Logs, Runs, Show};
use crate::control::{self, Want};
use crate::failure::Failure;
use crate::hub::News;
use crate::output::{self, Output};
use crate::project::Project;
use crate::running::Running;
use crate::{notices, record, reviews};

/// The largest stored output that is printed as text; `--raw` has no limit but the store's.
const TEXT_BYTES_MAX: u64 = 1 << 30;

/// `runs`.
pub(crate) async fn runs(project: &Project, arguments: &Runs, output: Output) -> Result<u8, Failure> {
    let mut lines = Vec::new();
    if let Some(store) = record::open_existing(project).await? {
        for index in store.runs().await.map_err(|error| record::failed(&error))? {
            lines.push(record::line(&store, index).await?);
        }
        for owing in reviews::all(&store).await? {
            let line = lines.iter_mut().find(|line| line.header.run == owing.run.run);
            if let Some(line) = line {
                line.review = Some(owing.standing().state.name());
            }
        }
    }
    if arguments.json {
        output::json(&json::runs(&lines))?;
    } else {
        output::data(list::text(&lines, output.palette))?;
    }
    Ok(0)
}

/// `show`.
pub(crate) async fn show(project: &Project, arguments: &Show, output: Output) -> Result<u8, Failure> {
    let store = record::open_recorded(project).await?;
    let index = record::find(&store, &arguments.run).await?;
    let view = record::view(&store, &index).await?;
    let host = host(&view, arguments.host.as_deref())?;
    let mut attachments = record::attachments(&store, project, &view).await?;
    if arguments.json {
        record::digests(&store, &view, &mut attachments).await?;
        output::json(&json::run(&view, &attachments, host.as_ref()))?;
    } else {
        output::data(show::text(&view, &attachments, host.as_ref(), output.columns(), output.palette))?;
    }
    Ok(0)
}

/// `explain`.
pub(crate) async fn explain(project: &Project, arguments: &Explain, output: Output) -> Result<u8, Failure> {
    let store = record::open_recorded(project).await?;
    let index = record::find(&store, &arguments.run).await?;
    let view = record::view(&store, &index).await?;
    let host = host(&view, arguments.host.as_deref())?;
    let explanation = explain::explain(&view, host.as_ref());
    if arguments.json {
        output::json(&explanation)?;
    } else {
        output::data(explanation.text(output.columns(), output.palette))?;
    }
    Ok(0)
}

/// The host of the run that a person named.
pub(crate) fn host(view: &RunView, name: Option<&str>) -> Result<Option<HostName>, Failure> {
    let Some(name) = name else { return Ok(None) };
    let host = HostName::from(name);
    if view.hosts.contains_key(&host) {
        return Ok(Some(host));
    }
    let known: Vec<&str> = view.hosts.keys().map(HostName::as_str).collect();
    Err(unknown("host", name, &known))
}

/// The step of the run that a person named.
pub(crate) fn step(view: &RunView, name: &str) -> Result<StepId, Failure> {
    let step = StepId::from(name);
    if view.plan.step(&step).is_some() {
        return Ok(step);
    }
    let known: Vec<&str> = view.plan.steps.iter().map(|step| step.id.as_str()).collect();
    Err(unknown("step", name, &known))
}

fn unknown(what: &str, name: &str, known: &[&str]) -> Failure {
    let failure = Failure::usage("RB0611", format!("the run has no {what} `{name}`"));
    match runbook_lang::similar::nearest(name, known.iter().copied()) {
        Some(near) => failure.next(format!("did you mean `{near}`?")),
        None => failure.next(format!("it has {}", runbook_report::text::list(known, 12))),
    }
}

/// `logs`.
pub(crate) async fn logs(project: &Project, arguments: &Logs, output: Output) -> Result<u8, Failure> {
    let store = record::open_recorded(project).await?;
    let index = record::find(&store, &arguments.run).await?;
    let mut view = RunView::new(record::plan(&store, &index.header).await?);
    let mut next = record::read(&store, &index.header.run, 0, |record| view.fold(&record)).await?;
    let host = host(&view, arguments.host.as_deref())?;
    let step = arguments.step.as_deref().map(|name| self::step(&view, name)).transpose()?;
    // First, so that who goes away in the middle has read it all the same.
    notices::read(project, &store, &index.header.run, "logs").await;
    if arguments.raw {
        return raw(&store, &logs::entries(&view, host.as_ref(), step.as_ref()), &index.header).await;
    }
    let mut printed = BTreeSet::new();
    let redactions = record::redactions(&store, &index.header.run).await?;
    let mut printer =
        Printer { store: &store, output, json_lines: arguments.json_lines, live: Running::default(), redactions };
    printer.print(&view, host.as_ref(), step.as_ref(), &mut printed).await?;
    if !arguments.follow {
        if printed.is_empty() && !arguments.json_lines {
            output::note("no step has ended there yet");
        }
        return Ok(0);
    }
    let holder = store.holder(&index.header.run).await.map_err(|error| record::failed(&error))?;
    let mut following = match holder.filter(|holder| holder.alive) {
        // A line for each attempt is complete; pieces of one would not be.
        Some(holder) => {
            let want = if arguments.json_lines { Want::Records } else { Want::Output };
            control::follow(project, &index.header.run, holder.pid, want).await.ok()
        }
        None => None,
    };
    loop {
        // What was committed between the first look and the connection is read before waiting.
        next = record::read(&store, &index.header.run, next, |record| view.fold(&record)).await?;
        printer.print(&view, host.as_ref(), step.as_ref(), &mut printed).await?;
        if view.state == RunState::Ended {
            return Ok(0);
        }
        match &mut following {
            Some(follow) => loop {
                match follow.next().await {
                    Some(News::Output(piece)) => {
                        let wanted = host.as_ref().is_none_or(|host| *host == piece.cell.host)
                            && step.as_ref().is_none_or(|step| *step == piece.cell.step);
                        if wanted {
                            output::data(printer.live.take(&piece))?;
                        }
                    }
                    // What was missed is printed with the whole output, once the step has ended.
                    Some(News::LeftOut) => printer.live.missed(),
                    Some(News::Committed) => break,
                    None => {
                        following = None;
                        break;
                    }
                }
            },
            None => {
                // The last records may have been committed as the process went.
                record::read(&store, &index.header.run, next, |record| view.fold(&record)).await?;
                printer.print(&view, host.as_ref(), step.as_ref(), &mut printed).await?;
                if view.state == RunState::Running {
                    output::note("no program works on the run now; `runbook resume` takes it up again");
                }
                return Ok(0);
            }
        }
    }
}

/// The bytes of one attempt's standard output, unaltered.
async fn raw(store: &SqliteStore, entries: &[Entry<'_>], header: &RunHeader) -> Result<u8, Failure> {
    let hosts: BTreeSet<_> = entries.iter().map(|entry| entry.host).collect();
    if hosts.len() > 1 {
        let names: Vec<&str> = hosts.iter().map(|host| host.as_str()).collect();
        return Err(Failure::usage("RB0611", "--raw prints one output, and several hosts have one")
            .next(format!("choose one with --host: {}", runbook_report::text::list(&names, 8))));
    }
    let Some(report) = entries.last().and_then(|entry| entry.attempt.report.as_ref()) else {
        return Err(Failure::usage("RB0611", format!("that step printed nothing in run {} so far", header.run)));
    };
    if let Some(remark) = logs::remark("stdout", &report.stdout) {
        output::note(remark);
    }
    if let Some(blob) = report.stdout.blob {
        let file = store.file(&blob).await.map_err(|error| record::failed(&error))?;
        let mut reader =
            std::fs::File::open(&file.path).map_err(|error| Failure::file("RB0608", "read", &file.path, &error))?;
        if report.stdout.is_salted() {
            std::io::Seek::seek(&mut reader, std::io::SeekFrom::Start(LINE_BYTES as u64))
                .map_err(|error| Failure::file("RB0608", "read", &file.path, &error))?;
        }
        let mut out = std::io::stdout().lock();
        match std::io::copy(&mut reader, &mut out) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            Err(error) => return Err(Failure::usage("RB0601", format!("standard output cannot be written: {error}"))),
            Ok(_) => {}
        }
    }
    Ok(0)
}

struct Printer<'a> {
    store: &'a SqliteStore,
    output: Output,
    json_lines: bool,
    live: Running,
    redactions: Vec<RedactionLine>,
}

impl Printer<'_> {
    /// Prints the attempts that were not printed yet.
    async fn print(
        &mut self,
        view: &RunView,
        host: Option<&HostName>,
        step: Option<&StepId>,
        printed: &mut BTreeSet<(HostName, StepId, u32)>,
    ) -> Result<(), Failure> {
        for entry in logs::entries(view, host, step) {
            if !printed.insert((entry.host.clone(), entry.step.clone(), entry.attempt.attempt)) {
                continue;
            }
            let report = entry.attempt.report.as_ref().expect("only ended attempts are entries");
            let cell = Cell { host: entry.host.clone(), step: entry.step.clone() };
            let (rest, whole) = self.live.ended(&cell, report.stdout.bytes, report.stderr.bytes);
            if !self.json_lines && !rest.is_empty() {
                output::data(rest)?;
            }
            if whole && !self.json_lines {
                output::data(logs::heading(&entry, self.output.palette) + "\n")?;
                continue;
            }
            let stdout = self.content(&report.stdout).await?;
            let stderr = self.content(&report.stderr).await?;
            if self.json_lines {
                output::json_line(&logs::line(&entry, stdout.as_deref(), stderr.as_deref()))?;
                continue;
            }
            let mut text = logs::heading(&entry, self.output.palette);
            text.push('\n');
            for (name, output, bytes) in [("stdout", &report.stdout, stdout), ("stderr", &report.stderr, stderr)] {
                if let Some(remark) = logs::remark(name, output) {
                    let _ = writeln!(text, "{remark}");
                }
                let of = |redaction: &&RedactionLine| {
                    redaction.is_of(entry.host.as_str(), entry.step.as_str(), entry.attempt.attempt, name)
                };
                for redaction in self.redactions.iter().filter(of) {
                    let _ = writeln!(text, "[{}]", escape_line(redaction.text().as_bytes()));
                }
                let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else { continue };
                let shown = escape_lines(&bytes);
                if name == "stderr" {
                    for line in shown.lines() {
                        let _ = writeln!(text, "! {line}");
                    }
                } else {
                    text.push_str(&shown);
                    if !shown.ends_with('\n') {
                        text.push('\n');
                    }
                }
            }
            output::data(text)?;
        }
        Ok(())
    }

    async fn content(&self, output: &OutputRef) -> Result<Option<Vec<u8>>, Failure> {
        record::output(self.store, output, TEXT_BYTES_MAX).await.map_err(|error| record::failed(&error))
    }
}
