//! What sealing costs of a run of steps that do nothing.
//!
//! The program has no run that is not sealed, and none is built for this: a switch that takes the seals away would be one
//! that somebody could find. What is measured instead is the run as it is, and then, in turns with it and on the same
//! machine, the very same work of sealing once more: from the run's own records the same events are sealed at the same
//! times on the same ends, so that each line must come out with the leaf that the run recorded; as many heads are signed
//! as the run signed; and what the seals add to the database is written with and without them. All of it is processor
//! time. Where it is not known how the run did it, what costs more is assumed: every record is sealed as an append of its
//! own, with the end of the ledger computed for it.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::Path;

use runbook_ledger::{Checkpoint, FileKey, Sealer, VerifierKey};
use runbook_model::record::{Head, Record, Sealed};
use runbook_ports::Store as _;
use runbook_store::SqliteStore;
use rustix::time::{ClockId, clock_gettime};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use crate::page::circumstances;
use crate::table::spread;
use crate::{Options, Result, chain, meter};

/// Rounds, when the command line does not say.
const ROUNDS: usize = 5;

/// How often a piece of the work is repeated in a round: one pass is short.
const REPEATS: u32 = 20;

/// Records read at once.
const PAGE: usize = 1_000;

/// What one round came to, in milliseconds of processor time unless it says otherwise.
struct Round {
    run_cpu: f64,
    run_wall: f64,
    lines: f64,
    seals: f64,
    heads: f64,
    stored: f64,
    records: usize,
    signed: usize,
}

impl Round {
    /// All of sealing, beyond writing the lines, which a log without seals has too.
    fn sealing(&self) -> f64 {
        self.seals + self.heads + self.stored
    }
}

/// The case.
pub(crate) fn measure(options: &Options) -> Result<String> {
    let steps = options.steps;
    let circumstances = circumstances();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rounds = Vec::new();
    for number in 0..options.rounds.unwrap_or(ROUNDS) {
        let folder = tempfile::tempdir()?;
        chain::project(folder.path(), "execute", steps)?;
        let words = ["apply", "chain.yaml", "--yes"].map(OsStr::new);
        let command: Vec<&OsStr> = [options.program.as_os_str()].into_iter().chain(words).collect();
        let run = meter::cost(folder.path(), &command)?;
        let round = runtime.block_on(again(folder.path(), run))?;
        eprintln!(
            "sealing, round {}: {:.1} ms of {:.0} ms CPU, {:.0} ms wall",
            number + 1,
            round.sealing(),
            round.run_cpu,
            round.run_wall
        );
        rounds.push(round);
    }
    let mut text = format!(
        "## What sealing costs of {steps} steps on one machine\n\n{circumstances}\n\nEach step is `true`, a step of \
         `execute`. The run is not run without seals, for the program cannot; its own records are sealed once more, to the \
         same leaves, and what that takes is compared with the run, in turns. Every record is sealed as if it were an append \
         of its own, which costs more than what the run did. A step that prints costs the hashing of its lines beside that. \
         Wanted: sealing costs less than 10 % of the run.\n\n| | CPU ms | % of the run's CPU | % of the run's wall |\n| --- \
         | --- | --- | --- |\n"
    );
    let mut row = |name: &str, value: &dyn Fn(&Round) -> f64| {
        let cell = |of: &dyn Fn(&Round) -> f64| {
            spread(rounds.iter().map(of)).map_or_else(|| "–".into(), |spread| spread.to_string())
        };
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} |",
            cell(value),
            cell(&|round| 100.0 * value(round) / round.run_cpu),
            cell(&|round| 100.0 * value(round) / round.run_wall)
        );
    };
    let (records, signed) = rounds.last().map_or((0, 0), |round| (round.records, round.signed));
    row("the run", &|round| round.run_cpu);
    row("**sealing in all**", &Round::sealing);
    row(&format!("hashes of {records} lines, chain, tree"), &|round| round.seals);
    row(&format!("signatures of {signed} heads"), &|round| round.heads);
    row("leaves, ends and heads in the database", &|round| round.stored);
    row("beside it: writing events as lines, which any log does", &|round| round.lines);
    Ok(text)
}

