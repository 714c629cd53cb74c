//! Times that come again, as moments.

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp};
use rrule::{Frequency, RRule, RRuleSet, Unvalidated};
use runbook_model::windows::{Gap, Overlap, Times};

use super::{Moved, Open};

/// What is wrong with times.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not RFC 5545.
    #[error("`{rule}` is not a recurrence rule of RFC 5545: {why}")]
    Rule {
        /// As it was written.
        rule: String,
        /// The parser's words.
        why: String,
    },
    /// A part that another key says.
    #[error("a rule for windows has no {part}: {instead}")]
    Part {
        /// `UNTIL`, `BYHOUR`, a frequency below a day …
        part: &'static str,
        /// What to write.
        instead: &'static str,
    },
    /// The rule counts from a day that is not told.
    #[error("`{0}` counts from a day: write it as `starting`")]
    NoStart(String),
    /// No such zone.
    #[error("there is no time zone `{0}` in the IANA data of this version")]
    Zone(String),
    /// Longer than a window may be, or nothing.
    #[error("a window is open for a minute at least and for 31 days at most")]
    Length,
}

/// The longest that something is open at a time.
const LONGEST_MS: u64 = 31 * 24 * 3_600_000;
const SHORTEST_MS: u64 = 60_000;

/// The zone of that name.
pub(super) fn zone(name: &str) -> Result<TimeZone, Fault> {
    TimeZone::get(name).map_err(|_| Fault::Zone(name.to_owned()))
}

/// [`Times`], checked.
#[derive(Debug, Clone)]
pub(crate) struct Recurring {
    times: Times,
    rule: RRule<Unvalidated>,
    zone: TimeZone,
}

impl Recurring {
    pub(crate) fn new(times: &Times) -> Result<Self, Fault> {
        let rule: RRule<Unvalidated> = times
            .rule
            .parse()
            .map_err(|error: rrule::RRuleError| Fault::Rule { rule: times.rule.clone(), why: error.to_string() })?;
        let at = "say the time of day with `at`";
        for (there, part, instead) in [
            (rule.get_freq() > Frequency::Daily, "frequency below a day", at),
            (!rule.get_by_hour().is_empty(), "BYHOUR", at),
            (!rule.get_by_minute().is_empty(), "BYMINUTE", at),
            (!rule.get_by_second().is_empty(), "BYSECOND", at),
            (rule.get_until().is_some(), "UNTIL", "say the last day with `until`"),
        ] {
            if there {
                return Err(Fault::Part { part, instead });
            }
        }
        let days = !rule.get_by_weekday().is_empty()
            || !rule.get_by_month_day().is_empty()
            || !rule.get_by_year_day().is_empty()
            || rule.get_freq() == Frequency::Daily;
        if times.starting.is_none() && (rule.get_count().is_some() || rule.get_interval() > 1 || !days) {
            return Err(Fault::NoStart(times.rule.clone()));
        }
        if !(SHORTEST_MS..=LONGEST_MS).contains(&times.lasts_ms) {
            return Err(Fault::Length);
        }
        let this = Self { times: times.clone(), rule, zone: zone(&times.zone)? };
        // What the parser takes, the rule's own checks may still refuse.
        let start = times.starting.unwrap_or(Date::constant(2000, 1, 1));
        midnight(start).map(|start| this.from(start)).transpose()?;
        Ok(this)
    }

    fn from(&self, start: chrono::DateTime<rrule::Tz>) -> Result<RRuleSet, Fault> {
        let fault = |error: rrule::RRuleError| Fault::Rule { rule: self.times.rule.clone(), why: error.to_string() };
        self.rule.clone().build(start).map_err(fault)
    }

