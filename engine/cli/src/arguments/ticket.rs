//! Arguments of the project's own tickets.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

use super::{InventoryShow, Sources};

/// `ticket`.
#[derive(Debug, Subcommand)]
pub(crate) enum Ticket {
    /// Write a change down: for what, whose, when, and what users will notice. Prints its key, for --ticket.
    #[command(
        after_help = "Examples:\n  runbook ticket new 'December patches' --plan runbooks/patch.yaml --owner jane.doe --impact 'shares are away for 10 min' --from 2026-12-08T22:00:00-05:00 --until 2026-12-09T02:00:00-05:00\n  runbook ticket new 'New disk in fs01' --hosts fs01 --owner jane.doe\n  runbook apply runbooks/patch.yaml --ticket CHG-143"
    )]
    New(TicketNew),
    /// Show a ticket: what it says, who decided about its plan, which runs were for it, what came of it.
    #[command(after_help = "Examples:\n  runbook ticket show CHG-143\n  runbook ticket show CHG-143 --json | jq .runs")]
    Show(TicketShow),
    /// List the tickets, oldest first.
    #[command(after_help = "Examples:\n  runbook ticket list\n  runbook ticket list --json")]
    List(InventoryShow),
    /// Close a ticket by hand. One whose run ends well, or is taken back, is closed by that.
    #[command(
        after_help = "Examples:\n  runbook ticket close CHG-143 --as cancelled --why 'the vendor withdrew the patch'"
    )]
    Close(TicketClose),
}

/// `ticket new`.
#[derive(Debug, Args)]
pub(crate) struct TicketNew {
    /// What it is about, in a line.
    pub(crate) title: String,
    /// The runbook, or the saved plan, that will be run: the ticket is of exactly this plan, and its hosts are the ticket's.
    #[arg(long, value_name = "FILE|PLAN", value_hint = ValueHint::FilePath)]
    pub(crate) plan: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) sources: Sources,
    /// The hosts that it is for, when there is no plan yet.
    #[arg(long, value_name = "SELECTOR", conflicts_with = "plan")]
    pub(crate) hosts: Option<String>,
    /// Who answers for the change.
    #[arg(long, value_name = "WHO")]
    pub(crate) owner: String,
    /// What users will notice, and what may go wrong.
    #[arg(long, value_name = "TEXT")]
    pub(crate) impact: Option<String>,
    /// CUI is concerned, also when no host is said to hold any.
    #[arg(long)]
    pub(crate) cui: bool,
    /// When the work may begin (RFC 3339).
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,
    /// When it must be over (RFC 3339).
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Print ticket/v1.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `ticket show`.
#[derive(Debug, Args)]
pub(crate) struct TicketShow {
    /// Its key.
    pub(crate) ticket: String,
    /// Print ticket/v1.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `ticket close`.
#[derive(Debug, Args)]
pub(crate) struct TicketClose {
    /// Its key.
    pub(crate) ticket: String,
    /// What came of the change.
    #[arg(long = "as", value_name = "CONCLUSION", value_enum)]
    pub(crate) conclusion: Concluded,
    /// Why.
    #[arg(long, value_name = "WHY")]
    pub(crate) why: String,
    /// Print ticket/v1.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What came of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Concluded {
    /// It was done, and is good.
    Successful,
    /// It was tried, and is not good or was taken back.
    Unsuccessful,
    /// It is not done.
    Cancelled,
}
