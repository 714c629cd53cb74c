//! Right files are read, wrong ones are refused with everything that is wrong with them.

use std::path::{Path, PathBuf};

use runbook_lang::{
    Diagnostic, parse_action, parse_people, parse_policy, parse_runbook, parse_schedule, parse_windows, render,
};

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
    } else if name.contains(".schedule.") {
        parse_schedule(name, &bytes).map(|parsed| parsed.warnings)
    } else if name.contains(".windows.") {
        parse_windows(name, &bytes).map(|parsed| parsed.warnings)
    } else if name.contains(".people.") {
        parse_people(name, &bytes).map(|parsed| parsed.warnings)
    } else if name.contains(".policy.") {
        parse_policy(name, &bytes).map(|parsed| parsed.warnings)
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

/// What is shipped is read without an error; warnings are the authors' own business.
#[test]
fn the_library_and_the_examples_are_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut wrong = String::new();
    for folder in ["runbooks", "runbooks/actions", "examples"] {
        for entry in std::fs::read_dir(root.join(folder)).into_iter().flatten() {
            let path = entry.expect("readable").path();
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let name = path.display().to_string();
            let bytes = std::fs::read(&path).expect("readable");
            let problems = match std::str::from_utf8(&bytes) {
                Ok(text) if text.contains("schema: action/v1") => parse_action(&name, &bytes).err(),
                Ok(text) if text.contains("schema: runbook/v1") => parse_runbook(&name, &bytes).err(),
                _ => None,
            };
            wrong.push_str(&problems.map(|problems| render::text(&problems, false)).unwrap_or_default());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_verbatim_value_in_a_command_is_reported_and_the_file_is_still_right() {
    let text = "schema: runbook/v1
name: x
parameters: {a: {type: string, default: b}}
execute: [{run: 'echo {{{param.a}}}', irreversible: x}]
";
    let parsed = parse_runbook("x.yaml", text.as_bytes()).unwrap_or_else(|p| panic!("{}", render::text(&p, false)));
    let codes: Vec<String> =
        parsed.warnings.iter().map(|warning| format!("{} {}", warning.code, warning.span)).collect();
    assert_eq!(codes, ["RB0042 x.yaml:4:23"]);
}

#[test]
fn a_step_that_may_run_beside_a_reboot_is_warned_of_and_the_file_is_still_right() {
    let warned = |needs: &str| {
        let text = format!(
            "schema: runbook/v1\nname: x\nirreversible: why\ntargets: {{select: all}}\nexecute:\n  - {{id: before, run: a}}\n  - \
             {{id: boot, reboot: }}\n  - {{id: beside, needs: [{needs}], run: b}}\n  - {{id: after, run: c}}\n  - {{id: \
             elsewhere, needs: [], on: controller, run: d}}\n"
        );
        let parsed = runbook_lang::parse_runbook("x.yaml", text.as_bytes()).unwrap();
        let said = |warning: &Diagnostic| (warning.code, warning.message.clone());
        parsed.warnings.iter().map(said).collect::<Vec<_>>()
    };
    assert_eq!(warned("boot"), []);
    assert_eq!(warned("boot, before"), []);
    let beside = |step: &str| {
        let said = format!("`{step}` may run while `boot` reboots the host, which would end it in the middle");
        (runbook_lang::Code::BesideReboot, said)
    };
    assert_eq!(warned(""), [beside("beside"), beside("after")]);
    assert_eq!(warned("before"), [beside("beside"), beside("after")]);
}

#[test]
fn a_secret_written_into_a_file_is_not_shown() {
    let text = "schema: runbook/v1
name: x
parameters: {k: {type: secret, default: hunter2}}
secrets:
  db: hunter2
execute: [{run: x, irreversible: x}]
";
    let problems = parse_runbook("x.yaml", text.as_bytes()).expect_err("it is refused");
    let shown = render::text(&problems, false);
    assert_eq!(problems.iter().map(|problem| problem.code.name()).collect::<Vec<_>>(), ["RB0045", "RB0045"]);
    assert!(shown.contains("x.yaml:5:7") && !shown.contains("hunter2"), "{shown}");
}
