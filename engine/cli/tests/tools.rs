//! The register of tools, and how long what was done with them is kept.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod place;

use place::Place;
use runbook_model::Sha256;

const RUNBOOK: &str = "schema: runbook/v1\nname: tools\ntargets: {select: here}\nprechecks:\n  - uses: disk-free\n    with: {path: /, \
                       at_least: 1B}\nexecute:\n  - id: fix\n    script: fix.sh\n    irreversible: it is a test\n";

fn place() -> Place {
    let place = Place::project();
    place.write("runbooks/tools.yaml", RUNBOOK);
    place.write("runbooks/fix.sh", "#!/bin/sh\necho fixed\n");
    place
}

/// A policy with these tools.
fn register(place: &Place, tools: &str) {
    place.write("policy.yaml", &format!("schema: policy/v1\nrules:\n- name: register\n  {}\n", tools.trim_end()));
}

fn printed(place: &Place) -> String {
    place.run(&["policy", "tools", "runbooks/tools.yaml"]).code(0).stdout
}

#[test]
fn case_30_a_tool_that_is_not_registered_or_was_exchanged_is_refused() {
    let place = place();
    let tools = printed(&place);
    assert_eq!(tools.lines().count(), 4, "the program, the script, the action: {tools}");
    register(&place, &tools);
    place.run(&["apply", "runbooks/tools.yaml"]).code(0);
    // Each that is missing is named with its digest.
    for name in ["runbook", "fix.sh", "disk-free"] {
        let line = tools.lines().find(|line| line.trim_end_matches('\'').ends_with(name)).unwrap();
        let digest = line.trim_start_matches([' ', '-', '\'']).split(' ').next().unwrap();
        register(&place, &tools.replace(&format!("{line}\n"), ""));
        for arguments in [&["apply", "runbooks/tools.yaml"][..], &["apply", "runbooks/tools.yaml", "--check"]] {
            let said = place.run(arguments).code(3);
            let reason = format!("register: {name} is not among the tools with the digest {digest}");
            assert!(said.stderr.contains("RB0722") && said.stderr.contains(&reason), "{reason}: {}", said.stderr);
        }
    }
    // Exchanged before it is checked: it is another one. Exchanged after that: it is not what the plan names.
    register(&place, &tools);
    place.run(&["plan", "runbooks/tools.yaml", "--out", "runbooks/p.json"]).code(0);
    let other = "#!/bin/sh\necho other\n";
    place.write("runbooks/fix.sh", other);
    let said = place.run(&["apply", "runbooks/tools.yaml"]).code(3);
    let reason = format!("fix.sh is not among the tools with the digest {}", Sha256::of(other.as_bytes()));
    assert!(said.stderr.contains(&reason), "{}", said.stderr);
    let explained = place.run(&["policy", "explain", "runbooks/tools.yaml"]).code(3).stdout;
    assert!(explained.contains("✗ tools of the register alone") && explained.contains(&reason), "{explained}");
    let said = place.run(&["apply", "runbooks/p.json"]);
    assert_ne!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stderr.contains("is not the file that the plan names"), "{}", said.stderr);
    // Where the plan's own is kept with the evidence, that one is sent and no other.
    std::fs::rename(place.path("runbooks/p.json"), place.path("p.json")).unwrap();
    place.run(&["apply", "p.json"]).code(0);
    assert!(place.run(&["logs", "last", "--step", "fix"]).code(0).stdout.contains("fixed"));
}

#[test]
fn what_a_rule_wants_kept_longer_is_promised_in_the_opening_for_good() {
    let place = place();
    let runs = |class: &str, months: u64| {
        let listed = place.run(&["retention", "list", "--json"]).code(0).json();
        let last = listed["runs"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((last["class"].as_str(), last["months"].as_u64()), (Some(class), Some(months)), "{last}");
    };
    place.run(&["apply", "runbooks/tools.yaml"]).code(0);
    runs("default", 36);
    place.write(
        "policy.yaml",
        "schema: policy/v1\nrules: [{retention: operational}, {retention: cui}, {for: {tiers: [emergency]}, retention: cui}]\n",
    );
    place.run(&["apply", "runbooks/tools.yaml"]).code(0);
    runs("cui", 72);
    std::fs::remove_file(place.path("policy.yaml")).unwrap();
    runs("cui", 72);
    // Less than what the hosts say is not less.
    place.write("policy.yaml", "schema: policy/v1\nrules: [{retention: operational}]\n");
    place.run(&["apply", "runbooks/tools.yaml"]).code(0);
    runs("default", 36);
}
