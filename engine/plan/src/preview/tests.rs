use std::collections::BTreeSet;

use runbook_model::plan::{Action, Phase, Template, Work};

use super::*;
use crate::sample::{self, Simple};

fn preview(plan: &Plan) -> Preview<'_> {
    Preview::of(plan, &Simple).unwrap_or_else(|errors| panic!("{}", errors[0]))
}

#[test]
fn text_for_one_host() {
    insta::assert_snapshot!(preview(&sample::plan(1)).text(80));
}

#[test]
fn text_for_three_hosts_of_two_sites() {
    let mut plan = sample::plan(3);
    plan.hosts.get_mut(&"fs002".into()).unwrap().labels.insert("site".into(), "branch".into());
    insta::assert_snapshot!(preview(&plan).text(100));
}

#[test]
fn text_for_five_hundred_hosts_stays_short_and_narrow() {
    let plan = sample::plan(500);
    let text = preview(&plan).text(80);
    insta::assert_snapshot!(text);
    let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 80).collect();
    assert_eq!(wide, Vec::<&str>::new());
}

#[test]
fn json_for_two_hosts() {
    insta::assert_json_snapshot!(preview(&sample::plan(2)).json());
}

#[test]
fn pictures() {
    insta::assert_snapshot!("mermaid", crate::mermaid(&sample::plan(1)));
    insta::assert_snapshot!("dot", crate::dot(&sample::plan(1)));
}

#[test]
fn every_cell_of_the_matrix_is_there_and_says_the_command() {
    let plan = sample::plan(3);
    let json = preview(&plan).json();
    let steps = json["steps"].as_array().unwrap();
    let matrix = json["matrix"].as_array().unwrap();
    assert_eq!(matrix.len(), 3);
    for row in matrix {
        let host = row["host"].as_str().unwrap();
        let cells = row["cells"].as_array().unwrap();
        assert_eq!(cells.len(), plan.steps.len());
        for (cell, step) in cells.iter().zip(steps) {
            assert_eq!(cell["step"], step["id"]);
            let command = &step["commands"][cell["command"].as_u64().unwrap() as usize];
            assert!(command["hosts"].as_array().unwrap().iter().any(|name| name == host));
        }
    }
    let of = |id: &str| steps.iter().find(|step| step["id"] == id).unwrap();
    assert_eq!(of("read-share")["command"], serde_json::Value::Null);
    assert_eq!(of("read-share")["commands"][1]["command"], "smbclient -N //fs002.example.org/data -c ls");
    assert_eq!(of("disk-free")["command"], "test \"$(df /srv)\" -gt 2147483648");
}

#[test]
fn what_cannot_be_known_is_listed_in_its_cell() {
    let plan = sample::plan(2);
    let json = preview(&plan).json();
    let cell = &json["matrix"][1]["cells"][2];
    assert_eq!(cell["step"], "data.probe");
    assert_eq!(cell["unknown"], serde_json::json!(["snapshot.reference"]));
    assert_eq!(json["unknown"], serde_json::json!(["snapshot.id", "snapshot.reference", "steps.upgrade.stdout"]));
}

#[test]
fn a_text_that_mentions_no_host_is_rendered_once() {
    struct Counting(std::sync::atomic::AtomicUsize);
    impl Evaluate for Counting {
        fn when(&self, scope: &Scope<'_>, step: &Step) -> Result<When, EvaluateError> {
            Simple.when(scope, step)
        }
        fn render(&self, scope: &Scope<'_>, step: &Step) -> Result<Rendered, EvaluateError> {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Simple.render(scope, step)
        }
        fn text(&self, scope: &Scope<'_>, template: &Template) -> Result<String, EvaluateError> {
            Simple.text(scope, template)
        }
        fn unmet(&self, _: &Scope<'_>, _: &Step, _: Exit, _: Kept<'_>, _: Kept<'_>) -> Vec<String> {
            Vec::new()
        }
        fn class(&self, _: &[u8], _: &[u8]) -> RetryClass {
            RetryClass::Exit
        }
    }
    use runbook_model::evaluate::{EvaluateError, Kept, Scope, When};
    use runbook_model::outcome::Exit;
    use runbook_model::plan::RetryClass;
    let plan = sample::plan(200);
    let counting = Counting(0.into());
    assert!(Preview::of(&plan, &counting).is_ok());
    // Two steps use the host's name or address; the others are one text for all.
    assert_eq!(counting.0.into_inner(), 2 * 200 + plan.steps.len() - 2);
}

