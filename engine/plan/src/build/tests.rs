use std::collections::BTreeMap;
use std::sync::Arc;

use runbook_lang::{ActionFile, Diagnostic, Inventory, Runbook, parse_action, parse_inventory, parse_runbook};
use runbook_model::plan::{Action, OnFailure, Phase, Plan, Role, Step, Work};
use runbook_model::{HostName, Sha256};
use serde_json::json;

use crate::request::{ActionSource, Files, Local, LocalFile, PlanRequest};
use crate::sample::Simple;

struct World {
    runbook: Runbook,
    inventory: Inventory,
    parameters: BTreeMap<String, String>,
    limit: Option<runbook_lang::Selector>,
    actions: BTreeMap<String, Arc<ActionFile>>,
    files: BTreeMap<String, Local>,
}

impl ActionSource for World {
    fn find(&self, name: &str) -> Result<Option<Arc<ActionFile>>, Vec<Diagnostic>> {
        Ok(self.actions.get(name).cloned())
    }

    fn names(&self) -> Vec<String> {
        self.actions.keys().cloned().collect()
    }
}

impl Files for World {
    fn look(&self, base: &str, path: &str) -> Result<Local, String> {
        self.files.get(&format!("{base}:{path}")).cloned().ok_or_else(|| "there is no such file".into())
    }
}

struct NoFiles;

impl runbook_lang::inventory::Files for NoFiles {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        Err(format!("{path} is not there"))
    }
}

fn first(problems: Vec<Diagnostic>) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

fn inventory(text: &str) -> Inventory {
    parse_inventory("inventory.yaml", text.as_bytes(), &NoFiles).unwrap_or_else(|p| panic!("{}", first(p))).value
}

fn action(text: &str) -> (String, Arc<ActionFile>) {
    let file = parse_action("action.yaml", text.as_bytes()).unwrap_or_else(|p| panic!("{}", first(p))).value;
    (file.name.value.clone(), Arc::new(file))
}

const INVENTORY: &str = "
schema: inventory/v1
hosts:
  fs03: {address: 10.0.0.3, groups: [fileservers], labels: {site: hq}}
  fs01: {address: 10.0.0.1, groups: [fileservers], labels: {site: hq}}
  fs02: {address: 10.0.0.2, groups: [fileservers], labels: {site: lab}, vars: {free: 1GiB}}
  win1: {address: 10.0.0.9, os: windows, groups: [desks]}
  proxy: {address: 10.0.0.10}
";

const ACTIONS: [&str; 4] = [
    "
schema: action/v1
name: disk-free
kind: check
parameters: {path: {type: path, required: true}, at_least: {type: size, default: 1GiB}}
posix: {run: 'check {{param.path}} {{param.at_least}}'}
windows: {run: 'Check {{param.path}} {{param.at_least}}'}
",
    "
schema: action/v1
name: install
kind: task
parameters: {package: {type: string, required: true}}
posix: {run: 'apt-get install {{param.package}}'}
undo: {posix: {run: 'apt-get remove {{param.package}}'}}
as: root
timeout: 20m
retry: {attempts: 4}
changes: ['/usr/bin/{{param.package}}']
",
    "
schema: action/v1
name: files-snapshot
kind: snapshot
parameters: {path: {type: path, required: true}}
take: {posix: {run: 'take {{param.path}} {{snapshot.id}}'}}
probe: {posix: {run: 'probe {{snapshot.reference}}'}}
restore: {posix: {run: 'restore {{snapshot.reference}}'}}
release: {posix: {run: 'release {{snapshot.reference}}'}}
",
    "
schema: action/v1
name: deploy
kind: task
posix: {script: deploy.sh}
irreversible: it cannot be undone
",
];

