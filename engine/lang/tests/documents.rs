//! Right files are read, wrong ones are refused with everything that is wrong with them.

use std::path::{Path, PathBuf};

use runbook_lang::{Diagnostic, parse_action, parse_runbook, render};

fn fixtures(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/lang").join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} has fixtures", folder.display());
    files
}

fn parse(path: &Path) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    let name = path.file_name().expect("it is a file").to_str().expect("its name is text");
    let bytes = std::fs::read(path).expect("it is readable");
    if name.contains(".inventory.") {
        return Ok(Vec::new());
    }
    if name.contains(".action.") {
        parse_action(name, &bytes).map(|parsed| parsed.warnings)
    } else {
        parse_runbook(name, &bytes).map(|parsed| parsed.warnings)
    }
}

#[test]
fn right_files_have_no_problem() {
    for path in fixtures("right") {
        match parse(&path) {
            Ok(warnings) => assert!(warnings.is_empty(), "{}", render::text(&warnings, false)),
            Err(problems) => panic!("{}", render::text(&problems, false)),
        }
    }
}

#[test]
fn wrong_files_get_all_their_problems_with_places() {
    for path in fixtures("wrong") {
        let name = path.file_name().expect("it is a file").to_str().expect("its name is text").to_owned();
        let problems = parse(&path).expect_err(&name);
        insta::with_settings!({snapshot_path => "../../../tests/fixtures/lang/snapshots", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!(name, render::text(&problems, false));
        });
    }
}
