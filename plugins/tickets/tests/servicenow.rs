//! ServiceNow, on a double that a third party's client takes for one (`tests/testkit/tests/doubles.rs`).

use std::time::Duration;

use runbook_model::ticket::Approval;
use runbook_ports::tickets::{Attachment, End, Entry, TicketError};
use runbook_ports::{SecretBytes, Tickets as _};
use runbook_testkit::double::Double;
use runbook_tickets::{Login, Moves, ServiceNow, Site};
use runbook_wire::Tls;
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(20);
const STARTED_MS: u64 = 1_796_785_200_000;

fn seed() -> Value {
    json!({
        "accounts": {"runbook": "a secret of ServiceNow"}, "tokens": {"a-token": "runbook"}, "page": 2,
        // The account is shown times five hours behind: what is believed is UTC all the same.
        "display_hours": -5,
        "references": {
            "change_request": {"assigned_to": "sys_user", "cmdb_ci": "cmdb_ci_server"}, "task_ci": {"ci_item": "cmdb_ci_server"}
        },
        "choices": {"change_request": {"state": {"-2": "Scheduled", "-1": "Implement", "0": "Review", "3": "Closed"}}},
        "tables": {
            "sys_user": [{"sys_id": "u1", "name": "Jane Doe"}],
            "cmdb_ci_server": [{"sys_id": "s1", "name": "fs01"}, {"sys_id": "s2", "name": "fs02"},
                               {"sys_id": "s3", "name": "fs03"}, {"sys_id": "s4", "name": "fs04"}],
            "task_ci": [{"task": "c1", "ci_item": "s2"}, {"task": "c1", "ci_item": "s3"}, {"task": "c1", "ci_item": "s4"},
                        {"task": "c2", "ci_item": "s1"}],
            "change_request": [
                {"sys_id": "c1", "number": "CHG0030001", "short_description": "Patches", "state": "-2", "approval": "approved",
                 "active": "true", "assigned_to": "u1", "cmdb_ci": "s1", "u_cui": "true",
                 "start_date": "2026-12-09 03:00:00", "end_date": "2026-12-09 07:00:00"},
                {"sys_id": "c2", "number": "CHG0030002", "state": "-2", "approval": "requested", "u_cui": ""},
                {"sys_id": "c3", "number": "CHG0030003", "state": "3", "approval": "approved", "u_cui": ""},
                {"sys_id": "c4", "number": "CHG0030004", "state": "-2", "approval": "rejected", "u_cui": "",
                 "start_date": "2026-12-09 03:00:00", "end_date": "2026-12-09 02:00:00"},
                {"sys_id": "c5", "number": "CHG0030005", "state": "-2", "u_cui": "", "start_date": "09/12/2026 03:00"},
                {"sys_id": "c6", "number": "CHG0030006", "state": "-2", "approval": "rejected", "u_cui": ""},
            ],
        },
    })
}

fn system(double: &Double, login: Login<SecretBytes>) -> ServiceNow {
    let site = Site {
        name: "itsm".into(),
        address: double.url().parse().unwrap(),
        tls: Tls { ca: None, client: None },
        login,
    };
    ServiceNow {
        site,
        cui: Some("u_cui".into()),
        moves: Moves { begun: Some("-1".into()), done: Some("0".into()), failed: Some("0".into()) },
    }
}

fn basic() -> Login<SecretBytes> {
    Login::Basic("runbook".into(), "a secret of ServiceNow".into())
}

fn entry<'a>(id: &'a str, text: &'a str, end: Option<End<'a>>) -> Entry<'a> {
    Entry { id, text, started_ms: STARTED_MS, end }
}

