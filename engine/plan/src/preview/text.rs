//! The preview for a terminal: 80 columns and wider, one host or thousands. Commands stand there as they are, line by
//! line; all else is wrapped or folded, and everything is made safe to show.

use std::collections::BTreeMap;

use runbook_model::evaluate::RenderedAction;
use runbook_model::id::StepId;
use runbook_model::plan::{AtEnd, Once, Phase, Place, Role, RollbackVerify, Scope, SecretRef, Strategy, Undeclared};
use runbook_model::units::{format_duration_ms, format_size};
use serde_json::Value;

use super::json::secret_text;
use super::{Preview, PreviewCommand, PreviewStep, State};
use crate::printable;

/// Narrower terminals get lines of this width.
const WIDTH_MIN: usize = 40;
/// A list of hosts beside something else takes at most so many lines; the rest is counted.
const HOST_LINES_MAX: usize = 3;
/// Of commands that differ from host to host so many are shown.
const COMMANDS_MAX: usize = 3;
/// Of one command so many lines are shown.
const COMMAND_LINES_MAX: usize = 40;
/// Rows of the matrix; hosts with the same row share one.
const ROWS_MAX: usize = 40;

impl Preview<'_> {
    /// For a terminal of `width` columns. Ends with a line end.
    pub fn text(&self, width: usize) -> String {
        let mut page = Page { out: String::new(), width: width.max(WIDTH_MIN) };
        self.head(&mut page);
        self.values(&mut page);
        self.batches(&mut page);
        self.steps(&mut page);
        self.matrix(&mut page);
        self.remarks(&mut page);
        page.out
    }

    fn head(&self, page: &mut Page) {
        let plan = self.plan;
        let title = match plan.runbook.title.as_str() {
            "" => plan.runbook.name.clone(),
            title => format!("{}: {title}", plan.runbook.name),
        };
        page.wrapped("", &printable::text(&title));
        page.out.push('\n');
        page.field("plan", &self.digest.to_string());
        let mut tier = plan.runbook.tier.name().to_owned();
        if !plan.runbook.controls.is_empty() {
            tier.push_str(&format!(", for {}", plan.runbook.controls.join(", ")));
        }
        page.field("tier", &printable::text(&tier));
        let hosts = self.hosts.len();
        let mut course = match plan.batches.len() {
            1 => counted(hosts, "host"),
            batches => format!("{} in {batches} batches", counted(hosts, "host")),
        };
        if hosts > 1 {
            course.push_str(&format!(", at most {} at once", plan.parallel));
        }
        if plan.batches.len() > 1 && plan.soak_ms > 0 {
            course.push_str(&format!(", {} between batches", format_duration_ms(plan.soak_ms)));
        }
        page.field("hosts", &course);
        if hosts > 1 {
            page.field("budget", &budget(plan.failure_budget));
        }
        page.field("rollback", &self.rollback());
        if plan.window.at_end == AtEnd::Rollback {
            let budget = format_duration_ms(plan.rollback.budget_ms);
            page.field("window", &format!("a host that is not through {budget} before its end is taken back"));
        }
        for access in plan.access.iter().flat_map(runbook_model::access::Access::sentences) {
            page.field("access", &printable::text(&access));
        }
        let takes: Vec<&str> =
            plan.steps.iter().filter(|step| step.role == Role::Take).map(|step| step.id.as_str()).collect();
        if !takes.is_empty() {
            page.field("snapshots", &printable::text(&takes.join(", ")));
        }
        if let Some(watch) = &plan.watch {
            let then = match watch.undeclared {
                Undeclared::Report => "undeclared changes there are reported",
                Undeclared::Fail => "an undeclared change there is a failed verification",
            };
            page.field("watch", &printable::text(&format!("{}: {then}", self.watch_roots.join(" "))));
        }
        for (step, reason) in self.irreversible() {
            let what = step.map_or("the change".to_owned(), |id| format!("`{id}`"));
            page.field("no way back", &printable::text(&format!("{what} cannot be taken back: {reason}")));
        }
    }

    fn rollback(&self) -> String {
        let rule = &self.plan.rollback;
        let how = match rule.strategy {
            Strategy::Undo => "undoes the steps",
            Strategy::Restore => "restores the snapshots",
            Strategy::UndoThenRestore => "undoes the steps, then restores the snapshots",
            Strategy::Steps => "runs the steps given for it",
        };
        let who = match rule.scope {
            Scope::Host => "of the host that failed",
            Scope::Batch => "on all changed hosts of the batch",
            Scope::Run => "on all changed hosts of the run",
        };
        let proof = match rule.verify {
            RollbackVerify::Again => "proved by the prechecks and the measured baseline",
            RollbackVerify::Steps => "proved by the steps given for it",
            RollbackVerify::None => "not verified afterwards",
        };
        format!("{how} {who}; at most {} a host; {proof}", format_duration_ms(rule.budget_ms))
    }

    fn values(&self, page: &mut Page) {
        let plan = self.plan;
        if !plan.parameters.is_empty() {
            page.title("Parameters");
            page.table(plan.parameters.iter().map(|(name, value)| (name.clone(), shown(value))));
        }
        if !plan.secrets.is_empty() {
            page.title("Secrets (read when they are used)");
            page.table(plan.secrets.iter().map(|(name, source)| {
                let from = match source {
                    SecretRef::Env(variable) => format!("environment variable {variable}"),
                    SecretRef::File(path) => format!("file {path}"),
                    SecretRef::Command(argv) => format!("output of {}", argv.join(" ")),
                };
                (name.clone(), from)
            }));
        }
        if !plan.files.is_empty() {
            page.title("Files that are sent");
            page.table(plan.files.iter().map(|(digest, file)| {
                (file.path.clone(), format!("{}, sha256 {}…", format_size(file.bytes), &digest.to_string()[..16]))
            }));
        }
    }

    fn batches(&self, page: &mut Page) {
        page.title("Hosts");
        for (number, batch) in self.plan.batches.iter().enumerate() {
            if number == 20 && self.plan.batches.len() > 22 {
                let rest = &self.plan.batches[number..];
                let hosts = rest.iter().map(Vec::len).sum();
                page.line(&format!("  and {} with {}", counted(rest.len(), "more batch"), counted(hosts, "host")));
                break;
            }
            let lead =
                if self.plan.batches.len() == 1 { "  ".to_owned() } else { format!("  batch {:<3} ", number + 1) };
            let names: Vec<&str> = batch.iter().map(|name| name.as_str()).collect();
            page.folded(&lead, &names);
        }
    }

    fn steps(&self, page: &mut Page) {
        let mut last = None;
        for (number, step) in self.steps.iter().enumerate() {
            if last != Some(step.step.phase) {
                page.title(phase_title(step.step.phase));
                last = Some(step.step.phase);
            }
            self.step(page, number + 1, step);
        }
    }

    fn step(&self, page: &mut Page, number: usize, shown: &PreviewStep<'_>) {
        let step = shown.step;
        let id = printable::text(step.id.as_str());
        let name = printable::text(&step.name);
        // A name that was made from the command would say it twice.
        let made = shown.commands.iter().any(|command| match &command.rendered.action {
            RenderedAction::Run { text, .. } => text.trim() == step.name,
            _ => false,
        });
        let head = if name.is_empty() || name == id || made { id } else { format!("{id}: {name}") };
        page.wrapped(&format!("{number:>3}  "), &head);
        let mut notes = Vec::new();
        notes.extend(purpose(&step.role).map(str::to_owned));
        match &step.on {
            Place::Host => {}
            Place::Controller => notes.push("on the controller".into()),
            Place::Named(host) => notes.push(format!("on {}", host.name)),
        }
        match step.once {
            None => {}
            Some(Once::Run) => notes.push("once in the run".into()),
            Some(Once::Batch) => notes.push("once in each batch".into()),
        }
        if step.retry.attempts > 1 {
            notes.push(format!("up to {} attempts", step.retry.attempts));
        }
        let reads = step.read_only || matches!(step.phase, Phase::Rollback | Phase::Finally);
        if step.idempotent && !reads {
            notes.push("may be repeated".into());
        }
        if let Some(when) = &step.when {
            notes.push(format!("when {}", when.0));
        }
        if !notes.is_empty() {
            page.wrapped("     ", &format!("({})", printable::text(&notes.join("; "))));
        }
        // Where the step is skipped its command is of no interest.
        let wanted = |host: &&usize| shown.cells[**host].state != State::Skipped;
        let commands: Vec<(&PreviewCommand, Vec<&str>)> = shown
            .commands
            .iter()
            .map(|command| {
                let hosts = command.hosts.iter().filter(wanted);
                (command, hosts.map(|host| self.hosts[*host].name.as_str()).collect::<Vec<_>>())
            })
            .filter(|(_, hosts)| !hosts.is_empty())
            .collect();
        let different = commands.first().is_some_and(|(_, hosts)| hosts.len() < self.hosts.len());
        for (command, hosts) in commands.iter().take(COMMANDS_MAX) {
            if different {
                page.folded("     on ", hosts);
            }
            self.command(page, command);
        }
        if commands.len() > COMMANDS_MAX {
            let rest = &commands[COMMANDS_MAX..];
            let hosts = rest.iter().map(|(_, hosts)| hosts.len()).sum();
            let more = format!("and {} on {}", counted(rest.len(), "more command"), counted(hosts, "host"));
            page.wrapped("     ", &format!("{more}: `--format json` has them all"));
        }
        let skipped = shown.hosts_in(State::Skipped);
        if let Some((_, reason)) = skipped.first() {
            let names: Vec<&str> = skipped.iter().map(|(host, _)| self.hosts[*host].name.as_str()).collect();
            page.folded("     skipped on ", &names);
            page.wrapped("       ", &printable::text(reason.unwrap_or_default()));
        }
    }

    fn command(&self, page: &mut Page, command: &PreviewCommand) {
        let rendered = &command.rendered;
        if let Some(unless) = &rendered.unless {
            page.code("       unless ", &self.described(unless));
        }
        page.code("       ", &self.described(&rendered.action));
        let mut around = Vec::new();
        around.extend(rendered.account.iter().map(|account| format!("as {account}")));
        around.extend(rendered.cwd.iter().map(|cwd| format!("in {cwd}")));
        around.extend(rendered.env.iter().map(|(name, value)| format!("{name}={}", secret_text(value))));
        around.extend(rendered.stdin.iter().map(|stdin| format!("reads {} bytes", secret_text(stdin).len())));
        if !around.is_empty() {
            page.wrapped("       ", &printable::text(&around.join(", ")));
        }
        if !rendered.changes.is_empty() {
            page.wrapped("       ", &printable::text(&format!("may change {}", rendered.changes.join(" "))));
        }
        if !rendered.unknown.is_empty() {
            let names: Vec<&str> = rendered.unknown.iter().map(String::as_str).collect();
            page.wrapped("       ", &printable::text(&format!("known only in the run: {}", names.join(", "))));
        }
    }

    fn described(&self, action: &RenderedAction) -> String {
        let path = |digest| self.plan.files.get(digest).map_or("", |file| file.path.as_str());
        match action {
            RenderedAction::Run { text, shell, .. } => match shell.name() {
                "sh" => format!("$ {text}"),
                other => format!("{other}> {text}"),
            },
            RenderedAction::Argv(_) => action.text(),
            RenderedAction::Script { sha256, args, interpreter } => {
                let mut words: Vec<String> = interpreter.iter().cloned().collect();
                words.push(path(sha256).to_owned());
                words.extend(args.iter().cloned());
                format!("script {} (sha256 {}…)", words.join(" "), &sha256.to_string()[..16])
            }
            RenderedAction::Upload { files, to, owner, group } => {
                let bytes =
                    files.values().filter_map(|file| self.plan.files.get(&file.sha256)).map(|file| file.bytes).sum();
                let what = match files.iter().next() {
                    Some((name, file)) if files.len() == 1 && name.is_empty() => {
                        format!("{} ({}, mode {:04o})", path(&file.sha256), format_size(bytes), file.mode)
                    }
                    _ => format!("{} ({})", counted(files.len(), "file"), format_size(bytes)),
                };
                let owners = [owner, group].into_iter().flatten().cloned().collect::<Vec<_>>().join(":");
                let owned = if owners.is_empty() { String::new() } else { format!(", owned by {owners}") };
                format!("upload {what} to {to}{owned}")
            }
            RenderedAction::Download { from, max_bytes } => {
                format!("download {from} into the evidence (at most {})", format_size(*max_bytes))
            }
            RenderedAction::Reboot { timeout_ms, .. } => {
                format!("reboot, back within {}", format_duration_ms(*timeout_ms))
            }
            RenderedAction::Wait { ms } => format!("wait {}", format_duration_ms(*ms)),
            RenderedAction::WaitUntil { for_ms, until, every_ms, .. } => format!(
                "wait at most {}, asking every {}: {until}",
                format_duration_ms(*for_ms),
                format_duration_ms(*every_ms)
            ),
            RenderedAction::Confirm { text } => format!("ask: {text}"),
            RenderedAction::Compare => "compare what was measured before with what is there now".into(),
        }
    }

    fn matrix(&self, page: &mut Page) {
        page.title("Matrix (● runs, ○ depends on what the run finds, – skipped)");
        let mut rows: BTreeMap<Vec<State>, Vec<usize>> = BTreeMap::new();
        for host in 0..self.hosts.len() {
            let row = self.steps.iter().map(|step| step.cells[host].state).collect();
            rows.entry(row).or_default().push(host);
        }
        let mut rows: Vec<(Vec<State>, Vec<usize>)> = rows.into_iter().collect();
        rows.sort_by_key(|(_, hosts)| hosts[0]);
        let names: Vec<String> = rows.iter().map(|(_, hosts)| self.row_name(hosts)).collect();
        let lead = names.iter().take(ROWS_MAX).map(|name| name.chars().count()).max().unwrap_or(0) + 4;
        let columns = (page.width.saturating_sub(lead) / 3).max(1);
        for (block, steps) in self.steps.chunks(columns).enumerate() {
            let first = block * columns;
            let heads: String = (0..steps.len()).map(|n| format!("{:>3}", first + n + 1)).collect();
            page.line(&format!("{:lead$}{heads}", ""));
            for ((row, _), name) in rows.iter().zip(&names).take(ROWS_MAX) {
                let marks: String = row[first..first + steps.len()].iter().map(|state| mark(*state)).collect();
                page.line(&format!("  {name:<rest$}{marks}", rest = lead - 2));
            }
        }
        if rows.len() > ROWS_MAX {
            page.line(&format!("  and {}", counted(rows.len() - ROWS_MAX, "more row")));
        }
    }

    fn row_name(&self, hosts: &[usize]) -> String {
        let names: Vec<String> =
            hosts.iter().take(8).map(|host| printable::text(self.hosts[*host].name.as_str())).collect();
        let all = names.join(" ");
        if names.len() == hosts.len() && all.chars().count() <= 24 {
            return all;
        }
        let first = &names[0];
        let first: String =
            if first.chars().count() > 24 { first.chars().take(23).chain(['…']).collect() } else { first.clone() };
        match hosts.len() {
            1 => first,
            count => format!("{first} and {} more", count - 1),
        }
    }

    fn remarks(&self, page: &mut Page) {
        if !self.warnings.is_empty() {
            page.title("Look at these");
            let mut by_message: BTreeMap<&str, Vec<&StepId>> = BTreeMap::new();
            for warning in &self.warnings {
                by_message.entry(&warning.message).or_default().push(&warning.step);
            }
            for (message, steps) in by_message {
                let steps: Vec<String> = steps.into_iter().map(|id| format!("`{id}`")).collect();
                page.wrapped("  ", &printable::text(&format!("{}: {message}", steps.join(", "))));
            }
        }
        let unknown = self.unknown();
        if !unknown.is_empty() {
            page.title("Known only in the run");
            let names: Vec<&str> = unknown.into_iter().collect();
            page.wrapped("  ", &printable::text(&names.join(", ")));
        }
    }
}

