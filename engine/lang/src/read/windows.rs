//! Windows, blackouts, freezes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::{Date, DateTime, Time};
use runbook_model::plan::Tier;
use runbook_model::units::parse_duration_ms;
use runbook_model::windows::{Blackout, Freeze, Gap, OnHoliday, Overlap, Times, When, Window, Windows};

use super::fields::{Fields, Problems, entries, items};
use super::{runbook, scalar};
use crate::codes::Code;
use crate::selector::{self, Selector};
use crate::source::{Span, Text};
use crate::windows::WindowsFile;
use crate::yaml::Node;

/// The `schema` of a windows file.
pub(crate) const SCHEMA: &str = "windows/v1";

pub(crate) const KEYS: &[&str] = &["schema", "zone", "windows", "blackouts", "freezes", "holidays"];
/// The keys that say times which come again.
pub(crate) const TIMES_KEYS: &[&str] =
    &["when", "rule", "plus_days", "at", "for", "zone", "starting", "until", "except", "gap", "overlap"];
/// The keys of a window, a blackout and a freeze, beside those.
pub(crate) const WINDOW_KEYS: &[&str] = &["title", "hosts", "tiers", "holidays"];
pub(crate) const BLACKOUT_KEYS: &[&str] = &["reason", "hosts", "from"];
pub(crate) const FREEZE_KEYS: &[&str] = &["reason", "from"];
pub(crate) const TIERS: &[(&str, Tier)] =
    &[("routine", Tier::Routine), ("corrective", Tier::Corrective), ("emergency", Tier::Emergency)];
pub(crate) const GAPS: &[(&str, Gap)] = &[("later", Gap::Later), ("skip", Gap::Skip)];
pub(crate) const OVERLAPS: &[(&str, Overlap)] = &[("first", Overlap::First), ("second", Overlap::Second)];
pub(crate) const ON_HOLIDAYS: &[(&str, OnHoliday)] = &[("keep", OnHoliday::Keep), ("skip", OnHoliday::Skip)];

pub(super) const NAME_RULES: &str = "small letters, digits and `-`, at most 63";
/// What a sentence looks like.
const SENTENCE: &str = "second Tuesday 22:00 for 4h, America/New_York";

/// What is gathered besides the windows themselves.
#[derive(Default)]
pub(super) struct Reader {
    zone: Option<String>,
    selections: BTreeMap<String, (Text, Selector)>,
    places: BTreeMap<(&'static str, String), Span>,
    /// Where the rule or sentence is that was read last.
    pub(super) said_at: Option<Span>,
}

/// The windows file in `node`, as far as it could be read.
pub(crate) fn windows(node: &Node, problems: &mut Problems) -> Option<WindowsFile> {
    let fields = Fields::of(node, "a windows file", KEYS, &[], problems)?;
    runbook::schema(&fields, "a windows file", SCHEMA, problems);
    let zone = fields.get("zone", problems).and_then(|node| scalar::literal(node, "zone", problems));
    let zone = zone.map(|zone| zone.value);
    let mut reader = Reader::of(zone);
    let mut windows = Windows {
        windows: reader.each(&fields, "windows", "window", Reader::window, problems),
        blackouts: reader.each(&fields, "blackouts", "blackout", Reader::blackout, problems),
        freezes: reader.each(&fields, "freezes", "freeze", Reader::freeze, problems),
        holidays: BTreeSet::new(),
    };
    if let Some(node) = fields.get("holidays", problems) {
        windows.holidays = dates(node, "holidays", problems);
    }
    Some(WindowsFile { windows, selections: reader.selections, places: reader.places, whole: node.span.clone() })
}

impl Reader {
    /// With a zone for all that says none itself.
    pub(super) fn of(zone: Option<String>) -> Self {
        Self { zone, ..Self::default() }
    }

