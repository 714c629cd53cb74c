//! Plans for tests, made by hand, and a small renderer in place of the language.

use std::collections::{BTreeMap, BTreeSet};

use runbook_model::evaluate::{Evaluate, EvaluateError, Kept, Rendered, RenderedAction, Scope, SecretText, When};
use runbook_model::host::{Host, Os};
use runbook_model::outcome::Exit;
use runbook_model::plan::*;
use runbook_model::shell::ShellKind;
use runbook_model::{HostName, Sha256, canonical};
use serde_json::{Value, json};

pub(crate) fn host(name: &str) -> Host {
    Host {
        name: name.into(),
        transport: "ssh".into(),
        address: format!("{name}.example.org"),
        port: None,
        os: Os::Posix("linux".into()),
        user: None,
        jumps: Vec::new(),
        identity: None,
        certificate: None,
        account: None,
        options: BTreeMap::new(),
        labels: BTreeMap::from([("site".into(), "hq".into())]),
        vars: BTreeMap::new(),
        groups: vec!["fileservers".into()],
        cui: true,
        owner: None,
        cui_owner: None,
        risk: None,
    }
}

pub(crate) fn step(id: &str, phase: Phase, command: &str, needs: &[&str]) -> Step {
    Step {
        id: id.into(),
        name: String::new(),
        phase,
        role: Role::Plain,
        work: Work::Any(Action::Run { command: Template(command.into()), shell: None, strict: true }),
        needs: needs.iter().map(|need| (*need).into()).collect(),
        when: None,
        on: Place::Host,
        once: None,
        account: None,
        cwd: None,
        env: BTreeMap::new(),
        stdin: None,
        timeout_ms: 600_000,
        retry: Retry::none(),
        expect: Expect::default(),
        unless: None,
        idempotent: false,
        read_only: matches!(phase, Phase::Prechecks | Phase::Verify),
        changes: Vec::new(),
        irreversible: None,
        on_failure: match phase {
            Phase::Prechecks | Phase::Snapshot => OnFailure::Block,
            Phase::Execute | Phase::Verify => OnFailure::Rollback,
            Phase::Rollback => OnFailure::Halt,
            Phase::Finally => OnFailure::Continue,
        },
        sensitive: false,
        with: None,
        uses: None,
        item: None,
        output_bytes_max: 64 << 20,
    }
}

