//! Windows as moments, with every change of a clock between 2000 and 2040.

use std::collections::BTreeMap;

use jiff::civil::{Date, DateTime, Time, date, time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use runbook_model::plan::Tier;
use runbook_model::windows::{Blackout, Freeze, Gap, OnHoliday, Overlap, Times, When, Window, Windows};
use runbook_policy::Calendar;
use runbook_policy::calendar::{Closed, Cover, Fault, Moved, Open, State};

const HOUR_MS: u64 = 3_600_000;

fn times(rule: &str, at: Time, zone: &str) -> Times {
    Times {
        rule: rule.into(),
        plus_days: 0,
        at,
        lasts_ms: 4 * HOUR_MS,
        zone: zone.into(),
        gap: Gap::Later,
        overlap: Overlap::First,
        starting: None,
        until: None,
        except: [].into(),
    }
}

fn window(times: Times) -> Window {
    Window { title: None, hosts: None, tiers: vec![Tier::Routine], times, holidays: OnHoliday::Keep }
}

fn calendar(times: Times) -> Calendar {
    with(Windows { windows: [("w".to_owned(), window(times))].into(), ..Windows::default() })
}

fn with(windows: Windows) -> Calendar {
    Calendar::new(&windows).unwrap_or_else(|misfits| panic!("{misfits:?}"))
}

/// Whether times are right.
fn check(times: &Times) -> Result<(), Fault> {
    let windows = Windows { windows: [("w".to_owned(), window(times.clone()))].into(), ..Windows::default() };
    Calendar::new(&windows).map(drop).map_err(|misfits| misfits[0].fault.clone())
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn starts(times: Times, from: &str, until: &str) -> Vec<String> {
    calendar(times).openings("w", at(from), at(until)).iter().map(|open| open.start.to_string()).collect()
}

#[test]
fn second_tuesdays_by_the_clock_of_new_york() {
    let found = starts(
        times("FREQ=MONTHLY;BYDAY=2TU", time(22, 0, 0, 0), "America/New_York"),
        "2026-01-01T00:00:00Z",
        "2027-01-01T00:00:00Z",
    );
    let wanted = [
        "2026-01-14T03:00:00Z",
        "2026-02-11T03:00:00Z",
        "2026-03-11T02:00:00Z",
        "2026-04-15T02:00:00Z",
        "2026-05-13T02:00:00Z",
        "2026-06-10T02:00:00Z",
        "2026-07-15T02:00:00Z",
        "2026-08-12T02:00:00Z",
        "2026-09-09T02:00:00Z",
        "2026-10-14T02:00:00Z",
        "2026-11-11T03:00:00Z",
        "2026-12-09T03:00:00Z",
    ];
    assert_eq!(found, wanted);
}

/// The second Tuesday of a month, counted on a calendar page.
fn patch_tuesday(year: i16, month: i8) -> Date {
    let first = (1..=7).map(|day| date(year, month, day)).find(|day| day.weekday() == jiff::civil::Weekday::Tuesday);
    first.and_then(|first| first.checked_add(Span::new().days(7)).ok()).expect("each week has one")
}

#[test]
fn any_number_of_days_after_patch_tuesday_and_before_it() {
    for plus in -40..=40 {
        let mut said = times("FREQ=MONTHLY;BYDAY=2TU", time(22, 0, 0, 0), "UTC");
        said.plus_days = plus;
        let found = calendar(said).openings("w", at("2027-01-01T00:00:00Z"), at("2028-01-01T00:00:00Z"));
        let found: Vec<Date> = found.iter().map(|open| open.day).filter(|day| day.year() == 2027).collect();
        let months = (2026..=2028).flat_map(|year| (1..=12).map(move |month| patch_tuesday(year, month)));
        let wanted = months.map(|day| day.checked_add(Span::new().days(plus)).unwrap());
        let wanted: Vec<Date> = wanted.filter(|day| day.year() == 2027).collect();
        assert_eq!(found, wanted, "{plus}");
    }
}

#[test]
fn rules_are_those_of_rfc_5545() {
    let found =
        |rule: &str| starts(times(rule, time(2, 0, 0, 0), "UTC"), "2026-01-01T00:00:00Z", "2026-04-01T00:00:00Z");
    assert_eq!(
        found("FREQ=MONTHLY;BYDAY=-1FR"),
        ["2026-01-30T02:00:00Z", "2026-02-27T02:00:00Z", "2026-03-27T02:00:00Z"]
    );
    assert_eq!(
        found("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1"),
        ["2026-01-30T02:00:00Z", "2026-02-27T02:00:00Z", "2026-03-31T02:00:00Z"]
    );
    assert_eq!(found("FREQ=MONTHLY;BYMONTHDAY=31"), ["2026-01-31T02:00:00Z", "2026-03-31T02:00:00Z"]);
    assert_eq!(found("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29"), Vec::<String>::new());
    assert_eq!(found("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"), Vec::<String>::new(), "a day that never comes");
    let mut every_other = times("FREQ=WEEKLY;INTERVAL=2;BYDAY=SA;COUNT=3", time(2, 0, 0, 0), "UTC");
    every_other.starting = Some(date(2026, 1, 8));
    assert_eq!(
        starts(every_other, "2026-01-01T00:00:00Z", "2026-12-31T00:00:00Z"),
        ["2026-01-10T02:00:00Z", "2026-01-24T02:00:00Z", "2026-02-07T02:00:00Z"]
    );
}

#[test]
fn what_a_rule_may_not_say_is_told() {
    let wrong = |rule: &str| check(&times(rule, time(2, 0, 0, 0), "UTC")).expect_err(rule).to_string();
    for (rule, words) in [
        ("second tuesday", "not a recurrence rule of RFC 5545"),
        ("FREQ=FORTNIGHTLY", "not a recurrence rule of RFC 5545"),
        ("FREQ=MONTHLY;BYDAY=6XX", "not a recurrence rule of RFC 5545"),
        ("FREQ=HOURLY", "no frequency below a day: say the time of day with `at`"),
        ("FREQ=DAILY;BYHOUR=3", "no BYHOUR"),
        ("FREQ=DAILY;UNTIL=20270101T000000Z", "say the last day with `until`"),
        ("FREQ=DAILY;COUNT=3", "counts from a day: write it as `starting`"),
        ("FREQ=WEEKLY;INTERVAL=2;BYDAY=SA", "counts from a day"),
        ("FREQ=MONTHLY", "counts from a day"),
    ] {
        assert!(wrong(rule).contains(words), "{rule}: {}", wrong(rule));
    }
    let mut far = times("FREQ=DAILY", time(2, 0, 0, 0), "America/Gotham");
    assert_eq!(check(&far), Err(Fault::Zone("America/Gotham".into())));
    far.zone = "UTC".into();
    for length in [0, 59_999, 32 * 24 * HOUR_MS] {
        far.lasts_ms = length;
        assert_eq!(check(&far), Err(Fault::Length), "{length}");
    }
}

#[test]
fn a_night_in_which_the_clock_is_changed_is_as_long_as_any_other() {
    let said = times("FREQ=DAILY", time(0, 0, 0, 0), "America/New_York");
    for open in calendar(said).openings("w", at("2026-03-01T00:00:00Z"), at("2026-12-01T00:00:00Z")) {
        assert_eq!(open.start.duration_until(open.end), SignedDuration::from_hours(4));
    }
}

/// The first opening on `day`, of a window that opens daily at `at` from some days before.
fn on(day: Date, at: Time, zone: &str, gap: Gap, overlap: Overlap) -> Option<Open> {
    let mut said = times("FREQ=DAILY", at, zone);
    said.starting = Some(day.checked_sub(Span::new().days(2)).unwrap());
    (said.gap, said.overlap) = (gap, overlap);
    let utc = |days: i64| day.checked_add(Span::new().days(days)).unwrap().to_zoned(TimeZone::UTC).unwrap().timestamp();
    calendar(said).openings("w", utc(-2), utc(3)).into_iter().find(|open| open.day == day)
}

/// Every transition of every zone: what the rules promise is computed from the offsets before and after alone.
#[test]
fn every_change_of_a_clock_between_2000_and_2040() {
    let (first, last) = (at("2000-01-01T00:00:00Z"), at("2040-01-01T00:00:00Z"));
    let (mut gaps, mut folds) = (0, 0);
    // A zone and its other names have one set of rules; each change is tried once.
    let mut tried: BTreeMap<(Timestamp, i32, i32), ()> = BTreeMap::new();
    for name in jiff::tz::db().available() {
        let name = name.as_str().to_owned();
        let Ok(zone) = TimeZone::get(&name) else { panic!("{name}") };
        for change in zone.following(first).take_while(|change| change.timestamp() < last) {
            let moment = change.timestamp();
            let instant_before = moment.checked_sub(SignedDuration::from_secs(1)).unwrap();
            let (before, after) = (zone.to_offset(instant_before).seconds(), zone.to_offset(moment).seconds());
            if before == after || tried.insert((moment, before, after), ()).is_some() {
                continue;
            }
            let half = i64::from((after - before).abs() / 2);
            let local = |offset: i32, seconds: i64| -> DateTime {
                let utc = moment.checked_add(SignedDuration::from_secs(i64::from(offset) + seconds)).unwrap();
                utc.to_zoned(TimeZone::UTC).datetime()
            };
            let shifted = |seconds: i64| moment.checked_add(SignedDuration::from_secs(seconds)).unwrap();
            let what = || format!("{name} at {moment}: {before} to {after}");
            if after > before {
                gaps += 1;
                let skipped = local(before, half);
                let later = on(skipped.date(), skipped.time(), &name, Gap::Later, Overlap::First);
                let later = later.unwrap_or_else(|| panic!("{}", what()));
                assert_eq!((later.start, later.moved), (shifted(half), Some(Moved::Gap)), "{}", what());
                assert_eq!(on(skipped.date(), skipped.time(), &name, Gap::Skip, Overlap::First), None, "{}", what());
            } else {
                folds += 1;
                let twice = local(after, half);
                for (overlap, seconds, moved) in
                    [(Overlap::First, -half, Moved::First), (Overlap::Second, half, Moved::Second)]
                {
                    let open = on(twice.date(), twice.time(), &name, Gap::Later, overlap);
                    let open = open.unwrap_or_else(|| panic!("{}", what()));
                    assert_eq!((open.start, open.moved), (shifted(seconds), Some(moved)), "{}", what());
                }
            }
        }
    }
    assert!(gaps > 1_500 && folds > 1_500, "{gaps} gaps, {folds} folds");
}

#[test]
fn days_between_two_changes_open_once_each_and_in_order() {
    for zone in ["America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia", "Asia/Kathmandu"] {
        let said = times("FREQ=DAILY", time(2, 30, 0, 0), zone);
        let found = calendar(said).openings("w", at("2025-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"));
        assert!((729..=731).contains(&found.len()), "{zone}: {}", found.len());
        assert!(found.windows(2).all(|pair| pair[0].start < pair[1].start && pair[0].day < pair[1].day), "{zone}");
    }
}

#[test]
fn the_day_that_a_zone_left_out_has_no_window() {
    // Samoa went from the 29th of December 2011 to the 31st.
    let found =
        starts(times("FREQ=DAILY", time(12, 0, 0, 0), "Pacific/Apia"), "2011-12-29T00:00:00Z", "2012-01-01T12:00:00Z");
    let days = ["2011-12-29T22:00:00Z", "2011-12-30T22:00:00Z", "2011-12-31T22:00:00Z"];
    assert!(days.iter().all(|day| found.iter().any(|start| start == day)), "{found:?}");
}

fn cover(calendar: &Calendar) -> Cover {
    calendar.cover(Tier::Routine, |_| true)
}

#[test]
fn what_closes_a_window_is_told_with_its_end() {
    let mut said = Windows::default();
    said.windows.insert("nights".into(), window(times("FREQ=DAILY", time(22, 0, 0, 0), "UTC")));
    said.holidays.insert(date(2026, 12, 25));
    said.windows.get_mut("nights").unwrap().holidays = OnHoliday::Skip;
    let between = |from: DateTime, until: DateTime| When::Between { from, until, zone: "UTC".into() };
    said.blackouts.insert(
        "payroll".into(),
        Blackout {
            reason: Some("payroll runs".into()),
            hosts: None,
            when: between(date(2026, 12, 10).at(23, 0, 0, 0), date(2026, 12, 11).at(1, 0, 0, 0)),
        },
    );
    said.freezes.insert(
        "year-end".into(),
        Freeze {
            reason: "audit".into(),
            when: between(date(2026, 12, 30).at(0, 0, 0, 0), date(2027, 1, 4).at(0, 0, 0, 0)),
        },
    );
    let calendar = with(said);
    let cover = cover(&calendar);
    let state = |moment: &str| calendar.state(&cover, at(moment));
    assert_eq!(state("2026-12-10T22:30:00Z"), State::Open { until: at("2026-12-10T23:00:00Z") });
    assert_eq!(
        state("2026-12-10T23:30:00Z"),
        State::Closed(Closed::Blackout {
            name: "payroll".into(),
            reason: Some("payroll runs".into()),
            until: at("2026-12-11T01:00:00Z")
        })
    );
    assert_eq!(state("2026-12-11T01:00:00Z"), State::Open { until: at("2026-12-11T02:00:00Z") });
    let State::Closed(Closed::Outside { next: Some(next) }) = state("2026-12-25T22:30:00Z") else { panic!() };
    assert_eq!(next.start, at("2026-12-26T22:00:00Z"), "Christmas is left out");
    assert_eq!(
        state("2026-12-30T22:30:00Z"),
        State::Closed(Closed::Freeze {
            name: "year-end".into(),
            reason: "audit".into(),
            until: at("2027-01-04T00:00:00Z")
        })
    );
    // A freeze is for hosts too that no window is for, and for those that no blackout names.
    let State::Closed(Closed::Freeze { .. }) = calendar.state(&Cover::default(), at("2026-12-31T12:00:00Z")) else {
        panic!()
    };
    assert_eq!(calendar.state(&Cover::default(), at("2026-12-10T23:30:00Z")), State::Free);
}

#[test]
fn a_window_is_for_its_hosts_and_tiers() {
    let mut said = Windows::default();
    let mut files = window(times("FREQ=DAILY", time(22, 0, 0, 0), "UTC"));
    files.hosts = Some("fileservers".into());
    files.tiers = vec![Tier::Routine, Tier::Corrective];
    said.windows.insert("files".into(), files);
    said.windows.insert("all".into(), window(times("FREQ=DAILY", time(22, 0, 0, 0), "UTC")));
    let calendar = with(said);
    let names = |tier, chosen: bool| -> Vec<String> {
        calendar.cover(tier, |selection| selection == "fileservers" && chosen).windows.into_iter().collect()
    };
    assert_eq!(names(Tier::Routine, true), ["all", "files"]);
    assert_eq!(names(Tier::Routine, false), ["all"]);
    assert_eq!(names(Tier::Corrective, true), ["files"]);
    assert_eq!(names(Tier::Emergency, true), Vec::<String>::new());
}

#[test]
fn windows_that_touch_are_one() {
    let mut said = Windows::default();
    said.windows.insert("early".into(), window(times("FREQ=DAILY", time(20, 0, 0, 0), "UTC")));
    said.windows.insert("late".into(), window(times("FREQ=DAILY", time(23, 0, 0, 0), "UTC")));
    let calendar = with(said);
    let state = calendar.state(&cover(&calendar), at("2026-06-01T20:00:00Z"));
    assert_eq!(state, State::Open { until: at("2026-06-02T03:00:00Z") });
}

#[test]
fn the_end_of_a_window_is_outside_and_its_first_moment_inside() {
    let calendar = calendar(times("FREQ=DAILY", time(20, 0, 0, 0), "UTC"));
    let state = |moment: &str| calendar.state(&cover(&calendar), at(moment));
    assert!(matches!(state("2026-06-01T19:59:59.999Z"), State::Closed(_)));
    assert!(matches!(state("2026-06-01T20:00:00Z"), State::Open { .. }));
    assert!(matches!(state("2026-06-01T23:59:59.999Z"), State::Open { .. }));
    assert!(matches!(state("2026-06-02T00:00:00Z"), State::Closed(_)));
}
