//! Steps in a row on this machine, against the bare loop that they cannot beat.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::page::circumstances;
use crate::table::{Row, table};
use crate::{Options, Result, meter};

/// Rounds, when the command line does not say.
const ROUNDS: usize = 5;

/// The case.
pub(crate) fn measure(options: &Options) -> Result<String> {
    let steps = options.steps;
    let circumstances = circumstances();
    let mut rows = [
        Row::new(format!("**runbook**: {steps} steps of `execute`")),
        Row::new("runbook: the same as prechecks (read-only, so nothing is claimed on the host)"),
        Row::new("bare loop: `sh -c :` and one committed row per step"),
    ];
    for round in 0..options.rounds.unwrap_or(ROUNDS) {
        for (row, phase) in rows.iter_mut().zip([Some("execute"), Some("prechecks"), None]) {
            let folder = tempfile::tempdir()?;
            let cost = match phase {
                Some(phase) => {
                    project(folder.path(), phase, steps)?;
                    let words = ["apply", "chain.yaml", "--yes"].map(OsStr::new);
                    let command: Vec<&OsStr> = [options.program.as_os_str()].into_iter().chain(words).collect();
                    meter::cost(folder.path(), &command)?
                }
                None => {
                    let this = std::env::current_exe()?;
                    let steps = steps.to_string();
                    meter::cost(folder.path(), &[this.as_os_str(), "bare-chain".as_ref(), steps.as_ref()])?
                }
            };
            eprintln!("chain, round {}: {:.2} s wall, {:.2} s CPU: {}", round + 1, cost.wall_s, cost.cpu_s, row.name);
            row.costs.push(cost);
        }
    }
    Ok(format!(
        "## {steps} steps in a row on one machine\n\n{circumstances}\n\nEach step is `true`. SQLite with a write-ahead log \
         and `synchronous=FULL` on both sides. Wanted: wall at most 1.3 times the bare loop's.\n\n{}",
        table(&rows, steps as f64, "step")
    ))
}

/// A project with so many steps in a row.
pub(crate) fn project(folder: &Path, phase: &str, steps: usize) -> Result<()> {
    crate::write(&folder.join("runbook.toml"), "")?;
    crate::write(&folder.join("inventory.yaml"), "schema: inventory/v1\nhosts: {here: {transport: local}}\n")?;
    let mut text = format!(
        "schema: runbook/v1\nname: chain\nirreversible: it changes nothing\ntargets: {{select: here}}\n{phase}:\n"
    );
    text.push_str(&"  - run: 'true'\n".repeat(if phase == "execute" { steps } else { steps - 1 }));
    if phase != "execute" {
        text.push_str("execute:\n  - run: 'true'\n");
    }
    crate::write(&folder.join("chain.yaml"), &text)
}

/// The bare loop: `STEPS`, in the folder that it is started in.
pub(crate) fn bare(mut words: impl Iterator<Item = String>) -> Result<()> {
    let steps: i64 = words.next().ok_or("bare-chain wants a number of steps")?.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let options = SqliteConnectOptions::new()
            .filename(PathBuf::from("bare.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .disable_statement_logging();
        let mut database = sqlx::SqliteConnection::connect_with(&options).await?;
        sqlx::query("CREATE TABLE steps (id INTEGER PRIMARY KEY, outcome TEXT NOT NULL)")
            .execute(&mut database)
            .await?;
        for step in 0..steps {
            let status = Command::new("sh").args(["-c", ":"]).stdin(Stdio::null()).status()?;
            sqlx::query("INSERT INTO steps (id, outcome) VALUES (?, ?)")
                .bind(step)
                .bind(status.to_string())
                .execute(&mut database)
                .await?;
        }
        database.close().await?;
        Ok(())
    })
}
