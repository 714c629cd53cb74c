//! `evidence recover`: what does not read beyond the last signed head is set aside, and the record says so.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runbook_driver::SystemClock;
use runbook_ledger::{Checkpoint, KeyChain, Sealer, Verifier, VerifierKey};
use runbook_model::record::{Head, Sealed};
use runbook_model::{Event, Notice, RunId, Sha256};
use runbook_ports::store::{self, Append};
use runbook_ports::{Clock as _, Signer as _};
use runbook_report::text::count;
use runbook_report::verdict::Code;
use runbook_store::{Row, Tail};
use serde_json::json;

use crate::arguments::upkeep::Recover;
use crate::failure::{Failure, REFUSED, UNRECORDED};
use crate::output::{self, Output};
use crate::project::Project;
use crate::{head, keys, person, record};

/// Rows read at once.
const PAGE: u32 = 1_000;

/// What of a ledger reads.
pub(super) struct Read {
    /// The head that was signed last.
    pub(super) signed: Option<Checkpoint>,
    /// The end of what reads.
    pub(super) keep: Head,
    /// Records of the installation in it.
    pub(super) notices: u64,
    /// Where it says last that an older copy was put back, and how many records were known of then.
    pub(super) restored: Option<(u64, u64)>,
    /// Why it ends there; `None` when there is nothing behind it.
    pub(super) why: Option<String>,
}

/// Runs `evidence recover`.
pub(super) async fn run(project: &Project, arguments: &Recover, _output: Output) -> Result<u8, Failure> {
    if !project.has_state() {
        return Err(Failure::usage("RB0609", format!("no run was recorded in {} yet", project.state_shown())));
    }
    let key = keys::open(project)?;
    let mut tail = open(project).await?;
    let kept = head::kept(project).map_or(0, |kept| kept.size);
    if let Ok(end) = tail.head().await {
        no_older_copy(kept, end.size)?;
    }
    let read = read(&mut tail, &keys::public(project)?).await?;
    no_older_copy(kept, read.keep.size)?;
    let Some(why) = read.why else {
        tail.accept().await.map_err(|error| record::failed(&error))?;
        output::note("all of the record reads; nothing was set aside");
        return Ok(0);
    };
    let rows = rows(&mut tail, read.keep.size).await?;
    let aside: String = rows.iter().map(|row| line(row) + "\n").collect();
    let digest = Sha256::of(aside.as_bytes());
    let notice = Notice::LedgerRecovered {
        at_size: read.keep.size,
        records: rows.len() as u64,
        set_aside: digest,
        reason: format!("{}: {why}", arguments.reason),
        by: person::operator(),
    };
    let clock = SystemClock::new();
    let mut sealer = Sealer::new(&read.keep).map_err(crate::failure::fault)?;
    let run = RunId::installation();
    let sealed = sealer
        .seal(clock.now_ms(), clock.mono_ms(), &run, read.notices, &Event::Installation(notice))
        .map_err(crate::failure::fault)?;
    let at = Checkpoint { origin: key.verifier.name().to_owned(), size: sealer.size(), root: sealer.root() };
    let note = at
        .sign(read.signed.as_ref(), &key.verifier, |bytes| key.signer.sign(bytes))
        .map_err(|error| Failure::new("RB0662", REFUSED, format!("the ledger's head could not be signed: {error}")))?;
    let append = Append {
        expected_size: read.keep.size,
        records: vec![sealed],
        head: sealer.head(),
        checkpoint: Some(store::Checkpoint { size: at.size, note }),
        blobs: vec![(digest, aside.into_bytes())],
        ..Append::default()
    };
    tail.cut(&read.keep, append).await.map_err(|error| {
        Failure::new(runbook_store::code(&error), UNRECORDED, error.to_string()).next("call it again")
    })?;
    head::keep(project, &sealer.head());
    if arguments.json {
        output::json(&json!({
            "schema": "recover/v1",
            "at_size": read.keep.size,
            "records": rows.len(),
            "set_aside": digest,
            "why": why,
        }))?;
        return Ok(0);
    }
    output::note(format!(
        "{} set aside from record {} on ({why})\n  they are kept as blob {digest}\n  runs that lost records count as \
         interrupted: look at their hosts, then `runbook resume`",
        count(rows.len(), "record"),
        read.keep.size
    ));
    Ok(0)
}

/// What was signed and kept beside the key was on the disk too: a crash does not take it away.
fn no_older_copy(kept: u64, there: u64) -> Result<(), Failure> {
    if kept <= there {
        return Ok(());
    }
    let text = format!("the database has {there} records that read, and {kept} were sealed");
    Err(Failure::new("RB0616", REFUSED, text)
        .detail("that is no crash: what was sealed was also on the disk")
        .next("put the whole state folder back from your backup; then `runbook evidence restored --reason …`"))
}

