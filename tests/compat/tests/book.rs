//! The book holds together: links lead somewhere, every page is in the summary, the list of errors is whole.
//!
//! Run with `UPDATE_BOOK=1` to write the list of errors anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace is there")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn pages(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            found.extend(pages(&path));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The lines of a page that are neither in a block of code nor in `code`.
fn prose(page: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut in_code = false;
    for (number, line) in page.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            let outside = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
            lines.push((number + 1, outside));
        }
    }
    lines
}

/// The targets of `[text](target)`.
fn links(line: &str) -> Vec<String> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

/// The anchors that a page's headings have: small letters, digits, `_` and `-`, blanks as `-`.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut in_code = false;
    let mut anchors = BTreeSet::new();
    for line in page.lines() {
        if line.starts_with("```") {
            in_code = !in_code;
        } else if let (false, Some(heading)) = (in_code, line.strip_prefix('#')) {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            anchors.insert(
                heading
                    .chars()
                    .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                    .map(|c| if c == ' ' { '-' } else { c })
                    .collect(),
            );
        }
    }
    anchors
}

#[test]
fn every_link_leads_to_something() {
    let mut wrong = String::new();
    let mut seen = 0;
    let mut all = pages(&root().join("docs"));
    all.extend([root().join("README.md"), root().join("examples/README.md")]);
    for page in all {
        let text = read(&page);
        for (number, line) in prose(&text) {
            for target in links(&line) {
                let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
                if path.contains("://") || path.starts_with("mailto:") {
                    continue;
                }
                seen += 1;
                let to = if path.is_empty() { page.clone() } else { page.parent().expect("a folder").join(path) };
                let there = to.exists() && (anchor.is_empty() || anchors(&read(&to)).contains(anchor));
                if !there {
                    writeln!(wrong, "{}:{number}: {target}", page.display()).expect("memory");
                }
            }
        }
    }
    assert!(wrong.is_empty(), "these links lead nowhere:\n{wrong}");
    assert!(seen > 100, "only {seen} links were found");
}

/// A promise that links to a test which was renamed or removed would promise more than is tried.
#[test]
fn every_promise_is_linked_to_tests_that_are_there() {
    let page = root().join("docs/concepts/promises.md");
    let text = read(&page);
    let mut seen = 0;
    for row in text.lines().filter(|line| line.starts_with("| **")) {
        let tests: Vec<(&str, &str)> = row
            .split('[')
            .skip(1)
            .filter_map(|rest| rest.split_once("]("))
            .filter_map(|(name, rest)| Some((name, rest.split_once(')')?.0)))
            .collect();
        assert!(!tests.is_empty(), "no test is linked to: {row}");
        for (name, file) in tests {
            seen += 1;
            let source = read(&page.parent().expect("a folder").join(file));
            assert!(source.contains(&format!("fn {name}(")), "{file} has no test {name}");
        }
    }
    assert!(seen > 40, "only {seen} tests are linked");
}

#[test]
fn every_page_is_in_the_summary_and_the_summary_has_no_page_twice() {
    let docs = root().join("docs");
    let mut listed = BTreeSet::new();
    for (_, line) in prose(&read(&docs.join("SUMMARY.md"))) {
        for target in links(&line) {
            assert!(listed.insert(target.clone()), "docs/SUMMARY.md has {target} twice");
        }
    }
    for page in pages(&docs) {
        let name = page.strip_prefix(&docs).expect("below docs").display().to_string();
        assert!(name == "SUMMARY.md" || listed.contains(&name), "docs/SUMMARY.md does not list {name}");
    }
}

