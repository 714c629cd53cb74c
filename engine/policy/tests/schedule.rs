//! What is due, and what becomes of it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use runbook_lang::{parse_schedule, parse_windows};
use runbook_model::schedule::Occurrence;
use runbook_policy::Calendar;
use runbook_policy::schedule::{Step, Timetable};

const WINDOWS: &str = "schema: windows/v1\nzone: America/New_York\nholidays: [2026-12-25]\nwindows:\n  \
                       nights: {when: every Friday 22:00 for 4h, holidays: skip}\n";

fn timetable(schedules: &str) -> Timetable {
    let windows = parse_windows("windows.yaml", WINDOWS.as_bytes()).unwrap().value;
    let calendar = Calendar::new(&windows.windows).unwrap();
    let text = format!("schema: schedule/v1\nzone: America/New_York\nschedules:\n{schedules}");
    let file = parse_schedule("schedule.yaml", text.as_bytes()).unwrap_or_else(|problems| panic!("{problems:?}")).value;
    Timetable::new(&file.schedules, Some(&calendar)).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A daemon that looks at these moments: what it ran, and what it said to have been missed.
fn watched(
    table: &Timetable,
    from: Timestamp,
    moments: impl IntoIterator<Item = Timestamp>,
) -> (Vec<String>, Vec<String>) {
    let since: BTreeMap<String, Timestamp> = table.names().map(|name| (name.to_owned(), from)).collect();
    let (mut settled, mut ran, mut missed) = (BTreeSet::new(), Vec::new(), Vec::new());
    for now in moments {
        for step in table.look(&since, &settled, now) {
            let due = step.due().clone();
            assert!(settled.insert(due.occurrence.clone()), "{} twice", due.occurrence);
            match step {
                Step::Fire(_) => ran.push(due.occurrence.to_string()),
                Step::Miss(_) => missed.push(due.occurrence.to_string()),
            }
        }
    }
    (ran, missed)
}

#[test]
fn a_year_of_patch_tuesdays_passes_in_a_second() {
    let table = timetable("  patch: {run: a.yaml, when: Patch Tuesday + 3 days 22:00}\n");
    let (begin, end) = (at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"));
    let mut moments = Vec::new();
    let mut now = begin;
    // As the daemon does: it sleeps until the next moment at which there is something to do.
    while let Some(next) = table.next_moment(now).filter(|next| *next < end) {
        moments.push(next);
        now = next;
    }
    let (ran, missed) = watched(&table, begin, moments);
    assert_eq!(missed, [""; 0]);
    let days: Vec<&str> = ran.iter().map(|key| &key["patch@".len()..][..16]).collect();
    // Fridays after the second Tuesday, 22:00 in New York: 03:00Z in winter, 02:00Z in summer.
    assert_eq!(
        days,
        [
            "2026-01-17T03:00",
            "2026-02-14T03:00",
            "2026-03-14T02:00",
            "2026-04-18T02:00",
            "2026-05-16T02:00",
            "2026-06-13T02:00",
            "2026-07-18T02:00",
            "2026-08-15T02:00",
            "2026-09-12T02:00",
            "2026-10-17T02:00",
            "2026-11-14T03:00",
            "2026-12-12T03:00",
        ]
    );
}

#[test]
fn late_is_run_while_there_is_time_and_missed_after_that() {
    let table = timetable("  a: {run: a.yaml, when: every day 22:00, late: 2h}\n");
    let begin = at("2026-06-01T12:00:00Z");
    let one = |moment: &str| watched(&table, begin, [at(moment)]);
    assert_eq!(one("2026-06-02T01:59:59Z"), (vec![], vec![]));
    let key = "a@2026-06-02T02:00:00.000Z".to_owned();
    assert_eq!(one("2026-06-02T02:00:00Z"), (vec![key.clone()], vec![]));
    assert_eq!(one("2026-06-02T03:59:59Z"), (vec![key.clone()], vec![]));
    assert_eq!(one("2026-06-02T04:00:00Z"), (vec![], vec![key.clone()]));
    // Of several the last is run.
    let (ran, missed) = one("2026-06-04T02:30:00Z");
    assert_eq!(ran, ["a@2026-06-04T02:00:00.000Z"]);
    assert_eq!(missed, [key, "a@2026-06-03T02:00:00.000Z".to_owned()]);
}

#[test]
fn with_a_window_it_is_run_when_that_opens_and_late_while_it_is_open() {
    let table = timetable("  a: {run: a.yaml, window: nights}\n  b: {run: a.yaml, window: nights, late: 10m}\n");
    let begin = at("2026-12-12T12:00:00Z");
    let (ran, missed) = watched(&table, begin, [at("2026-12-19T03:20:00Z"), at("2026-12-26T12:00:00Z")]);
    assert_eq!(ran, ["a@2026-12-19T03:00:00.000Z"]);
    assert_eq!(missed, ["b@2026-12-19T03:00:00.000Z"], "and on the holiday nothing was due");
}

#[test]
fn what_is_to_come_is_told_so_long_before() {
    let table = timetable(
        "  a: {run: a.yaml, when: second Tuesday 22:00, notice_before: 24h}\n  b: {run: b.yaml, when: every day 01:00}\n",
    );
    assert!(table.upcoming(at("2026-12-08T02:59:59Z")).is_empty());
    let told = table.upcoming(at("2026-12-08T03:00:00Z"));
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].at, at("2026-12-09T03:00:00Z"));
    assert_eq!(table.next_moment(at("2026-12-07T20:00:00Z")), Some(at("2026-12-08T03:00:00Z")));
}

