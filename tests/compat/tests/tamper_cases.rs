//! `docs/concepts/tamper-cases.md` has all forty cases, and the tests that it names are there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf()
}

/// Every function below `folder` that stands under a test attribute.
fn tests(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            tests(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            let mut is_test = false;
            for line in source.lines().map(str::trim) {
                is_test |= line.starts_with("#[") && line.contains("test");
                if let Some(rest) = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn ")) {
                    let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    if is_test {
                        found.insert(name);
                    }
                    is_test = false;
                }
            }
        }
    }
}

#[test]
fn every_case_names_tests_that_are_there_or_says_why_there_is_none() {
    let page = fs::read_to_string(root().join("docs/concepts/tamper-cases.md")).unwrap();
    let mut known = BTreeSet::new();
    for folder in ["engine", "plugins", "tests"] {
        tests(&root().join(folder), &mut known);
    }
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit())
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let numbers: Vec<String> = rows.iter().map(|row| row[0].to_owned()).collect();
    assert_eq!(numbers, (1..=40).map(|n| n.to_string()).collect::<Vec<_>>());
    for row in &rows {
        assert_eq!(row.len(), 4, "{row:?}");
        let named: Vec<&str> = row[3].split('`').skip(1).step_by(2).filter(|name| !name.contains('/')).collect();
        assert!(!named.is_empty() || row[3].contains("*not yet*"), "case {} has neither test nor reason", row[0]);
        for name in named {
            assert!(known.contains(name), "case {}: there is no test {name}", row[0]);
        }
    }
}
