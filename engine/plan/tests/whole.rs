//! Whole runbooks, with the real language.

mod support;

use runbook_model::plan::Phase;
use runbook_plan::Preview;
use support::{BTRFS, INVENTORY, Project, whole};

#[test]
fn the_languages_own_example_is_planned_and_shown() {
    let plan = whole().plan();
    let project = whole();
    let preview = Preview::of(&plan, &project.evaluator).unwrap_or_else(|errors| panic!("{}", errors[0]));
    insta::assert_snapshot!(preview.text(80));
    assert_eq!(runbook_plan::load(&runbook_plan::save(&plan)), Ok(plan.clone()));
    assert_eq!(preview.json()["plan_digest"], plan.digest().to_string());
    let (same, renderings) = project.build_rendered();
    assert_eq!(Preview::with(&same, renderings).json(), preview.json());
}

fn project(steps: &str) -> Project {
    let text = format!("schema: runbook/v1\nname: t\nirreversible: x\ntargets: {{select: all}}\n{steps}");
    Project::new(text.as_bytes(), INVENTORY.as_bytes(), &[support::DISK_FREE, support::SERVICE_ACTIVE, BTRFS])
}

fn commands(project: &Project) -> Vec<String> {
    let plan = project.plan();
    let preview = Preview::of(&plan, &project.evaluator).unwrap_or_else(|errors| panic!("{}", errors[0])).json();
    let steps = preview["steps"].as_array().unwrap();
    let commands = steps.iter().flat_map(|step| step["commands"].as_array().unwrap());
    commands.map(|command| command["command"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn values_are_quoted_in_the_preview_as_they_will_be_in_the_run() {
    let mut project = project(
        "parameters: {p: {type: string}}\nexecute: [{run: 'echo {{param.p}}'}, {uses: service-active, with: {service: '{{param.p}}'}}]\n",
    );
    project.parameters.insert("p".into(), "x'; rm -rf / {{param.q}}".into());
    assert_eq!(
        commands(&project)[..2],
        [r"echo 'x'\''; rm -rf / {{param.q}}'", r"systemctl is-active 'x'\''; rm -rf / {{param.q}}'"]
    );
}

#[test]
fn what_the_run_brings_stays_open_in_the_preview() {
    let project = project(
        "execute: [{id: a, run: 'uname'}, {run: 'echo {{steps.a.stdout}} {{host.facts.kernel}}', when: 'host.facts.os == \"debian\"'}]\n",
    );
    let plan = project.plan();
    let json = Preview::of(&plan, &project.evaluator).unwrap_or_else(|errors| panic!("{}", errors[0])).json();
    let cell = &json["matrix"][0]["cells"][1];
    assert_eq!(cell["state"], "depends");
    assert_eq!(cell["unknown"], serde_json::json!(["host.facts.kernel", "steps.a.stdout"]));
}

#[test]
fn a_condition_on_labels_is_settled_in_the_plan() {
    let project = project("execute: [{run: 'true', when: 'host.labels.site == \"hq\"'}]\n");
    let plan = project.plan();
    let json = Preview::of(&plan, &project.evaluator).unwrap_or_else(|errors| panic!("{}", errors[0])).json();
    let states: Vec<&str> = (0..3).map(|n| json["matrix"][n]["cells"][0]["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["runs", "skipped", "runs"]);
}

#[test]
fn a_label_that_some_hosts_lack_is_one_problem_that_names_them() {
    let problems = project("execute: [{run: 'echo {{host.labels.rack}}'}]\n").build().unwrap_err();
    assert_eq!(problems.len(), 1, "{}", support::shown(&problems));
    assert_eq!(problems[0].code.name(), "RB0205");
    let some = project("execute: [{run: 'echo {{host.owner}}'}]\n").build().unwrap_err();
    assert_eq!(some.len(), 1, "{}", support::shown(&some));
    assert_eq!(some[0].help.as_deref(), Some("this is so on fs02 and 1 more"));
}

#[test]
fn a_secret_never_becomes_part_of_a_plan() {
    let project =
        project("secrets: {db: {env: DB_PW}}\nexecute: [{run: 'login {{secret.db}}', env: {PW: '{{secret.db}}'}}]\n");
    let plan = project.plan();
    let preview = Preview::of(&plan, &project.evaluator).unwrap_or_else(|errors| panic!("{}", errors[0]));
    let text = preview.text(80);
    assert!(text.contains("$ login \"${RUNBOOK_SECRET_db}\""), "{text}");
    assert!(text.contains("PW=‹secret.db›"), "{text}");
    let exposed = "secrets: {db: {env: DB_PW}}\nexecute: [{id: a, run: [login, '{{secret.db}}']}]\n";
    let text = format!("schema: runbook/v1\nname: t\nirreversible: x\n{exposed}");
    // Whoever finds it first, the file's reader or the planner: it is an error.
    if runbook_lang::parse_runbook("r.yaml", text.as_bytes()).is_ok() {
        assert!(self::project(exposed).build().is_err());
    }
}

#[test]
fn defaults_of_actions_are_values_and_not_templates() {
    let action = BTRFS.replace("default: /snapshots", "default: '/s {{host.name}}'");
    let text = "schema: runbook/v1\nname: t\ntargets: {select: fs01}\nsnapshot: [{id: data, uses: btrfs-snapshot, with: {subvolume: /d}}]\nexecute: [{run: 'true'}]\n";
    let Ok(_) = runbook_lang::parse_action("a.yaml", action.as_bytes()) else { return };
    let project = Project::new(text.as_bytes(), INVENTORY.as_bytes(), &[&action]);
    let plan = project.plan();
    assert_eq!(plan.phase(Phase::Snapshot).count(), 3);
    assert!(commands(&project)[0].contains("'/s {{host.name}}'/'data'"), "{:?}", commands(&project));
}