    /// The entries of `key` by their names, each read by `read`.
    fn each<T>(
        &mut self,
        fields: &Fields<'_>,
        key: &'static str,
        kind: &'static str,
        read: fn(&mut Self, &Node, &mut Problems) -> Option<T>,
        problems: &mut Problems,
    ) -> BTreeMap<String, T> {
        let Some(node) = fields.get(key, problems) else { return BTreeMap::new() };
        let mut all = BTreeMap::new();
        for entry in entries(node, key, "{patch-night: {when: second Tuesday 22:00 for 4h}}", problems) {
            let name = entry.key.clone();
            let name = scalar::name(name, &format!("the name of a {kind}"), runbook::is_name, NAME_RULES, problems);
            let read = read(self, &entry.value, problems);
            let place = self.said_at.take().unwrap_or_else(|| entry.value.span.clone());
            if let (Some(name), Some(read)) = (name, read) {
                self.places.insert((kind, name.value.clone()), place);
                all.insert(name.value, read);
            }
        }
        all
    }

    fn window(&mut self, node: &Node, problems: &mut Problems) -> Option<Window> {
        let fields = Fields::of(node, "a window", &[WINDOW_KEYS, TIMES_KEYS].concat(), &[], problems)?;
        let title = fields.get("title", problems).and_then(|node| scalar::filled(node, "title", problems));
        let hosts = self.hosts(&fields, problems);
        let tiers = match fields.get("tiers", problems) {
            Some(node) => {
                let tiers = items(node, "tiers", "[routine, corrective]", problems);
                if tiers.is_empty() {
                    problems.error(Code::InvalidValue, &node.span, "`tiers` names none").help =
                        Some("remove it: then the window is for routine and corrective work".into());
                }
                tiers.iter().filter_map(|tier| scalar::word(tier, "tiers", TIERS, problems)).collect()
            }
            None => vec![Tier::Routine, Tier::Corrective],
        };
        let holidays =
            fields.get("holidays", problems).and_then(|node| scalar::word(node, "holidays", ON_HOLIDAYS, problems));
        let times = self.times(&fields, "a window", problems)?;
        Some(Window {
            title: title.map(|title| title.value),
            hosts,
            tiers,
            times,
            holidays: holidays.unwrap_or_default(),
        })
    }

    fn blackout(&mut self, node: &Node, problems: &mut Problems) -> Option<Blackout> {
        let fields = Fields::of(node, "a blackout", &[BLACKOUT_KEYS, TIMES_KEYS].concat(), &[], problems)?;
        let reason = fields.get("reason", problems).and_then(|node| scalar::filled(node, "reason", problems));
        let hosts = self.hosts(&fields, problems);
        let when = self.when(&fields, "a blackout", problems)?;
        Some(Blackout { reason: reason.map(|reason| reason.value), hosts, when })
    }

    fn freeze(&mut self, node: &Node, problems: &mut Problems) -> Option<Freeze> {
        let fields = Fields::of(node, "a freeze", &[FREEZE_KEYS, TIMES_KEYS].concat(), &[], problems)?;
        let reason = fields
            .require("reason", "a freeze", "the books are being closed", problems)
            .and_then(|node| scalar::filled(node, "reason", problems));
        let when = self.when(&fields, "a freeze", problems)?;
        Some(Freeze { reason: reason?.value, when })
    }

    fn hosts(&mut self, fields: &Fields<'_>, problems: &mut Problems) -> Option<String> {
        let text = fields.get("hosts", problems).and_then(|node| scalar::literal(node, "hosts", problems))?;
        match selector::parse(&text) {
            Ok(selector) => {
                self.selections.insert(text.value.clone(), (text.clone(), selector));
                Some(text.value)
            }
            Err(problem) => {
                problems.push(problem);
                None
            }
        }
    }

    /// Once, by `from` and `until`, or again and again.
    fn when(&mut self, fields: &Fields<'_>, what: &str, problems: &mut Problems) -> Option<When> {
        let Some(node) = fields.get("from", problems) else {
            return self.times(fields, what, problems).map(When::Times);
        };
        let others: Vec<&str> = TIMES_KEYS.iter().copied().filter(|key| !["zone", "until"].contains(key)).collect();
        fields.refuse(&others, "beside `from`", problems);
        let from = moment(node, "from", problems);
        let until = fields
            .require("until", what, "2027-01-04 06:00", problems)
            .and_then(|node| Some((node, moment(node, "until", problems)?)));
        let zone = self.zone(fields, what, None, problems);
        let (from, (node, until), zone) = (from?, until?, zone?);
        if until <= from {
            problems.error(Code::InvalidValue, &node.span, "`until` is not after `from`").help =
                Some("write when it is over".into());
            return None;
        }
        Some(When::Between { from, until, zone })
    }

