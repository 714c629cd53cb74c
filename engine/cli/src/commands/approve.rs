//! `approve`, `reject`: a person decides about a plan, and signs exactly what is shown.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use runbook_ledger::Sealer;
use runbook_model::approval::{Approval, Decision, LedgerSeen, NAMESPACE, SCHEMA};
use runbook_model::people::Member;
use runbook_model::plan::Plan;
use runbook_model::units::{parse_duration_ms, rfc3339_ms};
use runbook_model::{Notice, Sha256};
use runbook_plan::Preview;
use runbook_ports::Store as _;
use runbook_store::SqliteStore;
use serde_json::json;

use crate::arguments::rules::{Approve, Reject, Signing};
use crate::authority::Windows;
use crate::failure::{Failure, REFUSED};
use crate::output::{self, Output, note};
use crate::policy::{self, Staff};
use crate::project::Project;
use crate::{keys, notices, person, record, sources};

/// Runs `approve`.
pub(crate) async fn approve(project: &Project, arguments: &Approve, output: Output) -> Result<u8, Failure> {
    let valid_ms = parse_duration_ms(&arguments.valid_for)
        .map_err(|error| Failure::usage("RB0617", format!("--valid-for: {error}")))?;
    let what =
        What { decision: Decision::Approve, signing: &arguments.signing, reason: arguments.reason.trim(), valid_ms };
    decide(project, what, output).await
}

/// Runs `reject`.
pub(crate) async fn reject(project: &Project, arguments: &Reject, output: Output) -> Result<u8, Failure> {
    let reason = arguments.reason.trim();
    if reason.is_empty() {
        return Err(Failure::usage("RB0617", "--reason is empty; say why it must not be run"));
    }
    let what = What {
        decision: Decision::Reject,
        signing: &arguments.signing,
        reason,
        // It does not expire: the plan is not better later.
        valid_ms: 0,
    };
    decide(project, what, output).await
}

struct What<'a> {
    decision: Decision,
    signing: &'a Signing,
    reason: &'a str,
    valid_ms: u64,
}

async fn decide(project: &Project, what: What<'_>, output: Output) -> Result<u8, Failure> {
    let palette = output.error_palette;
    let folder = policy::folder(project)?;
    let plan = sources::plan_or_saved(project, &what.signing.file, &what.signing.sources, palette)?;
    let staff = Staff::must(project, palette)?;
    let (id, member) = signer(&staff, what.signing.person.as_deref())?;
    let windows = Windows::of(project, palette)?.map(|windows| windows.sha256);
    let store = record::open_existing(project).await?;
    let made_ms = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
    let document = Approval {
        schema: SCHEMA.to_owned(),
        decision: what.decision,
        runbook: plan.runbook.name.clone(),
        tier: plan.runbook.tier,
        plan_sha256: plan.digest(),
        hosts_sha256: Approval::hosts_of(&plan),
        parameters_sha256: Approval::parameters_of(&plan),
        windows_sha256: windows,
        reason: what.reason.to_owned(),
        made_ms,
        valid_until_ms: made_ms.saturating_add(what.valid_ms),
        nonce: hex(&keys::random::<16>()?),
        ledger: seen(project, store.as_ref()).await?,
        signer: id.to_owned(),
    };
    note(shown(&plan, &document, store.as_ref()).await?);
    let verb = match what.decision {
        Decision::Approve => "Approve",
        Decision::Reject => "Reject",
    };
    if let Some(request) = &what.signing.request {
        keys::write_new(request, 0o644, &document.bytes())?;
        note(format!(
            "nothing is signed yet; {} signs it with\n  ssh-keygen -Y sign -f THEIR_KEY -n {NAMESPACE} {}\nand whoever gets \
             both files back takes them in with\n  runbook approvals import {}",
            member.name,
            request.display(),
            request.display()
        ));
        return Ok(0);
    }
    if output.person && !what.signing.yes && person::ask(&format!("\n{verb} this as {}?", member.name)) != Some(true) {
        return Err(Failure::new("RB0614", REFUSED, "you did not say yes, so nothing was signed"));
    }
    let armored = sign(project, what.signing.key.as_deref(), member, &document.bytes())?;
    let path = keep(&folder, &document, &armored, &staff)?;
    put_on_record(project, store.as_ref(), &document, &armored).await?;
    if what.signing.json {
        output::json(&json!({
            "schema": "approval-signed/v1", "decision": document.decision, "plan_sha256": document.plan_sha256,
            "signer": id, "valid_until": rfc3339_ms(document.valid_until_ms), "file": path, "document_sha256": Sha256::of(&document.bytes()),
        }))?;
    }
    note(format!("signed as {} and kept in {}", member.name, sources::shown(&path)));
    Ok(0)
}

