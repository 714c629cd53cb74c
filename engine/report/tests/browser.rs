//! The report for people in a real browser: everybody can read it, on every screen, and it asks nobody for anything.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod sample;

use runbook_model::event::{Event, Person};
use runbook_model::outcome::{Ended, KilledBy, Obstacle, ObstacleKind};
use runbook_model::{AttemptId, AttemptOutcome, Cell, HostOutcome, Phase, Sha256};
use runbook_report::RunView;
use runbook_report::html::{self, Contents, Verification};
use runbook_report::json::{Attachments, LedgerHead};
use runbook_report::objectives::Revision;
use runbook_testkit::browser::{self, Browser};
use sample::{Writer, taken_back};

/// What one of the hosts printed, and would like to be.
const HOSTILE: &[u8] =
    b"<script>document.title='taken'</script><img src=http://192.0.2.1/x>\x1b[2J\xe2\x80\xae&\"'>\r\n";

/// A run in which everything happened that can be shown.
fn many_states() -> RunView {
    let mut run = taken_back();
    run.records.pop();
    let names =
        ["fs03", "fs04", "fs05", "fs06", "fs07-with-a-name-that-is-far-longer-than-any-screen-is-wide.example.org"];
    let mut plan = sample::plan(&[&["fs01"], &["fs02"], &names]);
    plan.runbook.controls = vec!["MA.L2-3.7.2".into(), "CM.L2-3.4.3".into()];
    plan.parameters.insert("packages".into(), serde_json::json!(["samba", "<b>bold</b>"]));
    run.plan = plan.into();
    let by = |name: &str| Person { name: name.into(), uid: 1001, from: Some("192.0.2.9".into()) };
    let attempt = |host: &str, step: &str| AttemptId {
        run: sample::RUN.into(),
        host: host.into(),
        step: step.into(),
        attempt: 1,
    };
    let report = |run: &Writer| {
        let mut other = Writer::new(&[&["fs01"]]);
        other.start("fs01", "upgrade", 1).exit("fs01", "upgrade", 1, 1, "said\n");
        let Event::AttemptEnded { mut report, .. } = other.records.pop().unwrap().event else { panic!("it ended") };
        (report.started_ms, report.ended_ms) = (run.now, run.now + 1_500);
        report
    };
    run.good_host("fs03");
    // Lost, unknown, settled by a person.
    run.until_upgrade("fs04");
    let deadline_ms = run.now + 600_000;
    let reason = "the connection broke";
    run.put(Event::AttemptLost {
        attempt: attempt("fs04", "upgrade"),
        reason: reason.into(),
        deadline_ms,
        not_begun: false,
    });
    let mut unknown = report(&run);
    unknown.ended = Ended::Unknown { reason: "it did not come back".into() };
    let outcome = AttemptOutcome::Unknown;
    run.put(Event::AttemptEnded { attempt: attempt("fs04", "upgrade"), outcome, report: unknown });
    run.end("fs04", "upgrade", outcome, "it did not come back").host_ended("fs04", HostOutcome::Unknown, "upgrade");
    run.put(Event::RunSuspended { outcome: HostOutcome::Unknown }).put(Event::RunResumed {
        by: by("ben"),
        permit: None,
        break_glass: None,
        on: None,
    });
    let cell = Cell { host: "fs04".into(), step: "upgrade".into() };
    run.put(Event::StepResolved { cell, succeeded: false, why: "looked at dpkg.log".into(), by: by("ben") });
    // Ended by its timeout, with more output than is kept, and stuck.
    run.until_upgrade("fs05");
    let mut late = report(&run);
    late.ended = Ended::Killed { by: KilledBy::Timeout };
    late.stdout = late.stderr.clone();
    (late.stdout.truncated, late.stdout.bytes, late.stdout.masked) = (true, 9 << 20, 2);
    let outcome = AttemptOutcome::TimedOut;
    run.put(Event::AttemptEnded { attempt: attempt("fs05", "upgrade"), outcome, report: late });
    run.end("fs05", "upgrade", outcome, "it took too long");
    run.phase_because("fs05", Phase::Rollback, Some("upgrade timed out"));
    run.start("fs05", "upgrade.undo", 1).exit("fs05", "upgrade.undo", 1, 2, "cannot\n");
    run.end("fs05", "upgrade.undo", AttemptOutcome::Failed, "exit code 2, expected 0");
    run.host_ended("fs05", HostOutcome::Stuck, "upgrade.undo failed");
    // Refused at the door.
    let obstacle = Obstacle { kind: ObstacleKind::HostKey, message: "the host key is not the one on file".into() };
    run.put(Event::HostStarted { host: "fs06".into(), begun_ms: None })
        .put(Event::SessionFailed { host: "fs06".into(), obstacle });
    run.host_ended("fs06", HostOutcome::Blocked, "the host key is not the one on file");
    // Skipped steps, changes, then cancelled in the middle.
    let host = names[4];
    run.connect(host).phase(host, Phase::Prechecks);
    run.end(host, "disk-free", AttemptOutcome::Skipped, "when: `host.vars.disk` is false");
    run.phase(host, Phase::Execute).good(host, "upgrade");
    let subject = runbook_model::command::Subject::After { step: "upgrade".into() };
    let changes = Some(Sha256::of(b"changes"));
    run.put(Event::Measured { host: host.into(), subject, manifest: None, changes, obstacle: None });
    run.start(host, "restart", 1);
    run.put(Event::CancelAsked { by: by("cleo") }).host_ended(host, HostOutcome::Cancelled, "the run was cancelled");
    run.run_ended(HostOutcome::Stuck);
    let Event::RunOpened(header) = &mut run.records[0].event else { panic!("it begins with its opening") };
    header.clock.synchronised = Some(false);
    run.view()
}

