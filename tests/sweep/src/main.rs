//! Goes through all points, or those that are asked for, and says what came of them.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a program of the terminal")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use runbook_sweep::{Error, Point, point, sweep, tally};

/// Kills the program at each of its records, cuts, freezes, fills and restarts a host at each step; says what came of it.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only points whose names begin so (`kill/good/after`, `cut/large`); may be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only so many of them, chosen by the seed.
    #[arg(long, value_name = "COUNT")]
    sample: Option<usize>,
    /// Leave out the points that went well by the output, in this file, of a sweep that was interrupted.
    #[arg(long, value_name = "FILE")]
    after: Option<PathBuf>,
    /// Chooses the sample.
    #[arg(long, default_value = "0")]
    seed: String,
    /// So many pairs of hosts at once.
    #[arg(long, default_value_t = 6)]
    fields: usize,
    /// Print the points and try none.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("runbook-sweep: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool, Error> {
    if !runbook_testkit::lab::require() {
        return Ok(false);
    }
    let program = sweep::mortal_program();
    let mut points = sweep::all_points(&program)?;
    if !arguments.only.is_empty() {
        points.retain(|point| arguments.only.iter().any(|begin| point.to_string().starts_with(begin)));
    }
    if let Some(path) = &arguments.after {
        let done = tally::went_well(
            &std::fs::read_to_string(path)
                .map_err(|source| Error::Io { what: format!("reading {}", path.display()), source })?,
        );
        points.retain(|point| !done.contains(&point.to_string()));
    }
    if let Some(count) = arguments.sample {
        points = point::sample(points, &arguments.seed, count);
    }
    if arguments.list {
        points.iter().for_each(|point| println!("{point}"));
        return Ok(true);
    }
    try_all(&program, points, arguments)
}

fn try_all(program: &std::path::Path, points: Vec<Point>, arguments: &Arguments) -> Result<bool, Error> {
    let count = points.len();
    println!("{count} points on {} pairs of hosts; seed {}", arguments.fields, arguments.seed);
    let mut done = 0;
    let verdicts = sweep::carry_out(program, points, arguments.fields, |verdict| {
        done += 1;
        println!("{done}/{count} {}", tally::told(verdict));
    })?;
    println!("\n{}", tally::text(&verdicts));
    Ok(!verdicts.is_empty() && verdicts.iter().all(|verdict| verdict.broken.is_empty()))
}
