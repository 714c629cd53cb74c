//! `review`, `reviews`: after a run's end a person says what came of it, and signs that.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use runbook_ledger::sshsig;
use runbook_model::review::{NAMESPACE, Review, SCHEMA, Verdict};
use runbook_model::units::rfc3339_ms;
use runbook_model::{Notice, RunId, Sha256};
use runbook_policy::reviews::{State, standing};
use runbook_report::RunView;
use runbook_report::style::Tone;
use runbook_report::text::escape_line;
use runbook_store::SqliteStore;
use serde_json::{Value, json};

use crate::arguments::rules::{ReviewRun, Reviews, ReviewsCommand, Verdict as Said};
use crate::failure::{Failure, REFUSED};
use crate::output::{self, Output, note};
use crate::policy::{self, Staff};
use crate::project::Project;
use crate::reviews::{self, Owing};
use crate::signing::{self, Paper};
use crate::{notices, person, record, sources};

/// Runs `review`.
pub(crate) async fn review(project: &Project, arguments: &ReviewRun, output: Output) -> Result<u8, Failure> {
    let reason = arguments.reason.trim();
    if reason.is_empty() {
        return Err(Failure::usage("RB0617", "--reason is empty; say why"));
    }
    let staff = Staff::must(project, output.error_palette)?;
    let (id, member) = signing::signer(&staff, arguments.signer.person.as_deref())?;
    let store = record::open_recorded(project).await?;
    let (owing, view) = owing(&store, &arguments.run).await?;
    let outcome = match owing.run.ended {
        Some((_, outcome)) => outcome,
        None => return Err(not_ended(&owing.run.run)),
    };
    let ledger = signing::seen(project, Some(&store)).await?;
    let document = Review {
        schema: SCHEMA.to_owned(),
        run: owing.run.run.clone(),
        plan_sha256: owing.run.plan_sha256,
        outcome,
        verdict: match arguments.verdict {
            Said::Accepted => Verdict::Accepted,
            Said::FollowUp => Verdict::FollowUp,
        },
        reason: reason.to_owned(),
        made_ms: u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0),
        nonce: signing::nonce()?,
        ledger: ledger.ok_or_else(|| crate::failure::fault("the ledger is empty although it holds a run"))?,
        signer: id.to_owned(),
    };
    note(shown(&view, &owing, &document));
    let bytes = document.bytes();
    let paper = Paper { namespace: NAMESPACE, bytes: &bytes, command: "reviews" };
    let question = format!("\nSign this as {}?", member.name);
    let Some(armored) = signing::obtain(project, &arguments.signer, member, paper, &question, output)? else {
        return Ok(0);
    };
    let record = take_in(project, &store, &owing, &document, &armored, &staff).await?;
    if arguments.json {
        output::json(&json!({
            "schema": "review-signed/v1", "run_id": document.run, "verdict": document.verdict.name(), "signer": id,
            "document_sha256": Sha256::of(&document.bytes()), "record": record,
        }))?;
    }
    told(&store, &document).await
}

/// The run that a person means, with what it owes, and all who ran it.
async fn owing(store: &SqliteStore, name: &str) -> Result<(Owing, RunView), Failure> {
    let index = record::find(store, name).await?;
    let view = record::view(store, &index).await?;
    let mut owing = reviews::of(store, &index).await?.ok_or_else(|| {
        Failure::new("RB0736", REFUSED, format!("run {} owes no review", index.header.run))
            .next("a run owes what the policy asked for when it was opened; `runbook reviews` lists those that do")
    })?;
    // Who took it up again has run it too.
    let resumed: BTreeSet<String> = view.resumed.iter().map(|(by, _)| by.name.clone()).collect();
    owing.run.operators.extend(resumed);
    owing.run.last_seq = view.last_seq;
    Ok((owing, view))
}

fn not_ended(run: &RunId) -> Failure {
    Failure::new("RB0736", REFUSED, format!("run {run} has not ended, so nobody can say what came of it"))
        .next(format!("`runbook resume {run}` goes on with it, `runbook cancel {run}` takes it back"))
}

/// What is signed, for the one who signs it.
fn shown(view: &RunView, owing: &Owing, document: &Review) -> String {
    let line = |text: &str| escape_line(text.as_bytes());
    let mut text = format!("{}  {}\n", view.plan.runbook.name, line(&view.plan.runbook.title));
    let mut pair = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<11} {}", line(value));
    };
    let ended = owing.run.ended.map(|(ended, _)| rfc3339_ms(ended)).unwrap_or_default();
    pair("tier", view.plan.runbook.tier.name());
    pair("hosts", &view.plan.hosts.keys().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    pair("run by", &owing.run.operators.iter().cloned().collect::<Vec<_>>().join(", "));
    pair("from", &format!("{} until {ended}", rfc3339_ms(owing.run.started_ms)));
    if let Some(header) = &view.header {
        pair("reason", header.reason.as_deref().unwrap_or("none was given"));
        let approved: Vec<&str> = header.approvals.iter().map(|used| used.signer.as_str()).collect();
        let approved = if approved.is_empty() { "nobody".to_owned() } else { approved.join(", ") };
        pair("approved by", &approved);
    }
    for why in &view.break_glass {
        pair("set aside", why);
    }
    let _ = write!(
        text,
        "\nwhat is signed:\n  run         {}\n  plan        {}\n  outcome     {}\n  verdict     {}\n  reason      {}\n  ledger      {} \
         records, root {}\n`runbook show {}` and `runbook evidence report {}` tell the rest\n",
        document.run,
        document.plan_sha256,
        document.outcome.name(),
        document.verdict.name(),
        line(&document.reason),
        document.ledger.size,
        document.ledger.root,
        document.run,
        document.run,
    );
    text
}

