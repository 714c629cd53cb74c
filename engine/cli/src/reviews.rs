//! What runs owe of reviews, and what of them is on the record. For what decides, for what shows, and for what reminds.

use std::collections::BTreeSet;

use jiff::Timestamp;
use runbook_lang::parse_people;
use runbook_model::approval::BYTES_MAX;
use runbook_model::people::People;
use runbook_model::record::Record;
use runbook_model::review::{NAMESPACE, Review};
use runbook_model::{Notice, RunId, Sha256};
use runbook_policy::reviews::{Given, Reviewable, Standing, counts, latest, standing};
use runbook_ports::store::{RunIndex, RunStatus};
use runbook_ports::{BlobStore as _, Store as _};
use runbook_report::json::ReviewLine;
use runbook_store::SqliteStore;

use crate::failure::{Failure, REFUSED};
use crate::{policy, record};

/// The types of the notices that are looked at.
const NOTICES: &[&str] = &["run_reviewed", "windows_set_aside"];
/// The largest people's file that is read.
const PEOPLE_BYTES_MAX: u64 = 4 << 20;

/// A run that owes reviews, with those that are on the record.
pub(crate) struct Owing {
    pub(crate) run: Reviewable,
    pub(crate) taken: Vec<Taken>,
}

/// A review on the record.
pub(crate) struct Taken {
    pub(crate) review: Review,
    pub(crate) document: Sha256,
    pub(crate) signature: Sha256,
    /// The record that says so, and its time.
    pub(crate) seq: u64,
    pub(crate) at: String,
    /// It counted when it was taken in, or why not.
    pub(crate) given: Result<Given, String>,
}

impl Owing {
    /// Where it stands now.
    pub(crate) fn standing(&self) -> Standing {
        standing(&self.run, Timestamp::now())
    }

    /// What is shown of the reviews of it.
    pub(crate) fn lines(&self) -> Vec<ReviewLine> {
        let line = |taken: &Taken| ReviewLine {
            signer: taken.review.signer.clone(),
            verdict: taken.review.verdict.name(),
            reason: taken.review.reason.clone(),
            made_at: runbook_model::units::rfc3339_ms(taken.review.made_ms),
            taken_in_at: taken.at.clone(),
            record: taken.seq,
            document_sha256: taken.document.to_string(),
            signature_sha256: taken.signature.to_string(),
            problem: taken.given.as_ref().err().cloned(),
        };
        self.taken.iter().map(line).collect()
    }
}

/// All runs that owe reviews, oldest first: also those that were given all.
pub(crate) async fn all(store: &SqliteStore) -> Result<Vec<Owing>, Failure> {
    let runs = store.runs().await.map_err(|error| record::failed(&error))?;
    of_runs(store, runs).await
}

/// What one run owes; `None`: nothing.
pub(crate) async fn of(store: &SqliteStore, index: &RunIndex) -> Result<Option<Owing>, Failure> {
    Ok(of_runs(store, vec![index.clone()]).await?.pop())
}

async fn of_runs(store: &SqliteStore, mut runs: Vec<RunIndex>) -> Result<Vec<Owing>, Failure> {
    runs.retain(|index| !index.header.reviews.is_empty());
    if runs.is_empty() {
        return Ok(Vec::new());
    }
    let mut set_aside = BTreeSet::new();
    let mut reviews = Vec::new();
    for (told, notice) in record::notices(store, NOTICES).await? {
        match &notice {
            Notice::WindowsSetAside { resumed_run, .. } => {
                set_aside.insert(resumed_run.clone());
            }
            Notice::RunReviewed { .. } => reviews.push((told, notice)),
            _ => {}
        }
    }
    let mut owing = Vec::new();
    for index in runs {
        let broken = index.header.break_glass.is_some() || set_aside.contains(&index.header.run);
        let owes: Vec<_> = index.header.reviews.iter().filter(|owed| broken || !owed.break_glass).cloned().collect();
        if owes.is_empty() {
            continue;
        }
        let worked_on = index.status != RunStatus::Ended && record::is_worked_on(store, &index.header.run).await?;
        let mut run = Reviewable {
            run: index.header.run.clone(),
            runbook: index.header.runbook.clone(),
            plan_sha256: index.header.plan_sha256,
            operators: BTreeSet::from([index.header.operator.name.clone()]),
            owes,
            started_ms: index.header.started_ms,
            ended: index.ended_ms.zip(index.outcome).filter(|_| index.status == RunStatus::Ended),
            last_seq: None,
            worked_on,
            given: Vec::new(),
        };
        let mut taken = Vec::new();
        for (told, notice) in &reviews {
            if let Notice::RunReviewed { reviewed_run, document, signature, people, .. } = notice
                && *reviewed_run == run.run
            {
                taken.push(read(store, told, (*document, *signature, *people), &run).await?);
            }
        }
        run.given = latest(taken.iter().filter_map(|taken| taken.given.clone().ok()));
        owing.push(Owing { run, taken });
    }
    Ok(owing)
}

/// A review on the record, judged with the people and by the day of then: who has left since has reviewed it all the same.
async fn read(
    store: &SqliteStore,
    told: &Record,
    (document, signature, people): (Sha256, Sha256, Sha256),
    run: &Reviewable,
) -> Result<Taken, Failure> {
    let unreadable = |what: &str| {
        Failure::new("RB0610", REFUSED, format!("the review in record {} cannot be read: {what}", told.seq))
            .next("`runbook evidence verify` says whether the record was changed")
    };
    let most = u64::try_from(BYTES_MAX).unwrap_or(u64::MAX);
    let bytes = store.get(&document, most).await.map_err(|error| record::failed(&error))?;
    let armored = store.get(&signature, most).await.map_err(|error| record::failed(&error))?;
    let file = store.get(&people, PEOPLE_BYTES_MAX).await.map_err(|error| record::failed(&error))?;
    let people = parse_people("people.yaml", &file).map_err(|_| unreadable("its people.yaml"))?.value;
    let review = Review::parse(&bytes).ok_or_else(|| unreadable("its document"))?;
    let then: Timestamp = told.time.parse().map_err(|_| unreadable("its time"))?;
    let given = counts(run, &review, &policy::signed(&bytes, &armored, NAMESPACE), &people, then);
    Ok(Taken { review, document, signature, seq: told.seq, at: told.time.clone(), given })
}

/// What is shown of a run's reviews: those on the record, and where they stand.
pub(crate) async fn shown(store: &SqliteStore, run: &RunId) -> Result<(Vec<ReviewLine>, Option<Standing>), Failure> {
    let runs = store.runs().await.map_err(|error| record::failed(&error))?;
    let Some(index) = runs.into_iter().find(|index| index.header.run == *run) else { return Ok((Vec::new(), None)) };
    let owing = of(store, &index).await?;
    Ok(owing.map_or((Vec::new(), None), |owing| (owing.lines(), Some(owing.standing()))))
}

/// Whether a review counts now.
///
/// # Errors
/// Why it does not, in words.
pub(crate) fn check(owing: &Reviewable, review: &Review, armored: &[u8], people: &People) -> Result<Given, String> {
    counts(owing, review, &policy::signed(&review.bytes(), armored, NAMESPACE), people, Timestamp::now())
}