fn world(runbook: &str) -> World {
    let text = format!("schema: runbook/v1\nname: test\n{runbook}");
    let runbook = parse_runbook("test.yaml", text.as_bytes()).unwrap_or_else(|p| panic!("{}", first(p))).value;
    let file = |bytes: &[u8], mode| LocalFile { sha256: Sha256::of(bytes), bytes: bytes.len() as u64, mode };
    World {
        runbook,
        inventory: inventory(INVENTORY),
        parameters: BTreeMap::new(),
        limit: None,
        actions: ACTIONS.into_iter().map(action).collect(),
        files: BTreeMap::from([
            ("test.yaml:fix.sh".into(), Local::File(file(b"fix", 0o664))),
            ("action.yaml:deploy.sh".into(), Local::File(file(b"deploy", 0o775))),
            (
                "test.yaml:conf".into(),
                Local::Folder(BTreeMap::from([
                    ("smb.conf".into(), file(b"conf", 0o600)),
                    ("d/run".into(), file(b"run", 0o775)),
                    ("d/same".into(), file(b"conf", 0o644)),
                ])),
            ),
        ]),
    }
}

impl World {
    fn build(&self) -> Result<Plan, Vec<Diagnostic>> {
        super::build(PlanRequest {
            runbook: &self.runbook,
            inventory: &self.inventory,
            parameters: &self.parameters,
            limit: self.limit.as_ref(),
            actions: self,
            files: self,
            evaluate: &Simple,
        })
    }
}

fn plan(runbook: &str) -> Plan {
    world(runbook).build().unwrap_or_else(|problems| panic!("{}", first(problems)))
}

fn problems(runbook: &str) -> Vec<String> {
    match world(runbook).build() {
        Ok(_) => panic!("it must be refused"),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

/// Ids of a phase with what they need.
fn shape(plan: &Plan, phase: Phase) -> Vec<String> {
    let needs = |step: &Step| step.needs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    plan.phase(phase).map(|step| format!("{} <- {}", step.id, needs(step)).trim_end().to_owned()).collect()
}

fn get<'a>(plan: &'a Plan, id: &str) -> &'a Step {
    plan.step(&id.into()).unwrap_or_else(|| panic!("no step {id}"))
}