/// Seals a run's ledger once more.
async fn again(folder: &Path, run: meter::Cost) -> Result<Round> {
    let store = SqliteStore::open(&folder.join(".runbook")).await?;
    let mut recorded: Vec<Sealed> = Vec::new();
    loop {
        let page = store.ledger(recorded.len() as u64, PAGE).await?;
        if page.is_empty() {
            break;
        }
        recorded.extend(page);
    }
    let heads: Vec<u64> = store.checkpoints().await?.iter().map(|head| head.size).collect();
    store.close().await;
    let records = recorded
        .iter()
        .map(|sealed| Ok(runbook_ledger::record::parse(&sealed.bytes)?))
        .collect::<Result<Vec<Record>>>()?;
    let times = records.iter().map(|record| unix_ms(&record.time)).collect::<Result<Vec<u64>>>()?;

    let lines = cpu_ms(ClockId::ThreadCPUTime, || {
        for record in &records {
            std::hint::black_box(serde_json::to_vec(record)?);
        }
        Ok(())
    })?;
    let mut ends = Vec::new();
    let sealed = cpu_ms(ClockId::ThreadCPUTime, || {
        ends.clear();
        let mut end = Sealer::new(&Head::default())?;
        for ((record, now_ms), recorded) in records.iter().zip(&times).zip(&recorded) {
            let mut sealer = end.clone();
            let sealed = sealer.seal(*now_ms, record.mono_ms, &record.run, record.run_seq, &record.event)?;
            if sealed.leaf != recorded.leaf {
                return Err(format!("record {} is not sealed as the run has sealed it", record.seq).into());
            }
            ends.push(sealer.head());
            end = sealer;
        }
        Ok(())
    })?;
    let secret = FileKey::from_seed([7; 32]);
    let key = VerifierKey::new("runbook/bench", &secret.public_key())?;
    let mut notes = Vec::new();
    let signed = cpu_ms(ClockId::ThreadCPUTime, || {
        notes.clear();
        let mut last: Option<Checkpoint> = None;
        for size in &heads {
            let end = usize::try_from(*size).ok().and_then(|size| ends.get(size.checked_sub(1)?));
            let sealer = Sealer::new(end.ok_or("a head is of records that are not there")?)?;
            let head = Checkpoint { origin: key.name().to_owned(), size: sealer.size(), root: sealer.root() };
            notes.push((*size, head.sign(last.as_ref(), &key, |bytes| Ok(secret.sign(bytes)))?));
            last = Some(head);
        }
        Ok(())
    })?;
    let stored = stored_ms(folder, &recorded, &ends, &notes).await?;
    Ok(Round {
        run_cpu: run.cpu_s * 1e3,
        run_wall: run.wall_s * 1e3,
        lines,
        seals: (sealed - lines).max(0.0),
        heads: signed,
        stored,
        records: records.len(),
        signed: heads.len(),
    })
}

fn unix_ms(time: &str) -> Result<u64> {
    Ok(u64::try_from(time.parse::<jiff::Timestamp>()?.as_millisecond())?)
}

/// Processor time of one pass, in milliseconds.
fn cpu_ms(clock: ClockId, mut pass: impl FnMut() -> Result<()>) -> Result<f64> {
    let begun = now_ms(clock);
    for _ in 0..REPEATS {
        pass()?;
    }
    Ok((now_ms(clock) - begun) / f64::from(REPEATS))
}

fn now_ms(clock: ClockId) -> f64 {
    let now = clock_gettime(clock);
    now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6
}

