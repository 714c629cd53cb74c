//! The digest depends on what the files say, and on nothing else.

mod support;

use proptest::prelude::*;
use support::{BTRFS, DISK_FREE, INVENTORY, Project, RUNBOOK, SERVICE_ACTIVE, whole};

/// Items of a block of YAML that begin at one indent: `(lines before the first, items)`.
fn items(text: &str, indent: usize) -> (String, Vec<String>) {
    let mut head = String::new();
    let mut items: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let own = line.len() - line.trim_start().len();
        match items.last_mut() {
            _ if own == indent => items.push(format!("{line}\n")),
            Some(item) => *item += &format!("{line}\n"),
            None => head += &format!("{line}\n"),
        }
    }
    (head, items)
}

/// `items` in the order of `keys`.
fn shuffled(items: Vec<String>, keys: &[u32]) -> String {
    let mut keyed: Vec<(u32, usize, String)> = items
        .into_iter()
        .enumerate()
        .map(|(n, item)| (keys[n % keys.len()].wrapping_mul(n as u32 + 1), n, item))
        .collect();
    keyed.sort();
    keyed.into_iter().map(|(_, _, item)| item).collect()
}

/// The same files with their mappings in another order.
fn reordered(keys: &[u32]) -> (String, String) {
    let (_, top) = items(RUNBOOK, 0);
    let top = top.into_iter().map(|item| match item.starts_with("targets:") || item.starts_with("parameters:") {
        true => {
            let (head, inner) = items(&item, 2);
            format!("{head}{}", shuffled(inner, keys))
        }
        false => item,
    });
    // The keys of the step `upgrade`.
    let runbook = shuffled(top.collect(), keys)
        .replace("    as: root\n    timeout: 20m\n", "    timeout: 20m\n    as: root\n")
        .replace(
            "{attempts: 3, delay: 30s, on: [lock-held, connection]}",
            "{on: [connection, lock-held], delay: 30s, attempts: 3}",
        );
    let (_, top) = items(INVENTORY, 0);
    let top = top.into_iter().map(|item| match item.starts_with("hosts:") {
        true => {
            let (head, hosts) = items(&item, 2);
            format!("{head}{}", shuffled(hosts, keys))
        }
        false => item,
    });
    (runbook, shuffled(top.collect(), keys))
}

fn digest(runbook: &str, inventory: &str) -> String {
    let project = Project::new(runbook.as_bytes(), inventory.as_bytes(), &[DISK_FREE, SERVICE_ACTIVE, BTRFS]);
    project.plan().digest().to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn the_order_of_keys_does_not_matter(keys in prop::collection::vec(any::<u32>(), 3..12)) {
        let (runbook, inventory) = reordered(&keys);
        // A retry's classes are a set; a list of them in another order is the same one, but the file says it otherwise.
        let same = runbook.replace("[connection, lock-held]", "[lock-held, connection]");
        prop_assert_eq!(digest(&same, &inventory), digest(RUNBOOK, INVENTORY));
    }
}

#[test]
fn line_ends_a_byte_order_mark_comments_and_quotes_do_not_matter() {
    let expected = digest(RUNBOOK, INVENTORY);
    let windows = format!("\u{feff}{}", RUNBOOK.replace('\n', "\r\n"));
    assert_eq!(digest(&windows, &INVENTORY.replace('\n', "\r\n")), expected);
    let commented = RUNBOOK.replace("tier: routine", "# the regular window\ntier: 'routine'   # second Tuesday");
    assert_eq!(digest(&commented, INVENTORY), expected);
}

#[test]
fn planning_twice_gives_the_same_bytes() {
    let project = whole();
    assert_eq!(runbook_plan::save(&project.plan()), runbook_plan::save(&project.plan()));
    assert_eq!(runbook_plan::save(&project.plan()), runbook_plan::save(&whole().plan()));
}

#[test]
fn a_default_given_on_the_command_line_changes_nothing() {
    let mut project = whole();
    let before = project.plan().digest();
    project.parameters.insert("package".into(), "samba".into());
    assert_eq!(project.plan().digest(), before);
    project.parameters.insert("package".into(), "samba-libs".into());
    assert_ne!(project.plan().digest(), before);
}

#[test]
fn whatever_matters_changes_the_digest() {
    let before = digest(RUNBOOK, INVENTORY);
    for (old, new) in [
        ("tier: routine", "tier: emergency"),
        ("MA.L2-3.7.1", "MA.L2-3.7.2"),
        ("default: samba", "default: samba-libs"),
        ("[1, 50%]", "[1, 2]"),
        ("parallel: 10", "parallel: 9"),
        ("soak: 5m", "soak: 6m"),
        ("failure_budget: 0", "failure_budget: 1"),
        ("undeclared: report", "undeclared: fail"),
        ("/usr/sbin], und", "/usr/bin], und"),
        ("path: /srv,", "path: /var,"),
        ("subvolume: /srv/data", "subvolume: /srv/other"),
        ("only-upgrade", "reinstall"),
        ("timeout: 20m", "timeout: 21m"),
        ("attempts: 3", "attempts: 4"),
        ("delay: 30s", "delay: 31s"),
        ("lock-held, ", "lock-held, exit, "),
        ("/etc/samba/**", "/etc/samba/*"),
        ("idempotent: true", "idempotent: false"),
        ("blocks available", "blocks"),
        ("budget: 15m", "budget: 16m"),
        ("rm -f /run", "rm -f /var/run"),
        ("name: Install the update", "name: Install it"),
        ("title: Monthly", "title: Yearly"),
    ] {
        assert!(RUNBOOK.contains(old), "{old}");
        assert_ne!(digest(&RUNBOOK.replacen(old, new, 1), INVENTORY), before, "{old} -> {new}");
    }
    for (old, new) in [
        ("10.0.1.12", "10.0.1.22"),
        ("user: maint", "user: other"),
        ("port: 22", "port: 2222"),
        ("site: lab", "site: hq"),
        ("owner: jane.doe", "owner: john.doe"),
        ("risk: high", "risk: low"),
        (", canaries", ""),
        ("  fs03:", "  fs04:"),
    ] {
        assert!(INVENTORY.contains(old), "{old}");
        assert_ne!(digest(RUNBOOK, &INVENTORY.replacen(old, new, 1)), before, "{old} -> {new}");
    }
}

#[test]
fn an_action_and_a_file_that_change_change_the_digest() {
    let runbook = "schema: runbook/v1\nname: t\nirreversible: x\ntargets: {select: fs01}\nexecute: [{script: fix.sh}, {uses: disk-free, with: {path: /, at_least: 1}}]\n";
    let digest = |action: &str, bytes: &[u8], mode: u32| {
        let project = Project::new(runbook.as_bytes(), INVENTORY.as_bytes(), &[action]).file("fix.sh", bytes, mode);
        project.plan().digest()
    };
    let before = digest(DISK_FREE, b"one", 0o755);
    assert_eq!(digest(DISK_FREE, b"one", 0o644), before, "a script's local mode does not matter");
    assert_ne!(digest(DISK_FREE, b"two", 0o755), before);
    assert_ne!(digest(&DISK_FREE.replace("-Pk", "-P"), b"one", 0o755), before);
}
