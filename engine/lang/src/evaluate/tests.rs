use runbook_model::evaluate::{RunFacts, SnapshotFacts, StepResult, StepResults};
use runbook_model::host::{Facts, Host};
use runbook_model::id::StepId;
use runbook_model::plan::Plan;
use serde_json::{Value, json};

use super::*;

fn plan() -> Plan {
    serde_json::from_value(json!({
        "schema": "plan/v1",
        "runbook": {"name": "t", "title": "", "tier": "routine", "controls": [], "source_sha256": "0".repeat(64)},
        "parameters": {
            "package": "samba", "n": 3, "evil": "a'; rm -rf /", "list": ["one", "two words"], "pw": {"secret": "db"},
            "free": "2GiB",
        },
        "secrets": {"db": {"env": "DB_PW"}},
        "hosts": {}, "batches": [], "parallel": 1, "soak_ms": 0, "failure_budget": 0,
        "rollback": {"strategy": "undo-then-restore", "scope": "host", "budget_ms": 1, "verify": "none"},
        "steps": [],
    }))
    .expect("the plan is right")
}

fn host(os: &str) -> Host {
    serde_json::from_value(json!({
        "name": "fs01", "transport": "ssh", "address": "10.0.1.11", "os": os, "account": "maint",
        "labels": {"site": "hq"}, "vars": {"repo": {"path": "/srv/backup"}}, "groups": ["fileservers"], "cui": true,
    }))
    .expect("the host is right")
}

/// A step, with `more` in place of or beside what every step has.
fn step(work: Value, more: Value) -> Step {
    let mut step = json!({
        "id": "s", "name": "s", "phase": "execute", "role": "plain", "work": work, "needs": [], "on": "host",
        "timeout_ms": 1, "retry": {"attempts": 1, "delay_ms": 0, "backoff_permille": 2000, "delay_ms_max": 0, "on": []},
        "expect": {"exit_codes": [0]}, "idempotent": false, "read_only": false, "on_failure": "halt", "sensitive": false,
        "output_bytes_max": 1,
    });
    let fields = step.as_object_mut().expect("it is a mapping");
    fields.extend(more.as_object().expect("it is a mapping").clone());
    serde_json::from_value(step).expect("the step is right")
}

fn command(text: &str) -> Value {
    json!({"any": {"run": {"command": text, "strict": true}}})
}

struct Results;

impl StepResults for Results {
    fn result(&self, step: &StepId) -> Option<StepResult> {
        match step.as_str() {
            "probe" => Some(StepResult {
                stdout: "{\"version\": \"4.17\", \"list\": [1, 2]}".into(),
                stderr: "warn".into(),
                exit_code: Some(0),
                skipped: false,
            }),
            "skipped" => Some(StepResult { skipped: true, ..StepResult::default() }),
            _ => None,
        }
    }
}

struct World {
    plan: Plan,
    host: Host,
    facts: Facts,
    run: RunFacts,
}

impl World {
    fn new(os: &str) -> Self {
        let facts = Facts { os: "debian".into(), os_version: "12".into(), ..Facts::default() };
        let run = RunFacts {
            id: "r1".into(),
            ticket: "CHG-1".into(),
            operator: "jane".into(),
            started_at: "2026-01-01T00:00:00Z".into(),
        };
        Self { plan: plan(), host: host(os), facts, run }
    }

    fn running(&self) -> Scope<'_> {
        Scope {
            plan: &self.plan,
            host: &self.host,
            facts: Some(&self.facts),
            run: Some(&self.run),
            steps: &Results,
            snapshot: None,
        }
    }

    fn preview(&self) -> Scope<'_> {
        Scope { plan: &self.plan, host: &self.host, facts: None, run: None, steps: &(), snapshot: None }
    }
}

fn text_of(world: &World, template: &str) -> Result<String, String> {
    let step = step(command(template), json!({}));
    Evaluator::new()
        .render(&world.running(), &step)
        .map(|rendered| rendered.command_text())
        .map_err(|error| error.to_string())
}

