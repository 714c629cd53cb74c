//! Jira's fields, dates and failures, on a double that a third party's client takes for one.

use std::time::Duration;

use runbook_model::ticket::Approval;
use runbook_ports::tickets::{Attachment, End, Entry, TicketError};
use runbook_ports::{SecretBytes, Tickets as _};
use runbook_testkit::double::Double;
use runbook_tickets::{Fields, Jira, Login, Moves, Site};
use runbook_wire::Tls;
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(20);

fn seed() -> Value {
    let comments: Vec<Value> = (0..7).map(|n| json!({"author": "ana", "body": format!("comment {n}")})).collect();
    json!({
        "accounts": {"runbook": "an API token"}, "tokens": {"a-token": "runbook"}, "page": 3, "hours": -5,
        "users": {"ana": {"displayName": "Ana Lima"}, "runbook": {"displayName": "Runbook"}},
        "fields": [
            {"id": "customfield_1", "name": "Start", "type": "datetime"}, {"id": "customfield_2", "name": "End", "type": "datetime"},
            {"id": "customfield_3", "name": "CUI", "type": "option", "allowed": ["Yes", "No"]},
            {"id": "customfield_4", "name": "Day", "type": "date"}
        ],
        "statuses": {"Waiting": "new", "Approved": "new", "Declined": "done", "Implementing": "indeterminate", "Done": "done"},
        "workflow": {
            "Waiting": [{"id": "11", "name": "Approve", "to": "Approved"}],
            "Approved": [{"id": "21", "name": "Implement", "to": "Implementing"}],
            "Implementing": [{"id": "31", "name": "Done", "to": "Done"}]
        },
        "issues": [
            {"key": "OPS-1", "status": "Approved", "comments": comments, "fields": {
                "summary": "Patches", "assignee": "ana", "labels": ["fs01", "fs02"], "customfield_3": "Yes",
                "customfield_1": "2026-12-08T22:00:00.000-0500", "customfield_2": "2026-12-09T02:00:00.000-0500",
                "customfield_4": "2026-12-08"}},
            {"key": "OPS-2", "status": "Waiting", "fields": {"summary": "Backwards",
                "customfield_1": "2026-12-08T22:00:00.000-0500", "customfield_2": "2026-12-08T21:00:00.000-0500"}},
            {"key": "OPS-3", "status": "Declined", "fields": {"summary": "No"}}
        ]
    })
}

fn system(double: &Double, login: Login<SecretBytes>) -> Jira {
    let name = |text: &str| Some(text.to_owned());
    Jira {
        site: Site {
            name: "jira".into(),
            address: double.url().parse().unwrap(),
            tls: Tls { ca: None, client: None },
            login,
        },
        fields: Fields {
            approved: vec!["Approved".into(), "Implementing".into()],
            rejected: vec!["Declined".into()],
            closed: Vec::new(),
            starts: name("customfield_1"),
            ends: name("customfield_2"),
            assets: name("labels"),
            cui: name("customfield_3"),
            moves: Moves { begun: name("Implementing"), done: name("Done"), failed: None },
        },
    }
}

fn ended<'a>(id: &'a str, attachments: &'a [Attachment<'a>]) -> Entry<'a> {
    let end = End { ended_ms: 1, succeeded: true, settled: true, summary: "done", attachments };
    Entry { id, text: "done", started_ms: 0, end: Some(end) }
}

fn count(double: &Double, what: &str) -> usize {
    double.tell(&json!({"do": what, "key": "OPS-1"})).as_array().unwrap().len()
}

#[tokio::test]
async fn fields_and_dates_are_read_as_the_settings_name_them() {
    let Some(double) = Double::start("jira", &seed()) else { return };
    for login in [Login::Basic("runbook".into(), "an API token".into()), Login::Bearer("a-token".into())] {
        let (change, _) = system(&double, login).read("OPS-1", WITHIN).await.unwrap();
        assert_eq!((change.starts_ms, change.ends_ms), (Some(1_796_785_200_000), Some(1_796_799_600_000)));
        assert_eq!(change.assets.iter().map(String::as_str).collect::<Vec<_>>(), ["fs01", "fs02"]);
        assert_eq!((change.owner.as_deref(), change.cui, change.closed), (Some("Ana Lima"), Some(true), false));
    }
    let mut jira = system(&double, Login::Bearer("a-token".into()));
    let backwards = jira.read("OPS-2", WITHIN).await.unwrap_err();
    assert!(backwards.to_string().contains("is to be over before it begins"), "{backwards}");
    let (declined, _) = jira.read("OPS-3", WITHIN).await.unwrap();
    assert_eq!((declined.approval, declined.closed, declined.starts_ms), (Approval::Rejected, true, None));
    jira.fields.starts = Some("customfield_4".into());
    let day = jira.read("OPS-1", WITHIN).await.unwrap_err();
    assert!(matches!(&day, TicketError::Never(why) if why.contains("is no moment with an offset")), "{day}");
    jira.fields.starts = Some("customfield_9".into());
    let missing = jira.read("OPS-1", WITHIN).await.unwrap_err();
    assert!(missing.to_string().contains("has no field customfield_9"), "{missing}");
    assert!(jira.reach(WITHIN).await.unwrap().contains("Runbook"));
}