    fn zone(&self, fields: &Fields<'_>, what: &str, said: Option<String>, problems: &mut Problems) -> Option<String> {
        let own = fields.get("zone", problems);
        if let (Some(said), Some(node)) = (&said, own) {
            problems.error(Code::Conflict, &node.span, format!("the zone is said twice: `when` has {said}")).help =
                Some("remove one of the two".into());
            return None;
        }
        if let Some(node) = own {
            return scalar::literal(node, "zone", problems).map(|zone| zone.value);
        }
        let zone = said.or_else(|| self.zone.clone());
        if zone.is_none() {
            problems.error(Code::MissingKey, &fields.span, format!("{what} needs a time zone")).help =
                Some("say `zone: America/New_York` here, or at the top for all".into());
        }
        zone
    }

    fn times(&mut self, fields: &Fields<'_>, what: &str, problems: &mut Problems) -> Option<Times> {
        let said = match fields.get("when", problems) {
            Some(node) => {
                fields.refuse(&["rule", "plus_days", "at", "for"], "beside `when`, which says it", problems);
                said(node, problems)?
            }
            None => spelled(fields, what, None, problems)?,
        };
        self.with_days(said, fields, what, problems)
    }

    /// Times at which something only begins: they last for as long as it may begin late.
    pub(super) fn moments(
        &mut self,
        fields: &Fields<'_>,
        what: &str,
        late_ms: u64,
        problems: &mut Problems,
    ) -> Option<Times> {
        let said = match fields.get("when", problems) {
            Some(node) => {
                fields.refuse(&["rule", "plus_days", "at"], "beside `when`, which says it", problems);
                said_moment(node, late_ms, problems)?
            }
            None => spelled(fields, what, Some(late_ms), problems)?,
        };
        self.with_days(said, fields, what, problems)
    }