fn end<'a>(succeeded: bool, settled: bool, attachments: &'a [Attachment<'a>]) -> End<'a> {
    End {
        ended_ms: STARTED_MS + 600_000,
        succeeded,
        settled,
        summary: "patch on 2 hosts: done and verified",
        attachments,
    }
}

fn changes(double: &Double) -> Value {
    double.tell(&json!({"do": "table", "table": "change_request"}))
}

#[tokio::test]
async fn a_change_is_read_with_its_approval_its_dates_in_utc_and_all_its_hosts() {
    let Some(double) = Double::start("servicenow", &seed()) else { return };
    for login in [basic(), Login::Bearer("a-token".into())] {
        let system = system(&double, login);
        let (change, said) = system.read("CHG0030001", WITHIN).await.unwrap();
        assert_eq!((change.state.as_str(), change.approval, change.closed), ("Scheduled", Approval::Approved, false));
        assert_eq!((change.starts_ms, change.ends_ms), (Some(STARTED_MS), Some(STARTED_MS + 4 * 3_600_000)));
        assert_eq!(change.assets.iter().map(String::as_str).collect::<Vec<_>>(), ["fs01", "fs02", "fs03", "fs04"]);
        assert_eq!((change.owner.as_deref(), change.cui), (Some("Jane Doe"), Some(true)));
        assert!(String::from_utf8(said).unwrap().contains("CHG0030001"), "its own words are kept");
    }
    let system = system(&double, basic());
    let approval = async |ticket| system.read(ticket, WITHIN).await.map(|(change, _)| (change.approval, change.closed));
    assert_eq!(approval("CHG0030002").await, Ok((Approval::Awaited, false)));
    assert_eq!(approval("CHG0030003").await, Ok((Approval::Approved, true)));
    assert_eq!(approval("CHG0030006").await, Ok((Approval::Rejected, false)));
    assert!(system.reach(WITHIN).await.unwrap().contains("lets us in"));
}

#[tokio::test]
async fn what_is_not_known_is_an_error_and_never_an_empty_ticket() {
    let Some(double) = Double::start("servicenow", &seed()) else { return };
    let system = system(&double, basic());
    let why = async |ticket: &str| system.read(ticket, WITHIN).await.unwrap_err();
    assert!(matches!(why("CHG9").await, TicketError::Missing(_)));
    assert!(matches!(why("CHG1^ORnumber=CHG0030001").await, TicketError::Missing(_)), "it is no query");
    for (ticket, told) in [("CHG0030004", "is to be over before it begins"), ("CHG0030005", "is no moment")] {
        let found = why(ticket).await;
        assert!(matches!(&found, TicketError::Never(why) if why.contains(told)), "{found}");
    }
    for (fault, later) in [
        (json!({"fault": "status", "status": 401}), true),
        (json!({"fault": "status", "status": 403}), true),
        (json!({"fault": "status", "status": 500}), true),
        (json!({"fault": "status", "status": 502, "value": {"echo": "a secret of ServiceNow"}}), true),
        (json!({"fault": "status", "status": 200, "value": {"echo": "a secret of ServiceNow"}}), false),
        (json!({"fault": "truncated"}), true),
        (json!({"fault": "close"}), true),
        (json!({"fault": "malformed"}), false),
        (json!({"fault": "html"}), false),
        (json!({"fault": "empty"}), false),
        (json!({"fault": "huge", "bytes": 9 << 20}), false),
        (json!({"fault": "redirect", "to": "http://203.0.113.1/"}), false),
    ] {
        double.misbehave(fault.clone());
        let found = why("CHG0030001").await;
        double.behave();
        assert_eq!(matches!(found, TicketError::Later { .. }), later, "{fault}: {found}");
        assert!(!found.to_string().contains("a secret of ServiceNow"), "{found}");
    }
    double.misbehave(json!({"fault": "status", "status": 429, "retry_after": 7}));
    assert!(matches!(why("CHG0030001").await, TicketError::Later { after_ms: Some(7_000), .. }));
    double.behave();
    double.misbehave(json!({"fault": "hang", "seconds": 5}));
    let slow = system.read("CHG0030001", Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(&slow, TicketError::Later { why, .. } if why.contains("did not answer within")), "{slow}");
}

#[tokio::test]
async fn what_is_written_is_there_once_with_times_outcome_and_report() {
    let Some(double) = Double::start("servicenow", &seed()) else { return };
    let system = system(&double, basic());
    let begun = entry("run-1/started", "begun by ben\u{1b}[2J", None);
    let written = system.write("CHG0030001", begun, WITHIN).await.unwrap();
    assert_eq!(written.answer, "noted, set work_start, now in state -1");
    let report = [Attachment { name: "report-run-1.html", media_type: "text/html", bytes: b"<p>the report</p>" }];
    let ended = entry("run-1/ended", "done\nplan 00ff", Some(end(true, true, &report)));
    for answer in [
        "noted, attached report-run-1.html, set close_code, close_notes, work_end, now in state 0",
        "all of it was there",
    ] {
        assert_eq!(system.write("CHG0030001", ended, WITHIN).await.unwrap().answer, answer);
    }
    let again = system.write("CHG0030001", begun, WITHIN).await.unwrap().answer;
    assert_eq!(again, "now in state -1", "the beginning is told before the end, and once");
    let change = changes(&double)[0].clone();
    for (name, value) in [
        ("work_start", "2026-12-09 03:00:00"),
        ("work_end", "2026-12-09 03:10:00"),
        ("close_code", "successful"),
        ("close_notes", "patch on 2 hosts: done and verified"),
    ] {
        assert_eq!(change[name], value, "{name}");
    }
    let notes = double.tell(&json!({"do": "journal"}));
    let notes: Vec<&str> = notes.as_array().unwrap().iter().map(|note| note["value"].as_str().unwrap()).collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].ends_with("[runbook run-1/started]") && !notes[0].contains('\u{1b}'));
    assert!(notes[1].contains("plan 00ff"));
    let files = double.tell(&json!({"do": "attachments"}));
    assert_eq!((files.as_array().unwrap().len(), &files[0]["content_type"]), (1, &json!("text/html")));
}

