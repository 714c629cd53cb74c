//! The command line, as data. Help texts, completions and man pages all come from here.

pub(crate) mod access;
pub(crate) mod notify;
pub(crate) mod rules;
pub(crate) mod schedule;
pub(crate) mod ticket;
pub(crate) mod upkeep;

use std::path::PathBuf;

use runbook_model::schedule::Occurrence;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

/// Everything that can be asked of the program.
#[derive(Debug, Parser)]
#[command(
    name = "runbook",
    version,
    about = "Server maintenance that is planned, authorized, reversible and proven",
    long_about = "Server maintenance that is planned, authorized, reversible and proven.\n\nA runbook says what is checked \
                  before, how the way back is secured, what is changed, how success is proved and how it is taken back. \
                  `apply` carries it through on every host it selects; when a check fails the hosts go back as they were.",
    after_help = EXAMPLES,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    infer_long_args = false
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  runbook init                         make a project here that works at once
  runbook plan runbooks/hello.yaml     see exactly what would be done, touching no host
  runbook apply runbooks/hello.yaml    do it, watch it, take it back if it fails
  runbook show last                    what happened, step by step

Exit codes of apply, resume, cancel and rollback say what became of the hosts:
  0 done and verified    3 refused, nothing changed    4 failed, changes may remain
  5 rolled back          6 stuck                       7 unknown: an operator must settle it
  8 cancelled            9 evidence could not be recorded
  1 a fault of the program, 2 usage or an invalid file";

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The project's folder; without it the nearest folder upward that holds a runbook.toml.
    #[arg(long, global = true, value_name = "DIR", env = "RUNBOOK_PROJECT", value_hint = ValueHint::DirPath)]
    pub(crate) project: Option<PathBuf>,
    /// When to use colour.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
    /// Say more about what the program itself does (twice: everything).
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a new project with a first runbook, explained by comments.
    #[command(
        after_help = "Examples:\n  runbook init\n  runbook init --policy cmmc-l2\n  runbook init maintenance && cd maintenance && runbook apply runbooks/hello.yaml"
    )]
    Init(Init),
    /// Check files and report all problems, with positions.
    #[command(
        after_help = "Examples:\n  runbook validate runbooks/*.yaml inventory.yaml\n  runbook validate --json runbooks/patch.yaml\n\nExit code 2 when there is any problem."
    )]
    Validate(Validate),
    /// Show exactly what would be done; touches no host.
    #[command(
        after_help = "Examples:\n  runbook plan runbooks/patch.yaml -p package=samba\n  runbook plan runbooks/patch.yaml --limit 'fileservers & !fs02' --out patch.plan.json\n  runbook plan runbooks/patch.yaml --format mermaid"
    )]
    Plan(Plan),
    /// Carry a runbook or a saved plan out: check, secure the way back, change, verify, or take it back.
    #[command(
        after_help = "Examples:\n  runbook apply runbooks/patch.yaml -p package=samba --ticket CHG-1042\n  runbook apply patch.plan.json --yes\n  runbook apply runbooks/patch.yaml --check        the prechecks alone\n  runbook apply patch.plan.json --yes --at-window  as soon as its window is open\n\nOn a terminal it shows a preview and asks; elsewhere it runs at once.\nThe first Ctrl-C cancels and rolls back, the second asks, the third leaves the run to be resumed."
    )]
    Apply(Apply),
    /// Try a change and its way back where nothing is lost by it: hosts that are changed and verified are taken back on purpose.
    #[command(
        after_help = "Examples:\n  runbook rehearse runbooks/patch.yaml                        on the runbook's hosts that are in staging\n  runbook rehearse runbooks/patch.yaml --on 'staging & web'   on these instead of the runbook's own\n\nExit code 0 when every host was changed, verified, taken back and verified; else as of apply. A rule of policy.yaml with\n`rehearsal: required` asks for one of the same plan, hosts aside."
    )]
    Rehearse(Rehearse),
    /// Continue a run after a crash or a halt, with the plan and inventory with which it began.
    #[command(after_help = "Examples:\n  runbook resume last\n  runbook resume 0199c1f2")]
    Resume(Resume),
    /// Stop a run safely: what runs is ended, hosts that changed are rolled back.
    #[command(
        after_help = "Examples:\n  runbook cancel last\n\nWhen the program that ran it is dead, this takes the run up itself and rolls back."
    )]
    Cancel(Cancel),
    /// Take a finished run back, while its snapshots live.
    #[command(after_help = "Examples:\n  runbook rollback last --yes")]
    Rollback(Rollback),
    /// Settle an outcome that nobody knows, on the record.
    #[command(
        after_help = "Examples:\n  runbook resolve last fs01 upgrade --as succeeded --why 'dpkg -l shows the new version on the host'"
    )]
    Resolve(Resolve),
    /// List the runs, oldest first.
    #[command(after_help = "Examples:\n  runbook runs\n  runbook runs --json | jq '.runs[-1].outcome'")]
    Runs(Runs),
    /// Show what happened in a run: each host, step and attempt.
    #[command(
        after_help = "Examples:\n  runbook show last\n  runbook show last --host fs01\n  runbook show last --json | jq '.hosts[] | {name, outcome}'"
    )]
    Show(Show),
    /// Print what the steps of a run printed.
    #[command(
        after_help = "Examples:\n  runbook logs last --host fs01 --step upgrade\n  runbook logs last --follow\n  runbook logs last --step dump --raw > dump.bin"
    )]
    Logs(Logs),
    /// Say from the record alone why each step ran, was skipped, blocked or taken back.
    #[command(after_help = "Examples:\n  runbook explain last --host fs01")]
    Explain(Explain),
    /// Verify the record of a run.
    #[command(
        subcommand,
        after_help = "Examples:\n  runbook evidence verify last\n  runbook evidence report last --out report.html"
    )]
    Evidence(Evidence),
    /// Say how long evidence is kept, hold it, and remove it after its time.
    #[command(
        subcommand,
        after_help = "Examples:\n  runbook retention list\n  runbook retention hold lawsuit --reason 'preserve everything'\n  runbook retention request --expired --out purge.json --reason 'yearly'"
    )]
    Retention(upkeep::Retention),
    /// List the snapshots that still exist; release those that are not needed.
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  runbook snapshots\n  runbook snapshots --expired\n  runbook snapshots release --expired\n  runbook snapshots release 0199c1f2"
    )]
    Snapshots(Snapshots),
    /// Show or check the inventory.
    #[command(
        subcommand,
        after_help = "Examples:\n  runbook inventory list 'cui & site=hq'\n  runbook inventory graph\n  runbook inventory check"
    )]
    Inventory(Inventory),
    /// Show when work may be done.
    #[command(
        subcommand,
        after_help = "Examples:\n  runbook windows list\n  runbook windows list fs01 --next 12\n  runbook windows check"
    )]
    Windows(Windows),
    /// Show or check what runs by itself.
    #[command(subcommand, after_help = "Examples:\n  runbook schedule list --next 12\n  runbook schedule check")]
    Schedule(schedule::Schedule),
    /// Run what is scheduled, when it is due: a daemon.
    #[command(
        after_help = "Examples:\n  runbook serve\n  runbook serve --print-unit --user maint > /etc/systemd/system/runbook.service\n  runbook serve --once\n\nEach occurrence is run once, however many of these there are. docs/operations/serve.md says what happens when it is late, down or killed."
    )]
    Serve(schedule::Serve),
    /// Show or check who works here.
    #[command(subcommand, after_help = "Examples:\n  runbook people list\n  runbook people check")]
    People(rules::People),
    /// Say what the project's policy requires of a run.
    #[command(subcommand, after_help = "Examples:\n  runbook policy explain runbooks/patch.yaml --ticket CHG-1042")]
    Policy(rules::Policy),
    /// The project's own tickets of changes, where there is no other system of them.
    #[command(
        subcommand,
        after_help = "Examples:\n  runbook ticket new 'December patches' --plan runbooks/patch.yaml --owner jane.doe\n  runbook ticket show CHG-143"
    )]
    Ticket(ticket::Ticket),
    /// Approve a plan: sign exactly its hosts, parameters, steps and windows, for one run.
    #[command(
        after_help = "Examples:\n  runbook plan runbooks/patch.yaml --out patch.plan.json\n  runbook approve patch.plan.json --reason 'tested in staging'\n  runbook approve patch.plan.json --as raj --key ~/.ssh/id_ed25519_sk\n  runbook approve patch.plan.json --as raj --request for-raj.json     to be mailed and signed elsewhere"
    )]
    Approve(rules::Approve),
    /// Reject a plan: it must not be run, whoever has approved it.
    #[command(after_help = "Examples:\n  runbook reject patch.plan.json --reason 'not before the audit'")]
    Reject(rules::Reject),
    /// Show what persons decided about plans; take in what was signed elsewhere.
    #[command(subcommand, after_help = "Examples:\n  runbook approvals list\n  runbook approvals import for-raj.json")]
    Approvals(rules::Approvals),
    /// Tell people outside of runs, and see whether they were told.
    #[command(
        subcommand,
        after_help = "Examples:\n  runbook notify check\n  runbook notify test mail\n  runbook notify list --open\n  runbook notify send                  for cron"
    )]
    Notify(notify::Notify),
    /// Review a run after its end, where its policy asks for that: sign what came of it.
    #[command(
        after_help = "Examples:\n  runbook review last --verdict accepted --reason 'as it had to be; the door is closed again'\n  runbook review 0199c1f2 --verdict follow-up --reason 'CHG-77: patch the other site too' --as jane\n  runbook review last --verdict accepted --reason ok --as jane --request for-jane.json     to be mailed and signed elsewhere"
    )]
    Review(rules::ReviewRun),
    /// List the reviews that runs owe: due, overdue, done; take in what was signed elsewhere.
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  runbook reviews\n  runbook reviews --json | jq '.reviews[] | select(.state == \"overdue\")'\n  runbook reviews import for-jane.json"
    )]
    Reviews(rules::Reviews),
    /// Make and show the authority that signs the certificates with which runs log in to hosts.
    #[command(subcommand, after_help = "Examples:\n  runbook access ca init\n  runbook access ca show")]
    Access(access::Access),
    /// Show the packaged actions.
    #[command(subcommand, after_help = "Examples:\n  runbook actions list\n  runbook actions show disk-free")]
    Actions(Actions),
    /// Check this machine, keys, clock, database, ssh and each host; say how to mend what is wrong.
    #[command(
        after_help = "Examples:\n  runbook doctor\n  runbook doctor --limit fileservers\n  runbook doctor --offline           without touching a host\n  runbook doctor --clean             remove what dead runs left on the hosts"
    )]
    Doctor(Doctor),
    /// Be a witness for ledgers of other hosts: keep their newest heads, and cosign what continues them.
    #[command(
        after_help = "Examples:\n  runbook witness --listen 127.0.0.1:8460 --state /var/lib/runbook-witness --origin-key ledger.pub\n  runbook witness --listen 0.0.0.0:8460 --state DIR --origin-key a.pub --origin-key b.pub --tls-cert c.pem --tls-key k.pem\n\nPrints its own public key, which goes into `key` of the ledgers' [anchors.NAME]. Belongs on a host under another hand\nthan the ledgers' hosts. SIGTERM ends it."
    )]
    Witness(Witness),
    /// Print the JSON Schema of a file type, for editors.
    #[command(after_help = "Examples:\n  runbook schema runbook > runbook.schema.json")]
    Schema(Schema),
    /// Print a completion script for a shell.
    #[command(
        after_help = "Examples:\n  runbook completions bash > ~/.local/share/bash-completion/completions/runbook"
    )]
    Completions(Completions),
    /// Print the manual page, or write one page per command.
    #[command(after_help = "Examples:\n  runbook man | man -l -\n  runbook man --out ~/.local/share/man/man1")]
    Man(Man),
}

