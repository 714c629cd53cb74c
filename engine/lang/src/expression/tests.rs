use std::borrow::Cow;

use proptest::prelude::*;
use serde_json::json;

use super::*;

struct Document(Value);

impl Values for Document {
    fn value(&self, path: &[String]) -> Result<Found<'_>, String> {
        if path[0] == "secret" {
            return Ok(Found::Secret(runbook_model::evaluate::SecretText::default()));
        }
        if path[0] == "run" {
            let name = path.join(".");
            return Ok(Found::Unknown(format!("‹{name}›"), BTreeSet::from([name])));
        }
        let mut value = &self.0;
        for segment in path {
            value = value.get(segment).ok_or_else(|| format!("{} is missing", path.join(".")))?;
        }
        Ok(Found::Value(Cow::Borrowed(value)))
    }
}

fn judge(source: &str) -> Result<Answer, String> {
    let document = Document(json!({
        "param": {"package": "samba", "n": 3, "big": 18_446_744_073_709_551_615_u64, "list": ["a", "b"], "half": 0.5, "flag": true},
        "host": {"name": "fs01", "os": "linux", "cui": true, "groups": ["fileservers"], "labels": {"site": "hq"}, "vars": {"a": {"b": 1}},
                 "facts": {"os": "debian", "os_version": "12", "kernel": "6.1", "arch": "x86_64", "boot_id": "x"}},
        "steps": {"my-step": {"stdout": "ok", "stderr": "", "exit_code": 0, "skipped": false, "json": {"v": [1, 2]}},
                  "gone": {"exit_code": null, "stdout": ""}},
        "item": "x",
        "json": {"state": "up", "items": [{"ok": true}, {"ok": true}]},
    }));
    CompiledExpression::new(source).map_err(|problems| problems[0].to_string())?.judge(&document)
}

#[test]
fn conditions_are_judged() {
    for (source, answer) in [
        ("true", true),
        ("host.labels.site == \"hq\"", true),
        ("'fileservers' in host.groups", true),
        ("host.cui && param.n > 2", true),
        ("param.n + 1 == 4 && -param.n < 0", true),
        ("param.half < 1.0", true),
        ("param.big > 0u", true),
        ("param.package.startsWith('sam') && size(param.list) == 2", true),
        ("param.package.matches('^s.*a$')", true),
        ("steps[\"my-step\"].exit_code == 0", true),
        ("steps['my-step'].json.v[1] == 2", true),
        ("steps.gone.exit_code == null", true),
        ("has(host.labels.site) && !has(host.labels.rack)", true),
        ("'rack' in host.labels", false),
        ("host.vars.a.b == 1", true),
        ("host.facts.os in ['debian', 'ubuntu']", true),
        ("'os' in host.facts", true),
        ("json.items.all(i, i.ok)", true),
        ("json.items.exists(i, !i.ok)", false),
        ("param.list.map(x, x + '!') == ['a!', 'b!']", true),
        ("item == 'x' ? json.state == 'up' : false", true),
        ("host.os == 'windows' && param.missing == 1", false),
        ("host.os == 'linux' || param.missing == 1", true),
        ("host.os == 'windows' && run.id == 'x'", false),
        ("type(param.n) == int", true),
    ] {
        assert_eq!(judge(source), Ok(Answer::Known(answer)), "{source}");
    }
}

#[test]
fn what_is_missing_or_of_another_kind_is_an_error_and_not_false() {
    for source in [
        "param.missing == 'x'",
        "param.missing",
        "host.labels.rack == 'r1'",
        "!(host.labels.rack == 'r1')",
        "host.labels['rack'] == 'r1'",
        "steps.other.exit_code == 0",
        "json.items[7].ok",
        "nonsense == 1",
        "param.package > 3",
        "param.n / 0 == 1",
        "param.n",
        "param.package",
        "'text'",
        "secret.db == 'x'",
        "json.state",
        "null",
    ] {
        assert!(judge(source).is_err(), "{source}");
    }
    assert_eq!(judge("param.missing == 'x'"), Err("param.missing is missing".into()));
    assert_eq!(judge("param.n"), Err("it gives a number instead of true or false".into()));
}