    fn with_days(&mut self, said: Sentence, fields: &Fields<'_>, what: &str, problems: &mut Problems) -> Option<Times> {
        let mut day = |key: &str| fields.get(key, problems).and_then(|node| date(node, key, problems));
        let (starting, until) = (day("starting"), day("until"));
        let except = fields.get("except", problems).map(|node| dates(node, "except", problems)).unwrap_or_default();
        let gap = fields.get("gap", problems).and_then(|node| scalar::word(node, "gap", GAPS, problems));
        let overlap =
            fields.get("overlap", problems).and_then(|node| scalar::word(node, "overlap", OVERLAPS, problems));
        self.said_at = fields.entry("when").or_else(|| fields.entry("rule")).map(|entry| entry.value.span.clone());
        Some(Times {
            rule: said.rule,
            plus_days: said.plus_days,
            at: said.at,
            lasts_ms: said.lasts_ms,
            zone: self.zone(fields, what, said.zone, problems)?,
            gap: gap.unwrap_or_default(),
            overlap: overlap.unwrap_or_default(),
            starting,
            until,
            except,
        })
    }
}

/// The sentence of `when`.
fn said(node: &Node, problems: &mut Problems) -> Option<Sentence> {
    let text = scalar::literal(node, "when", problems)?;
    match sentence(&text.value) {
        Ok(sentence) => Some(sentence),
        Err(why) => {
            problems.error(Code::InvalidValue, &text.span, format!("`when`: {why}")).help = Some(format!(
                "write for example `{SENTENCE}` or `Patch Tuesday + 3 days 22:00 for 4h`, or give `rule`, `at` and `for`"
            ));
            None
        }
    }
}

/// The same of something that only begins, and may begin so much later: without `for DURATION`.
fn said_moment(node: &Node, late_ms: u64, problems: &mut Problems) -> Option<Sentence> {
    let text = scalar::literal(node, "when", problems)?;
    let (before, zone) = match text.value.rsplit_once(',') {
        // `every Monday, Thursday 22:00` has no zone.
        Some((before, zone)) if !zone.contains(':') => (before, Some(zone.trim().to_owned())),
        _ => (text.value.as_str(), None),
    };
    let read = match before.contains(" for ") {
        true => Err("how much later it may begin is said by `late`, not by `for`".to_owned()),
        false => days_and_time(before.trim_end(), late_ms, zone),
    };
    match read {
        Ok(sentence) => Some(sentence),
        Err(why) => {
            problems.error(Code::InvalidValue, &text.span, format!("`when`: {why}")).help = Some(
                "write for example `second Tuesday 22:00, America/New_York` or `Patch Tuesday + 3 days 22:00`, or give `rule` \
                 and `at`, or `window`"
                    .into(),
            );
            None
        }
    }
}

/// What `rule`, `plus_days`, `at` and `for` say.
fn spelled(fields: &Fields<'_>, what: &str, late_ms: Option<u64>, problems: &mut Problems) -> Option<Sentence> {
    if fields.entry("rule").is_none() {
        problems.error(Code::MissingKey, &fields.span, format!("{what} needs `when` or `rule`")).help =
            Some(format!("add for example `when: {SENTENCE}`"));
        return None;
    }
    let rule = fields.get("rule", problems).and_then(|node| scalar::literal(node, "rule", problems));
    let at = fields.require("at", what, "\"22:00\"", problems).and_then(|node| {
        let text = scalar::literal(node, "at", problems)?;
        let time = clock(&text.value);
        if time.is_none() {
            problems.error(Code::InvalidValue, &text.span, "`at` is no time of a day").help =
                Some("write hours and minutes, for example \"22:00\"".into());
        }
        time
    });
    let lasts = late_ms.or_else(|| {
        fields.require("for", what, "4h", problems).and_then(|node| scalar::positive_ms(node, "for", problems))
    });
    let plus =
        fields.get("plus_days", problems).and_then(|node| scalar::integer(node, "plus_days", -366, 366, problems));
    Some(Sentence {
        rule: rule?.value.trim_start_matches("RRULE:").to_owned(),
        plus_days: plus.and_then(|days| i32::try_from(days).ok()).unwrap_or(0),
        at: at?,
        lasts_ms: lasts?,
        zone: None,
    })
}

/// What `when` says.
#[derive(Debug, PartialEq, Eq)]
struct Sentence {
    rule: String,
    plus_days: i32,
    at: Time,
    lasts_ms: u64,
    zone: Option<String>,
}

const WEEKDAYS: [(&str, &str); 7] = [
    ("monday", "MO"),
    ("tuesday", "TU"),
    ("wednesday", "WE"),
    ("thursday", "TH"),
    ("friday", "FR"),
    ("saturday", "SA"),
    ("sunday", "SU"),
];
const ORDINALS: [(&str, &str); 6] =
    [("first", "1"), ("second", "2"), ("third", "3"), ("fourth", "4"), ("fifth", "5"), ("last", "-1")];

/// `DAYS [+ N days] [at] HH:MM for DURATION[, ZONE]`, where DAYS is `second Tuesday`, `Patch Tuesday`, `every Saturday`,
/// `every Monday and Thursday`, `every day`, `every weekday`, `day 15` or `last day`.
fn sentence(text: &str) -> Result<Sentence, String> {
    let (text, zone) = match text.rsplit_once(',') {
        // `every Monday, Thursday 22:00 for 4h` has no zone.
        Some((before, zone)) if !zone.contains(" for ") => (before, Some(zone.trim().to_owned())),
        _ => (text, None),
    };
    let (before, lasts) = text.rsplit_once(" for ").ok_or("it does not say how long: `for 4h`")?;
    let lasts_ms = parse_duration_ms(lasts.trim()).map_err(|error| error.to_string())?;
    days_and_time(before, lasts_ms, zone)
}

/// `DAYS [+ N days] [at] HH:MM`, with what is said of it elsewhere.
fn days_and_time(before: &str, lasts_ms: u64, zone: Option<String>) -> Result<Sentence, String> {
    let (days, at) = before.trim_end().rsplit_once(' ').ok_or("it does not say at which time: `22:00`")?;
    let at = clock(at).ok_or_else(|| format!("`{at}` is no time of a day"))?;
    let days = days.trim_end();
    let days = days.strip_suffix(" at").unwrap_or(days).to_lowercase();
    let (days, plus_days) = plus(&days)?;
    let words: Vec<&str> =
        days.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty()).collect();
    let weekday = |word: &str| {
        let found = WEEKDAYS.iter().find(|(name, _)| *name == word || word.len() >= 3 && name.starts_with(word));
        found.map(|(_, code)| *code).ok_or_else(|| format!("`{word}` is no day of the week"))
    };
    let rule = match words.as_slice() {
        ["patch", "tuesday"] => "FREQ=MONTHLY;BYDAY=2TU".to_owned(),
        ["every", "day"] | ["daily"] => "FREQ=DAILY".to_owned(),
        ["every", "weekday"] => "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR".to_owned(),
        ["every", days @ ..] if !days.is_empty() => {
            let codes = days.iter().filter(|word| **word != "and").map(|word| weekday(word));
            format!("FREQ=WEEKLY;BYDAY={}", codes.collect::<Result<Vec<_>, _>>()?.join(","))
        }
        ["last", "day"] => "FREQ=MONTHLY;BYMONTHDAY=-1".to_owned(),
        ["day", number] => match number.parse::<u8>() {
            Ok(day @ 1..=31) => format!("FREQ=MONTHLY;BYMONTHDAY={day}"),
            _ => return Err(format!("`{number}` is no day of a month")),
        },
        [ordinal, day] | [ordinal, day, "of", "the", "month"] => {
            let found = ORDINALS.iter().find(|(name, _)| name == ordinal);
            let (_, number) =
                found.ok_or_else(|| format!("`{ordinal}` does not say which one: first to fifth, or last"))?;
            format!("FREQ=MONTHLY;BYDAY={number}{}", weekday(day)?)
        }
        _ => return Err(format!("`{days}` does not say which days")),
    };
    Ok(Sentence { rule, plus_days, at, lasts_ms, zone })
}