/// `init`.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Where; made when it is not there.
    #[arg(default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
    /// Begin with people and a policy: what work needs before it may begin.
    #[arg(long, value_name = "NAME", value_enum)]
    pub(crate) policy: Option<ShippedPolicy>,
    /// Print what was made as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A policy that ships.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShippedPolicy {
    /// For a small firm that is assessed by CMMC level 2.
    CmmcL2,
}

/// `validate`.
#[derive(Debug, Args)]
pub(crate) struct Validate {
    /// Runbooks, inventories and actions; told apart by their `schema:`.
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,
    /// Print the problems as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a plan is made from.
#[derive(Debug, Clone, Args, Default)]
pub(crate) struct Sources {
    /// A parameter of the runbook; may be given several times.
    #[arg(short, long = "param", value_name = "NAME=VALUE")]
    pub(crate) parameters: Vec<String>,
    /// Only hosts that this selects too: names, groups, globs, labels, joined by & | ! ( ).
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) limit: Option<String>,
    /// Accept an inventory with fewer hosts than at the last run.
    #[arg(long)]
    pub(crate) allow_shrink: bool,
}

/// `plan`.
#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// The runbook.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) sources: Sources,
    /// Write the frozen plan to a file that `apply` takes.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
    /// How to show it.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: PlanFormat,
    /// The same as --format json.
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,
    /// Connect to the hosts and say which answer, with their facts.
    #[arg(long)]
    pub(crate) probe: bool,
}

