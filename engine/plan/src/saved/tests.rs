use proptest::prelude::*;
use runbook_model::canonical;
use runbook_model::plan::Work;
use serde_json::{Value, json};

use super::*;
use crate::sample;

fn value() -> Value {
    serde_json::to_value(sample::plan(3)).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

fn refused(change: impl FnOnce(&mut Value)) -> String {
    let mut value = value();
    change(&mut value);
    load(&bytes(&value)).expect_err("it must be refused").to_string()
}

#[test]
fn what_is_saved_is_loaded() {
    let plan = sample::plan(3);
    let saved = save(&plan);
    assert_eq!(load(&saved), Ok(plan.clone()));
    assert_eq!(saved.last(), Some(&b'\n'));
    assert_eq!(runbook_model::Sha256::of(&saved[..saved.len() - 1]), plan.digest());
}

#[test]
fn white_space_and_the_order_of_keys_do_not_matter() {
    fn reversed(value: &Value) -> String {
        match value {
            Value::Object(map) => {
                let entries: Vec<String> =
                    map.iter().rev().map(|(key, value)| format!("\n {} : {}", json!(key), reversed(value))).collect();
                format!("{{{}}}", entries.join(","))
            }
            Value::Array(items) => format!("[ {} ]", items.iter().map(reversed).collect::<Vec<_>>().join(" , ")),
            other => other.to_string(),
        }
    }
    let plan = sample::plan(3);
    let loaded = load(reversed(&value()).as_bytes()).unwrap();
    assert_eq!(loaded.digest(), plan.digest());
}

#[test]
fn other_documents_are_told_apart() {
    let code = |bytes: &[u8]| load(bytes).expect_err("it is no plan").code();
    assert_eq!(code(b""), "RB0280");
    assert_eq!(code(b"schema: runbook/v1\n"), "RB0280");
    assert_eq!(code(br#"{"schema":"plan-preview/v1","steps":[]}"#), "RB0281");
    assert_eq!(code(br#"{"schema":"plan/v2"}"#), "RB0282");
    assert_eq!(code(br#"{"schema":"plan/v1"}"#), "RB0283");
    assert_eq!(code(b"{}"), "RB0283");
    assert_eq!(code(b"[1]"), "RB0283");
    assert_eq!(code(br#"{"schema":"plan/v1","schema":"plan/v1"}"#), "RB0280");
    assert_eq!(code("[".repeat(100_000).as_bytes()), "RB0280");
}

#[test]
fn keys_that_no_plan_has_are_refused_at_every_depth() {
    assert!(refused(|v| v["colour"] = json!(1)).contains("colour"));
    assert!(refused(|v| v["runbook"]["colour"] = json!(1)).contains("colour"));
    assert!(refused(|v| v["steps"][0]["colour"] = json!(1)).contains("colour"));
    assert!(refused(|v| v["hosts"]["fs001"]["colour"] = json!(1)).contains("colour"));
    assert!(refused(|v| v["steps"][0]["retry"]["colour"] = json!(1)).contains("colour"));
    assert!(refused(|v| v["steps"][0]["work"]["any"]["run"]["colour"] = json!(1)).contains("colour"));
}

#[test]
fn numbers_without_a_canonical_form_are_refused() {
    assert!(refused(|v| v["parameters"]["x"] = json!(1.5)).contains("64-bit integer"));
    assert!(refused(|v| v["hosts"]["fs001"]["vars"] = json!({"deep": [{"x": 1e300}]})).contains("64-bit integer"));
    let saved = String::from_utf8(save(&sample::plan(1))).unwrap();
    let huge = saved.replace("2147483648", "99999999999999999999999");
    assert_eq!(load(huge.as_bytes()).unwrap_err().code(), "RB0280");
}

#[test]
fn a_plan_that_contradicts_itself_is_refused_with_all_reasons() {
    let at = |v: &Value, id: &str| v["steps"].as_array().unwrap().iter().position(|s| s["id"] == id).unwrap();
    type Forgery = (&'static str, fn(&mut Value, &dyn Fn(&Value, &str) -> usize));
    let forgeries: [Forgery; 22] = [
        ("no good names", |v, _| {
            v["access"] = json!({"certificate": {"principals": {}, "valid_for_ms": 1, "revoke": "required"}})
        }),
        ("has no account", |v, _| {
            v["hosts"]["fs001"]["user"] = json!("%wheel");
            v["access"] = json!({"sudo": {"as": "root", "commands": ["ALL"]}});
        }),
        ("says something else", |v, _| {
            v["access"] = json!({"sudo": {"as": "root", "commands": ["ALL\nmaint ALL=(ALL) ALL"]}});
        }),
        ("it gives nothing", |v, _| v["access"] = json!({})),
        ("in no batch", |v, _| drop(v["batches"][1].as_array_mut().unwrap().pop())),
        ("two places", |v, _| v["batches"][0] = json!(["fs001", "fs002"])),
        ("no host of the plan", |v, _| v["batches"][0] = json!(["fs001", "ghost"])),
        ("is empty", |v, _| v["batches"].as_array_mut().unwrap().push(json!([]))),
        ("calls itself", |v, _| v["hosts"]["fs001"]["name"] = json!("other")),
        ("`parallel` is 0", |v, _| v["parallel"] = json!(0)),
        ("no step of the plan", |v, at| {
            let n = at(v, "upgrade");
            v["steps"][n]["needs"] = json!(["ghost"]);
        }),
        ("does not stand before it", |v, at| {
            let n = at(v, "upgrade");
            v["steps"][n]["needs"] = json!(["announce"]);
        }),
        ("another phase", |v, at| {
            let n = at(v, "upgrade");
            v["steps"][n]["needs"] = json!(["data"]);
        }),
        ("used twice", |v, at| {
            let n = at(v, "branch-only");
            v["steps"][n]["id"] = json!("upgrade");
        }),
        ("no step proves", |v, at| {
            let n = at(v, "data.probe");
            v["steps"].as_array_mut().unwrap().remove(n);
        }),
        ("does not fit", |v, at| {
            let n = at(v, "upgrade.undo");
            v["steps"][n]["role"] = json!({"undo": {"of": "disk-free"}});
        }),
        ("not among the files", |v, _| v["files"] = json!({})),
        ("only reads, and may change", |v, at| {
            let n = at(v, "disk-free");
            v["steps"][n]["read_only"] = json!(false);
        }),
        ("100 years", |v, at| {
            let n = at(v, "upgrade");
            v["steps"][n]["timeout_ms"] = json!(u64::MAX);
        }),
        ("no attempts", |v, at| {
            let n = at(v, "upgrade");
            v["steps"][n]["retry"]["attempts"] = json!(0);
        }),
        ("stands after", |v, at| {
            let n = at(v, "read-share");
            let s = v["steps"].as_array_mut().unwrap();
            let step = s.remove(n);
            s.insert(0, step);
        }),
        ("cannot lead to a rollback", |v, at| {
            let n = at(v, "disk-free");
            v["steps"][n]["on_failure"] = json!("rollback");
        }),
    ];
    for (expected, forge) in forgeries {
        let why = refused(|value| forge(value, &at));
        assert!(why.contains(expected), "{expected}: {why}");
    }
}

#[test]
fn an_upload_cannot_leave_its_target() {
    for path in ["../x", "/x", "a/../../x", "a//b", "c:/x", "a\\..\\x", ""] {
        let why = refused(|v| {
            let files =
                json!({path: {"sha256": "a".repeat(64), "mode": 420}, "fine": {"sha256": "a".repeat(64), "mode": 420}});
            v["steps"][4]["work"] = json!({"any": {"upload": {"files": files, "to": "/srv"}}});
            v["files"]["a".repeat(64)] = json!({"path": "x", "bytes": 1});
        });
        assert!(why.contains("outside its target") || why.contains("a file and a folder at once"), "{path}: {why}");
    }
}

/// JSON values of any shape, with the words of plans in them.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("schema".to_owned()),
        Just("plan/v1".to_owned()),
        Just("steps".to_owned()),
        Just("fs001".to_owned()),
        Just("upgrade".to_owned()),
        "\\PC{0,8}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(word.clone(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Puts `other` somewhere into `value`, led there by `path`.
fn graft(value: &mut Value, path: &[prop::sample::Index], other: Value) {
    match (value, path) {
        (Value::Object(map), [first, rest @ ..]) if !map.is_empty() => {
            let key = map.keys().nth(first.index(map.len())).cloned().unwrap();
            graft(&mut map[&key], rest, other);
        }
        (Value::Array(items), [first, rest @ ..]) if !items.is_empty() => {
            let at = first.index(items.len());
            graft(&mut items[at], rest, other);
        }
        (value, _) => *value = other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn any_bytes_are_refused_or_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(load(&bytes).is_err());
    }

    #[test]
    fn a_damaged_file_never_panics_and_what_is_read_is_sound(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()
    ) {
        let mut saved = save(&sample::plan(2));
        let place = at.index(saved.len());
        saved[place] = byte;
        if let Ok(plan) = load(&saved) {
            prop_assert!(invariants::violations(&plan).is_empty());
            let _ = plan.digest();
        }
        saved.truncate(cut.index(saved.len()));
        let _ = load(&saved);
    }

    #[test]
    fn a_forged_file_never_panics_and_what_is_read_can_be_shown(
        path in prop::collection::vec(any::<prop::sample::Index>(), 1..6), other in any_json()
    ) {
        let mut value = serde_json::to_value(sample::plan(2)).unwrap();
        graft(&mut value, &path, other);
        if let Ok(plan) = load(&bytes(&value)) {
            prop_assert_eq!(load(&save(&plan)), Ok(plan.clone()));
            let _ = (crate::mermaid(&plan), crate::dot(&plan));
            if let Ok(preview) = crate::Preview::of(&plan, &sample::Simple) {
                let _ = (preview.text(80), preview.json());
            }
            prop_assert_eq!(crate::diff(&sample::plan(2), &plan).is_empty(), plan == sample::plan(2));
            prop_assert_eq!(canonical::digest(&plan), plan.digest());
        }
    }
}

#[test]
fn the_sample_is_sound() {
    for count in [1, 2, 500] {
        assert_eq!(invariants::violations(&sample::plan(count)), Vec::<String>::new());
    }
    let Work::Any(_) = sample::plan(1).steps[0].work else { panic!("the sample's first step is for any system") };
}
