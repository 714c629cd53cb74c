//! The page of the book that keeps the results: one section per case, each written by the bench.

use std::path::Path;
use std::process::Command;

use crate::Result;

/// Above the sections, when there is no page yet.
const HEAD: &str = "\
# Performance

Written by `tests/bench` (`cargo run --release -p runbook-bench -- all --write docs/performance.md`). What is compared
ran in turns on the same machine, each time in a fresh folder. Compare ratios and processor seconds; a wall time says
more about the machine and what else it did. Cells are: median [least–most] of the rounds. Processor seconds are user
and system time of every process that was started, those left in the background included.
";

/// Replaces the section of `case`, or appends it.
pub(crate) fn keep(page: &Path, case: &str, section: &str) -> Result<()> {
    let text = std::fs::read_to_string(page).unwrap_or_else(|_| HEAD.to_owned());
    let (begin, end) = (format!("<!-- {case} -->\n"), format!("<!-- end of {case} -->\n"));
    let section = format!("{begin}{section}\n{end}");
    let text = match (text.find(&begin), text.find(&end)) {
        (Some(from), Some(to)) if from < to => format!("{}{section}{}", &text[..from], &text[to + end.len()..]),
        _ => format!("{text}\n{section}"),
    };
    crate::write(page, &text)
}

/// When, and on what.
pub(crate) fn circumstances() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let processor = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name").and_then(|line| line.split_once(": ")))
        .map_or("an unknown processor", |(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let loads = read("/proc/loadavg");
    let load = loads.split(' ').next().unwrap_or("?");
    let said = |program: &str, words: &[&str]| {
        let output = Command::new(program).args(words).output();
        output.map(|output| {
            let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
            String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
        })
    };
    let kernel = said("uname", &["-sr"]).unwrap_or_default();
    let ssh = said("ssh", &["-V"]).unwrap_or_default();
    let folder = std::env::temp_dir();
    let disk = said("stat", &["-f", "-c", "%T", &folder.to_string_lossy()]).unwrap_or_default();
    let now = jiff::Timestamp::now().to_string();
    let day = now.get(..16).unwrap_or(&now).replace('T', " ");
    format!(
        "Measured {day} UTC: {processor}, {cores} cores, {kernel}, folders on {disk}, {ssh}; load average {load} when it \
         began."
    )
}