fn command(step: &Step) -> &str {
    let action = match &step.work {
        Work::Any(action) => Some(action),
        Work::ByOs { posix, .. } => posix.as_ref(),
    };
    match action {
        Some(Action::Run { command, .. }) => &command.0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn hosts_go_by_name_in_batches() {
    let plan = plan(
        "targets: {select: fileservers, batch: [1, 50%], failure_budget: 70%}\nirreversible: x\nexecute: [{run: 'true'}]",
    );
    let names: Vec<Vec<&str>> = plan.batches.iter().map(|batch| batch.iter().map(HostName::as_str).collect()).collect();
    assert_eq!(names, [["fs01"], ["fs02"], ["fs03"]]);
    assert_eq!(plan.failure_budget, 2);
    assert_eq!(plan.hosts.len(), 3);
}

#[test]
fn a_limit_narrows_the_selection_and_never_to_nothing() {
    let mut world = world("targets: {select: fileservers}\nirreversible: x\nexecute: [{run: 'true'}]");
    world.limit = Some(runbook_lang::selector::parse_text("--limit", "fs02 | win1").unwrap());
    assert_eq!(world.build().unwrap().hosts.keys().map(HostName::as_str).collect::<Vec<_>>(), ["fs02"]);
    world.limit = Some(runbook_lang::selector::parse_text("--limit", "win1").unwrap());
    let problems = world.build().unwrap_err();
    assert_eq!(problems[0].code, runbook_lang::Code::NoHost);
}

#[test]
fn a_selection_without_hosts_is_an_error() {
    let found = problems("targets: {select: 'fileservers & desks'}\nirreversible: x\nexecute: [{run: 'true'}]");
    assert!(found[0].contains("RB0052"), "{found:?}");
}

#[test]
fn without_needs_steps_go_one_after_the_other() {
    let plan = plan(
        "
targets: {select: fs01}
irreversible: x
prechecks: [{id: p, run: 'true'}]
execute:
  - {id: a, run: 'true'}
  - {id: b, run: 'true', needs: [c, p]}
  - {id: c, run: 'true', needs: []}
  - {id: d, run: 'true'}
",
    );
    assert_eq!(shape(&plan, Phase::Execute), ["a <-", "c <-", "b <- c", "d <- c"]);
}

#[test]
fn each_makes_a_step_of_every_item() {
    let plan = plan(
        "
targets: {select: fs01}
irreversible: x
parameters: {more: {type: list, default: [x, z]}, none: {type: list, default: []}}
execute:
  - {id: a, run: 'true'}
  - {id: r, name: Restart, each: [smbd, nmbd], run: 'systemctl restart {{item}}'}
  - {id: e, each: '{{param.none}}', run: 'echo {{item}}'}
  - {id: f, run: 'true'}
  - {id: s, each: '{{param.more}}', needs: [], run: 'echo {{item}}', name: 'Say {{item}}'}
  - {id: l, run: 'true', needs: [r, s]}
",
    );
    assert_eq!(
        shape(&plan, Phase::Execute),
        ["a <-", "r-1 <- a", "r-2 <- a r-1", "f <- r-1 r-2", "s-1 <-", "s-2 <-", "l <- r-1 r-2 s-1 s-2"]
    );
    assert_eq!(get(&plan, "r-2").item, Some(json!("nmbd")));
    assert_eq!(get(&plan, "r-2").name, "Restart (nmbd)");
    assert_eq!(get(&plan, "s-1").name, "Say x");
}

#[test]
fn an_id_that_each_makes_may_not_be_taken() {
    let found = problems(
        "
targets: {select: fs01}
irreversible: x
execute:
  - {id: r, each: [a, b], run: 'echo {{item}}'}
  - {id: r-2, run: 'true'}
",
    );
    assert!(found[0].contains("RB0204") && found[0].contains("`r-2`"), "{found:?}");
}

const WHOLE: &str = "
targets: {select: fs01}
parameters: {package: {type: string, default: samba}, path: {type: path, default: /x}, min: {type: size, default: 2GiB}}
defaults: {timeout: 5m, as: maint, env: {LANG: C}, retry: {attempts: 2}}
watch: {roots: [/etc], undeclared: fail}
prechecks:
  - {id: free, uses: disk-free, with: {path: /srv, at_least: '{{param.min}}'}, when: 'param.path != \"\"'}
snapshot:
  - {id: data, uses: files-snapshot, with: {path: '{{param.path}}'}, when: 'true'}
  - {id: dump, run: pg_dump}
execute:
  - {id: up, uses: install, with: {package: '{{param.package}}'}, env: {WHY: '{{param.path}} {{param.package}}'}}
  - {id: cfg, run: cfg, undo: [{run: one}, {run: two, as: root, on_failure: continue}]}
  - {id: pause, wait: 20m}
verify:
  - {id: check, run: 'true'}
rollback:
  steps: [{id: extra, run: extra}]
finally:
  - {id: clean, run: clean, timeout: 1s}
";

#[test]
fn rollback_is_derived_in_reverse_and_proved() {
    let plan = plan(WHOLE);
    assert_eq!(
        shape(&plan, Phase::Snapshot),
        ["data <-", "data.probe <- data", "dump <- data.probe", "data.release <-"]
    );
    assert_eq!(
        shape(&plan, Phase::Rollback),
        [
            "cfg.undo-1 <-",
            "cfg.undo-2 <- cfg.undo-1",
            "up.undo <- cfg.undo-2",
            "data.restore <- up.undo",
            "extra <- data.restore",
            "free.again <- extra",
            "rollback.baseline <- free.again"
        ]
    );
    assert_eq!(shape(&plan, Phase::Verify), ["check <-", "verify.undeclared <- check"]);
    assert_eq!(get(&plan, "data").role, Role::Take);
    assert_eq!(get(&plan, "data.probe").role, Role::Probe { of: "data".into() });
    assert!(get(&plan, "data.probe").read_only && !get(&plan, "data").read_only);
    assert!(get(&plan, "data.probe").when.is_some() && get(&plan, "data.restore").when.is_none());
    assert_eq!(command(get(&plan, "data.restore")), "restore {{snapshot.reference}}");
    assert_eq!(get(&plan, "cfg.undo-1").on_failure, OnFailure::Halt);
    assert_eq!(get(&plan, "cfg.undo-2").on_failure, OnFailure::Continue);
    assert_eq!(get(&plan, "free.again").role, Role::Again { of: "free".into() });
    assert!(get(&plan, "free.again").read_only && get(&plan, "check").read_only);
    assert_eq!(get(&plan, "clean").on_failure, OnFailure::Continue);
}

#[test]
fn a_step_comes_before_its_action_before_the_defaults_before_the_language() {
    let plan = plan(WHOLE);
    let up = get(&plan, "up");
    assert_eq!((up.timeout_ms, up.retry.attempts), (1_200_000, 4));
    assert_eq!(up.account.as_ref().unwrap().0, "root");
    assert_eq!(up.env["LANG"].0, "C");
    assert_eq!(up.changes[0].0, "/usr/bin/{{param.package}}");
    let cfg = get(&plan, "cfg");
    assert_eq!((cfg.timeout_ms, cfg.retry.attempts), (300_000, 2));
    assert_eq!(cfg.account.as_ref().unwrap().0, "maint");
    assert_eq!(get(&plan, "clean").timeout_ms, 1_000);
    // A pause is not cut off by the limit on an attempt.
    assert_eq!(get(&plan, "pause").timeout_ms, 21 * 60_000);
    assert_eq!((get(&plan, "pause").retry.attempts, get(&plan, "pause").env.len()), (1, 0));
    assert_eq!(get(&plan, "cfg.undo-2").account.as_ref().unwrap().0, "root");
    assert_eq!(get(&plan, "cfg.undo-1").account.as_ref().unwrap().0, "maint");
}

#[test]
fn what_an_author_writes_around_an_action_speaks_of_the_runbook() {
    let plan = plan(WHOLE);
    let up = get(&plan, "up");
    // The action has a `package` of its own, and no `path`.
    assert_eq!(up.env["WHY"].0, "{{param.path}} {{param.runbook_package}}");
    let with = up.with.as_ref().unwrap();
    assert_eq!(with["package"], "{{param.package}}");
    assert_eq!(with["path"], "{{param.path}}");
    assert_eq!(with["runbook_package"], "{{param.package}}");
    let free = get(&plan, "free");
    assert_eq!(free.when.as_ref().unwrap().0, "param.runbook_path != \"\"");
    assert_eq!(free.with.as_ref().unwrap()["path"], "/srv");
    assert_eq!(free.with.as_ref().unwrap()["at_least"], json!(2_147_483_648_u64));
}

#[test]
fn strategies_leave_out_what_they_do_not_use() {
    let ids = |strategy: &str| {
        let text = WHOLE.replace("rollback:\n", &format!("rollback:\n  strategy: {strategy}\n  verify: none\n"));
        let text = format!("{text}irreversible: x\n");
        shape(&plan(&text), Phase::Rollback)
    };
    assert_eq!(ids("undo"), ["cfg.undo-1 <-", "cfg.undo-2 <- cfg.undo-1", "up.undo <- cfg.undo-2", "extra <- up.undo"]);
    assert_eq!(ids("restore"), ["data.restore <-", "extra <- data.restore"]);
    assert_eq!(ids("steps"), ["extra <-"]);
}

#[test]
fn a_change_without_a_way_back_is_refused() {
    let steps = "targets: {select: fs01}\nexecute:\n  - {id: a, uses: install, with: {package: x}}\n  - {id: c, uses: disk-free, with: {path: /}}\n";
    plan(steps);
    let found = problems(&format!("{steps}rollback: {{strategy: restore}}\n"));
    assert!(found.iter().any(|problem| problem.contains("RB0026") && problem.contains("`a`")), "{found:?}");
    assert!(!found.iter().any(|problem| problem.contains("`c`")), "{found:?}");
    // The action itself says why it cannot be taken back.
    let deploy = plan("targets: {select: fs01}\nexecute: [{id: d, uses: deploy}]\n");
    assert_eq!(get(&deploy, "d").irreversible.as_deref(), Some("it cannot be undone"));
}

#[test]
fn files_are_frozen_by_digest() {
    let plan = plan(
        "
targets: {select: fs01}
irreversible: x
execute:
  - {id: s, script: {file: fix.sh, args: [a]}}
  - {id: u, upload: {from: conf, to: /etc/samba}}
  - {id: m, upload: {from: fix.sh, to: /usr/local/bin/fix, mode: '0750'}}
  - {id: d, uses: deploy}
",
    );
    let paths: Vec<&str> = plan.files.values().map(|file| file.path.as_str()).collect();
    assert_eq!(paths.len(), 4);
    assert_eq!(plan.files[&Sha256::of(b"conf")].path, "conf/d/same");
    let Work::Any(Action::Upload { files, .. }) = &get(&plan, "u").work else { panic!() };
    let modes: Vec<(&str, u32)> = files.iter().map(|(path, file)| (path.as_str(), file.mode)).collect();
    assert_eq!(modes, [("d/run", 0o755), ("d/same", 0o644), ("smb.conf", 0o600)]);
    let Work::Any(Action::Upload { files, .. }) = &get(&plan, "m").work else { panic!() };
    assert_eq!(files[""].mode, 0o750);
}

#[test]
fn a_missing_file_and_a_wrong_digest_are_errors() {
    let found = problems(&format!(
        "
targets: {{select: fs01}}
irreversible: x
execute:
  - {{script: gone.sh}}
  - {{upload: {{from: fix.sh, to: /x, sha256: {}}}}}
  - {{script: conf}}
",
        "0".repeat(64)
    ));
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].contains("RB0202") && found[0].contains("gone.sh"));
    assert!(found[1].contains("RB0203"));
    assert!(found[2].contains("RB0202") && found[2].contains("folder"));
}

