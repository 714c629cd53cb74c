//! Values of the command line become typed values, and problems have their places.

use std::collections::BTreeMap;

use runbook_lang::{ParameterValues, Runbook, parse_runbook, render, resolve_parameters};
use runbook_model::plan::{Phase, SecretRef};
use serde_json::json;

const RUNBOOK: &str = "schema: runbook/v1
name: x
irreversible: shown
parameters:
  text: {type: string, pattern: '^[a-z]+$', minimum: 2}
  count: {type: integer, minimum: 1, maximum: 5}
  ratio: {type: number, default: 0.50}
  dry: {type: boolean, default: false}
  patience: {type: duration, default: 1h30m}
  room: {type: size, default: 2GiB, enum: [1GiB, 2GiB]}
  names: {type: list, default: [a, 2, true]}
  key: {type: secret}
  fallback: {type: secret, default: 'env:KEY'}
  needed: {type: path, required: true}
execute:
  - {name: Do it, run: x}
  - {name: Do it, run: x}
  - {uses: service-restart}
  - {run: x}
verify: [{run: x}]
";

fn runbook() -> Runbook {
    match parse_runbook("x.yaml", RUNBOOK.as_bytes()) {
        Ok(parsed) => parsed.value,
        Err(problems) => panic!("{}", render::text(&problems, false)),
    }
}

fn resolve(given: &[(&str, &str)]) -> Result<ParameterValues, String> {
    let given: BTreeMap<String, String> = given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    resolve_parameters(&runbook().parameters, &given).map_err(|problems| render::text(&problems, false))
}

#[test]
fn values_are_typed_and_defaults_fill_the_rest() {
    let resolved = resolve(&[
        ("needed", "/srv"),
        ("count", "3"),
        ("names", "x, y"),
        ("patience", "90s"),
        ("key", "file:/run/key"),
        ("dry", "true"),
    ])
    .unwrap_or_else(|problems| panic!("{problems}"));
    let expected = json!({
        "needed": "/srv", "count": 3, "names": ["x", "y"], "patience": 90, "ratio": "0.50", "room": 2_147_483_648_u64,
        "dry": true, "key": {"secret": "key"}, "fallback": {"secret": "fallback"},
    });
    assert_eq!(json!(resolved.values), expected);
    assert_eq!(resolved.secrets["key"], SecretRef::File("/run/key".into()));
    assert_eq!(resolved.secrets["fallback"], SecretRef::Env("KEY".into()));
}

#[test]
fn a_json_array_is_a_list_too() {
    let resolved = resolve(&[("needed", "/"), ("names", "[\"a,b\", 1, 0.5]")]).unwrap_or_else(|p| panic!("{p}"));
    assert_eq!(resolved.values["names"], json!(["a,b", 1, "0.5"]));
    assert!(resolve(&[("needed", "/"), ("names", "[[]]")]).is_err());
}

#[test]
fn all_wrong_values_are_reported_and_secrets_are_never_repeated() {
    let problems = resolve(&[
        ("txet", "a"),
        ("text", "A"),
        ("count", "6"),
        ("dry", "yes"),
        ("patience", "5"),
        ("room", "3GiB"),
        ("ratio", "1e3"),
        ("key", "hunter2"),
    ])
    .expect_err("they are wrong");
    for part in [
        "did you mean `text`?",
        "`A` does not match the pattern `^[a-z]+$`",
        "it has 1 characters, and the minimum is 2",
        "it is 6, and the maximum is 5",
        "`yes` is not true or false",
        "a unit is missing",
        "is not one of `1073741824`, `2147483648`",
        "`1e3` is not a number",
        "`key`: a secret is given by where it is",
        "the parameter `needed` has no value",
        "-p count=6",
    ] {
        let shown = part.strip_prefix("-p ").unwrap_or(part);
        assert!(problems.contains(shown), "`{shown}` is missing in\n{problems}");
    }
    assert!(!problems.contains("hunter2"), "{problems}");
}

#[test]
fn steps_without_an_id_get_one_from_their_name_their_action_or_their_place() {
    let runbook = runbook();
    let ids: Vec<&str> = runbook.phase(Phase::Execute).iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["do-it", "do-it-2", "service-restart", "execute-4"]);
    assert_eq!(runbook.verify[0].id.as_str(), "verify-1");
}

#[test]
fn the_digest_of_a_source_does_not_depend_on_line_ends_or_a_bom() {
    let unix = runbook().source.digest();
    for other in [RUNBOOK.replace('\n', "\r\n"), RUNBOOK.replace('\n', "\r"), format!("\u{feff}{RUNBOOK}")] {
        assert_eq!(runbook_lang::source::source_digest(other.as_bytes()), unix);
        if let Ok(parsed) = parse_runbook("x.yaml", other.as_bytes()) {
            assert_eq!(parsed.value.source.digest(), unix);
        }
    }
}

#[test]
fn diagnostics_are_json_with_places_in_lines_columns_and_bytes() {
    let problems =
        parse_runbook("x.yaml", "schema: runbook/v1\nname: é É\nexecute: [{run: x}]\n".as_bytes()).expect_err("wrong");
    let json = runbook_lang::diagnostic::to_json(&problems);
    assert_eq!(json["schema"], "diagnostics/v1");
    assert_eq!(json["diagnostics"][0]["code"], "RB0017");
    assert_eq!(
        json["diagnostics"][0]["place"],
        json!({"file": "x.yaml", "line": 2, "column": 7, "end_line": 2, "end_column": 10, "start_byte": 25, "end_byte": 30})
    );
}

#[test]
fn colour_is_used_only_when_asked_for_and_control_characters_are_shown() {
    let problems = parse_runbook("x.yaml", b"schema: runbook/v1\nname: \"a\\eb\"\nti\x1btle: x\n").expect_err("wrong");
    assert!(!render::text(&problems, false).contains('\x1b'));
    let coloured = render::text(&problems, true);
    assert!(coloured.contains("\x1b[1;31m") && !coloured.contains("ti\x1btle"));
}

#[test]
fn places_inside_texts_are_found_through_blocks_and_quotes() {
    let text = "schema: runbook/v1\nname: x\nirreversible: y\nexecute:\n  - run: |\n      one\n        two {{param.a}}\n  - run: \"say \\\"hi\\\" {{param.b}}\"\n";
    let problems = parse_runbook("x.yaml", text.as_bytes()).expect_err("unknown parameters");
    let places: Vec<String> = problems.iter().map(|problem| problem.span.to_string()).collect();
    assert_eq!(places, ["x.yaml:7:13", "x.yaml:8:22"], "{}", render::text(&problems, false));
}
