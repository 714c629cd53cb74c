//! The command line of what is done to the ledger itself, and to evidence after its run.

use clap::Args;

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
