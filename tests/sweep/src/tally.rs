//! What came of many points, for people.

use std::collections::{BTreeMap, BTreeSet};
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

/// The names of the points that went well, from lines as `runbook-sweep` prints them.
pub fn went_well(output: &str) -> BTreeSet<String> {
    let mut lines = output.lines().peekable();
    let mut names = BTreeSet::new();
    while let Some(line) = lines.next() {
        let broken = lines.peek().is_some_and(|next| next.starts_with("  BROKEN: "));
        let told = line.split_once(' ').filter(|(count, _)| count.contains('/') && !broken);
        names.extend(told.and_then(|(_, told)| told.split_once(": ")).map(|(name, _)| name.to_owned()));
    }
    names
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_goes_on_behind_what_went_well() {
        let output = "3 points on 2 pairs of hosts; seed 0\n1/3 cut/small: exit code 0, 1 processes\n\
                      2/3 kill/bad/after/9: exit code 3, 2 processes\n  BROKEN: it ends with 3\n\
                      3/3 kill/good/before/4: exit code 0, 2 processes\n";
        let names: Vec<String> = went_well(output).into_iter().collect();
        assert_eq!(names, ["cut/small", "kill/good/before/4"]);
    }
}