#[test]
fn an_action_without_a_form_for_a_host_is_an_error_that_names_both() {
    let found = problems("targets: {select: all}\nexecute: [{uses: install, with: {package: x}}]\n");
    assert!(found[0].contains("RB0201") && found[0].contains("win1") && found[0].contains("install"), "{found:?}");
    plan("targets: {select: all}\nirreversible: x\nexecute: [{uses: disk-free, with: {path: /}}]\n");
}

#[test]
fn actions_and_their_parameters_are_checked() {
    let found = problems(
        "
targets: {select: fs01}
irreversible: x
prechecks: [{uses: install, with: {package: x}}]
execute:
  - {uses: instal}
  - {uses: install}
  - {uses: install, with: {package: x, pakage: z}}
  - {uses: disk-free, with: {path: /, at_least: many}}
  - {uses: disk-free, with: {path: /, at_least: '{{host.name}}'}}
  - {uses: files-snapshot, with: {path: /}}
",
    );
    let expected = ["RB0035", "RB0034", "RB0032", "RB0031", "RB0033", "RB0033", "RB0035"];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (problem, code) in found.iter().zip(expected) {
        assert!(problem.contains(code), "{code}: {problem}");
    }
}

#[test]
fn a_size_that_differs_from_host_to_host_must_be_in_bytes() {
    let with = |value: &str| {
        format!(
            "targets: {{select: fs02}}\nirreversible: x\nexecute: [{{uses: disk-free, with: {{path: /, at_least: '{value}'}}}}]\n"
        )
    };
    let known = plan(&with("{{host.vars.free}}"));
    assert_eq!(known.steps[0].with.as_ref().unwrap()["at_least"], json!(1_u64 << 30));
    let mut world = world(&with("{{host.vars.free}}").replace("fs02", "fileservers"));
    let texts = ["fs01", "fs02", "fs03"].map(|name| (name, if name == "fs02" { "1GiB" } else { "2GiB" }));
    for (name, free) in texts {
        let host = world.inventory.hosts.get_mut(&name.into()).unwrap();
        host.host.vars.insert("free".into(), json!(free));
    }
    let problems = first(world.build().unwrap_err());
    assert!(problems.contains("in bytes"), "{problems}");
}

