//! Arguments of `schedule` and `serve`.

use clap::{Args, Subcommand};

use super::InventoryShow;

/// `schedule`.
#[derive(Debug, Subcommand)]
pub(crate) enum Schedule {
    /// List what runs by itself: what is next, and what became of the last.
    #[command(after_help = "Examples:\n  runbook schedule list\n  runbook schedule list patch-night --next 12 --json")]
    List(ScheduleList),
    /// Report all problems of `schedule.yaml`, and of what it would run.
    #[command(
        after_help = "Examples:\n  runbook schedule check\n\nExit code 2 when there is any problem. Every runbook is planned as it would be; no host is touched."
    )]
    Check(InventoryShow),
}

/// `schedule list`.
#[derive(Debug, Args)]
pub(crate) struct ScheduleList {
    /// Only the schedule of that name.
    pub(crate) name: Option<String>,
    /// So many of what is next, of each.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) next: u16,
    /// So many of what was last, of each.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub(crate) last: u16,
    /// Print schedule-list/v1.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Run what is due now, wait for its end, and go: for those who have their own clockwork. The exit code is the worst of
    /// what was run.
    #[arg(long, conflicts_with = "print_unit")]
    pub(crate) once: bool,
    /// Print a systemd unit for this project.
    #[arg(long)]
    pub(crate) print_unit: bool,
    /// The account that the unit names; yours without it.
    #[arg(long, value_name = "ACCOUNT", requires = "print_unit")]
    pub(crate) user: Option<String>,
    /// Print a line of JSON (serve/v1) for everything that happens.
    #[arg(long)]
    pub(crate) json_lines: bool,
}
