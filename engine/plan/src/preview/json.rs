//! The preview as one JSON document, `plan-preview/v1`; described in `docs/concepts/plan.md`. Fields may be added within
//! a version; none is removed or changes its meaning.

use std::collections::BTreeMap;

use runbook_model::evaluate::{Piece, SecretText};
use runbook_model::plan::{Once, Place, Role, SecretRef};
use serde_json::{Map, Value, json};

use super::{Preview, PreviewCommand, PreviewStep, State, kind};

/// The version of the document.
pub const SCHEMA: &str = "plan-preview/v1";

impl Preview<'_> {
    /// The document.
    pub fn json(&self) -> Value {
        let plan = self.plan;
        let digest = self.digest.to_string();
        let host = |number: usize| &plan.hosts[&self.hosts[number].name];
        let hosts = (0..self.hosts.len()).map(|number| {
            let frozen = host(number);
            json!({
                "name": frozen.name,
                "batch": self.hosts[number].batch,
                "transport": frozen.transport,
                "address": frozen.address,
                "os": frozen.os,
                "groups": frozen.groups,
                "labels": frozen.labels,
                "cui": frozen.cui,
                "owner": frozen.owner,
                "cui_owner": frozen.cui_owner,
                "risk": frozen.risk,
            })
        });
        let secrets: BTreeMap<&str, Value> =
            plan.secrets.iter().map(|(name, source)| (name.as_str(), secret(source))).collect();
        let matrix = self.hosts.iter().enumerate().map(|(number, host)| {
            let cells = self.steps.iter().map(|step| cell(step, number));
            json!({"host": host.name, "batch": host.batch, "cells": cells.collect::<Vec<_>>()})
        });
        let irreversible =
            self.irreversible().into_iter().map(|(step, reason)| json!({"step": step, "reason": reason}));
        json!({
            "schema": SCHEMA,
            "digest": digest,
            "plan_digest": digest,
            "plan_schema": plan.schema,
            "runbook": plan.runbook,
            "parameters": plan.parameters,
            "secrets": secrets,
            "hosts": hosts.collect::<Vec<_>>(),
            "batches": plan.batches,
            "parallel": plan.parallel,
            "soak_ms": plan.soak_ms,
            "failure_budget": plan.failure_budget,
            "watch": plan.watch,
            "rollback": plan.rollback,
            "window": plan.window,
            "access": plan.access,
            "snapshots": self.snapshots(),
            "irreversible": irreversible.collect::<Vec<_>>(),
            "files": plan.files.iter()
                .map(|(sha256, file)| json!({"path": file.path, "bytes": file.bytes, "sha256": sha256}))
                .collect::<Vec<_>>(),
            "steps": self.steps.iter().map(|step| self.step_json(step)).collect::<Vec<_>>(),
            "matrix": matrix.collect::<Vec<_>>(),
            "unknown": self.unknown(),
            "warnings": self.warnings.iter()
                .map(|warning| json!({"step": warning.step, "message": warning.message}))
                .collect::<Vec<_>>(),
        })
    }

    fn snapshots(&self) -> Vec<Value> {
        let takes = self.plan.steps.iter().filter(|step| step.role == Role::Take);
        takes.map(|step| json!({"step": step.id, "name": step.name, "uses": step.uses})).collect()
    }

    fn step_json(&self, shown: &PreviewStep<'_>) -> Value {
        let step = shown.step;
        let (role, of) = role(&step.role);
        let everywhere = match shown.commands.as_slice() {
            [command] => Some(command.rendered.command_text()),
            _ => None,
        };
        json!({
            "id": step.id,
            "name": step.name,
            "phase": step.phase,
            "role": role,
            "of": of,
            "uses": step.uses,
            "item": step.item,
            "needs": step.needs,
            "on": match &step.on {
                Place::Host => "host".to_owned(),
                Place::Controller => "controller".to_owned(),
                Place::Named(host) => format!("host:{}", host.name),
            },
            "once": step.once.map(|once| match once { Once::Run => "run", Once::Batch => "batch" }),
            "when": step.when,
            "read_only": step.read_only,
            "idempotent": step.idempotent,
            "sensitive": step.sensitive,
            "irreversible": step.irreversible,
            "timeout_ms": step.timeout_ms,
            "retry": step.retry,
            "expect": step.expect,
            "on_failure": step.on_failure,
            "command": everywhere,
            "commands": shown.commands.iter().map(|command| self.command_json(command)).collect::<Vec<_>>(),
        })
    }

    fn command_json(&self, command: &PreviewCommand) -> Value {
        let rendered = &command.rendered;
        let hosts: Vec<_> = command.hosts.iter().map(|number| &self.hosts[*number].name).collect();
        let env: BTreeMap<&str, String> =
            rendered.env.iter().map(|(name, value)| (name.as_str(), secret_text(value))).collect();
        json!({
            "command": rendered.command_text(),
            "action": kind(&rendered.action),
            "hosts": hosts,
            "unless": rendered.unless.as_ref().map(|action| action.text()),
            "as": rendered.account,
            "cwd": rendered.cwd,
            "env": env,
            "stdin": rendered.stdin.as_ref().map(secret_text),
            "changes": rendered.changes,
            "variables": rendered.variables,
            "unknown": rendered.unknown,
        })
    }
}

fn cell(step: &PreviewStep<'_>, host: usize) -> Value {
    let cell = &step.cells[host];
    let unknown = &step.commands[cell.command].rendered.unknown;
    let mut out = Map::new();
    out.insert("step".into(), json!(step.step.id));
    out.insert("state".into(), json!(cell.state.name()));
    out.insert("command".into(), json!(cell.command));
    if let Some(reason) = &cell.reason {
        out.insert("reason".into(), json!(reason));
    }
    if !unknown.is_empty() && cell.state != State::Skipped {
        out.insert("unknown".into(), json!(unknown));
    }
    Value::Object(out)
}

/// The word for a role, and the step that it serves.
pub(super) fn role(role: &Role) -> (&'static str, Option<&runbook_model::id::StepId>) {
    match role {
        Role::Plain => ("plain", None),
        Role::Take => ("take", None),
        Role::Probe { of } => ("probe", Some(of)),
        Role::Restore { of } => ("restore", Some(of)),
        Role::Release { of } => ("release", Some(of)),
        Role::Undo { of } => ("undo", Some(of)),
        Role::Again { of } => ("again", Some(of)),
        Role::Baseline => ("baseline", None),
        Role::Undeclared => ("undeclared", None),
    }
}

fn secret(source: &SecretRef) -> Value {
    serde_json::to_value(source).expect("a secret's source is representable as JSON")
}

/// With `‹secret.x›` where a value will stand.
pub(super) fn secret_text(text: &SecretText) -> String {
    let pieces = text.0.iter().map(|piece| match piece {
        Piece::Text(text) => text.clone(),
        Piece::Secret(name) => format!("‹secret.{name}›"),
    });
    pieces.collect()
}