#[test]
fn a_name_that_nobody_knows_is_found_at_plan_time_with_its_hosts() {
    let found =
        problems("targets: {select: fileservers}\nirreversible: x\nexecute: [{run: 'echo {{host.vars.free}}'}]\n");
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("RB0205") && found[0].contains("fs01 and 1 more"), "{found:?}");
}

#[test]
fn a_step_can_run_elsewhere() {
    let plan = plan(
        "targets: {select: fs01}\nirreversible: x\nexecute: [{id: a, run: 'true', on: 'host:proxy', once: run}]\n",
    );
    let runbook_model::plan::Place::Named(host) = &get(&plan, "a").on else { panic!() };
    assert_eq!(host.address, "10.0.0.10");
    let found = problems("targets: {select: fs01}\nirreversible: x\nexecute: [{run: 'true', on: 'host:proxi'}]\n");
    assert!(found[0].contains("RB0051"), "{found:?}");
}

#[test]
fn all_problems_are_reported_at_once() {
    let found = problems(
        "
targets: {select: nobody}
irreversible: x
parameters: {p: {type: string, required: true}}
execute:
  - {id: a, uses: nothing}
  - {id: b, script: gone}
  - {id: c, run: 'true'}
",
    );
    for code in ["RB0051", "RB0032", "RB0034", "RB0202"] {
        assert!(found.iter().any(|problem| problem.contains(code)), "{code}: {found:#?}");
    }
}

