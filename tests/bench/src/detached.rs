//! What it costs that steps outlive their connection: claimed, detached steps against attached ones.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::time::Duration;

use crate::fleet::Fleet;
use crate::hosts::STEPS;
use crate::page::circumstances;
use crate::table::{Row, table};
use crate::{Options, Result, meter, peers};

/// Rounds, when the command line does not say.
const ROUNDS: usize = 5;
/// Hosts: so many that their work on our processors is the limit, and so few that it is not.
const HOSTS: [usize; 2] = [100, 10];
/// What an answer takes from far away.
const FAR: Duration = Duration::from_millis(20);

/// The case.
pub(crate) fn measure(options: &Options) -> Result<String> {
    let mut text = format!(
        "## {STEPS} detached steps on ssh hosts, and the same attached\n\n{}\n\nThe steps of `execute` are claimed \
         and detached; those of `prechecks` are read-only and attached. Wanted: the time of the detached ones at most 1.3 \
         times that of the attached ones where hosts share our processors, and at most 1.05 times where an answer takes \
         {} ms (each way through a proxy that holds bytes back, since this kernel has no `netem`).\n",
        circumstances(),
        FAR.as_millis()
    );
    let [many, few] = HOSTS;
    for (place, round_trip, hosts) in [("near", Duration::ZERO, many), ("far", FAR, many), ("far", FAR, few)] {
        let fleet = Fleet::far(hosts, round_trip)?;
        let mut rows = [
            Row::new(format!("**detached** (`execute`), {hosts} hosts, {place}")),
            Row::new(format!("attached (`prechecks`), {hosts} hosts, {place}")),
        ];
        for round in 0..options.rounds.unwrap_or(ROUNDS) {
            for (row, phase) in rows.iter_mut().zip(["execute", "prechecks"]) {
                let folder = tempfile::tempdir()?;
                peers::runbook(folder.path(), &fleet, phase)?;
                let words = ["apply", "steps.yaml", "--yes"].map(OsStr::new);
                let command: Vec<&OsStr> = [options.program.as_os_str()].into_iter().chain(words).collect();
                let cost = meter::cost(folder.path(), &command)?;
                eprintln!(
                    "detached, round {}: {:.2} s wall, {:.2} s CPU: {}",
                    round + 1,
                    cost.wall_s,
                    cost.cpu_s,
                    row.name
                );
                row.costs.push(cost);
            }
        }
        writeln!(text, "\n{}", table(&rows, (hosts * STEPS) as f64, "step").trim_end())?;
    }
    Ok(text)
}