/// Takes `+ 3 days` from the end.
fn plus(days: &str) -> Result<(&str, i32), String> {
    let Some((before, number)) = days
        .strip_suffix(" days")
        .or_else(|| days.strip_suffix(" day"))
        .and_then(|rest| rest.rsplit_once(['+', '-']).map(|(before, number)| (before, number.trim())))
    else {
        return Ok((days, 0));
    };
    let negative = days[before.len()..].starts_with('-');
    let count: i32 = number
        .parse()
        .ok()
        .filter(|count| (0..=366).contains(count))
        .ok_or_else(|| format!("`{number}` is no number of days from 0 to 366"))?;
    Ok((before.trim_end(), if negative { -count } else { count }))
}

/// `HH:MM`, or `HH:MM:SS`.
fn clock(text: &str) -> Option<Time> {
    let part = |part: &str| (part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse().ok())?;
    let parts: Vec<i8> = text.split(':').map(part).collect::<Option<_>>()?;
    match parts.as_slice() {
        [hour, minute] => Time::new(*hour, *minute, 0, 0).ok(),
        [hour, minute, second] => Time::new(*hour, *minute, *second, 0).ok(),
        _ => None,
    }
}

pub(crate) fn date(node: &Node, key: &str, problems: &mut Problems) -> Option<Date> {
    let text = scalar::literal(node, key, problems)?;
    match text.value.parse() {
        Ok(date) if text.value.len() == 10 => Some(date),
        _ => {
            problems.error(Code::InvalidValue, &text.span, format!("`{key}` is no date")).help =
                Some("write year, month and day, for example 2026-12-25".into());
            None
        }
    }
}

fn dates(node: &Node, key: &str, problems: &mut Problems) -> BTreeSet<Date> {
    items(node, key, "[2026-12-25]", problems).iter().filter_map(|item| date(item, key, problems)).collect()
}

