//! Measures the program against bare loops and against its peers, and reports ratios.
//!
//! `cargo run --release -p runbook-bench -- CASE…`, with the program built before (`cargo build --release -p runbook-cli`).
//! Nothing here is a test: a time is never asserted, because the machine that measures it is never quiet for sure. What
//! is compared runs in turns (A B C A B C), everything in one go, each time in a fresh folder; the median of the ratios
//! of the rounds is what counts.
//!
//! | case | what is compared |
//! | --- | --- |
//! | `chain` | 1,000 steps in a row on this machine, with a bare loop that starts a shell and commits one row per step |
//! | `sealing` | 1,000 steps in a row on this machine, with the sealing of their records done once more |
//! | `hosts` | 10 steps on 10 and on 100 ssh hosts, with OpenSSH itself and with other tools |
//! | `detached` | claimed, detached steps on 100 ssh hosts with attached ones, near and far |
//! | `alone` | 10 steps on 100, 1,000 and 10,000 hosts that cost nothing: the controller alone |
//! | `start` | `runbook --help`, with the start of the smallest program |
//! | `plan` | a plan of 1,000 hosts and 50 steps |

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a program of the terminal")]

mod alone;
mod chain;
mod delay;
mod detached;
mod fleet;
mod hosts;
mod meter;
mod page;
mod peers;
mod sealing;
mod start;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: runbook-bench CASE… [--rounds N] [--hosts N,N] [--steps N] [--program FILE] [--peers FOLDER] [--no-ansible]
                           [--write FILE]
cases: chain sealing alone detached hosts start plan all
       runbook-bench fleet N    starts N ssh hosts, and a project for them, until its input ends
  --program  the program that is measured; `runbook` beside this one when it is not given
  --peers    what tests/bench/peers.sh has installed; target/bench-peers when it is not given
  --write    keeps the results in this page too (docs/performance.md)";

/// What goes wrong ends the bench with a sentence.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What the command line says.
struct Options {
    cases: Vec<String>,
    rounds: Option<usize>,
    hosts: Vec<usize>,
    steps: usize,
    program: PathBuf,
    peers: PathBuf,
    ansible: bool,
    write: Option<PathBuf>,
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let done = match words.next().as_deref() {
        // The bench starts itself for these.
        Some("meter") => meter::serve(words),
        Some("alone-run") => alone::run(),
        Some("bare-chain") => chain::bare(words),
        Some("fleet") => fleet::stay(words),
        Some(first) => options(first.to_owned(), words).and_then(|options| run(&options)),
        None => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("runbook-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if !options.program.is_file() {
        return Err(format!(
            "there is no {}: build it (`cargo build --release -p runbook-cli`) or say --program",
            options.program.display()
        )
        .into());
    }
    for case in &options.cases {
        match case.as_str() {
            "chain" => tell(options, case, &chain::measure(options)?)?,
            "sealing" => tell(options, case, &sealing::measure(options)?)?,
            "detached" => tell(options, case, &detached::measure(options)?)?,
            "hosts" => {
                for &count in &options.hosts {
                    tell(options, &format!("{case} {count}"), &hosts::measure(options, count)?)?;
                }
            }
            "alone" => tell(options, case, &alone::measure(options)?)?,
            "start" => tell(options, case, &start::help(options)?)?,
            "plan" => tell(options, case, &start::plan(options)?)?,
            other => return Err(format!("there is no case `{other}`\n{USAGE}").into()),
        }
    }
    Ok(())
}

/// Prints a case's results, and keeps them.
fn tell(options: &Options, case: &str, section: &str) -> Result<()> {
    println!("{section}");
    match &options.write {
        Some(page) => page::keep(page, case, section),
        None => Ok(()),
    }
}

fn options(first: String, mut words: impl Iterator<Item = String>) -> Result<Options> {
    let beside = std::env::current_exe()?.with_file_name("runbook");
    let mut options = Options {
        cases: Vec::new(),
        rounds: None,
        hosts: vec![10, 100],
        steps: 1_000,
        program: beside,
        peers: PathBuf::from("target/bench-peers"),
        ansible: true,
        write: None,
    };
    let mut next = Some(first);
    while let Some(word) = next {
        let mut value = || words.next().ok_or_else(|| format!("{word} wants a value\n{USAGE}"));
        match word.as_str() {
            "--rounds" => options.rounds = Some(value()?.parse()?),
            "--hosts" => options.hosts = value()?.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?,
            "--steps" => options.steps = value()?.parse()?,
            "--program" => options.program = value()?.into(),
            "--peers" => options.peers = value()?.into(),
            "--write" => options.write = Some(value()?.into()),
            "--no-ansible" => options.ansible = false,
            "all" => options
                .cases
                .extend(["start", "plan", "chain", "sealing", "alone", "detached", "hosts"].map(String::from)),
            flag if flag.starts_with('-') => return Err(format!("there is no option {flag}\n{USAGE}").into()),
            case => options.cases.push(case.to_owned()),
        }
        next = words.next();
    }
    options.program = std::path::absolute(&options.program)?;
    options.peers = std::path::absolute(&options.peers)?;
    Ok(options)
}

/// Writes a file of a bench's folder.
fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()).into())
}