/// A runbook with most of what there is, for `count` hosts.
pub(crate) fn plan(count: usize) -> Plan {
    use Phase::*;
    let names: Vec<HostName> = (1..=count).map(|n| format!("fs{n:03}").as_str().into()).collect();
    let script = Sha256::of(b"script");
    let steps = vec![
        Step {
            name: "/srv has {{param.min_free}} free".replace("{{param.min_free}}", "2 GiB"),
            uses: Some("disk-free".into()),
            ..step("disk-free", Prechecks, "test \"$(df /srv)\" -gt {{param.min_free}}", &[])
        },
        Step {
            role: Role::Take,
            uses: Some("files-snapshot".into()),
            ..step("data", Snapshot, "take {{snapshot.id}}", &[])
        },
        Step {
            role: Role::Probe { of: "data".into() },
            read_only: true,
            ..step("data.probe", Snapshot, "probe {{snapshot.reference}}", &["data"])
        },
        Step {
            role: Role::Release { of: "data".into() },
            ..step("data.release", Snapshot, "release {{snapshot.reference}}", &[])
        },
        Step {
            name: "Install the update".into(),
            account: Some(Template("root".into())),
            retry: Retry { attempts: 3, delay_ms: 30_000, on: vec![RetryClass::LockHeld], ..Retry::none() },
            changes: vec![Template("/usr/sbin/smbd".into()), Template("/etc/samba/**".into())],
            env: BTreeMap::from([("DEBIAN_FRONTEND".into(), Template("noninteractive".into()))]),
            ..step(
                "upgrade",
                Execute,
                "apt-get install -y --only-upgrade {{param.package}}\nsystemctl restart smbd\n",
                &[],
            )
        },
        Step {
            when: Some(Expression("host.labels.site == 'branch'".into())),
            ..step("branch-only", Execute, "echo {{host.name}} {{{param.package}}}", &["upgrade"])
        },
        Step {
            work: Work::Any(Action::Script {
                sha256: script,
                args: vec![Template("--fast".into())],
                interpreter: None,
            }),
            on: Place::Controller,
            once: Some(Once::Batch),
            ..step("announce", Execute, "", &["branch-only"])
        },
        Step {
            name: "a client can read \"data\" <&>".into(),
            ..step("read-share", Verify, "smbclient -N //{{host.address}}/data -c ls", &[])
        },
        Step {
            role: Role::Undo { of: "upgrade".into() },
            name: "Take back: Install the update".into(),
            ..step("upgrade.undo", Rollback, "apt-get install -y {{param.package}}={{steps.upgrade.stdout}}", &[])
        },
        Step {
            role: Role::Restore { of: "data".into() },
            ..step("data.restore", Rollback, "restore {{snapshot.reference}}", &["upgrade.undo"])
        },
        Step {
            role: Role::Again { of: "disk-free".into() },
            read_only: true,
            ..step("disk-free.again", Rollback, "test \"$(df /srv)\" -gt {{param.min_free}}", &["data.restore"])
        },
        Step {
            role: Role::Baseline,
            read_only: true,
            work: Work::Any(Action::Compare),
            ..step("rollback.baseline", Rollback, "", &["disk-free.again"])
        },
        step("finally-1", Finally, "rm -f /run/maintenance", &[]),
    ];
    let first = names.len().min(1);
    Plan {
        schema: SCHEMA.into(),
        runbook: RunbookRef {
            name: "patch-fileserver".into(),
            title: "Monthly security patches for a file server that holds CUI".into(),
            tier: Tier::Routine,
            controls: vec!["MA.L2-3.7.1".into()],
            source_sha256: Sha256::of(b"source"),
        },
        parameters: BTreeMap::from([("package".into(), json!("samba")), ("min_free".into(), json!(2_147_483_648_u64))]),
        secrets: BTreeMap::from([("db".into(), SecretRef::Env("DB_PW".into()))]),
        hosts: names.iter().map(|name| (name.clone(), host(name.as_str()))).collect(),
        batches: [names[..first].to_vec(), names[first..].to_vec()].into_iter().filter(|b| !b.is_empty()).collect(),
        parallel: 10,
        soak_ms: 300_000,
        failure_budget: 0,
        watch: None,
        rollback: RollbackRule {
            strategy: Strategy::UndoThenRestore,
            scope: runbook_model::plan::Scope::Host,
            budget_ms: 900_000,
            verify: RollbackVerify::Again,
        },
        window: runbook_model::plan::WindowRule::default(),
        access: None,
        irreversible: None,
        steps,
        files: BTreeMap::from([(script, FileRef { path: "announce.sh".into(), bytes: 6 })]),
    }
}

/// Replaces `{{name}}`, knows parameters and hosts, and leaves the rest open.
pub(crate) struct Simple;

impl Simple {
    fn fill(
        &self,
        scope: &Scope<'_>,
        step: Option<&Step>,
        template: &Template,
        out: &mut Names,
    ) -> Result<String, EvaluateError> {
        let host = serde_json::to_value(scope.host).expect("a host is JSON");
        let mut text = String::new();
        let mut rest = template.0.as_str();
        while let Some(at) = rest.find("{{") {
            text.push_str(&rest[..at]);
            let end = at + rest[at..].find("}}").ok_or_else(|| EvaluateError("an open {{".into()))?;
            let name = rest[at..end].trim_start_matches('{');
            rest = rest[end..].trim_start_matches('}');
            out.0.insert(name.to_owned());
            let value = match name.split_once('.') {
                Some(("param", name)) => match step.and_then(|step| step.with.as_ref()) {
                    None => scope.plan.parameters.get(name),
                    Some(with) => match with.get(name) {
                        Some(Value::String(inner)) => {
                            text.push_str(&self.fill(scope, None, &Template(inner.clone()), out)?);
                            continue;
                        }
                        other => other,
                    },
                },
                None if name == "item" => step.and_then(|step| step.item.as_ref()),
                Some(("host", path)) => path.split('.').try_fold(&host, |value, part| value.get(part)),
                Some(("run" | "steps" | "snapshot", _)) => {
                    out.1.insert(name.to_owned());
                    text.push_str(&format!("‹{name}›"));
                    continue;
                }
                _ => None,
            };
            match value {
                Some(Value::String(value)) => text.push_str(value),
                Some(value) => text.push_str(&value.to_string()),
                None => return Err(EvaluateError(format!("`{name}` is not known"))),
            }
        }
        text.push_str(rest);
        Ok(text)
    }
}