/// Puts a review on record, once it is certain that it counts. Returns the record's place.
async fn take_in(
    project: &Project,
    store: &SqliteStore,
    owing: &Owing,
    document: &Review,
    armored: &[u8],
    staff: &Staff,
) -> Result<u64, Failure> {
    let bytes = document.bytes();
    let (digest, signature, people) = (Sha256::of(&bytes), Sha256::of(armored), Sha256::of(&staff.bytes));
    if let Some(there) = owing.taken.iter().find(|taken| taken.document == digest && taken.signature == signature) {
        return Ok(there.seq);
    }
    reviews::check(&owing.run, document, armored, &staff.people).map_err(|why| {
        Failure::new("RB0737", REFUSED, format!("the review does not count: {why}"))
            .changed("it was not put on record")
            .next(format!("`runbook reviews` says who may review run {}", owing.run.run))
    })?;
    let notice = Notice::RunReviewed {
        reviewed_run: document.run.clone(),
        verdict: document.verdict,
        signer: document.signer.clone(),
        document: digest,
        signature,
        people,
        by: person::operator(),
    };
    let blobs = vec![(digest, bytes), (signature, armored.to_vec()), (people, staff.bytes.clone())];
    let records = notices::append(project, store, vec![notice], blobs).await?;
    Ok(records.last().map_or(0, |record| record.seq))
}

async fn told(store: &SqliteStore, document: &Review) -> Result<u8, Failure> {
    let index = record::find(store, document.run.as_str()).await?;
    let missing = reviews::of(store, &index).await?.map(|owing| owing.standing().missing).unwrap_or_default();
    note(match missing.as_slice() {
        [] => format!("on record as the review of {}; the run owes none any more", document.signer),
        missing => format!("on record as the review of {}; still missing: {}", document.signer, missing.join("; ")),
    });
    Ok(0)
}

/// Runs `reviews …`.
pub(crate) async fn list(project: &Project, arguments: &Reviews, output: Output) -> Result<u8, Failure> {
    if let Some(ReviewsCommand::Import(arguments)) = &arguments.command {
        return import(project, &arguments.file, output).await;
    }
    let all = match record::open_existing(project).await? {
        Some(store) => reviews::all(&store).await?,
        None => Vec::new(),
    };
    let now = jiff::Timestamp::now();
    if arguments.json {
        let listed: Vec<Value> = all
            .iter()
            .map(|owing| {
                let stands = standing(&owing.run, now);
                json!({
                    "run_id": owing.run.run, "runbook": owing.run.runbook, "state": stands.state.name(),
                    "due": stands.state.at_ms().map(rfc3339_ms), "ended": owing.run.ended.map(|(ended, _)| rfc3339_ms(ended)),
                    "owes": owing.run.owes, "missing": stands.missing, "who": stands.who, "reviews": owing.lines(),
                })
            })
            .collect();
        output::json(&json!({"schema": "reviews/v1", "reviews": listed}))?;
        return Ok(0);
    }
    let mut text = String::new();
    for owing in &all {
        let stands = standing(&owing.run, now);
        let tone = match stands.state {
            State::Overdue(_) => Tone::Bad,
            State::Due(_) | State::Running => Tone::Warn,
            State::Done => Tone::Good,
        };
        let when = match stands.state {
            State::Due(at) => format!("  until {}", rfc3339_ms(at)),
            State::Overdue(at) => format!("  since {}", rfc3339_ms(at)),
            State::Running | State::Done => String::new(),
        };
        let state = output.palette.paint(tone, &format!("{:<7}", stands.state.name()));
        let _ = writeln!(text, "{state}  {}  {}{when}", stands.run, stands.runbook);
        if !stands.ended {
            let _ = writeln!(text, "         it has not ended, and can be reviewed after its end");
        }
        for missing in &stands.missing {
            let _ = writeln!(text, "         {}", escape_line(missing.as_bytes()));
        }
        for who in &stands.who {
            let _ = writeln!(text, "         wants {}", escape_line(who.as_bytes()));
        }
        for line in owing.lines() {
            let _ = writeln!(text, "         {}", escape_line(line.told().as_bytes()));
        }
    }
    if all.is_empty() {
        note("no run owes a review");
    }
    output::data(text)?;
    Ok(0)
}

async fn import(project: &Project, path: &Path, output: Output) -> Result<u8, Failure> {
    let staff = Staff::must(project, output.error_palette)?;
    let unread = |path: &Path| {
        let path = path.to_owned();
        move |error: std::io::Error| Failure::file("RB0737", "read", &path, &error)
    };
    let bytes = sources::read(path, runbook_model::approval::BYTES_MAX).map_err(unread(path))?;
    let document = Review::parse(&bytes).ok_or_else(|| {
        Failure::new("RB0737", REFUSED, format!("{} is no review as it is signed", path.display()))
            .next("it must be byte for byte the file that was signed; a mail program may have changed it: send it as an attachment")
    })?;
    let armored = match sources::read(&policy::signature_of(path), sshsig::BYTES_MAX) {
        Ok(armored) => armored,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(unread(&policy::signature_of(path))(error)),
    };
    let store = record::open_recorded(project).await?;
    let (owing, _) = owing(&store, document.run.as_str()).await?;
    if owing.run.ended.is_none() {
        return Err(not_ended(&owing.run.run));
    }
    take_in(project, &store, &owing, &document, &armored, &staff).await?;
    told(&store, &document).await
}
