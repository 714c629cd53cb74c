//! The command line of `notify`.

use clap::{Args, Subcommand};

/// `notify`.
#[derive(Debug, Subcommand)]
pub(crate) enum Notify {
    /// List the messages to people outside: what waits, what was taken, what was given up, and why.
    #[command(after_help = "Examples:\n  runbook notify list\n  runbook notify list --open --json")]
    List(List),
    /// Check every channel of the settings: its secrets, its template, whether it can be reached. Tells nobody anything.
    #[command(after_help = "Examples:\n  runbook notify check\n  runbook notify check --offline")]
    Check(Check),
    /// Send one message to a channel now, to see whether it arrives.
    #[command(after_help = "Examples:\n  runbook notify test mail")]
    Test(Test),
    /// Send all that is due, once; for cron. Runs send what they have to tell themselves.
    #[command(
        after_help = "Examples:\n  runbook notify send                   every few minutes, from cron\n  runbook notify send --now"
    )]
    Send(Send),
}

/// `notify list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only those that wait or were given up.
    #[arg(long)]
    pub(crate) open: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `notify check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Connect to nobody.
    #[arg(long)]
    pub(crate) offline: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `notify test`.
#[derive(Debug, Args)]
pub(crate) struct Test {
    /// The channel's name.
    pub(crate) name: String,
}

/// `notify send`.
#[derive(Debug, Args)]
pub(crate) struct Send {
    /// Also what was tried a short while ago and would be tried again later.
    #[arg(long)]
    pub(crate) now: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