#[test]
fn what_is_known_only_later_is_said() {
    let later = |name: &str| Ok(Answer::Unknown(BTreeSet::from([name.to_owned()])));
    assert_eq!(judge("run.id == 'x'"), later("run.id"));
    assert_eq!(judge("host.cui && run.id == 'x'"), later("run.id"));
    assert_eq!(judge("has(run.ticket)"), later("run.ticket"));
}

#[test]
fn names_are_checked_before_the_run() {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let names = Names {
        parameters: set(&["package", "password"]),
        secret_parameters: set(&["password"]),
        steps: set(&["probe", "list-pending"]),
        ..Names::default()
    };
    for source in [
        "param.package == 'x' && host.labels.site == 'hq'",
        "'a' in host.groups && has(host.owner)",
        "steps.probe.exit_code == 0 && steps['list-pending'].json.n > 0",
        "[1, 2].all(param_like, param_like > 0)",
    ] {
        assert_eq!(check(source, &names), [], "{source}");
    }
    for (source, text) in [
        ("param.pakage == 'x'", "the parameter pakage is not declared; did you mean param.package?"),
        ("1 == 1 &&\n  hots.name == 'x'", "the name hots.name is not known; did you mean host.name?"),
        (
            "steps.list-pending.exit_code == 0",
            "there is no step list before this one (a name with - is written steps[\"list-pending\"] in expressions)",
        ),
        ("param.password == 'x'", "param.password is a secret; a condition cannot depend on its value"),
        ("param.package.startWith('x')", "the function startWith is not known; did you mean startsWith?"),
        ("{{param.package}} == 'x'", "an expression names values without braces (write param.x, not {{param.x}})"),
        ("json.x == 1", "the name json.x is not known"),
    ] {
        let problems = check(source, &names);
        assert_eq!(problems.first().map(ToString::to_string).as_deref(), Some(text), "{source}");
    }
    let problems = check("1 == 1 &&\n  hots.name == 'x'", &names);
    assert_eq!(problems[0].position, Position { line: 2, column: 3 });
    let problems = check("1 == ", &names);
    assert!(problems[0].message.starts_with("this is not an expression"), "{problems:?}");
}

#[test]
fn hostile_texts_are_refused_in_bounded_memory() {
    let mut texts = vec![
        "(".repeat(4096),
        "[".repeat(2000),
        format!("{}true{}", "(".repeat(1000), ")".repeat(1000)),
        format!("1{} == 1", "+1".repeat(2000)),
        format!("a{} == 1", ".b".repeat(2000)),
        format!("{}true", "true?true:".repeat(400)),
        "x".repeat(5000),
        "[1].all(a, [1].all(b, [1].all(c, true)))".to_owned(),
        "Foo{a: 1} == 1".to_owned(),
        String::new(),
    ];
    // An even number of `!` is none.
    assert_eq!(judge(&format!("{}true", "!".repeat(4000))), Ok(Answer::Known(true)));
    texts.push(format!("{}{}", "(\")\"+".repeat(300), ")".repeat(300)));
    for text in texts {
        assert!(CompiledExpression::new(&text).is_err(), "{}", &text[..text.len().min(40)]);
    }
}

#[test]
fn the_examples_in_the_book_can_be_read() {
    let page = include_str!("../../../../docs/language/expressions.md");
    let mut seen = 0;
    for line in page.lines() {
        let source = match line.trim_start().strip_prefix("when: ") {
            Some(when) => when,
            None => match line.strip_prefix("| `").and_then(|rest| rest.split_once('`')) {
                Some((source, _)) if !source.contains("\\|") => source,
                _ => continue,
            },
        };
        if let Err(problems) = CompiledExpression::new(source.split("`, `").next().unwrap_or(source)) {
            panic!("{source}: {problems:?}");
        }
        seen += 1;
    }
    assert_eq!(seen, 10);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(source in "(\\PC|[a-z.()\\[\\]{}?:!<>=&|+*/%'\"\\\\,0-9 \n-]|param\\.n|has\\(|\\.all\\(x,|in |null|true|'a'|r'|b\"|0x){0,30}") {
        let _ = judge(&source);
    }
}