#[test]
fn commands_have_the_values_of_all_names() {
    let world = World::new("linux");
    for (template, text) in [
        ("apt install {{param.package}}", "apt install samba"),
        ("x {{param.evil}}", r"x 'a'\''; rm -rf /'"),
        ("x {{param.list}} end", "x one 'two words' end"),
        ("x {{host.name}} {{host.address}} {{host.os}} {{host.cui}}", "x fs01 10.0.1.11 linux true"),
        ("x {{host.labels.site}} {{host.vars.repo.path}} {{host.groups}}", "x hq /srv/backup fileservers"),
        ("x {{host.facts.os}} {{host.facts.os_version}}", "x debian 12"),
        (
            "x {{run.id}} {{run.ticket}} {{run.tier}} {{run.operator}} {{run.started_at}}",
            "x r1 CHG-1 routine jane 2026-01-01T00:00:00Z",
        ),
        ("x {{steps.probe.json.version}} {{steps.probe.json.list}} {{steps.probe.exit_code}}", "x 4.17 1 2 0"),
        ("x {{steps.probe.stderr}} {{steps.skipped.skipped}}", "x warn true"),
    ] {
        assert_eq!(text_of(&world, template).as_deref(), Ok(text), "{template}");
    }
}

#[test]
fn names_without_a_value_are_errors_that_name_the_field() {
    let world = World::new("linux");
    for (template, message) in [
        ("{{param.nope}}", "run: the parameter nope has no value"),
        ("a\n{{host.labels.rack}}", "run: line 2: the host fs01 has no label rack"),
        ("{{host.owner}}", "run: the host fs01 has no owner in the inventory"),
        ("{{steps.later.stdout}}", "run: the step later has no result yet"),
        ("{{steps.skipped.json.x}}", "run: the step skipped was skipped, so it has no output"),
        ("{{steps.probe.json.nope}}", "run: steps.probe.json has no nope (it has list, version)"),
        ("{{item}}", "run: item means something only in a step with `each`"),
        ("{{snapshot.id}}", "run: snapshot.* means something only in the operations of a snapshot action"),
        ("{{host.vars.repo}}", "run: host.vars.repo is a mapping, which is no text"),
        ("{{secret.nope}}", "run: the secret nope is not declared"),
    ] {
        assert_eq!(text_of(&world, template), Err(message.into()), "{template}");
    }
    let with_argv = step(json!({"any": {"argv": {"argv": ["x", "{{secret.db}}"]}}}), json!({}));
    let error = Evaluator::new().render(&world.running(), &with_argv).unwrap_err();
    assert!(error.to_string().starts_with("run: secret.db is a secret"), "{error}");
    let with_cwd = step(command("x"), json!({"cwd": "/{{param.pw}}"}));
    assert!(Evaluator::new().render(&world.running(), &with_cwd).unwrap_err().to_string().starts_with("cwd: "));
}

#[test]
fn a_preview_shows_and_lists_what_it_cannot_know() {
    let world = World::new("linux");
    let step = step(
        command("x {{host.facts.os}} {{steps.probe.stdout}} {{run.id}} {{run.tier}} {{param.n}}"),
        json!({"when": "steps.probe.exit_code == 0"}),
    );
    let evaluator = Evaluator::new();
    let rendered = evaluator.render(&world.preview(), &step).unwrap();
    assert_eq!(rendered.command_text(), "x ‹host.facts.os› ‹steps.probe.stdout› ‹run.id› routine 3");
    assert_eq!(rendered.unknown, ["host.facts.os", "run.id", "steps.probe.stdout"].map(str::to_owned).into());
    assert_eq!(
        rendered.variables,
        ["host.facts.os", "param.n", "run.id", "run.tier", "steps.probe.stdout"].map(str::to_owned).into()
    );
    assert_eq!(evaluator.when(&world.preview(), &step), Ok(When::Run));
}

#[test]
fn secrets_travel_in_the_environment() {
    let world = World::new("linux");
    let step = step(
        command("mysql -p{{secret.db}} {{param.pw}}"),
        json!({"env": {"A": "u:{{secret.db}}", "B": "{{param.n}}"}, "stdin": "{{param.pw}}\n"}),
    );
    let rendered = Evaluator::new().render(&world.running(), &step).unwrap();
    assert_eq!(rendered.command_text(), "mysql -p\"${RUNBOOK_SECRET_db}\" \"${RUNBOOK_SECRET_db}\"");
    let secret = Piece::Secret("db".into());
    assert_eq!(rendered.env["RUNBOOK_SECRET_db"], SecretText(vec![secret.clone()]));
    assert_eq!(rendered.env["A"], SecretText(vec![Piece::Text("u:".into()), secret.clone()]));
    assert_eq!(rendered.env["B"], SecretText::plain("3"));
    assert_eq!(rendered.stdin, Some(SecretText(vec![secret, Piece::Text("\n".into())])));
}