/// The person who signs.
fn signer<'s>(staff: &'s Staff, asked: Option<&str>) -> Result<(&'s str, &'s Member), Failure> {
    let unknown = |what: String| {
        let names: Vec<&str> = staff.people.people.keys().map(String::as_str).collect();
        Failure::usage("RB0725", what).next(format!("name yourself with --as; the people are: {}", names.join(", ")))
    };
    match asked {
        Some(id) => {
            let found = staff.people.people.get_key_value(id);
            found
                .map(|(id, member)| (id.as_str(), member))
                .ok_or_else(|| unknown(format!("people.yaml has nobody called {id}")))
        }
        None => {
            let account = person::operator().name;
            staff
                .people
                .with_account(&account)
                .ok_or_else(|| unknown(format!("the account {account} is nobody's in people.yaml")))
        }
    }
}

/// The head of the ledger as it is now.
async fn seen(project: &Project, store: Option<&SqliteStore>) -> Result<Option<LedgerSeen>, Failure> {
    let Some(store) = store else { return Ok(None) };
    let head = store.head().await.map_err(|error| record::failed(&error))?;
    if head.size == 0 {
        return Ok(None);
    }
    let sealer = Sealer::new(&head).map_err(crate::failure::fault)?;
    let origin = keys::public(project)?.name().to_owned();
    Ok(Some(LedgerSeen { origin, size: sealer.size(), root: sealer.root() }))
}

/// Everything that is signed, for the one who signs it.
async fn shown(plan: &Plan, document: &Approval, store: Option<&SqliteStore>) -> Result<String, Failure> {
    let columns = output::terminal_size().map_or(100, |(columns, _)| columns).clamp(40, 200);
    let preview = Preview::of(plan, &runbook_lang::evaluate::Evaluator::new()).map_err(|errors| {
        let mut failure =
            Failure::usage(errors.first().map_or("RB0600", |error| error.code()), "the plan cannot be shown");
        for error in errors.iter().take(20) {
            failure = failure.detail(error.to_string());
        }
        failure
    })?;
    let mut text = preview.text(columns);
    text.push_str(&difference(plan, store).await?);
    let head = document.ledger.as_ref().map_or_else(
        || "nothing is recorded yet".to_owned(),
        |seen| format!("{} records, root {}", seen.size, seen.root),
    );
    let windows = document.windows_sha256.map_or_else(|| "no windows.yaml".to_owned(), |digest| digest.to_string());
    let until = match document.decision {
        Decision::Approve => format!("for one run, until {}", rfc3339_ms(document.valid_until_ms)),
        Decision::Reject => "for good".to_owned(),
    };
    let reason = runbook_report::text::escape_line(document.reason.as_bytes());
    text.push_str(&format!(
        "\nwhat is signed:\n  plan        {}\n  hosts       {}\n  parameters  {}\n  windows     {windows}\n  ledger      {head}\n  \
         reason      {reason}\n  counts      {until}\n",
        document.plan_sha256, document.hosts_sha256, document.parameters_sha256,
    ));
    Ok(text)
}

/// What is different from the latest run of the same runbook that ended well.
async fn difference(plan: &Plan, store: Option<&SqliteStore>) -> Result<String, Failure> {
    let Some(store) = store else { return Ok(String::new()) };
    let last = record::ended_well(store, &plan.runbook.name).await?.into_iter().next();
    let Some(last) = last else {
        return Ok("\nno earlier run of this runbook ended well: there is nothing to compare it with\n".to_owned());
    };
    let when = rfc3339_ms(last.header.started_ms);
    // Its contents may have been removed after their time.
    let Ok(before) = record::plan(store, &last.header).await else { return Ok(String::new()) };
    let difference = runbook_plan::diff(&before, plan);
    Ok(match difference.is_empty() {
        true => format!("\nthe same as the run of {when}, which ended well\n"),
        false => format!("\nchanged since the run of {when}, which ended well:\n{}", difference.text()),
    })
}

fn failed(why: impl Into<String>) -> Failure {
    Failure::new("RB0726", REFUSED, why)
        .next("name the key with --key; or sign elsewhere: --request FILE writes what is to be signed")
}

/// Signs with the system's ssh-keygen, which asks for a passphrase, a touch or a PIN by itself.
fn sign(project: &Project, key: Option<&Path>, member: &Member, bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    project.make_state()?;
    let work = tempdir(project)?;
    let result = (|| {
        let key = match key {
            Some(key) => key.to_owned(),
            None => own_key(member, &work)?,
        };
        let document = work.join("approval.json");
        keys::write_new(&document, 0o600, bytes)?;
        let status = Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", NAMESPACE, "-f"])
            .arg(&key)
            .arg(&document)
            .stdout(Stdio::null())
            .status()
            .map_err(|error| failed(format!("ssh-keygen cannot be started: {error}")).next("install openssh-client"))?;
        if !status.success() {
            return Err(failed(format!("ssh-keygen did not sign with {}", key.display())));
        }
        let path = policy::signature_of(&document);
        std::fs::read(&path).map_err(|error| Failure::file("RB0726", "read", &path, &error))
    })();
    let _ = std::fs::remove_dir_all(&work);
    result
}