/// How a plan is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlanFormat {
    /// For reading.
    Text,
    /// The same for tools (`plan-preview/v1`); `--out` writes the frozen plan itself.
    Json,
    /// A Mermaid flowchart.
    Mermaid,
    /// A Graphviz graph.
    Dot,
}

/// How a run's end is told.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Ending {
    /// Print the run as one JSON document (run/v1) when it has ended.
    #[arg(long, conflicts_with = "json_lines")]
    pub(crate) json: bool,
    /// Print each record of the run as a line of JSON as soon as it is durable.
    #[arg(long)]
    pub(crate) json_lines: bool,
}

/// `apply`.
#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// A runbook, or a plan that `plan --out` wrote.
    #[arg(value_name = "FILE|PLAN", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) sources: Sources,
    /// The change ticket; goes into the evidence.
    #[arg(long, value_name = "TICKET")]
    pub(crate) ticket: Option<String>,
    /// Do not ask.
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Run the prechecks alone; nothing is changed.
    #[arg(long)]
    pub(crate) check: bool,
    /// When another run holds a host, wait for it instead of refusing.
    #[arg(long)]
    pub(crate) wait: bool,
    /// When the time is not right, wait for the next window in which it fits.
    #[arg(long, conflicts_with_all = ["check", "break_glass"])]
    pub(crate) at_window: bool,
    /// Why it is run; goes into the evidence. A policy may require it.
    #[arg(long, value_name = "WHY")]
    pub(crate) reason: Option<String>,
    /// Set windows, blackouts and freezes aside, and say why; it is on the record for good.
    #[arg(long, value_name = "WHY")]
    pub(crate) break_glass: Option<String>,
    /// The occurrence of a schedule that this is the run of, `NAME@TIME`: it is run once.
    #[arg(long, value_name = "NAME@TIME", hide = true)]
    pub(crate) occurrence: Option<Occurrence>,
    #[command(flatten)]
    pub(crate) ending: Ending,
}