/// What leaves, ends and signed heads add to appending the lines, each append a transaction that is synced: records that
/// were decided at the same moment are one append, as in the run.
async fn stored_ms(folder: &Path, records: &[Sealed], ends: &[Head], notes: &[(u64, String)]) -> Result<f64> {
    // In turns, and more than once: the difference is small.
    let (mut bare, mut sealed) = (Vec::new(), Vec::new());
    for turn in 0..5 {
        bare.push(append_all(&folder.join(format!("bare-{turn}.db")), records, ends, notes, false).await?);
        sealed.push(append_all(&folder.join(format!("sealed-{turn}.db")), records, ends, notes, true).await?);
    }
    let median = |values: Vec<f64>| spread(values).map_or(0.0, |spread| spread.median);
    Ok((median(sealed) - median(bare)).max(0.0))
}

/// When a record was decided, as its line says.
fn moment(sealed: &Sealed) -> Option<&[u8]> {
    const WORD: &[u8] = b"\"mono_ms\":";
    let at = sealed.bytes.windows(WORD.len()).position(|word| word == WORD)?;
    sealed.bytes[at..].split(|byte| *byte == b',').next()
}

/// Processor time of the process, which the database's own thread is a part of.
async fn append_all(
    file: &Path,
    records: &[Sealed],
    ends: &[Head],
    notes: &[(u64, String)],
    seals: bool,
) -> Result<f64> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .disable_statement_logging();
    let mut database = options.connect().await?;
    for table in [
        "CREATE TABLE head (id INTEGER PRIMARY KEY, size INTEGER, last_leaf BLOB, frontier BLOB)",
        "INSERT INTO head (id) VALUES (0)",
        "CREATE TABLE records (seq INTEGER PRIMARY KEY, run TEXT, run_seq INTEGER, leaf BLOB, bytes BLOB)",
        "CREATE UNIQUE INDEX records_by_run ON records (run, run_seq)",
        "CREATE TABLE checkpoints (id INTEGER PRIMARY KEY, size INTEGER, note TEXT, frontier BLOB)",
    ] {
        sqlx::query(table).execute(&mut database).await?;
    }
    let begun = now_ms(ClockId::ProcessCPUTime);
    for group in records.chunk_by(|a, b| moment(a) == moment(b)) {
        append(&mut database, group, ends, notes, seals).await?;
    }
    let taken = now_ms(ClockId::ProcessCPUTime) - begun;
    database.close().await?;
    Ok(taken)
}

async fn append(
    database: &mut SqliteConnection,
    group: &[Sealed],
    ends: &[Head],
    notes: &[(u64, String)],
    seals: bool,
) -> Result<()> {
    let mut transaction = database.begin().await?;
    for sealed in group {
        let leaf = seals.then(|| sealed.leaf.0.to_vec());
        sqlx::query("INSERT INTO records (seq, run, run_seq, leaf, bytes) VALUES (?, ?, ?, ?, ?)")
            .bind(i64::try_from(sealed.seq)?)
            .bind(sealed.run.as_str())
            .bind(i64::try_from(sealed.run_seq)?)
            .bind(leaf)
            .bind(&sealed.bytes[..])
            .execute(&mut *transaction)
            .await?;
    }
    let last = group.last().ok_or("a group has records")?;
    if seals {
        let end = &ends[usize::try_from(last.seq)?];
        let frontier: Vec<u8> = end.frontier.iter().flat_map(|root| root.0).collect();
        sqlx::query("UPDATE head SET size = ?, last_leaf = ?, frontier = ? WHERE id = 0")
            .bind(i64::try_from(end.size)?)
            .bind(last.leaf.0.to_vec())
            .bind(&frontier[..])
            .execute(&mut *transaction)
            .await?;
        for (size, note) in notes.iter().filter(|(size, _)| group[0].seq < *size && *size <= last.seq + 1) {
            sqlx::query("INSERT INTO checkpoints (size, note, frontier) VALUES (?, ?, ?)")
                .bind(i64::try_from(*size)?)
                .bind(&note[..])
                .bind(&frontier[..])
                .execute(&mut *transaction)
                .await?;
        }
    }
    transaction.commit().await?;
    Ok(())
}