#[tokio::test]
async fn refusals_are_told_apart_and_hold_no_secret() {
    let Some(double) = Double::start("jira", &seed()) else { return };
    let wrong = system(&double, Login::Bearer("another-token".into())).read("OPS-1", WITHIN).await.unwrap_err();
    assert!(
        matches!(&wrong, TicketError::Later { why, .. } if why.contains("401") && !why.contains("another")),
        "{wrong}"
    );
    let jira = system(&double, Login::Bearer("a-token".into()));
    assert!(matches!(jira.read("OPS-77", WITHIN).await, Err(TicketError::Missing(_))));
    double.misbehave(json!({"fault": "status", "status": 429, "retry_after": 30, "times": 1}));
    assert!(matches!(jira.read("OPS-1", WITHIN).await, Err(TicketError::Later { after_ms: Some(30_000), .. })));
    for fault in ["malformed", "html", "empty"] {
        double.misbehave(json!({"fault": fault, "times": 1}));
        assert!(matches!(jira.read("OPS-1", WITHIN).await, Err(TicketError::Never(_))), "{fault}");
    }
}

#[tokio::test]
async fn an_entry_is_found_on_whatever_page_it_is_and_nothing_is_there_twice_after_a_loss() {
    let Some(double) = Double::start("jira", &seed()) else { return };
    let jira = system(&double, Login::Bearer("a-token".into()));
    let before = count(&double, "comments");
    let begun = Entry { id: "run-1/started", text: "begun", started_ms: 0, end: None };
    assert_eq!(jira.write("OPS-1", begun, WITHIN).await.unwrap().answer, "commented, now Implementing");
    let files = [Attachment { name: "report.html", media_type: "text/html", bytes: b"<p>" }];
    for good in 0..40 {
        double.misbehave(json!({"fault": "close", "after": good, "times": 1}));
        let written = jira.write("OPS-1", ended("run-1/ended", &files), WITHIN).await;
        double.behave();
        if written.is_ok() {
            break;
        }
    }
    assert_eq!(jira.write("OPS-1", ended("run-1/ended", &files), WITHIN).await.unwrap().answer, "all of it was there");
    assert_eq!((count(&double, "comments"), count(&double, "attachments")), (before + 2, 1), "before: {before}");
    // A list that never ends: whether the entry is there is not known, so it is not written.
    double.misbehave(json!({"fault": "repeat"}));
    let endless = jira.write("OPS-1", ended("run-2/ended", &[]), WITHIN).await.unwrap_err();
    double.behave();
    assert!(matches!(&endless, TicketError::Never(why) if why.contains("another page")), "{endless}");
    assert_eq!(count(&double, "comments"), before + 2);
}

#[tokio::test]
async fn a_jira_that_says_done_and_did_not_is_not_believed() {
    let Some(double) = Double::start("jira", &seed()) else { return };
    let jira = system(&double, Login::Bearer("a-token".into()));
    double.misbehave(json!({"fault": "stale", "path": "/rest/api/2/issue/OPS-1/transitions", "method": "POST"}));
    let begun = Entry { id: "run-1/started", text: "begun", started_ms: 0, end: None };
    let found = jira.write("OPS-1", begun, WITHIN).await.unwrap_err();
    assert!(matches!(&found, TicketError::Later { why, .. } if why.contains("still is Approved")), "{found}");
    double.behave();
    // Somebody moved it on meanwhile: what is offered now decides.
    double.tell(&json!({"do": "set", "key": "OPS-1", "status": "Done", "fields": {}}));
    let found = jira.write("OPS-1", begun, WITHIN).await.unwrap_err();
    assert!(found.to_string().contains("it offers nothing"), "{found}");
}