/// `rehearse`.
#[derive(Debug, Args)]
pub(crate) struct Rehearse {
    /// The runbook.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// The hosts to rehearse on, instead of those that the runbook selects; without it, and without --limit, the runbook's
    /// hosts that are in `staging`.
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) on: Option<String>,
    #[command(flatten)]
    pub(crate) sources: Sources,
    /// The change ticket; goes into the evidence.
    #[arg(long, value_name = "TICKET")]
    pub(crate) ticket: Option<String>,
    /// Do not ask.
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// When another run holds a host, wait for it instead of refusing.
    #[arg(long)]
    pub(crate) wait: bool,
    /// When the time is not right, wait for the next window in which it fits.
    #[arg(long)]
    pub(crate) at_window: bool,
    /// Why it is run; goes into the evidence. A policy may require it.
    #[arg(long, value_name = "WHY")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) ending: Ending,
}

/// `resume`.
#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// The run: its id, a unique beginning or end of it, or `last`.
    pub(crate) run: String,
    /// Taken for the sake of scripts; a resume never asks, for its plan was agreed to when it began.
    #[arg(long, short, hide = true)]
    pub(crate) yes: bool,
    /// When another run holds a host, wait for it instead of refusing.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Set windows, blackouts and freezes aside, and say why; it is on the record for good.
    #[arg(long, value_name = "WHY")]
    pub(crate) break_glass: Option<String>,
    #[command(flatten)]
    pub(crate) ending: Ending,
}

/// `cancel`.
#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// The run: its id, a unique beginning or end of it, or `last`.
    pub(crate) run: String,
    #[command(flatten)]
    pub(crate) ending: Ending,
}

/// `rollback`.
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The run: its id, a unique beginning or end of it, or `last`.
    pub(crate) run: String,
    /// The change ticket; goes into the evidence.
    #[arg(long, value_name = "TICKET")]
    pub(crate) ticket: Option<String>,
    /// Do not ask.
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// When another run holds a host, wait for it instead of refusing.
    #[arg(long)]
    pub(crate) wait: bool,
    /// When the time is not right, wait for the next window in which it fits.
    #[arg(long, conflicts_with_all = ["break_glass"])]
    pub(crate) at_window: bool,
    /// Why it is run; goes into the evidence. A policy may require it.
    #[arg(long, value_name = "WHY")]
    pub(crate) reason: Option<String>,
    /// Set windows, blackouts and freezes aside, and say why; it is on the record for good.
    #[arg(long, value_name = "WHY")]
    pub(crate) break_glass: Option<String>,
    #[command(flatten)]
    pub(crate) ending: Ending,
}