fn budget(failures: u32) -> String {
    match failures {
        0 => "0: hosts change one after the other, and none begins after one has failed".into(),
        n => format!("{n}: no further host begins when more than {n} could have failed"),
    }
}

fn phase_title(phase: Phase) -> &'static str {
    match phase {
        Phase::Prechecks => "Prechecks (they only read; a failure blocks the host)",
        Phase::Snapshot => "Snapshot (the way back; a failure blocks the host)",
        Phase::Execute => "Execute",
        Phase::Verify => "Verify (only reads)",
        Phase::Rollback => "Rollback (only when execute or verify fails)",
        Phase::Finally => "Finally (in any case)",
    }
}

/// What the names of derived steps do not say.
fn purpose(role: &Role) -> Option<&'static str> {
    match role {
        Role::Take => Some("takes a snapshot"),
        Role::Release { .. } => Some("not part of the normal course"),
        _ => None,
    }
}

fn mark(state: State) -> &'static str {
    match state {
        State::Runs => "  ●",
        State::Depends => "  ○",
        State::Skipped => "  –",
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(map) if map.len() == 1 => match map.get("secret").and_then(Value::as_str) {
            Some(name) => format!("‹secret {name}›"),
            None => value.to_string(),
        },
        other => other.to_string(),
    }
}