/// Rendering once for hosts that look the same must give what rendering for each gives.
#[test]
fn sharing_a_rendering_changes_nothing() {
    let mut plan = sample::plan(40);
    for (n, host) in plan.hosts.values_mut().enumerate() {
        host.labels.insert("site".into(), ["hq", "branch", "lab"][n % 3].into());
        host.account = [None, Some("root".into())][n % 2].clone();
    }
    plan.steps[4].work =
        Work::Any(Action::Run { command: Template("at {{host.labels.site}}".into()), shell: None, strict: true });
    let seen = render::seen(&plan);
    for step in &plan.steps {
        let cells = render::cells(&plan, step, &seen, &Simple).unwrap();
        for (host, number) in seen.iter().zip(&cells.of_host) {
            let scope = render::scope(&plan, host.host);
            assert_eq!(cells.variants[*number].rendered, Simple.render(&scope, step).unwrap(), "{}", step.id);
        }
        let distinct: BTreeSet<String> = cells.variants.iter().map(|variant| format!("{variant:?}")).collect();
        assert_eq!(distinct.len(), cells.variants.len());
    }
}

#[test]
fn a_name_that_nobody_knows_is_an_error_with_its_step_and_host() {
    let mut plan = sample::plan(3);
    plan.hosts.get_mut(&"fs002".into()).unwrap().labels.clear();
    plan.steps.push(sample::step("finally-2", Phase::Finally, "echo {{host.labels.site}}", &["finally-1"]));
    let Err(errors) = Preview::of(&plan, &Simple) else { panic!("it must not be rendered") };
    assert_eq!(
        errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["step `finally-2` cannot be rendered for host `fs002`: `host.labels.site` is not known"]
    );
}

#[test]
fn nothing_hostile_reaches_the_terminal_or_the_pictures() {
    let evil = "x\u{1b}]0;owned\u{7}\r\u{202e}\"];<script>`%%{init}%%#quot;";
    let mut plan = sample::plan(2);
    plan.runbook.title = evil.into();
    plan.parameters.insert("package".into(), evil.into());
    for step in &mut plan.steps {
        step.name = evil.into();
    }
    let preview = preview(&plan);
    let views = [preview.text(80), crate::mermaid(&plan), crate::dot(&plan)];
    for view in &views {
        assert!(!view.chars().any(|c| c != '\n' && c.is_control()), "{view:?}");
        assert!(!view.contains('\u{202e}'));
    }
    // Mermaid: everything but letters, digits and a few marks is an entity, so quotes only open and close labels.
    for line in views[1].lines() {
        assert!(line.matches('"').count() % 2 == 0 && !line.contains("%%") && !line.contains('`'), "{line}");
    }
}

#[test]
fn verbatim_values_are_warned_of() {
    assert_eq!(verbatim("a {{x}} {{{ y }}} \\{{{z}}} {{&w}} {{{open"), ["y", "w"]);
    let plan = sample::plan(1);
    let json = preview(&plan).json();
    assert_eq!(json["warnings"].as_array().unwrap().len(), 1);
    assert_eq!(json["warnings"][0]["step"], "branch-only");
}

#[test]
fn what_the_end_of_a_window_means_is_shown_where_it_is_not_as_ever() {
    let mut plan = sample::plan(2);
    assert!(!preview(&plan).text(80).contains("\nwindow"));
    plan.window.at_end = runbook_model::plan::AtEnd::Rollback;
    let text = preview(&plan).text(80);
    assert!(text.contains("a host that is not through 15m before its end is taken back"), "{text}");
}
