//! The program `runbook`: arguments, wiring, exit codes.
//!
//! A library only so that tests can make a program of the same parts whose record fails on purpose (`tests/sweep`). The
//! program itself is [`main`] and nothing else.

mod anchors;
mod arguments;
mod authority;
mod changes;
mod commands;
mod control;
mod edition;
mod failure;
mod head;
mod hub;
mod init;
mod keys;
mod leftovers;
mod library;
mod live;
mod login;
mod machine;
mod monitoring;
mod notices;
mod notifications;
mod origins;
mod output;
mod person;
mod policy;
mod problems;
mod project;
mod record;
mod reviews;
mod revision;
mod running;
mod schedule;
mod serve;
mod settings;
mod shrink;
mod signals;
mod signing;
mod sources;
mod standing;
mod tickets;
mod unfinished;
mod waiting;
mod watch;
mod wiring;

use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::{Arguments, Command};
use crate::commands::{
    access, actions, approvals, approve, doctor, evidence, inventory, notify, people, plan, policy as policies,
    reference, retention, review, schedule as schedules, serve as daemon, show, snapshots, ticket, validate, windows,
    witness, work,
};
use crate::failure::{Failure, fault};
use crate::output::Output;
use crate::project::Project;

pub use crate::wiring::Between;

/// The program: does what its arguments say, and gives the code to exit with.
pub fn main() -> ExitCode {
    main_with(|store| store)
}

/// The program with something of the caller's between each run and its record. Once per process.
pub fn main_with(between: Between) -> ExitCode {
    if let Some(code) = runbook_builtin::part(std::env::args_os().skip(1)) {
        return code;
    }
    wiring::put_between(between);
    let arguments = Arguments::parse();
    let output = Output::new(arguments.global.color);
    say(arguments.global.verbose);
    let code = run(&arguments, output).unwrap_or_else(|failure| {
        output::note(failure.text(output.error_palette).trim_end());
        failure.exit
    });
    ExitCode::from(code)
}

fn run(arguments: &Arguments, output: Output) -> Result<u8, Failure> {
    // What needs no project must work in a broken one.
    match &arguments.command {
        Command::Init(arguments) => return init::run(arguments, output),
        Command::Schema(arguments) => return reference::schema(arguments),
        Command::Completions(arguments) => return reference::completions(arguments),
        Command::Man(arguments) => return reference::man(arguments),
        Command::Witness(arguments) => return witness::run(arguments),
        _ => {}
    }
    let project = Project::find(arguments.global.project.as_deref())?;
    match &arguments.command {
        Command::Validate(arguments) => validate::run(&project, arguments, output),
        Command::Plan(arguments) => plan::run(&project, arguments, output),
        Command::Inventory(command) => inventory::run(&project, command, output),
        Command::Actions(command) => actions::run(&project, command, output),
        Command::Windows(command) => windows::run(&project, command, output),
        Command::People(command) => people::run(&project, command, output),
        Command::Access(command) => access::run(&project, command, output),
        _ => with_runtime(arguments, &project, output),
    }
}

/// Commands that read or work on runs. Only they pay for a runtime.
fn with_runtime(arguments: &Arguments, project: &Project, output: Output) -> Result<u8, Failure> {
    // One thread: what is done for a step is little, and handing it from thread to thread cost more than that. The
    // database, large files and the view have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(fault)?;
    let result = runtime.block_on(async {
        match &arguments.command {
            Command::Apply(arguments) => work::apply(project, arguments, output).await,
            Command::Rehearse(arguments) => work::rehearse(project, arguments, output).await,
            Command::Resume(arguments) => work::resume(project, arguments, output).await,
            Command::Cancel(arguments) => work::cancel(project, arguments, output).await,
            Command::Rollback(arguments) => work::rollback(project, arguments, output).await,
            Command::Resolve(arguments) => work::resolve(project, arguments, output).await,
            Command::Runs(arguments) => show::runs(project, arguments, output).await,
            Command::Show(arguments) => show::show(project, arguments, output).await,
            Command::Logs(arguments) => show::logs(project, arguments, output).await,
            Command::Explain(arguments) => show::explain(project, arguments, output).await,
            Command::Policy(command) => policies::run(project, command, output).await,
            Command::Ticket(command) => ticket::run(project, command, output).await,
            Command::Approve(arguments) => approve::approve(project, arguments, output).await,
            Command::Reject(arguments) => approve::reject(project, arguments, output).await,
            Command::Approvals(command) => approvals::run(project, command, output).await,
            Command::Schedule(command) => schedules::run(project, command, output).await,
            Command::Serve(arguments) => daemon::run(project, arguments, output).await,
            Command::Notify(command) => notify::run(project, command, output).await,
            Command::Review(arguments) => review::review(project, arguments, output).await,
            Command::Reviews(arguments) => review::list(project, arguments, output).await,
            Command::Evidence(command) => evidence::run(project, command, output).await,
            Command::Retention(command) => retention::run(project, command, output).await,
            Command::Snapshots(arguments) => snapshots::run(project, arguments, output).await,
            Command::Doctor(arguments) => doctor::run(project, arguments, output).await,
            _ => Err(fault("a command was not carried out")),
        }
    });
    // A question that nobody answers must not keep the program from ending.
    runtime.shutdown_background();
    result
}

/// What the program itself does, on standard error.
fn say(verbose: u8) {
    let filter = match (verbose, std::env::var("RUNBOOK_LOG")) {
        (_, Ok(filter)) => filter,
        (0, Err(_)) => return,
        (1, Err(_)) => "runbook=info".into(),
        (2, Err(_)) => "runbook=debug".into(),
        (_, Err(_)) => "trace".into(),
    };
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .init();
}