#[test]
fn an_actions_parameters_are_its_own() {
    let world = World::new("linux");
    let step = |with: Value, text: &str| step(command(text), json!({"with": with, "uses": "a"}));
    let evaluator = Evaluator::new();
    let render = |with: Value, text: &str| {
        evaluator.render(&world.running(), &step(with, text)).map_err(|error| error.to_string())
    };
    let rendered = render(
        json!({"path": "/srv/{{host.labels.site}}", "at_least": "{{param.free}}", "items": "{{param.list}}", "n": 5}),
        "x {{param.path}} {{param.at_least}} {{param.items}} {{param.n}}",
    )
    .unwrap();
    assert_eq!(rendered.command_text(), "x /srv/hq 2GiB one 'two words' 5");
    assert_eq!(rendered.variables, ["host.labels.site", "param.free", "param.list"].map(str::to_owned).into());
    // The runbook's parameters are not visible inside.
    assert_eq!(render(json!({}), "{{param.package}}").unwrap_err(), "run: the action has no parameter package");
    // The value is quoted once, inside; a value that looks like a template is none.
    let rendered = render(json!({"x": "{{param.evil}}"}), "x {{param.x}}").unwrap();
    assert_eq!(rendered.command_text(), r"x 'a'\''; rm -rf /'");
    // Secrets pass through to where they may stand.
    let rendered =
        render(json!({"pw": "{{secret.db}}", "dsn": "u:{{param.pw}}@"}), "x {{param.pw}} {{param.dsn}}").unwrap();
    assert_eq!(rendered.command_text(), "x \"${RUNBOOK_SECRET_db}\" 'u:'\"${RUNBOOK_SECRET_db}\"'@'");
    // What is not known yet stays so.
    let unknown =
        evaluator.render(&world.preview(), &step(json!({"v": "v{{steps.probe.stdout}}"}), "x {{param.v}}")).unwrap();
    assert_eq!(unknown.command_text(), "x v‹steps.probe.stdout›");
    assert_eq!(unknown.unknown, ["steps.probe.stdout".to_owned()].into());
}

#[test]
fn the_hosts_system_decides_shell_and_variant() {
    let by_os = json!({"by_os": {
        "posix": {"run": {"command": "p {{param.evil}}", "strict": true}},
        "windows": {"run": {"command": "w {{param.evil}}", "strict": true}},
    }});
    let both = step(by_os, json!({}));
    let posix_only =
        step(json!({"by_os": {"posix": {"run": {"command": "p", "strict": true}}}}), json!({"uses": "disk-free"}));
    let (linux, windows) = (World::new("linux"), World::new("windows"));
    let evaluator = Evaluator::new();
    assert_eq!(
        evaluator.render(&linux.running(), &both).unwrap().action,
        RenderedAction::Run { text: r"p 'a'\''; rm -rf /'".into(), shell: ShellKind::Sh, strict: true }
    );
    assert_eq!(
        evaluator.render(&windows.running(), &both).unwrap().action,
        RenderedAction::Run { text: "w 'a''; rm -rf /'".into(), shell: ShellKind::Powershell, strict: true }
    );
    assert_eq!(
        evaluator.render(&windows.running(), &posix_only).unwrap_err().to_string(),
        "disk-free cannot be done on windows: the action has no `windows` part"
    );
    // On the controller it is the controller's system, and not the host's account.
    let there = step(command("x"), json!({"on": "controller"}));
    assert_eq!(evaluator.render(&windows.running(), &there).unwrap().account, None);
    assert_eq!(evaluator.render(&linux.running(), &both).unwrap().account.as_deref(), Some("maint"));
}

#[test]
fn snapshot_operations_have_their_names() {
    let world = World::new("linux");
    let scope = Scope {
        snapshot: Some(SnapshotFacts { id: "data".into(), reference: "ref 1".into(), run: "r0".into() }),
        ..world.running()
    };
    let probe = step(
        command("p {{snapshot.id}} {{snapshot.reference}} {{snapshot.run}}"),
        json!({"role": {"probe": {"of": "data"}}}),
    );
    let evaluator = Evaluator::new();
    assert_eq!(evaluator.render(&scope, &probe).unwrap().command_text(), "p data 'ref 1' r0");
    let rendered = evaluator.render(&world.preview(), &probe).unwrap();
    assert_eq!(rendered.command_text(), "p data ‹snapshot.reference› ‹snapshot.run›");
}