/// `resolve`.
#[derive(Debug, Args)]
pub(crate) struct Resolve {
    /// The run: its id, a unique beginning or end of it, or `last`.
    pub(crate) run: String,
    /// The host.
    pub(crate) host: String,
    /// The step's id.
    pub(crate) step: String,
    /// What really became of it.
    #[arg(long = "as", value_enum, value_name = "OUTCOME")]
    pub(crate) outcome: Settled,
    /// How you know; goes into the evidence.
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: String,
    #[command(flatten)]
    pub(crate) ending: Ending,
}

/// How an unknown outcome is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Settled {
    /// It happened as it should.
    Succeeded,
    /// It did not, or not as it should.
    Failed,
}

/// `runs`.
#[derive(Debug, Args)]
pub(crate) struct Runs {
    /// Print runs/v1.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The run: its id, a unique beginning or end of it, or `last`.
    pub(crate) run: String,
    /// Only this host.
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// Print run/v1.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `logs`.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The run: its id, a unique beginning or end of it, or `last`.
    pub(crate) run: String,
    /// Only this host.
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// Only this step.
    #[arg(long, value_name = "STEP")]
    pub(crate) step: Option<String>,
    /// Go on until the run ends.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// The stored bytes of the standard output of the one attempt selected, unaltered.
    #[arg(long, conflicts_with_all = ["follow", "json_lines"], requires = "step")]
    pub(crate) raw: bool,
    /// A line of JSON per attempt.
    #[arg(long, visible_alias = "json")]
    pub(crate) json_lines: bool,
}

/// `explain`.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The run: its id, a unique beginning or end of it, or `last`.
    pub(crate) run: String,
    /// Only this host.
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// Print explain/v1.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `evidence`.
#[derive(Debug, Subcommand)]
pub(crate) enum Evidence {
    /// Check that the record of a run, or a bundle, is whole, in order, signed and complete.
    #[command(
        after_help = "Examples:\n  runbook evidence verify last\n  runbook evidence verify last --pin ledger.pub\n  runbook evidence verify ./patch-night --pin ledger.pub\n  runbook evidence verify patch-night.tar.zst --against head-of-the-auditor\n\nExit codes: 0 verified and anchored outside, 10 verified without an outside anchor, 11 consistent in itself but\nthe keys are not pinned, 12 incomplete, 13 a redacted edition (or a run\nwhose contents were removed), 20 tampered, 21 forked or rolled back,\n22 untrusted key, 30 could not check."
    )]
    Verify(EvidenceVerify),
    /// Write a bundle that an outsider can verify with tools of every distribution.
    #[command(
        after_help = "Examples:\n  runbook evidence export last --out patch-night\n  runbook evidence export last --out patch-night.tar.zst\n  runbook evidence export last --out for-the-vendor.tar.zst --redacted\n\nThe same run exported twice is byte for byte the same. VERIFY.txt in the bundle has the commands that check it. The\nexit code is 12 when the run has not ended, or when something that it names is not in the store any more."
    )]
    Export(EvidenceExport),
    /// Give the ledger's signed head to those outside who are set up in [anchors.NAME], and keep their receipts.
    #[command(
        after_help = "Examples:\n  runbook evidence anchor\n  runbook evidence anchor w1 --json\n\nExit codes: 0 every anchor has everything, 3 one could not be given it, 21 one holds a head that contradicts the ledger."
    )]
    Anchor(EvidenceAnchor),
    /// Write a report for people: one HTML file, for the screen and for paper; or a PDF of it.
    #[command(
        after_help = "Examples:\n  runbook evidence report last --out patch-night.html\n  runbook evidence report last --out report.html --pin ledger.pub\n  runbook evidence report last --pdf patch-night.pdf --objectives r3\n\nThe file asks nobody for anything: it can be mailed, printed, kept for years. It is written even when the record has\ngaps or was tampered with; then it says so first, and the exit code is that of `evidence verify` from 12 on. The PDF is\nprinted by a Chromium on this machine, without a network: RUNBOOK_CHROMIUM names one that is not found by itself."
    )]
    Report(EvidenceReport),
    /// Write what happened on a host as a recording that a terminal plays (asciicast v2).
    #[command(
        after_help = "Examples:\n  runbook evidence recording last --host fs01 --out fs01.cast\n  asciinema play fs01.cast\n\nIt is made from the record: each step's command, then its output at the times at which it came. It is for looking at,\nnot the evidence: control characters that the host printed are shown as escapes."
    )]
    Recording(EvidenceRecording),
    /// Seal with a new key from now on; the record leads from the old one to it.
    #[command(
        after_help = "Examples:\n  runbook evidence rotate-key --reason 'yearly change'\n\nBoth keys sign the record that says so. Give the new public key (.runbook/keys/ledger.pub, last line) to those who pin\nit; who pins the old one can verify on. While a run is worked on it is refused."
    )]
    RotateKey(upkeep::RotateKey),
    /// Sign the ledger's head when nothing was recorded for a while; for a timer.
    #[command(
        after_help = "Examples:\n  runbook evidence heartbeat\n  runbook evidence heartbeat --systemd      the units that call it\n\nDoes nothing and says nothing while the last signed head is younger than --every. An idle ledger that is signed now and\nthen cannot be cut and continued unnoticed."
    )]
    Heartbeat(upkeep::Heartbeat),
    /// Set aside what does not read beyond the last signed head, after a crash.
    #[command(
        after_help = "Examples:\n  runbook evidence recover --reason 'power failure, the disk lost its last blocks'\n\nBelow a signed head nothing is ever set aside: what does not read there was tampered with, and the exit code is 20."
    )]
    Recover(upkeep::Recover),
    /// Say on record that an older copy of the state was put back, and go on from it.
    #[command(
        after_help = "Examples:\n  runbook evidence restored --reason 'disk replaced; backup of last night'\n\nUntil then every command that would record something is refused. What was recorded after the copy was made is gone,\nand `evidence verify` says so."
    )]
    Restored(upkeep::Restored),
    /// Withhold lines of an output in redacted editions; the original stays as it is.
    #[command(
        after_help = "Examples:\n  runbook evidence redact last --host fs01 --step list-users --lines 3-5,9 --reason 'names of patients'\n  runbook evidence redact last --host fs01 --step dump --match 'PIN [0-9]+' --reason 'card data'\n\nA redacted edition still verifies: what is withheld is replaced by its salted hash, and the root on record stays the same."
    )]
    Redact(upkeep::Redact),
}