fn counted(count: usize, what: &str) -> String {
    match (count, what.strip_suffix("batch")) {
        (1, _) => format!("1 {what}"),
        (_, Some(_)) => format!("{count} {what}es"),
        (_, None) => format!("{count} {what}s"),
    }
}

struct Page {
    out: String,
    width: usize,
}

impl Page {
    fn line(&mut self, text: &str) {
        self.out.push_str(text.trim_end());
        self.out.push('\n');
    }

    fn title(&mut self, text: &str) {
        self.out.push('\n');
        self.line(text);
    }

    fn field(&mut self, name: &str, value: &str) {
        self.wrapped(&format!("  {name:<13}"), value);
    }

    fn table(&mut self, rows: impl Iterator<Item = (String, String)>) {
        let rows: Vec<(String, String)> =
            rows.map(|(name, value)| (printable::text(&name), printable::text(&value))).collect();
        let widest = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).min(32);
        for (name, value) in rows {
            self.wrapped(&format!("  {name:<widest$}  "), &value);
        }
    }

    /// `text` behind `lead`, broken between words; further lines stand under the first. A word that is wider than a
    /// line stays whole: it is an id, a path or a digest that somebody will copy.
    fn wrapped(&mut self, lead: &str, text: &str) {
        let indent = lead.chars().count();
        let room = self.width.saturating_sub(indent).max(20);
        let mut line = String::new();
        let mut first = true;
        let mut flush = |line: &mut String, page: &mut String| {
            let prefix = if first { lead.to_owned() } else { " ".repeat(indent) };
            page.push_str(format!("{prefix}{line}").trim_end());
            page.push('\n');
            line.clear();
            first = false;
        };
        for word in text.split(' ') {
            let taken = line.chars().count();
            if taken > 0 && taken + 1 + word.chars().count() > room {
                flush(&mut line, &mut self.out);
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        flush(&mut line, &mut self.out);
    }

    /// Names of hosts behind `lead`, on at most a few lines; the rest is counted.
    fn folded(&mut self, lead: &str, names: &[&str]) {
        let room = self.width.saturating_sub(lead.chars().count()).max(20) * HOST_LINES_MAX;
        let mut text = String::new();
        for (shown, name) in names.iter().enumerate() {
            let name = printable::text(name);
            let rest = format!("and {} more", names.len() - shown);
            let needed = text.chars().count() + name.chars().count() + 1;
            // Room for the words that count the rest stays free, also for what breaking between names wastes.
            if shown > 0 && needed + rest.len() + HOST_LINES_MAX * 16 > room {
                text.push_str(&rest);
                break;
            }
            text.push_str(&name);
            text.push(' ');
        }
        self.wrapped(lead, text.trim_end());
    }

    /// A command, line by line as it is.
    fn code(&mut self, lead: &str, text: &str) {
        let lines = printable::lines(text);
        let indent = " ".repeat(lead.chars().count() + 2);
        for (number, line) in lines.iter().take(COMMAND_LINES_MAX).enumerate() {
            self.line(&format!("{}{line}", if number == 0 { lead } else { &indent }));
        }
        if lines.len() > COMMAND_LINES_MAX {
            self.line(&format!("{indent}… {}", counted(lines.len() - COMMAND_LINES_MAX, "more line")));
        }
    }
}
