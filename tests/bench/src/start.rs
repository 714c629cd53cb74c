//! What a person waits for before anything is done: help, and plans.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::process::Command;

use crate::page::circumstances;
use crate::table::{Row, spread, table};
use crate::{Options, Result, meter};

/// Starts of each program.
const STARTS: usize = 200;
/// Rounds of a plan.
const ROUNDS: usize = 5;
const PLAN_HOSTS: usize = 1_000;
const PLAN_STEPS: usize = 50;

/// The case `start`.
pub(crate) fn help(options: &Options) -> Result<String> {
    let circumstances = circumstances();
    let (mut ours, mut smallest) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds.unwrap_or(STARTS) {
        ours.push(meter::spawn_time(Command::new(&options.program).arg("--help"))?.as_secs_f64() * 1e3);
        smallest.push(meter::spawn_time(&mut Command::new("/bin/true"))?.as_secs_f64() * 1e3);
    }
    let ratios = ours.iter().zip(&smallest).map(|(ours, smallest)| ours / smallest);
    let ratio = spread(ratios).ok_or("no round")?;
    let (starts, ours, smallest) = (ours.len(), spread(ours).ok_or("no round")?, spread(smallest).ok_or("no round")?);
    Ok(format!(
        "## `runbook --help`\n\n{circumstances}\n\n{starts} starts each, in turns. Wanted: under 20 ms.\n\n\
         | | wall ms |\n| --- | --- |\n| **runbook --help** | {ours} |\n| `/bin/true` | {smallest} |\n| ratio | {ratio} |\n"
    ))
}

/// The case `plan`.
pub(crate) fn plan(options: &Options) -> Result<String> {
    let circumstances = circumstances();
    let folder = tempfile::tempdir()?;
    let place = folder.path();
    crate::write(&place.join("runbook.toml"), "")?;
    let mut inventory = String::from("schema: inventory/v1\ndefaults: {transport: ssh, user: maint}\nhosts:\n");
    for host in 0..PLAN_HOSTS {
        writeln!(
            inventory,
            "  web{host:04}: {{address: 10.{}.{}.1, groups: [web], labels: {{site: s{}}}}}",
            host / 250,
            host % 250,
            host % 7
        )?;
    }
    crate::write(&place.join("inventory.yaml"), &inventory)?;
    let mut plain = String::from(
        "schema: runbook/v1\nname: fifty\nirreversible: nothing is ever done\nparameters: {word: {type: string, default: \
         hello}}\ntargets: {select: web, batch: [1, 50%], failure_budget: 10%}\nexecute:\n",
    );
    let mut own = plain.clone();
    for step in 0..PLAN_STEPS {
        writeln!(plain, "  - run: echo {step} {{{{param.word}}}}")?;
        writeln!(own, "  - {{run: 'echo {step} {{{{host.name}}}} {{{{param.word}}}}', as: root, timeout: 1m}}")?;
    }
    crate::write(&place.join("plain.yaml"), &plain)?;
    crate::write(&place.join("own.yaml"), &own)?;

    let mut rows = Vec::new();
    let cases: [(&str, &[&str]); 4] = [
        ("`plan`, every host has the same commands", &["plan", "plain.yaml"]),
        ("`plan`, each command differs from host to host", &["plan", "own.yaml"]),
        ("`plan --format json` of the second", &["plan", "own.yaml", "--format", "json"]),
        ("`validate` of the second", &["validate", "own.yaml"]),
    ];
    for (name, _) in cases {
        rows.push(Row::new(name));
    }
    for _ in 0..options.rounds.unwrap_or(ROUNDS) {
        for (row, (_, words)) in rows.iter_mut().zip(cases) {
            let words = words.iter().map(OsStr::new);
            let command: Vec<&OsStr> = [options.program.as_os_str()].into_iter().chain(words).collect();
            row.costs.push(meter::cost(place, &command)?);
        }
    }
    let cells = (PLAN_HOSTS * PLAN_STEPS) as f64;
    Ok(format!(
        "## A plan of {PLAN_HOSTS} hosts and {PLAN_STEPS} steps\n\n{circumstances}\n\nFrom the start of the program to its \
         end, output into a file. Wanted: under 1 s. The ratios are those of the first row.\n\n{}",
        table(&rows, cells, "host and step")
    ))
}