#[test]
fn items_are_values_like_others() {
    let world = World::new("linux");
    let one = step(command("x {{item}}"), json!({"item": "a b"}));
    let two = step(command("x {{item.name}}"), json!({"item": {"name": "a b"}}));
    for step in [one, two] {
        assert_eq!(Evaluator::new().render(&world.running(), &step).unwrap().command_text(), "x 'a b'");
    }
}

#[test]
fn a_step_is_skipped_with_its_condition_as_the_reason() {
    let world = World::new("linux");
    let evaluator = Evaluator::new();
    let when = |condition: &str| evaluator.when(&world.running(), &step(command("x"), json!({"when": condition})));
    assert_eq!(when("host.labels.site == \"hq\""), Ok(When::Run));
    assert_eq!(when("param.n > 5"), Ok(When::Skip("`param.n > 5` is false".into())));
    assert_eq!(
        when("host.labels.rack == 'x'").unwrap_err().to_string(),
        "when: the host fs01 has no label rack (in `host.labels.rack == 'x'`)"
    );
    assert!(when("steps.later.exit_code == 0").is_err());
    assert!(when("param.n").is_err());
    // In a packaged action's step, `param.*` are the action's here too.
    let uses = step(command("x"), json!({"when": "param.n == 4", "with": {"n": 4}}));
    assert_eq!(evaluator.when(&world.running(), &uses), Ok(When::Run));
}

fn unmet(expect: Value, exit: Exit, stdout: &str) -> Vec<String> {
    let world = World::new("linux");
    let step = step(command("x"), json!({"expect": expect}));
    let stdout = Kept { bytes: stdout.as_bytes(), whole: true };
    Evaluator::new().unmet(&world.running(), &step, exit, stdout, Kept { bytes: b"", whole: true })
}

#[test]
fn expectations_that_hold_are_silent() {
    for (expect, stdout) in [
        (json!({"exit_codes": [0]}), "anything"),
        (json!({"exit_codes": [0], "stdout": {"equals": "ok"}}), "ok\n"),
        (json!({"exit_codes": [0], "stdout": {"equals": "{{param.package}}\n"}}), "samba"),
        (json!({"exit_codes": [0], "stdout": {"contains": ["b c", "{{param.package}}"]}}), "a b c samba"),
        (json!({"exit_codes": [0], "stdout": {"matches": "^v\\d+$", "not_matches": "error"}}), "v12"),
        (json!({"exit_codes": [0], "stdout": {"empty": true}, "stderr": {"empty": true}}), " \n"),
        (json!({"exit_codes": [0], "stdout": {"empty": false}}), "x"),
        (
            json!({"exit_codes": [0], "stdout": {"json": "json.free > param.n && json.ok"}}),
            "{\"free\": 9, \"ok\": true}",
        ),
    ] {
        assert_eq!(unmet(expect.clone(), Exit::Code(0), stdout), Vec::<String>::new(), "{expect}");
    }
}

#[test]
fn unmet_expectations_say_what_was_expected_and_what_was_seen() {
    let out = |expect: Value| json!({"exit_codes": [0], "stdout": expect});
    for (expect, exit, stdout, message) in [
        (json!({"exit_codes": [0, 2]}), Exit::Code(1), "", "expected exit code 0 or 2, got 1"),
        (json!({"exit_codes": [0]}), Exit::Signal(9), "", "expected an exit code, was ended by signal 9"),
        (out(json!({"equals": "a"})), Exit::Code(0), "b\n", "expected stdout to equal \"a\", got \"b\""),
        (out(json!({"contains": ["a"]})), Exit::Code(0), "", "expected stdout to contain \"a\", got nothing"),
        (
            out(json!({"matches": "^a"})),
            Exit::Code(0),
            "b\u{1b}[31mc\r\nd",
            "expected stdout to match \"^a\", got \"b\\u{1b}[31mc\\r\\nd\"",
        ),
        (
            out(json!({"not_matches": "b+"})),
            Exit::Code(0),
            "abbc",
            "expected stdout to not match \"b+\", and it has \"bb\"",
        ),
        (out(json!({"empty": true})), Exit::Code(0), "x\u{202e}y", "expected stdout to be empty, got \"x\\u{202e}y\""),
        (out(json!({"empty": false})), Exit::Code(0), " \n", "expected stdout not to be empty, and it is"),
        (
            out(json!({"json": "json.ok"})),
            Exit::Code(0),
            "{\"ok\":false}",
            "expected `json.ok` of stdout, got \"{\"ok\":false}\"",
        ),
        (
            out(json!({"json": "json.nope == 1"})),
            Exit::Code(0),
            "{}",
            "expected `json.nope == 1` of stdout: json has no nope (it is empty)",
        ),
    ] {
        assert_eq!(unmet(expect.clone(), exit, stdout), [message], "{expect}");
    }
    let no_json = unmet(out(json!({"json": "json.ok"})), Exit::Code(0), "oops");
    assert!(no_json[0].starts_with("expected stdout to be JSON (expected value"), "{no_json:?}");
    let long = unmet(out(json!({"equals": "a"})), Exit::Code(0), &"x".repeat(500));
    assert!(long[0].ends_with("…\" and 340 characters more"), "{long:?}");
}