/// The store, without believing its end.
pub(super) async fn open(project: &Project) -> Result<Tail, Failure> {
    project.make_state()?;
    Tail::open(&project.state).await.map_err(|error| {
        Failure::new(error.code(), REFUSED, error.to_string())
            .next("`runbook doctor` says what is wrong with the state's folder")
    })
}

async fn rows(tail: &mut Tail, from: u64) -> Result<Vec<Row>, Failure> {
    let mut out: Vec<Row> = Vec::new();
    loop {
        let next = out.last().map_or(from, |row| row.seq + 1);
        let page = tail.rows(next, PAGE).await.map_err(|error| record::failed(&error))?;
        if page.is_empty() {
            return Ok(out);
        }
        out.extend(page);
    }
}

/// Reads the ledger up to the first record that is not as it was sealed.
///
/// `current`: the key that is to have signed the last head.
///
/// # Errors
/// When it is below the head that was signed last: that is no crash.
pub(super) async fn read(tail: &mut Tail, current: &VerifierKey) -> Result<Read, Failure> {
    let tampered = |what: String| {
        Failure::new("RB0662", Code::Tampered.number(), what)
            .detail("it is below a signed head, so no crash has done it, and nothing is set aside there")
            .next("keep the state folder as it is; `runbook evidence verify RUN` says what else is wrong")
            .next("put the whole state folder back from your backup")
    };
    let last = tail.last_checkpoint().await.map_err(|error| record::failed(&error))?;
    let signed_size = last.as_ref().map_or(0, |last| last.size);
    let mut rotations = Vec::new();
    let mut verifier = Verifier::new([]);
    let mut notices = 0;
    let mut restored = None;
    let mut keep = Head::default();
    let mut signed = None;
    let mut why = None;
    'reading: loop {
        if verifier.size() == signed_size
            && signed.is_none()
            && let Some(last) = &last
        {
            let chain = KeyChain::of(current, rotations.iter().map(|(seq, notice)| (*seq, notice)));
            let head = chain.and_then(|chain| chain.verify(&last.note));
            let head = head.map_err(|error| tampered(format!("the last signed head is not the ledger's: {error}")))?;
            if (head.size, head.root) != (verifier.size(), verifier.root()) {
                return Err(tampered(format!("the first {signed_size} records are not the ones that were signed")));
            }
            signed = Some(head);
        }
        let from = verifier.size();
        let room = if from < signed_size { signed_size - from } else { u64::from(PAGE) };
        let limit = u32::try_from(room).unwrap_or(PAGE).min(PAGE);
        let page = tail.rows(from, limit).await.map_err(|error| record::failed(&error))?;
        if page.is_empty() {
            break;
        }
        for row in page {
            let place = verifier.size();
            match push(&mut verifier, row) {
                Ok(event) => {
                    if let Some(Event::Installation(notice)) = event {
                        notices += 1;
                        if let Notice::LedgerRestored { known_size, .. } = notice {
                            restored = Some((place, known_size));
                        }
                        rotations.push((place, notice));
                        rotations.retain(|(_, notice)| matches!(notice, Notice::KeyRotated { .. }));
                    }
                    keep = verifier.head();
                }
                Err(what) if place < signed_size => return Err(tampered(what)),
                Err(what) => {
                    why = Some(what);
                    break 'reading;
                }
            }
        }
    }
    if keep.size < signed_size {
        return Err(tampered(format!(
            "{signed_size} records were signed, and from record {} on they are missing",
            keep.size
        )));
    }
    if why.is_none() {
        why = match tail.head().await {
            Ok(end) if end != keep => Some("the log's end is not the end of its records".to_owned()),
            Err(error) => Some(error.to_string()),
            Ok(_) => None,
        };
    }
    if why.is_none()
        && let Some(written) = tail.written().filter(|written| *written > keep.size)
    {
        why = Some(format!("{written} records were written, and {} are there", keep.size));
    }
    Ok(Read { signed, keep, notices, restored, why })
}

/// One more record; what it says, unless its body was removed.
fn push(verifier: &mut Verifier, row: Row) -> Result<Option<Event>, String> {
    let unfit = || format!("record {}: its place or its hash is none", row.seq);
    let leaf = Sha256(row.leaf.as_slice().try_into().map_err(|_| unfit())?);
    let run_seq = u64::try_from(row.run_seq).map_err(|_| unfit())?;
    let sealed = Sealed { seq: row.seq, run: row.run.into(), run_seq, leaf, bytes: row.bytes };
    if sealed.bytes.is_empty() {
        return verifier.push_purged(&sealed).map(|()| None).map_err(|fault| fault.to_string());
    }
    verifier.push_sealed(&sealed).map(|record| Some(record.event)).map_err(|fault| fault.to_string())
}

/// A row that is set aside.
fn line(row: &Row) -> String {
    let leaf: String = row.leaf.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "seq": row.seq,
        "run": row.run,
        "run_seq": row.run_seq,
        "leaf": leaf,
        "base64": STANDARD.encode(&row.bytes),
    })
    .to_string()
}
