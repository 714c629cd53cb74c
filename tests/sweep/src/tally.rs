//! What came of many points, for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::trial::Verdict;

/// A table of Markdown with a line per kind of point, and then every broken law.
pub fn text(verdicts: &[Verdict]) -> String {
    let mut kinds: BTreeMap<String, [usize; 5]> = BTreeMap::new();
    let mut sum = [0; 5];
    for verdict in verdicts {
        let line = kinds.entry(verdict.point.kind()).or_default();
        let counted = [true, !verdict.reached, verdict.as_without(), verdict.unknown, !verdict.broken.is_empty()];
        for (place, counts) in counted.into_iter().enumerate() {
            line[place] += usize::from(counts);
            sum[place] += usize::from(counts);
        }
    }
    let mut text = String::from(
        "| what goes wrong | points | not reached | ended as expected | honest unknown | a promise broken |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    for (kind, line) in kinds.iter().chain([(&"all".to_owned(), &sum)]) {
        let numbers = line.map(|number| number.to_string()).join(" | ");
        let _ = writeln!(text, "| {kind} | {numbers} |");
    }
    for verdict in verdicts.iter().filter(|verdict| !verdict.broken.is_empty()) {
        let _ = writeln!(text, "\n{}", told(verdict));
    }
    text
}

/// One verdict in a line, with what is broken below it.
pub fn told(verdict: &Verdict) -> String {
    let mut text = format!("{}: exit code {}, {} processes", verdict.point, verdict.code, verdict.lives);
    if !verdict.reached {
        text.push_str(", not reached");
    }
    if verdict.unknown {
        text.push_str(", unknown on the way");
    }
    if let Some(project) = &verdict.kept {
        let _ = write!(text, "; the project is kept in {}", project.display());
    }
    for broken in &verdict.broken {
        let _ = write!(text, "\n  BROKEN: {}", broken.replace('\n', "\n    "));
    }
    text
}