/// `evidence verify`.
#[derive(Debug, Args)]
pub(crate) struct EvidenceVerify {
    /// The run: its id, a unique beginning or end of it, or `last`; or a bundle: its folder (`./patch-night`) or its
    /// archive (`patch-night.tar.zst`), which needs no project.
    #[arg(value_name = "RUN|BUNDLE", value_hint = ValueHint::AnyPath)]
    pub(crate) run: String,
    /// A file with a public key, got from elsewhere than this project or bundle: the ledger's, or a witness's. May be
    /// given more than once.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) pin: Vec<PathBuf>,
    /// A file with a signed head got elsewhere: whether it is of the same history. May be given more than once.
    #[arg(long, value_name = "CHECKPOINT", value_hint = ValueHint::FilePath)]
    pub(crate) against: Vec<PathBuf>,
    /// Certificates (PEM) of the authorities whose time stamps you believe.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) tsa_ca: Option<PathBuf>,
    /// Print verdict/v1.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `evidence report`.
#[derive(Debug, Args)]
pub(crate) struct EvidenceReport {
    /// The run: its id, a unique beginning or end of it, or `last`.
    pub(crate) run: String,
    /// Where to write it. A file that is there is replaced once the new one is complete.
    #[arg(long, value_name = "FILE.html", value_hint = ValueHint::FilePath, required_unless_present = "pdf")]
    pub(crate) out: Option<PathBuf>,
    /// Print it to a PDF with this machine's Chromium. A file that is there is replaced once the new one is complete.
    #[arg(long, value_name = "FILE.pdf", value_hint = ValueHint::FilePath)]
    pub(crate) pdf: Option<PathBuf>,
    /// The revision of NIST SP 800-171 whose objectives have pages in it.
    #[arg(long, value_name = "REVISION", value_enum, default_value_t = ObjectivesOf::R2)]
    pub(crate) objectives: ObjectivesOf,
    /// A file with public keys got from elsewhere than this project: the ledger's, and those of witnesses. May be given
    /// several times.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) pin: Vec<PathBuf>,
    /// Certificates (PEM) of the authorities whose time stamps you believe.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) tsa_ca: Option<PathBuf>,
    /// Without the lines that `evidence redact` says are withheld.
    #[arg(long)]
    pub(crate) redacted: bool,
    /// Print report/v1.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `evidence recording`.
#[derive(Debug, Args)]
pub(crate) struct EvidenceRecording {
    /// The run: its id, a unique beginning or end of it, or `last`.
    pub(crate) run: String,
    /// The host.
    #[arg(long)]
    pub(crate) host: String,
    /// Where to write it. A file that is there is replaced once the new one is complete.
    #[arg(long, value_name = "FILE.cast", value_hint = ValueHint::FilePath)]
    pub(crate) out: PathBuf,
    /// Without the lines that `evidence redact` says are withheld.
    #[arg(long)]
    pub(crate) redacted: bool,
    /// Print recording/v1.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A revision of NIST SP 800-171.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ObjectivesOf {
    /// Revision 2: what CMMC level 2 is assessed by.
    R2,
    /// Revision 3.
    R3,
}

/// `evidence anchor`.
#[derive(Debug, Args)]
pub(crate) struct EvidenceAnchor {
    /// Only this one.
    pub(crate) name: Option<String>,
    /// Print anchor/v1.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `evidence export`.
#[derive(Debug, Args)]
pub(crate) struct EvidenceExport {
    /// The run: its id, a unique beginning or end of it, or `last`.
    pub(crate) run: String,
    /// The folder, or the archive when its name ends with .tar.zst. It must not be there yet.
    #[arg(long, value_name = "DIR|FILE.tar.zst", value_hint = ValueHint::AnyPath)]
    pub(crate) out: PathBuf,
    /// A redacted edition: without the lines that `evidence redact` says are withheld. It still verifies, with code 13.
    #[arg(long)]
    pub(crate) redacted: bool,
    /// Print export/v1.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `snapshots`.
#[derive(Debug, Args)]
pub(crate) struct Snapshots {
    #[command(subcommand)]
    pub(crate) command: Option<SnapshotsCommand>,
    /// Only those that are older than `[snapshots] keep`.
    #[arg(long)]
    pub(crate) expired: bool,
    /// Print snapshots/v1.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Commands on snapshots.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotsCommand {
    /// Remove snapshots that are not needed any more; their runs cannot be taken back afterwards.
    #[command(
        after_help = "Examples:\n  runbook snapshots release 0199c1f2\n  runbook snapshots release --expired --yes"
    )]
    Release(SnapshotsRelease),
}

/// `snapshots release`.
#[derive(Debug, Args)]
pub(crate) struct SnapshotsRelease {
    /// Runs whose snapshots are removed: ids, unique beginnings or ends, or `last`.
    #[arg(required_unless_present = "expired", value_name = "RUN")]
    pub(crate) runs: Vec<String>,
    /// All that are older than `[snapshots] keep`.
    #[arg(long)]
    pub(crate) expired: bool,
    /// Do not ask.
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Print what was removed as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `inventory`.
#[derive(Debug, Subcommand)]
pub(crate) enum Inventory {
    /// List the hosts.
    #[command(after_help = "Examples:\n  runbook inventory list\n  runbook inventory list 'cui & site=hq' --json")]
    List(InventoryList),
    /// Show groups and the hosts in them.
    #[command(
        after_help = "Examples:\n  runbook inventory graph\n  runbook inventory graph --json | jq '.groups.web.hosts'"
    )]
    Graph(InventoryShow),
    /// Report all problems of the inventory and what it includes.
    #[command(after_help = "Examples:\n  runbook inventory check\n\nExit code 2 when there is any problem.")]
    Check(InventoryShow),
}

/// `inventory list`.
#[derive(Debug, Args)]
pub(crate) struct InventoryList {
    /// Only hosts that this selects.
    pub(crate) selector: Option<String>,
    /// Print inventory-list/v1.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `inventory graph` and `inventory check`.
#[derive(Debug, Args)]
pub(crate) struct InventoryShow {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `windows`.
#[derive(Debug, Subcommand)]
pub(crate) enum Windows {
    /// List the next openings, with what changes of the clock do to them, and what closes them.
    #[command(
        after_help = "Examples:\n  runbook windows list\n  runbook windows list 'cui & site=hq' --next 12\n  runbook windows list --tier emergency --json"
    )]
    List(WindowsList),
    /// Report all problems of `windows.yaml`.
    #[command(after_help = "Examples:\n  runbook windows check\n\nExit code 2 when there is any problem.")]
    Check(InventoryShow),
}

/// `windows list`.
#[derive(Debug, Args)]
pub(crate) struct WindowsList {
    /// Only what is for hosts that this selects.
    pub(crate) selector: Option<String>,
    /// So many openings of each window.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) next: u16,
    /// From this moment on instead of now (RFC 3339, or a day).
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,
    /// Only windows for work of this tier.
    #[arg(long, value_enum)]
    pub(crate) tier: Option<TierArgument>,
    /// Print windows-list/v1.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TierArgument {
    /// The regular window.
    Routine,
    /// A fault is mended.
    Corrective,
    /// It cannot wait.
    Emergency,
}

/// `actions`.
#[derive(Debug, Subcommand)]
pub(crate) enum Actions {
    /// List the actions that a runbook can use here.
    #[command(
        after_help = "Examples:\n  runbook actions list\n  runbook actions list --json | jq -r '.actions[].name'"
    )]
    List(ActionsList),
    /// Show one action: what it does, its parameters, its commands.
    #[command(after_help = "Examples:\n  runbook actions show disk-free")]
    Show(ActionsShow),
}

