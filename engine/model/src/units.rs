//! Durations and sizes as people write them: `90s`, `15m`, `1h30m`, `512MiB`, `2GB`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A text that is no duration or size; the message says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(pub String);

/// Milliseconds from a text such as `250ms`, `90s`, `15m`, `1h30m`, `2d`. Units come once each, largest first.
/// Zero may be written `0` or with any unit. The sum must fit in 100 years.
pub fn parse_duration_ms(text: &str) -> Result<u64, UnitError> {
    let wrong =
        |why: &str| UnitError(format!("`{text}` is not a duration: {why}; write for example 90s, 15m or 1h30m"));
    if text == "0" {
        return Ok(0);
    }
    let mut rest = text;
    let mut total: u64 = 0;
    let mut last_unit = u64::MAX;
    if rest.is_empty() {
        return Err(wrong("it is empty"));
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return Err(wrong("a number was expected"));
        }
        let number: u64 = rest[..digits].parse().map_err(|_| wrong("the number is too large"))?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" => return Err(wrong("a unit is missing (ms, s, m, h or d)")),
            _ => return Err(wrong("the unit must be ms, s, m, h or d")),
        };
        if unit >= last_unit {
            return Err(wrong("units must go from the largest to the smallest, each once"));
        }
        last_unit = unit;
        rest = &rest[letters..];
        total = number
            .checked_mul(unit)
            .and_then(|ms| total.checked_add(ms))
            .filter(|ms| *ms <= 100 * 366 * 86_400_000)
            .ok_or_else(|| wrong("it is longer than 100 years"))?;
    }
    Ok(total)
}

/// A delay between half of `delay_ms` and the whole, drawn from a run's seed and a name: the same for the same, and
/// different for things that would else all happen at the same moment.
pub fn jittered_ms(delay_ms: u64, seed: u64, name: &str) -> u64 {
    let drawn = crate::digest::Sha256::of(format!("{seed}/{name}").as_bytes());
    let drawn = drawn.0.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    delay_ms - delay_ms / 2 + drawn % (delay_ms / 2 + 1)
}

/// `ms` in the form that [`parse_duration_ms`] reads, shortest first: `0s`, `90s` becomes `1m30s`.
pub fn format_duration_ms(ms: u64) -> String {
    if ms == 0 {
        return "0s".into();
    }
    let mut rest = ms;
    let mut text = String::new();
    for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")] {
        if rest >= unit {
            text.push_str(&format!("{}{name}", rest / unit));
            rest %= unit;
        }
    }
    text
}

/// Bytes from a text such as `512MiB`, `2GB`, `100kB`, `4096` or `4096B`. Powers of 1000 and of 1024 are told apart.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let wrong = |why: &str| UnitError(format!("`{text}` is not a size: {why}; write for example 512MiB, 2GB or 4096B"));
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Err(wrong("a whole number was expected"));
    }
    let number: u64 = text[..digits].parse().map_err(|_| wrong("the number is too large"))?;
    let unit: u64 = match text[digits..].trim_start() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(wrong("the unit must be B, kB, MB, GB, TB, KiB, MiB, GiB or TiB")),
    };
    number.checked_mul(unit).ok_or_else(|| wrong("it is too large"))
}

/// `bytes` for people: `17 B`, `1.5 MiB`.
pub fn format_size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

/// A count or a share of all, as in `batch: [1, 50%]` and `failure_budget: 10%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// So many.
    Count(u32),
    /// So many in a hundred, 0 to 100.
    Percent(u32),
}

impl Share {
    /// How many that is of `total`, rounded down.
    pub fn of(self, total: usize) -> usize {
        match self {
            Share::Count(count) => count as usize,
            Share::Percent(percent) => total * percent as usize / 100,
        }
    }
}

impl FromStr for Share {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError(format!("`{text}` is neither a count nor a percentage; write for example 2 or 50%"));
        match text.strip_suffix('%') {
            Some(number) => match number.parse() {
                Ok(percent) if percent <= 100 => Ok(Share::Percent(percent)),
                _ => Err(wrong()),
            },
            None => text.parse().map(Share::Count).map_err(|_| wrong()),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Share::Count(count) => write!(f, "{count}"),
            Share::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// `ms` as a [`Duration`].
pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Unix milliseconds as UTC in RFC 3339 with milliseconds: `2026-11-22T09:30:00.000Z`. Times outside the years 0 to 9999
/// are clamped.
pub fn rfc3339_ms(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", time.unwrap_or(jiff::Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jittered_delay_lies_between_half_and_the_whole_and_is_the_same_for_the_same_seed() {
        for seed in 0..1_000 {
            let drawn = jittered_ms(1_001, seed, "fs01/1");
            assert!((501..=1_001).contains(&drawn), "{drawn}");
            assert_eq!(drawn, jittered_ms(1_001, seed, "fs01/1"));
        }
        assert_ne!(jittered_ms(60_000, 1, "fs01/1"), jittered_ms(60_000, 1, "fs02/1"));
        assert_eq!(jittered_ms(0, 1, "fs01/1"), 0);
        assert_eq!(jittered_ms(1, 1, "fs01/1"), 1);
    }

    #[test]
    fn durations_are_read_and_refused() {
        for (text, ms) in
            [("90s", 90_000), ("15m", 900_000), ("1h30m", 5_400_000), ("250ms", 250), ("0", 0), ("2d", 172_800_000)]
        {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
        }
        for text in ["", "5", "m", "5x", "1s1m", "1m1m", "-1s", "1.5h", "99999999999999999999s", "40000d", "1s ", "é"]
        {
            assert!(parse_duration_ms(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_and_refused() {
        for (text, bytes) in [("512MiB", 512 << 20), ("2GB", 2_000_000_000), ("4096", 4096), ("1 kB", 1000)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "1.5GB", "1 gigabyte", "99999999999TiB", "-1"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_utc_with_milliseconds() {
        assert_eq!(rfc3339_ms(1_795_339_800_007), "2026-11-22T09:30:00.007Z");
    }

    #[test]
    fn formatted_durations_read_back() {
        for ms in [0, 1, 999, 1000, 90_000, 5_400_001, 172_800_000] {
            assert_eq!(parse_duration_ms(&format_duration_ms(ms)), Ok(ms));
        }
    }
}