/// A folder that nobody else can write to.
fn tempdir(project: &Project) -> Result<PathBuf, Failure> {
    let work = project.state_path("run").join(format!("sign-{}", hex(&keys::random::<8>()?)));
    crate::project::make_private(&work)?;
    Ok(work)
}

/// The first key in ~/.ssh that is the person's; else a public one of theirs, for the agent to sign with.
fn own_key(member: &Member, work: &Path) -> Result<PathBuf, Failure> {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let counts: Vec<&str> = member
        .keys
        .iter()
        .filter(|key| key.revoked.is_none_or(|day| day > today) && key.until.is_none_or(|day| day >= today))
        .map(|key| key.key.as_str())
        .collect();
    let Some(first) = counts.first() else {
        return Err(failed(format!("{} has no key in people.yaml that counts today", member.name)));
    };
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default().join(".ssh");
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(&home).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for public in entries.iter().filter(|path| path.extension().is_some_and(|extension| extension == "pub")) {
        let line = sources::read(public, 16 << 10).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let private = public.with_extension("");
        if counts.iter().any(|key| line.starts_with(key)) && private.is_file() {
            return Ok(private);
        }
    }
    let in_agent = Command::new("ssh-add").arg("-L").stderr(Stdio::null()).output().ok();
    let in_agent = in_agent.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let chosen = counts.iter().find(|key| in_agent.lines().any(|line| line.starts_with(**key))).unwrap_or(first);
    let path = work.join("key.pub");
    keys::write_new(&path, 0o600, format!("{chosen}\n").as_bytes())?;
    Ok(path)
}

/// On the record too, where there is one: a rejection blocks although its file is removed.
pub(crate) async fn put_on_record(
    project: &Project,
    store: Option<&SqliteStore>,
    document: &Approval,
    armored: &[u8],
) -> Result<(), Failure> {
    let opened;
    let store = match store {
        Some(store) => store,
        // A copy of the project without its key has no record: it is put on record where it is taken in.
        None if !keys::public_path(project).exists() => return Ok(()),
        None => {
            opened = record::open(project).await?;
            &opened
        }
    };
    let bytes = document.bytes();
    let (digest, signature) = (Sha256::of(&bytes), Sha256::of(armored));
    for (_, notice) in record::notices(store, &[policy::DECIDED]).await? {
        if matches!(notice, Notice::PlanDecided { document, signature: by, .. } if document == digest && by == signature)
        {
            return Ok(());
        }
    }
    let notice = Notice::PlanDecided {
        runbook: document.runbook.clone(),
        plan_sha256: document.plan_sha256,
        decision: document.decision,
        signer: document.signer.clone(),
        document: digest,
        signature,
        by: person::operator(),
    };
    let blobs = vec![(digest, bytes), (signature, armored.to_vec())];
    notices::append(project, store, vec![notice], blobs).await.map(drop)
}

/// Keeps a decision and its signature in the project, once it is certain that it is the signer's.
pub(crate) fn keep(folder: &Path, document: &Approval, armored: &[u8], staff: &Staff) -> Result<PathBuf, Failure> {
    let bytes = document.bytes();
    let refused = |why: String| {
        Failure::new("RB0727", REFUSED, format!("the signature does not count: {why}"))
            .next("`runbook people list` shows whose keys are known; `people.yaml` says which")
    };
    let signed = policy::signed(&bytes, armored).map_err(refused)?;
    // It becomes part of a file's name.
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if document.runbook.is_empty() || !document.runbook.bytes().all(plain) {
        return Err(refused("no runbook is called like the one that it names".to_owned()));
    }
    let owner = staff.people.with_key(&signed.key).map(|(id, _)| id);
    if owner != Some(document.signer.as_str()) {
        return Err(refused(match owner {
            None => "the key that signed it is nobody's in people.yaml".to_owned(),
            Some(owner) => format!("it says that it is {}'s, and {owner}'s key signed it", document.signer),
        }));
    }
    let name =
        format!("{}-{}-{}.json", document.runbook, document.signer, Sha256::of(&bytes).to_string().split_at(12).0);
    let path = folder.join(name);
    std::fs::create_dir_all(folder).map_err(|error| Failure::file("RB0724", "made", folder, &error))?;
    // The signature first: a document without one is a decision that somebody might still sign.
    for (path, content) in [(policy::signature_of(&path), armored), (path.clone(), &bytes)] {
        match std::fs::read(&path) {
            Ok(there) if there == content => {}
            _ => keys::replace(&path, 0o644, content)
                .map_err(|error| Failure::file("RB0724", "written", &path, &error))?,
        }
    }
    Ok(path)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