#[tokio::test]
async fn a_write_that_broke_off_is_gone_on_with_and_nothing_is_there_twice() {
    let Some(double) = Double::start("servicenow", &seed()) else { return };
    let system = system(&double, basic());
    let report = [Attachment { name: "report.html", media_type: "text/html", bytes: b"x" }];
    let ended = entry("run-2/ended", "done", Some(end(false, true, &report)));
    // After each number of good answers the next one is lost.
    for good in 0..40 {
        double.misbehave(json!({"fault": "close", "after": good, "times": 1}));
        let written = system.write("CHG0030001", ended, WITHIN).await;
        double.behave();
        if written.is_ok() {
            assert!(good > 3, "every request of a write can be lost");
            break;
        }
    }
    system.write("CHG0030001", ended, WITHIN).await.unwrap();
    assert_eq!(double.tell(&json!({"do": "journal"})).as_array().unwrap().len(), 1);
    assert_eq!(double.tell(&json!({"do": "attachments"})).as_array().unwrap().len(), 1);
    assert_eq!(changes(&double)[0]["close_code"], "unsuccessful");
}

#[tokio::test]
async fn an_instance_that_says_done_and_did_not_is_not_believed() {
    let Some(double) = Double::start("servicenow", &seed()) else { return };
    let system = system(&double, basic());
    double.misbehave(json!({"fault": "stale", "method": "PATCH"}));
    let found = system.write("CHG0030001", entry("run-3/ended", "done", Some(end(true, true, &[]))), WITHIN).await;
    assert!(matches!(&found, Err(TicketError::Later { why, .. }) if why.contains("is not there")), "{found:?}");
    double.behave();
    // Somebody has to look: the change stays where it is, and is told.
    let failed = entry("run-4/ended", "changes may remain", Some(end(false, false, &[])));
    system.write("CHG0030001", failed, WITHIN).await.unwrap();
    let change = changes(&double)[0].clone();
    assert_eq!((&change["state"], &change["close_code"]), (&json!("-2"), &Value::Null));
    assert_eq!(change["work_end"], "2026-12-09 03:10:00");
}