#[test]
fn an_expectation_on_a_stream_that_was_cut_is_not_met() {
    let world = World::new("linux");
    let step = step(command("x"), json!({"expect": {"exit_codes": [0], "stdout": {"not_matches": "error"}}}));
    let cut = Kept { bytes: b"fine", whole: false };
    let all = Kept { bytes: b"", whole: true };
    let evaluator = Evaluator::new();
    assert_eq!(evaluator.unmet(&world.running(), &step, Exit::Code(0), cut, all).len(), 1);
    // Without an expectation on it, it does not matter.
    assert_eq!(
        evaluator.unmet(
            &world.running(),
            &step,
            Exit::Code(0),
            Kept { whole: true, ..cut },
            Kept { whole: false, ..all }
        ),
        Vec::<String>::new()
    );
}

#[test]
fn all_fields_are_rendered() {
    let world = World::new("linux");
    let sha = "0".repeat(64);
    let evaluator = Evaluator::new();
    let render = |work: Value, more: Value| evaluator.render(&world.running(), &step(work, more)).unwrap();
    let rendered = render(
        json!({"any": {"upload": {"files": {"": {"sha256": sha, "mode": 420}}, "to": "/x/{{host.name}}", "owner": "{{param.package}}"}}}),
        json!({"as": "{{param.package}}", "cwd": "/srv/{{param.n}}", "changes": ["/etc/{{param.package}}/**"],
               "unless": {"any": {"run": {"command": "test {{param.n}}", "strict": true}}}}),
    );
    assert!(
        matches!(&rendered.action, RenderedAction::Upload { to, owner: Some(owner), .. } if to == "/x/fs01" && owner == "samba")
    );
    assert_eq!(rendered.account.as_deref(), Some("samba"));
    assert_eq!(rendered.cwd.as_deref(), Some("/srv/3"));
    assert_eq!(rendered.changes, ["/etc/samba/**"]);
    assert_eq!(rendered.unless.unwrap().text(), "test 3");
    let rendered = render(json!({"any": {"argv": {"argv": ["echo", "{{param.evil}}", "$HOME"]}}}), json!({}));
    assert_eq!(rendered.action, RenderedAction::Argv(vec!["echo".into(), "a'; rm -rf /".into(), "$HOME".into()]));
    let rendered =
        render(json!({"any": {"wait_until": {"for_ms": 1, "until": "t {{param.evil}}", "every_ms": 1}}}), json!({}));
    assert!(matches!(rendered.action, RenderedAction::WaitUntil { until, .. } if until == r"t 'a'\''; rm -rf /'"));
    let rendered = render(json!({"any": {"confirm": {"text": "go on with {{param.package}}?"}}}), json!({}));
    assert_eq!(rendered.action, RenderedAction::Confirm { text: "go on with samba?".into() });
    assert_eq!(evaluator.text(&world.running(), &Template("/srv/{{param.package}}".into())), Ok("/srv/samba".into()));
}

#[test]
fn the_digest_is_of_the_templates_and_not_of_the_values() {
    let world = World::new("linux");
    let evaluator = Evaluator::new();
    let digest =
        |text: &str| evaluator.render(&world.running(), &step(command(text), json!({}))).unwrap().template_sha256;
    assert_eq!(digest("x {{param.n}}"), digest("x {{param.n}}"));
    assert_ne!(digest("x {{param.n}}"), digest("x 3"));
    assert_eq!(digest("x 3"), runbook_model::canonical::digest(&step(command("x 3"), json!({})).work));
}