/// `RB0007`, and what it is in one line, from the first line of its page.
fn errors() -> Vec<(String, String)> {
    pages(&root().join("docs/errors"))
        .into_iter()
        .filter(|page| page.file_name().is_some_and(|name| name != "README.md"))
        .map(|page| {
            let name = page.file_stem().expect("a file").to_string_lossy().into_owned();
            let text = read(&page);
            let first = text.lines().next().unwrap_or_default();
            let what = first.strip_prefix(&format!("# {name}: ")).unwrap_or_else(|| {
                panic!("docs/errors/{name}.md must begin with `# {name}: ` and what it is, not with `{first}`")
            });
            (name, what.to_owned())
        })
        .collect()
}

/// Which part of the program finds the errors whose codes begin so.
const FINDERS: [(&str, &str); 7] = [
    ("RB00", "Runbooks, inventories and actions"),
    ("RB02", "Plans"),
    ("RB03", "Runs"),
    ("RB04", "SSH and other ways to hosts"),
    ("RB05", "The store"),
    ("RB06", "The command line"),
    ("RB07", "The project's rules"),
];

/// The text between a line that contains `begin` and the next one that contains `end`, both left out.
fn between<'t>(text: &'t str, begin: &str, end: &str) -> (usize, &'t str, usize) {
    let begin = text.find(begin).map(|at| at + begin.len()).unwrap_or_else(|| panic!("there is no {begin}"));
    let end = begin + text[begin..].find(end).unwrap_or_else(|| panic!("there is no {end}"));
    (begin, &text[begin..end], end)
}

fn made_part_is_current(page: &str, begin: &str, end: &str, made: &str) {
    let path = root().join(page);
    let text = read(&path);
    let (from, found, to) = between(&text, begin, end);
    if found == made {
        return;
    }
    if std::env::var_os("UPDATE_BOOK").is_some() {
        std::fs::write(&path, format!("{}{made}{}", &text[..from], &text[to..])).expect("the page can be written");
        return;
    }
    panic!("{page} is old: run the tests of runbook-compat with UPDATE_BOOK=1");
}

#[test]
fn the_list_of_errors_is_current() {
    let (mut list, mut summary) = (String::new(), String::new());
    let mut finder = "";
    for (name, what) in errors() {
        let (_, now) = FINDERS
            .iter()
            .find(|(prefix, _)| name.starts_with(prefix))
            .unwrap_or_else(|| panic!("{name}: say in FINDERS who finds errors with such a code"));
        if *now != finder {
            finder = now;
            write!(list, "\n## {finder}\n\n| code | what |\n| --- | --- |\n").expect("memory");
        }
        writeln!(list, "| [{name}]({name}.md) | {} |", what.replace('|', "\\|")).expect("memory");
        write!(summary, "\n  - [{name}: {what}](errors/{name}.md)").expect("memory");
    }
    let mark = "<!-- made from the pages; run the tests of runbook-compat with UPDATE_BOOK=1 -->\n";
    made_part_is_current("docs/errors/README.md", mark, "\n<!-- end -->", &list);
    // The pages stand below the list, up to the next page of the summary.
    made_part_is_current("docs/SUMMARY.md", "- [Errors](errors/README.md)", "\n- [", &summary);
}

#[test]
fn every_code_in_the_sources_has_a_page() {
    let known: BTreeSet<String> = errors().into_iter().map(|(name, _)| name).collect();
    let mut missing = BTreeSet::new();
    for source in ["engine", "plugins"].iter().flat_map(|folder| sources(&root().join(folder))) {
        let text = read(&source);
        // Tests may make codes up.
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for part in text.split("\"RB").skip(1) {
            let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
            if digits.len() == 4 && part[4..].starts_with('"') && !known.contains(&format!("RB{digits}")) {
                missing.insert(format!("RB{digits} ({})", source.strip_prefix(root()).expect("below").display()));
            }
        }
    }
    assert!(missing.is_empty(), "without a page in docs/errors: {missing:#?}");
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("readable").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() && !matches!(name.as_str(), "tests" | "target" | "examples") {
            found.extend(sources(&path));
        } else if name.ends_with(".rs") && name != "tests.rs" {
            found.push(path);
        }
    }
    found
}
