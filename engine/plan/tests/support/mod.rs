//! Files in memory and the real language, for tests of whole plans.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::sync::Arc;

use runbook_lang::evaluate::Evaluator;
use runbook_lang::{
    ActionFile, Diagnostic, Inventory, Runbook, Selector, parse_action, parse_inventory, parse_runbook,
};
use runbook_model::Sha256;
use runbook_model::plan::Plan;
use runbook_plan::{ActionSource, Files, Local, LocalFile, PlanRequest};

pub(crate) struct Project {
    pub(crate) runbook: Runbook,
    pub(crate) inventory: Inventory,
    pub(crate) actions: BTreeMap<String, Arc<ActionFile>>,
    pub(crate) files: BTreeMap<String, Local>,
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) limit: Option<Selector>,
    pub(crate) evaluator: Evaluator,
}

struct NoFiles;

impl runbook_lang::inventory::Files for NoFiles {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        Err(format!("{path} is not there"))
    }
}

pub(crate) fn shown(problems: &[Diagnostic]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

impl Project {
    pub(crate) fn new(runbook: &[u8], inventory: &[u8], actions: &[&str]) -> Self {
        let runbook = parse_runbook("runbook.yaml", runbook).unwrap_or_else(|p| panic!("{}", shown(&p))).value;
        let inventory =
            parse_inventory("inventory.yaml", inventory, &NoFiles).unwrap_or_else(|p| panic!("{}", shown(&p))).value;
        let action = |text: &&str| {
            let file = parse_action("action.yaml", text.as_bytes()).unwrap_or_else(|p| panic!("{}", shown(&p))).value;
            (file.name.value.clone(), Arc::new(file))
        };
        Self {
            runbook,
            inventory,
            actions: actions.iter().map(action).collect(),
            files: BTreeMap::new(),
            parameters: BTreeMap::new(),
            limit: None,
            evaluator: Evaluator::new(),
        }
    }

    pub(crate) fn file(mut self, path: &str, bytes: &[u8], mode: u32) -> Self {
        let file = LocalFile { sha256: Sha256::of(bytes), bytes: bytes.len() as u64, mode };
        self.files.insert(path.to_owned(), Local::File(file));
        self
    }

    fn request(&self) -> PlanRequest<'_> {
        PlanRequest {
            runbook: &self.runbook,
            inventory: &self.inventory,
            parameters: &self.parameters,
            limit: self.limit.as_ref(),
            actions: self,
            files: self,
            evaluate: &self.evaluator,
        }
    }

    pub(crate) fn build(&self) -> Result<Plan, Vec<Diagnostic>> {
        runbook_plan::build(self.request())
    }

    pub(crate) fn build_rendered(&self) -> (Plan, runbook_plan::Renderings) {
        runbook_plan::build_rendered(self.request()).unwrap_or_else(|problems| panic!("{}", shown(&problems)))
    }

    pub(crate) fn plan(&self) -> Plan {
        self.build().unwrap_or_else(|problems| panic!("{}", shown(&problems)))
    }
}

impl ActionSource for Project {
    fn find(&self, name: &str) -> Result<Option<Arc<ActionFile>>, Vec<Diagnostic>> {
        Ok(self.actions.get(name).cloned())
    }

    fn names(&self) -> Vec<String> {
        self.actions.keys().cloned().collect()
    }
}

impl Files for Project {
    fn look(&self, _base: &str, path: &str) -> Result<Local, String> {
        self.files.get(path).cloned().ok_or_else(|| "there is no such file".into())
    }
}

pub(crate) const DISK_FREE: &str = "
schema: action/v1
name: disk-free
kind: check
description: The file system that holds `path` has at least `at_least` free.
parameters: {path: {type: path, required: true}, at_least: {type: size, required: true}}
posix: {run: 'test \"$(df -Pk {{param.path}})\" -ge {{param.at_least}}'}
";

pub(crate) const SERVICE_ACTIVE: &str = "
schema: action/v1
name: service-active
kind: check
parameters: {service: {type: string, required: true}}
posix: {run: 'systemctl is-active {{param.service}}'}
windows: {run: 'Get-Service {{param.service}}'}
";

pub(crate) const BTRFS: &str = "
schema: action/v1
name: btrfs-snapshot
kind: snapshot
parameters: {subvolume: {type: path, required: true}, folder: {type: path, default: /snapshots}}
as: root
take: {posix: {run: 'btrfs subvolume snapshot -r {{param.subvolume}} {{param.folder}}/{{snapshot.id}}'}}
probe: {posix: {run: 'btrfs subvolume show {{snapshot.reference}}'}}
restore: {posix: {run: 'restore {{snapshot.reference}} {{param.subvolume}}'}}
release: {posix: {run: 'btrfs subvolume delete {{snapshot.reference}}'}}
";

pub(crate) const INVENTORY: &str = "
schema: inventory/v1
defaults: {transport: ssh, user: maint, port: 22}
hosts:
  fs01: {address: 10.0.1.11, labels: {site: hq}, cui: true, owner: jane.doe, risk: high, groups: [fileservers]}
  fs02: {address: 10.0.1.12, labels: {site: lab}, cui: true, groups: [fileservers, canaries]}
  fs03: {address: 10.0.1.13, labels: {site: hq}, cui: true, groups: [fileservers]}
";

/// The runbook of the language's own page.
pub(crate) const RUNBOOK: &str = r#"
schema: runbook/v1
name: patch-fileserver
title: Monthly security patches for a file server that holds CUI
tier: routine
controls: [MA.L2-3.7.1]

parameters:
  package: {type: string, default: samba, pattern: '^[a-z0-9][a-z0-9.+-]*$', description: Package to upgrade}
  min_free: {type: size, default: 2GiB}

targets:
  select: fileservers & cui
  batch: [1, 50%]
  parallel: 10
  soak: 5m
  failure_budget: 0

watch: {roots: [/etc, /usr/sbin], undeclared: report}

prechecks:
  - uses: disk-free
    with: {path: /srv, at_least: "{{param.min_free}}"}
  - uses: service-active
    with: {service: smbd}

snapshot:
  - id: data
    uses: btrfs-snapshot
    with: {subvolume: /srv/data}

execute:
  - id: upgrade
    name: Install the update
    run: apt-get install -y --only-upgrade {{param.package}}
    as: root
    timeout: 20m
    retry: {attempts: 3, delay: 30s, on: [lock-held, connection]}
    changes: [/usr/sbin/smbd, /etc/samba/**]
  - run: systemctl restart smbd
    as: root
    idempotent: true

verify:
  - uses: service-active
    with: {service: smbd}
    retry: {attempts: 10, delay: 3s}
  - name: a client can read the share
    run: smbclient -N //localhost/data -c ls
    expect: {stdout: {contains: "blocks available"}}

rollback:
  budget: 15m

finally:
  - run: rm -f /run/maintenance
    as: root
"#;

pub(crate) fn whole() -> Project {
    Project::new(RUNBOOK.as_bytes(), INVENTORY.as_bytes(), &[DISK_FREE, SERVICE_ACTIVE, BTRFS])
}
