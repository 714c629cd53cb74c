//! `evidence redact`: what of an output is withheld in redacted editions. The original stays as it is.

use regex::bytes::Regex;
use runbook_ledger::redaction::Withheld;
use runbook_ledger::segments::SEGMENT_BYTES_MAX;
use runbook_model::{AttemptId, HostName, Notice};
use runbook_report::text::count;
use serde_json::json;

use crate::arguments::upkeep::Redact;
use crate::commands::show;
use crate::failure::Failure;
use crate::output::{self, Output};
use crate::project::Project;
use crate::{notices, person, record};

/// The largest output of which something can be withheld: more than is ever kept.
const BYTES_MAX: u64 = 4 << 30;
/// Ranges in one record: each takes up to 40 bytes of the 64 KiB that it may have.
const RANGES_MAX: usize = 1_000;

/// Runs `evidence redact`.
pub(super) async fn run(project: &Project, arguments: &Redact, _output: Output) -> Result<u8, Failure> {
    let store = record::open_recorded(project).await?;
    let index = record::find(&store, &arguments.run).await?;
    let view = record::view(&store, &index).await?;
    let host = HostName::from(arguments.host.as_str());
    show::host(&view, Some(&arguments.host))?;
    let step = show::step(&view, &arguments.step)?;
    let attempts = view.hosts[&host].steps.get(&step).map(|cell| cell.attempts.as_slice()).unwrap_or_default();
    let attempt = match arguments.attempt {
        Some(number) => attempts.iter().find(|attempt| attempt.attempt == number),
        None => attempts.last(),
    };
    let named = format!("{host}/{step}");
    let report = attempt.and_then(|attempt| attempt.report.as_ref().map(|report| (attempt.attempt, report)));
    let Some((number, report)) = report else {
        return Err(Failure::usage("RB0664", format!("{named} has no such attempt that has ended")));
    };
    let id = AttemptId { run: index.header.run.clone(), host, step, attempt: number };
    let (stream, output) = match arguments.stream.as_str() {
        "stderr" => ("stderr", &report.stderr),
        _ => ("stdout", &report.stdout),
    };
    let content = record::output(&store, output, BYTES_MAX).await.map_err(|error| record::failed(&error))?;
    let (Some(root), Some(content)) = (output.root, content) else {
        return Err(Failure::usage("RB0664", format!("{named} has no kept {stream} of which lines could be withheld"))
            .next("outputs that are empty or `sensitive`, and those of the first version, have none"));
    };
    let (wanted, rule) = wanted(arguments)?;
    let withheld = find(&content, &wanted)?;
    if withheld.count() == 0 {
        return Err(Failure::usage("RB0664", format!("no line of the {stream} of {named} is meant by that"))
            .next(format!("`runbook logs {} --host {} --step {}` shows it", id.run, id.host, id.step)));
    }
    let by = person::operator();
    let notices = withheld.ranges().chunks(RANGES_MAX).map(|ranges| Notice::OutputsRedacted {
        attempt: id.clone(),
        stream: stream.to_owned(),
        root,
        ranges: ranges.to_vec(),
        rule: rule.clone(),
        reason: arguments.reason.clone(),
        by: by.clone(),
    });
    notices::append(project, &store, notices.collect(), Vec::new()).await?;
    if arguments.json {
        output::json(&json!({
            "schema": "redact/v1",
            "run_id": id.run,
            "host": id.host,
            "step": id.step,
            "attempt": id.attempt,
            "stream": stream,
            "root": root,
            "segments": output.segments,
            "ranges": withheld.ranges(),
            "withheld": withheld.count(),
        }))?;
        return Ok(0);
    }
    let lines = usize::try_from(withheld.count()).unwrap_or(usize::MAX);
    output::note(format!(
        "{} of the {stream} of {named} will be withheld in redacted editions; the original stays here as it is",
        count(lines, "line")
    ));
    Ok(0)
}

/// Which lines are meant.
enum Wanted {
    /// Counted from 1, first and last.
    Lines(Vec<(u64, u64)>),
    /// Those in which it is found.
    Match(Regex),
}

fn wanted(arguments: &Redact) -> Result<(Wanted, String), Failure> {
    match (&arguments.lines, &arguments.matching) {
        (Some(lines), _) => Ok((Wanted::Lines(ranges(lines)?), "by hand".to_owned())),
        (None, Some(pattern)) => Regex::new(pattern)
            .map(|regex| (Wanted::Match(regex), format!("match {pattern}")))
            .map_err(|error| Failure::usage("RB0664", format!("--match {pattern}: {error}"))),
        (None, None) => Err(Failure::usage("RB0664", "give --lines or --match")),
    }
}

/// `3-5,9`.
fn ranges(text: &str) -> Result<Vec<(u64, u64)>, Failure> {
    let number = |text: &str| text.trim().parse::<u64>().ok().filter(|number| *number > 0);
    text.split(',')
        .map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last => Ok((first, last)),
                _ => Err(Failure::usage("RB0664", format!("--lines {text}: `{part}` is no line"))
                    .next("for example --lines 3-5,9; the first line is 1")),
            }
        })
        .collect()
}

/// The segments of the lines that are meant.
fn find(content: &[u8], wanted: &Wanted) -> Result<Withheld, Failure> {
    let mut found = Vec::new();
    let mut segment = 0;
    let mut lines = 0;
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        lines += 1;
        let next = segment + line.len().div_ceil(SEGMENT_BYTES_MAX) as u64;
        let is_wanted = match wanted {
            Wanted::Lines(ranges) => ranges.iter().any(|(first, last)| (*first..=*last).contains(&lines)),
            Wanted::Match(regex) => regex.is_match(line.strip_suffix(b"\n").unwrap_or(line)),
        };
        if is_wanted {
            found.push((segment, next - 1));
        }
        segment = next;
    }
    if let Wanted::Lines(ranges) = wanted
        && let Some((_, last)) = ranges.iter().find(|(_, last)| *last > lines)
    {
        return Err(Failure::usage("RB0664", format!("there is no line {last}: the output has {lines}")));
    }
    Ok(Withheld::new(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_from_one_and_a_very_long_one_is_several_segments() {
        let long = vec![b'x'; 2 * SEGMENT_BYTES_MAX];
        let content = [b"a\n".as_slice(), &long, b"\nlast"].concat();
        let lines =
            |text: &str| find(&content, &Wanted::Lines(ranges(text).unwrap())).map(|found| found.ranges().to_vec());
        assert_eq!(lines("1").unwrap(), [(0, 0)]);
        assert_eq!(lines("2").unwrap(), [(1, 3)]);
        assert_eq!(lines("3,1").unwrap(), [(0, 0), (4, 4)]);
        assert!(lines("3-4").is_err());
        for wrong in ["0", "", "5-3", "x", "1-", "-"] {
            assert!(ranges(wrong).is_err(), "{wrong}");
        }
        let matching = find(&content, &Wanted::Match(Regex::new("^(a|last)$").unwrap())).unwrap();
        assert_eq!(matching.ranges(), [(0, 0), (4, 4)]);
    }
}