const CHANGE: &str = "irreversible: x\nexecute: [{run: 'true'}]\n";

#[test]
fn access_is_frozen_with_the_names_of_each_host() {
    let mut world = world(&format!(
        "targets: {{select: fileservers}}\naccess:\n  certificate: {{principals: ['{{{{host.name}}}}'], valid_for: 2h}}\n  \
         sudo: {{commands: [/usr/bin/apt-get]}}\n{CHANGE}"
    ));
    world.inventory = inventory(&INVENTORY.replace("groups: [file", "user: maint, groups: [file"));
    let plan = world.build().unwrap_or_else(|problems| panic!("{}", first(problems)));
    let access = plan.access.as_ref().unwrap();
    let certificate = access.certificate.as_ref().unwrap();
    assert_eq!(certificate.principals[&HostName::from("fs02")], ["fs02"]);
    assert_eq!((certificate.principals.len(), certificate.valid_for_ms), (3, 7_200_000));
    assert_eq!(access.sudo.as_ref().unwrap().commands, ["/usr/bin/apt-get"]);
    let before = plan.digest();
    let without = Plan { access: None, ..plan };
    assert_ne!(without.digest(), before, "who approves a plan approves its access");
}

#[test]
fn access_that_a_host_cannot_be_given_is_refused() {
    let found = problems(&format!("targets: {{select: fileservers}}\naccess: {{certificate: {{}}}}\n{CHANGE}"));
    assert!(found[0].contains("RB0775") && found[0].contains("as whom fs01 is logged in to"), "{found:?}");
    let mut local = world(&format!("targets: {{select: proxy}}\naccess: {{sudo: {{}}}}\n{CHANGE}"));
    local.inventory = inventory(&INVENTORY.replace("proxy: {address: 10.0.0.10}", "proxy: {transport: local}"));
    let found = first(local.build().unwrap_err());
    assert!(found.contains("proxy is reached by `local`"), "{found}");
    for account in ["'%wheel'", "'a,b'"] {
        let mut world = world(&format!("targets: {{select: proxy}}\naccess: {{sudo: {{}}}}\n{CHANGE}"));
        world.inventory = inventory(&INVENTORY.replace("proxy: {", &format!("proxy: {{user: {account}, ")));
        assert!(first(world.build().unwrap_err()).contains("RB0775"), "{account}");
    }
}