fn page(view: &RunView) -> String {
    let verification = Verification {
        verdict: "incomplete".into(),
        code: 12,
        problems: vec!["record 117: it is not what was signed".into()],
        checked: vec!["14 records are whole".into()],
        not_checked: vec!["whether the key is the right one".into()],
        ledger_key: Some("runbook/example+deadbeef+AWVlZQ==".into()),
        how: None,
        receipts: sample::receipts(),
    };
    let before = serde_json::json!({"kind": "file", "mode": "0644", "owner": "root", "group": "root", "bytes": 20,
        "sha256": Sha256::of(b"before")});
    let list = serde_json::json!([
        {"path": "/etc/samba/smb.conf", "before": before, "after": null},
        {"path": format!("/srv/{}", "deep/".repeat(60)), "before": null, "after": before},
    ]);
    let mut attachments =
        Attachments { ledger: Some(LedgerHead { size: 14, root: "0".repeat(64) }), ..Attachments::default() };
    attachments.changes.insert(Sha256::of(b"changes"), serde_json::from_value(list).unwrap());
    attachments.anchors = sample::anchors();
    attachments.redactions = sample::redactions();
    let mut page = html::head(view, &attachments, &verification);
    for (name, host) in &view.hosts {
        let mut contents: Contents =
            html::contents_of(host).into_iter().map(|digest| (digest, HOSTILE.to_vec())).collect();
        contents.insert(Sha256::of(b"upgrade"), format!("echo needle-{name}\n").repeat(60).into_bytes());
        page.push_str(&html::host(view, &attachments, name, host, &contents));
    }
    page.push_str(&html::tail(view, &attachments, &verification, Revision::R2));
    page
}

fn written(html: &str) -> (tempfile::NamedTempFile, String) {
    let file = tempfile::Builder::new().suffix(".html").tempfile().unwrap();
    std::fs::write(file.path(), html).unwrap();
    let url = format!("file://{}", file.path().display());
    (file, url)
}