/// A date with a time, or midnight of it.
fn moment(node: &Node, key: &str, problems: &mut Problems) -> Option<DateTime> {
    let text = scalar::literal(node, key, problems)?;
    let moment = match text.value.split_once([' ', 'T']) {
        Some((day, time)) if day.len() == 10 => {
            day.parse::<Date>().ok().and_then(|day| Some(day.to_datetime(clock(time.trim())?)))
        }
        None if text.value.len() == 10 => text.value.parse::<Date>().ok().map(|day| day.at(0, 0, 0, 0)),
        _ => None,
    };
    if moment.is_none() {
        problems.error(Code::InvalidValue, &text.span, format!("`{key}` is no date with a time")).help =
            Some("write for example 2026-12-18 18:00, by the clock of `zone`".into());
    }
    moment
}

#[cfg(test)]
mod tests {
    use jiff::civil::time;

    use super::*;

    #[test]
    fn sentences_say_what_a_rule_says() {
        for (text, rule, plus_days) in [
            ("second Tuesday 22:00 for 4h", "FREQ=MONTHLY;BYDAY=2TU", 0),
            ("Second tuesday of the month at 22:00 for 4h", "FREQ=MONTHLY;BYDAY=2TU", 0),
            ("last Fri 22:00:00 for 4h", "FREQ=MONTHLY;BYDAY=-1FR", 0),
            ("Patch Tuesday 22:00 for 4h", "FREQ=MONTHLY;BYDAY=2TU", 0),
            ("Patch Tuesday + 3 days 22:00 for 4h", "FREQ=MONTHLY;BYDAY=2TU", 3),
            ("Patch Tuesday +45 days at 22:00 for 4h", "FREQ=MONTHLY;BYDAY=2TU", 45),
            ("Patch Tuesday - 1 day 22:00 for 4h", "FREQ=MONTHLY;BYDAY=2TU", -1),
            ("every Saturday 22:00 for 4h", "FREQ=WEEKLY;BYDAY=SA", 0),
            ("every Monday, Wednesday and Friday 22:00 for 4h", "FREQ=WEEKLY;BYDAY=MO,WE,FR", 0),
            ("every weekday 22:00 for 4h", "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR", 0),
            ("every day 22:00 for 4h", "FREQ=DAILY", 0),
            ("day 15 22:00 for 4h", "FREQ=MONTHLY;BYMONTHDAY=15", 0),
            ("last day 22:00 for 4h", "FREQ=MONTHLY;BYMONTHDAY=-1", 0),
        ] {
            for (tail, zone) in [("", None), (", America/New_York", Some("America/New_York"))] {
                let read = sentence(&format!("{text}{tail}")).unwrap_or_else(|why| panic!("{text}{tail}: {why}"));
                let wanted = Sentence {
                    rule: rule.into(),
                    plus_days,
                    at: time(22, 0, 0, 0),
                    lasts_ms: 4 * 3_600_000,
                    zone: zone.map(str::to_owned),
                };
                assert_eq!(read, wanted, "{text}{tail}");
            }
        }
    }

    #[test]
    fn what_a_sentence_lacks_is_told() {
        for (text, words) in [
            ("second Tuesday 22:00", "how long"),
            ("second Tuesday for 4h", "`Tuesday` is no time of a day"),
            ("22:00 for 4h", "at which time"),
            ("second Tuesday 22:00 for ever", "duration"),
            ("sixth Tuesday 22:00 for 4h", "which one"),
            ("second Patchday 22:00 for 4h", "no day of the week"),
            ("second Tuesday 24:30 for 4h", "no time of a day"),
            ("second Tuesday 9:00 for 4h", "no time of a day"),
            ("second Tuesday 09:00:60 for 4h", "no time of a day"),
            ("second Tuesday 09:00:00:00 for 4h", "no time of a day"),
            ("day 32 22:00 for 4h", "no day of a month"),
            ("every 22:00 for 4h", "which days"),
            ("Patch Tuesday + many days 22:00 for 4h", "no number of days"),
            ("Patch Tuesday + 400 days 22:00 for 4h", "no number of days"),
        ] {
            let why = sentence(text).expect_err(text);
            assert!(why.contains(words), "{text}: {why}");
        }
    }
}
