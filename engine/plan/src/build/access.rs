//! `access:`, as each host is to be given it. Whoever approves the plan sees every name.

use std::collections::BTreeMap;

use runbook_lang::runbook::CertificateAccess;
use runbook_lang::{Code, Diagnostic};
use runbook_model::access::{Access, Account, Certificate, Sudo, is_account, is_principal};
use runbook_model::host::Host;
use runbook_model::plan::{Plan, Template};

use crate::render;
use crate::request::PlanRequest;

/// The transport that knows certificates.
pub(crate) const TRANSPORT: &str = "ssh";

/// What the runbook says of access, for the hosts of `frame`.
pub(super) fn access(request: &PlanRequest<'_>, frame: &Plan) -> Result<Option<Access>, Vec<Diagnostic>> {
    let Some(written) = &request.runbook.access else { return Ok(None) };
    let mut problems = Vec::new();
    let by_login = written.certificate.is_some() || written.sudo.is_some();
    for host in frame.hosts.values() {
        let problem =
            |message: String, help: &str| Diagnostic::error(Code::AccessImpossible, &written.span, message).help(help);
        if host.transport != TRANSPORT {
            let message = format!("{} is reached by `{}`, which knows no such access", host.name, host.transport);
            problems
                .push(problem(message, "access is for hosts with `transport: ssh`; let `select` leave the others out"));
        } else if by_login && host.user.is_none() {
            let message = format!("the inventory does not say as whom {} is logged in to", host.name);
            problems.push(problem(message, "give the host a `user`: the certificate and the rule of sudo are for it"));
        } else if let Some(user) = host.user.as_deref().filter(|user| by_login && !is_account(user)) {
            let message = format!("a rule of sudo for the account `{user}` of {} would mean something else", host.name);
            problems.push(problem(message, "letters, digits, `_`, `-` and `.` are allowed, at most 32"));
        }
    }
    if !problems.is_empty() {
        // One is enough where all hosts are alike.
        problems.truncate(5);
        return Err(problems);
    }
    let certificate = match &written.certificate {
        Some(certificate) => Some(Certificate {
            principals: principals(request, frame, certificate)?,
            source_address: certificate.source_address.iter().map(|address| address.value.clone()).collect(),
            valid_for_ms: certificate.valid_for_ms,
            revoke: certificate.revoke,
        }),
        None => None,
    };
    let sudo = written.sudo.as_ref().map(|sudo| Sudo { run_as: sudo.run_as.clone(), commands: sudo.commands.clone() });
    let account = written
        .account
        .as_ref()
        .map(|account| Account { name: account.name.value.clone(), window: account.window.value.clone() });
    Ok(Some(Access { certificate, sudo, account }))
}

/// The names for each host.
fn principals(
    request: &PlanRequest<'_>,
    frame: &Plan,
    certificate: &CertificateAccess,
) -> Result<BTreeMap<runbook_model::HostName, Vec<String>>, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let mut names = |host: &Host| -> Vec<String> {
        if certificate.principals.is_empty() {
            return host.user.iter().cloned().collect();
        }
        let scope = render::scope(frame, host);
        let mut found = Vec::new();
        for written in &certificate.principals {
            match request.evaluate.text(&scope, &Template(written.value.clone())) {
                Ok(name) if is_principal(&name) => found.push(name),
                Ok(name) => problems.push(
                    Diagnostic::error(
                        Code::AccessImpossible,
                        &written.span,
                        format!("`{name}` cannot be a principal of {}", host.name),
                    )
                    .help("letters, digits and `_ - . @ : / +` are allowed; it must be known before the run"),
                ),
                Err(error) => {
                    problems.push(Diagnostic::error(Code::Unrenderable, &written.span, error.to_string()));
                }
            }
        }
        found
    };
    let by_host: BTreeMap<_, _> = frame.hosts.values().map(|host| (host.name.clone(), names(host))).collect();
    problems.truncate(5);
    if problems.is_empty() { Ok(by_host) } else { Err(problems) }
}
