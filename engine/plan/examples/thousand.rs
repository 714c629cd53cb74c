//! Plans 1,000 hosts × 50 steps and says how long that takes: `cargo run --release -p runbook-plan --example thousand`.
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use runbook_lang::evaluate::Evaluator;
use runbook_lang::{ActionFile, Diagnostic, parse_inventory, parse_runbook};
use runbook_plan::{ActionSource, Files, Local, PlanRequest, Preview};

struct Nothing;

impl ActionSource for Nothing {
    fn find(&self, _: &str) -> Result<Option<Arc<ActionFile>>, Vec<Diagnostic>> {
        Ok(None)
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Files for Nothing {
    fn look(&self, _: &str, _: &str) -> Result<Local, String> {
        Err("there are no files".into())
    }
}

impl runbook_lang::inventory::Files for Nothing {
    fn read(&self, _: &str) -> Result<Vec<u8>, String> {
        Err("there are no files".into())
    }
}

fn main() {
    for (name, command) in
        [("the same everywhere", "echo {{param.p}}"), ("another on each host", "echo {{host.name}} {{param.p}}")]
    {
        measure(name, command);
    }
}

fn measure(name: &str, command: &str) {
    let mut runbook = "schema: runbook/v1\nname: many\nirreversible: x\nparameters: {p: {type: string, default: 'a b'}}\ntargets: {select: all, batch: [1, 10%]}\nexecute:\n".to_owned();
    for step in 0..50 {
        runbook.push_str(&format!("  - {{id: s{step}, run: '{command} {step}', when: 'host.labels.site != \"x\"'}}\n"));
    }
    let mut inventory = "schema: inventory/v1\nhosts:\n".to_owned();
    for host in 0..1000 {
        inventory.push_str(&format!(
            "  h{host:04}: {{address: 10.0.{}.{}, labels: {{site: s{}}}}}\n",
            host / 250,
            host % 250,
            host % 5
        ));
    }
    let begin = Instant::now();
    let runbook = parse_runbook("r.yaml", runbook.as_bytes()).expect("the runbook is right").value;
    let inventory = parse_inventory("i.yaml", inventory.as_bytes(), &Nothing).expect("the inventory is right").value;
    let parsed = Instant::now();
    let evaluator = Evaluator::new();
    let parameters = BTreeMap::new();
    let request = PlanRequest {
        runbook: &runbook,
        inventory: &inventory,
        parameters: &parameters,
        limit: None,
        actions: &Nothing,
        files: &Nothing,
        evaluate: &evaluator,
    };
    let (plan, renderings) = runbook_plan::build_rendered(request).expect("the plan is right");
    let built = Instant::now();
    let preview = Preview::with(&plan, renderings);
    let rendered = Instant::now();
    let text = preview.text(80).len();
    let shown = Instant::now();
    let json = preview.json().to_string().len();
    let written = Instant::now();
    let bytes = runbook_plan::save(&plan);
    let loaded = runbook_plan::load(&bytes).expect("a saved plan is a plan");
    assert_eq!(loaded.digest(), plan.digest());
    let end = Instant::now();
    println!(
        "{name}: read the files {:?}, build {:?}, preview {:?}, text ({text} B) {:?}, JSON ({json} B) {:?}, save and load ({} B) {:?}",
        parsed - begin,
        built - parsed,
        rendered - built,
        shown - rendered,
        written - shown,
        bytes.len(),
        end - written
    );
}
