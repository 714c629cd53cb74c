//! The command line of what is done to the ledger itself, and to evidence after its run.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

/// `evidence rotate-key`.
#[derive(Debug, Args)]
pub(crate) struct RotateKey {
    /// Why; goes on record.
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) reason: String,
    /// Print the keys as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `evidence redact`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["lines", "matching"])))]
pub(crate) struct Redact {
    /// The run: its id, a unique beginning or end of it, or `last`.
    pub(crate) run: String,
    /// The host.
    #[arg(long)]
    pub(crate) host: String,
    /// The step.
    #[arg(long)]
    pub(crate) step: String,
    /// Which attempt; the last one unless given.
    #[arg(long, value_name = "N")]
    pub(crate) attempt: Option<u32>,
    /// Which stream.
    #[arg(long, default_value = "stdout", value_parser = ["stdout", "stderr"])]
    pub(crate) stream: String,
    /// Lines that are withheld, counted from 1, as `runbook logs` prints them.
    #[arg(long, value_name = "3-5,9")]
    pub(crate) lines: Option<String>,
    /// Withhold each line in which this regular expression is found.
    #[arg(long = "match", value_name = "REGEX")]
    pub(crate) matching: Option<String>,
    /// Why; goes on record.
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) reason: String,
    /// Print what is withheld as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `evidence heartbeat`.
#[derive(Debug, Args)]
pub(crate) struct Heartbeat {
    /// How old the last signed head may be.
    #[arg(long, value_name = "DURATION", default_value = "15m")]
    pub(crate) every: String,
    /// Print a service and a timer of systemd that call this, instead.
    #[arg(long)]
    pub(crate) systemd: bool,
}

/// `evidence recover`.
#[derive(Debug, Args)]
pub(crate) struct Recover {
    /// What happened; goes on record.
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) reason: String,
    /// Print what was set aside as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `evidence restored`.
#[derive(Debug, Args)]
pub(crate) struct Restored {
    /// Why an older copy was put back; goes on record.
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) reason: String,
    /// Print what is gone as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `retention`.
#[derive(Debug, Subcommand)]
pub(crate) enum Retention {
    /// Say until when the evidence of each run is kept, and what holds it.
    #[command(after_help = "Examples:\n  runbook retention list\n  runbook retention list --expired")]
    List(RetentionList),
    /// Keep evidence beyond its time.
    #[command(
        after_help = "Examples:\n  runbook retention hold incident-7 --run 0199c1f2 --until 2031-06-30 --reason 'reported to the authority'\n  runbook retention hold lawsuit --reason 'preserve everything'"
    )]
    Hold(RetentionHold),
    /// Lift a hold.
    #[command(after_help = "Examples:\n  runbook retention lift lawsuit --reason 'settled'")]
    Lift(RetentionLift),
    /// Write down what is to be removed, for two persons to sign.
    #[command(
        after_help = "Examples:\n  runbook retention request --expired --out purge.json --reason 'yearly'\n  ssh-keygen -Y sign -f ~/.ssh/id_ed25519 -n runbook-purge@v1 purge.json"
    )]
    Request(RetentionRequest),
    /// Remove what two persons have signed for; the ledger verifies as before.
    #[command(
        after_help = "Examples:\n  runbook retention purge purge.json --signature ann.sig --signature ben.sig\n\nWho may sign stands in .runbook/keys/retention_signers (allowed_signers of ssh-keygen). Refused under a hold, before the\ntime, with one signature, or when the request was changed. Interrupted, call it again."
    )]
    Purge(RetentionPurge),
}

/// `retention list`.
#[derive(Debug, Args)]
pub(crate) struct RetentionList {
    /// Only those whose time is over.
    #[arg(long)]
    pub(crate) expired: bool,
    /// Print retention/v1.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `retention hold`.
#[derive(Debug, Args)]
pub(crate) struct RetentionHold {
    /// The hold's name.
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) name: String,
    /// Runs that are held; all, also those to come, unless given.
    #[arg(long = "run", value_name = "RUN")]
    pub(crate) runs: Vec<String>,
    /// Up to this day (UTC), exclusive; until it is lifted, unless given.
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub(crate) until: Option<String>,
    /// Why; goes on record.
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) reason: String,
}

/// `retention lift`.
#[derive(Debug, Args)]
pub(crate) struct RetentionLift {
    /// The hold's name.
    pub(crate) name: String,
    /// Why; goes on record.
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) reason: String,
}

/// `retention request`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("which").required(true).multiple(true).args(["expired", "runs"])))]
pub(crate) struct RetentionRequest {
    /// Every run whose time is over and that no hold keeps.
    #[arg(long)]
    pub(crate) expired: bool,
    /// These runs; their time must be over.
    #[arg(long = "run", value_name = "RUN")]
    pub(crate) runs: Vec<String>,
    /// Where to write it; must not be there.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) out: PathBuf,
    /// Why; is signed and goes on record.
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) reason: String,
}

/// `retention purge`.
#[derive(Debug, Args)]
pub(crate) struct RetentionPurge {
    /// The request.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) request: PathBuf,
    /// A signature over it; given twice, of two persons.
    #[arg(long = "signature", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) signatures: Vec<PathBuf>,
}