/// `actions list`.
#[derive(Debug, Args)]
pub(crate) struct ActionsList {
    /// Print actions/v1.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `actions show`.
#[derive(Debug, Args)]
pub(crate) struct ActionsShow {
    /// The action's name.
    pub(crate) name: String,
    /// Print action-show/v1.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `doctor`.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Only hosts that this selects.
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) limit: Option<String>,
    /// Touch no host.
    #[arg(long, conflicts_with = "clean")]
    pub(crate) offline: bool,
    /// Remove what attempts of runs that are over have left on the hosts. What a run may still need is kept, and what runs.
    #[arg(long)]
    pub(crate) clean: bool,
    /// With --clean: end what still runs for runs of this project that have ended.
    #[arg(long, requires = "clean")]
    pub(crate) end_running: bool,
    /// With --clean: remove also what other projects and controllers left, once nothing of it was written for so long.
    #[arg(
        long,
        value_name = "AGE",
        requires = "clean",
        help = "With --clean: remove also what other projects and controllers left, from this age on [default: 30d]"
    )]
    pub(crate) older_than: Option<String>,
    /// Print doctor/v1.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `witness`.
#[derive(Debug, Args)]
pub(crate) struct Witness {
    /// Address and port to listen on.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: std::net::SocketAddr,
    /// Where its key and the heads are kept; made when it is not there.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) state: PathBuf,
    /// A file with public keys of ledgers, one a line. May be given several times.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, required = true)]
    pub(crate) origin_key: Vec<PathBuf>,
    /// What it is called, in its key; only at the first start [default: one that is drawn].
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Speak TLS with this certificate (PEM, with its chain).
    #[arg(long, value_name = "FILE", requires = "tls_key", value_hint = ValueHint::FilePath)]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert", value_hint = ValueHint::FilePath)]
    pub(crate) tls_key: Option<PathBuf>,
    /// Speak plain HTTP although others than this machine can connect: a proxy or a private network is in front.
    #[arg(long, conflicts_with = "tls_cert")]
    pub(crate) plain_http: bool,
}

/// `schema`.
#[derive(Debug, Args)]
pub(crate) struct Schema {
    /// Which file type.
    pub(crate) kind: SchemaKind,
}

/// File types with a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaKind {
    /// A runbook.
    Runbook,
    /// An inventory.
    Inventory,
    /// A packaged action.
    Action,
    /// When work may be done.
    Windows,
    /// What runs by itself, and when.
    Schedule,
    /// Who works here.
    People,
    /// What work needs before it may begin.
    Policy,
    /// What `show --json` prints.
    Run,
    /// What `runs --json` prints.
    Runs,
    /// What `evidence export --json` prints.
    Export,
}

/// `completions`.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// Which shell.
    pub(crate) shell: clap_complete::Shell,
}

/// `man`.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Write one page per command into this folder.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) out: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_help_of_every_command_has_examples() {
        let mut commands = vec![("runbook".to_owned(), Arguments::command())];
        while let Some((name, command)) = commands.pop() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:\n  runbook "), "{name}");
            let inner = command.get_subcommands().filter(|command| !command.is_hide_set());
            commands.extend(inner.map(|command| (format!("{name} {}", command.get_name()), command.clone())));
        }
    }
}