    /// The days of the rule from `first` to `last`, before anything is added to them.
    fn days(&self, first: Date, last: Date) -> Result<Vec<Date>, Fault> {
        // Without a day to count from, a rule is the same in every week, month or year, and what came before need not be
        // gone through.
        let start = self.times.starting.unwrap_or_else(|| match self.rule.get_freq() {
            Frequency::Daily | Frequency::Weekly => first.saturating_sub(Span::new().days(14)),
            Frequency::Monthly => first.first_of_month().saturating_sub(Span::new().months(1)),
            _ => Date::new(first.year().saturating_sub(1).max(1), 1, 1).expect("the first of January"),
        });
        let (Some(start), Some(first), Some(last)) = (midnight(start), midnight(first), midnight(last)) else {
            return Ok(Vec::new());
        };
        let days = self.from(start)?.into_iter().skip_while(|day| *day < first).take_while(|day| *day <= last);
        Ok(days.filter_map(|day| date(&day)).collect())
    }

    /// Every opening that is not over at `from` and begins before `until`, in order.
    pub(crate) fn openings(&self, from: Timestamp, until: Timestamp) -> Vec<Open> {
        let day = |moment: Timestamp| moment.to_zoned(self.zone.clone()).date();
        let plus = Span::new().days(self.times.plus_days);
        let days_back = i64::try_from(self.times.lasts_ms / 86_400_000).unwrap_or(31) + 2;
        let shifted = |date: Date, days: i64| date.saturating_sub(plus).saturating_add(Span::new().days(days));
        let Ok(days) = self.days(shifted(day(from), -days_back), shifted(day(until), 1)) else { return Vec::new() };
        let opens = days.into_iter().filter_map(|day| self.open(day.checked_add(plus).ok()?));
        opens.filter(|open| open.end > from && open.start < until).collect()
    }

    /// How it opens on `day`, when it does.
    fn open(&self, day: Date) -> Option<Open> {
        let times = &self.times;
        if times.except.contains(&day)
            || times.starting.is_some_and(|starting| day < starting)
            || times.until.is_some_and(|until| day > until)
        {
            return None;
        }
        let at = day.to_datetime(times.at);
        let ambiguous = self.zone.to_ambiguous_timestamp(at);
        let (start, moved) = match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } => (ambiguous.compatible().ok()?, None),
            AmbiguousOffset::Gap { .. } => match times.gap {
                Gap::Skip => return None,
                Gap::Later => (ambiguous.later().ok()?, Some(Moved::Gap)),
            },
            AmbiguousOffset::Fold { .. } => match times.overlap {
                Overlap::First => (ambiguous.earlier().ok()?, Some(Moved::First)),
                Overlap::Second => (ambiguous.later().ok()?, Some(Moved::Second)),
            },
        };
        let lasts = Span::new().milliseconds(i64::try_from(times.lasts_ms).ok()?);
        Some(Open { start, end: start.checked_add(lasts).ok()?, day, moved })
    }
}

/// The moments between which a span of local time lies, the wider ones when the clock is changed at an end of it.
pub(super) fn between(from: DateTime, until: DateTime, zone: &TimeZone) -> Option<(Timestamp, Timestamp)> {
    let from = zone.to_ambiguous_timestamp(from).earlier().ok()?;
    let until = zone.to_ambiguous_timestamp(until).later().ok()?;
    Some((from, until))
}

/// Midnight UTC: the library reckons with days only.
fn midnight(date: Date) -> Option<chrono::DateTime<rrule::Tz>> {
    let (year, month, day) = (i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs());
    let midnight = chrono::NaiveDate::from_ymd_opt(year, month.into(), day.into())?.and_hms_opt(0, 0, 0)?;
    Some(midnight.and_utc().with_timezone(&rrule::Tz::UTC))
}

fn date(day: &chrono::DateTime<rrule::Tz>) -> Option<Date> {
    use chrono::Datelike as _;
    let part = |part: u32| i8::try_from(part).ok();
    Date::new(i16::try_from(day.year()).ok()?, part(day.month())?, part(day.day())?).ok()
}