#[test]
fn axe_finds_nothing_on_any_screen_in_light_or_dark() {
    if !browser::require() {
        return;
    }
    let (_file, url) = written(&page(&many_states()));
    let mut browser = Browser::start();
    browser.open(&url);
    // Each look takes seconds: every colour and every width once, most of it with all steps open.
    for (width, dark, open) in [(1280, false, true), (360, true, true), (360, false, false)] {
        browser.look(width, 900, dark);
        browser.evaluate(&format!("document.querySelectorAll('details').forEach(d => d.open = {open})"));
        let wrong = browser.axe();
        assert!(wrong.is_empty(), "{width} px, dark {dark}, open {open}:\n{}", wrong.join("\n"));
        let wide = browser.evaluate("document.documentElement.scrollWidth");
        assert!(wide.as_u64().unwrap() <= u64::from(width), "{wide} px wide on a screen of {width}");
    }
}

#[test]
fn axe_and_the_list_of_requests_see_a_bad_page() {
    if !browser::require() {
        return;
    }
    let (_file, url) = written(
        "<!doctype html><title>x</title><p style='color:#ccc;background:#fff'>pale</p><img src='http://192.0.2.1/x.png'>",
    );
    let mut browser = Browser::start();
    browser.open(&url);
    let wrong = browser.axe().join("\n");
    for rule in ["color-contrast", "html-has-lang", "image-alt"] {
        assert!(wrong.contains(rule), "{wrong}");
    }
    assert_eq!(browser.requests(), [url.as_str(), "http://192.0.2.1/x.png"]);
}

#[test]
fn no_request_leaves_the_page_whatever_a_host_printed() {
    if !browser::require() {
        return;
    }
    let (_file, url) = written(&page(&many_states()));
    let mut browser = Browser::start();
    browser.open(&url);
    browser.evaluate("document.getElementById('open').click()");
    // Neither what a host printed, nor a script that got in after all.
    browser.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=http://192.0.2.1/x>')");
    let refused = browser.evaluate("fetch('http://192.0.2.1/y').then(() => 'it went out', () => 'refused')");
    assert_eq!(refused, "refused");
    assert_eq!(browser.evaluate("document.title.includes('taken')"), false);
    let asked: Vec<String> = browser.requests().into_iter().filter(|asked| *asked != url).collect();
    let blocked = browser.blocked();
    for request in &asked {
        assert!(blocked.contains(request), "{request} left the page");
    }
}

#[test]
fn steps_can_be_searched_and_a_link_opens_what_it_leads_to() {
    if !browser::require() {
        return;
    }
    let (_file, url) = written(&page(&many_states()));
    let mut browser = Browser::start();
    browser.open(&url);
    let shown = "[...document.querySelectorAll('details[data-step]')].filter(d => d.checkVisibility()).length";
    let all = browser.evaluate(shown).as_u64().unwrap();
    let search = |text: &str| {
        format!(
            "var f = document.getElementById('find'); f.value = '{text}'; f.dispatchEvent(new Event('input')); document.getElementById('found').textContent"
        )
    };
    let said = browser.evaluate(&search("needle-fs04 UPGRADE"));
    assert_eq!(said, format!("1 of {all} steps"));
    assert_eq!(browser.evaluate(shown), 1);
    // A link into what the search hides shows it again, open.
    browser.evaluate("document.querySelector('.matrix td a[href$=fs05--upgrade]').click()");
    browser.evaluate("new Promise(done => setTimeout(done, 100))");
    assert_eq!(browser.evaluate("document.getElementById('h-fs05--upgrade').open"), true);
    assert_eq!(browser.evaluate(shown), all);
    let record = browser.evaluate("document.querySelector('#h-fs04--upgrade .seq').id");
    browser.evaluate(&format!("location.hash = '{}'", record.as_str().unwrap()));
    browser.evaluate("new Promise(done => setTimeout(done, 100))");
    assert_eq!(browser.evaluate("document.getElementById('h-fs04--upgrade').open"), true);
}