#[test]
fn what_is_not_enabled_is_checked_and_never_due() {
    let table = timetable("  a: {run: a.yaml, when: every day 22:00, enabled: false}\n");
    assert_eq!(table.names().count(), 0);
    assert_eq!(table.next_moment(at("2026-06-01T00:00:00Z")), None);
    let text = "schema: schedule/v1\nzone: Mars/Base\nschedules:\n  a: {run: a.yaml, when: every day 22:00, enabled: false}\n  b: {run: a.yaml, window: none}\n";
    let file = parse_schedule("schedule.yaml", text.as_bytes()).unwrap().value;
    let misfits: Vec<String> = Timetable::new(&file.schedules, None)
        .unwrap_err()
        .iter()
        .map(|(name, misfit)| format!("{name}: {misfit}"))
        .collect();
    assert!(misfits[0].contains("Mars/Base") && misfits[1].contains("no window `none`"), "{misfits:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whenever it looks, and however long it was away: each occurrence is run or missed, once; run in its time alone.
    #[test]
    fn each_occurrence_is_settled_once_and_run_in_its_time(
        pauses in prop::collection::vec(prop_oneof![1i64..90, 1i64..4_000, 1i64..400_000], 1..60),
        late in 1u32..2_000,
    ) {
        let table = timetable(&format!("  a: {{run: a.yaml, when: every day 02:30, late: {late}m}}\n"));
        let begin = at("2026-10-25T00:00:00Z");
        let mut now = begin;
        let moments: Vec<Timestamp> = pauses.iter().map(|seconds| {
            now += SignedDuration::from_secs(*seconds);
            now
        }).collect();
        let (ran, missed) = watched(&table, begin, moments.clone());
        let all = table.between("a", begin, now);
        let told: BTreeSet<&String> = ran.iter().chain(&missed).collect();
        prop_assert_eq!(told.len(), ran.len() + missed.len());
        prop_assert_eq!(told.len(), all.len());
        for due in &all {
            let key = due.occurrence.to_string();
            let looked = moments.iter().any(|moment| *moment >= due.at && *moment < due.until);
            prop_assert!(looked || missed.contains(&key), "{} was run when it was too late", key);
        }
        let keys: Vec<Occurrence> = ran.iter().map(|key| key.parse().unwrap()).collect();
        prop_assert!(keys.windows(2).all(|two| two[0] < two[1]));
    }
}