struct Names(BTreeSet<String>, BTreeSet<String>);

impl Evaluate for Simple {
    fn when(&self, scope: &Scope<'_>, step: &Step) -> Result<When, EvaluateError> {
        let wanted = step.when.as_ref().and_then(|when| when.0.strip_prefix("host.labels.site == "));
        Ok(match (wanted, scope.host.labels.get("site")) {
            (Some(wanted), Some(site)) if wanted.trim_matches('\'') != site => {
                When::Skip(format!("host.labels.site == {wanted} is false: it is {site}"))
            }
            _ => When::Run,
        })
    }

    fn render(&self, scope: &Scope<'_>, step: &Step) -> Result<Rendered, EvaluateError> {
        let mut names = Names(BTreeSet::new(), BTreeSet::new());
        let mut fill = |template: &Template| self.fill(scope, Some(step), template, &mut names);
        let action = match crate::invariants::action_on(&step.work, &scope.host.os) {
            Some(Action::Run { command, strict, .. }) => {
                RenderedAction::Run { text: fill(command)?, shell: ShellKind::Sh, strict: *strict }
            }
            Some(Action::Script { sha256, args, .. }) => RenderedAction::Script {
                sha256: *sha256,
                args: args.iter().map(&mut fill).collect::<Result<_, _>>()?,
                interpreter: None,
            },
            Some(Action::Upload { files, to, .. }) => {
                RenderedAction::Upload { files: files.clone(), to: fill(to)?, owner: None, group: None }
            }
            Some(Action::Reboot { timeout_ms, settle_ms }) => {
                RenderedAction::Reboot { timeout_ms: *timeout_ms, settle_ms: *settle_ms }
            }
            Some(Action::Wait { ms }) => RenderedAction::Wait { ms: *ms },
            Some(Action::Confirm { text }) => RenderedAction::Confirm { text: fill(text)? },
            Some(Action::Compare) => RenderedAction::Compare,
            _ => return Err(EvaluateError("the sample has no such action".into())),
        };
        let stdin = step.stdin.as_ref().map(&mut fill).transpose()?.map(SecretText::plain);
        let account = step.account.as_ref().map(&mut fill).transpose()?;
        let mut env = BTreeMap::new();
        for (name, value) in &step.env {
            env.insert(name.clone(), SecretText::plain(fill(value)?));
        }
        let changes = step.changes.iter().map(&mut fill).collect::<Result<_, _>>()?;
        Ok(Rendered {
            action,
            unless: None,
            account: account.or_else(|| scope.host.account.clone()),
            cwd: None,
            env,
            stdin,
            changes,
            template_sha256: canonical::digest(&step.work),
            variables: names.0,
            unknown: names.1,
        })
    }

    fn text(&self, scope: &Scope<'_>, template: &Template) -> Result<String, EvaluateError> {
        self.fill(scope, None, template, &mut Names(BTreeSet::new(), BTreeSet::new()))
    }

    fn unmet(&self, _: &Scope<'_>, _: &Step, _: Exit, _: Kept<'_>, _: Kept<'_>) -> Vec<String> {
        Vec::new()
    }

    fn class(&self, _: &[u8], _: &[u8]) -> RetryClass {
        RetryClass::Exit
    }
}
