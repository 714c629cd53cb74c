//! Trello, on a double that a third party's client takes for it.

use std::time::Duration;

use runbook_model::ticket::Approval;
use runbook_ports::Tickets as _;
use runbook_ports::tickets::{Attachment, End, Entry, TicketError};
use runbook_testkit::double::Double;
use runbook_tickets::{Fields, Login, Moves, Site, Trello};
use runbook_wire::Tls;
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(20);

fn seed() -> Value {
    let comments: Vec<Value> = (0..7).map(|n| json!({"member": "ana", "text": format!("comment {n}")})).collect();
    json!({
        "keys": ["a-key"], "tokens": {"a-token": "runbook"}, "page": 3,
        "members": {"ana": "Ana Lima", "runbook": "Runbook"},
        "boards": [{"name": "Changes", "lists": ["Waiting", "Ready", "Doing", "Done", "Backed out", "Declined"],
                    "members": ["ana", "runbook"]}],
        "cards": [
            {"shortLink": "Abcd1234", "name": "Patches", "board": "Changes", "list": "Ready", "members": ["ana"],
             "labels": ["CUI", "urgent"], "start": "2026-12-09T03:00:00.000Z", "due": "2026-12-09T07:00:00.000Z",
             "comments": comments, "checklists": [
                {"name": "Hosts", "items": [{"name": "fs01", "state": "incomplete"}, {"name": "fs02", "state": "complete"}]},
                {"name": "Tell people", "items": [{"name": "users", "state": "incomplete"}]}]},
            {"shortLink": "Efgh5678", "name": "No", "board": "Changes", "list": "Declined",
             "start": "2026-12-09T03:00:00.000Z", "due": "2026-12-09T03:00:00.000Z"},
            {"shortLink": "Ijkl9012", "name": "Later", "board": "Changes", "list": "Waiting"}
        ]
    })
}

fn system(double: &Double, token: &str) -> Trello {
    let name = |text: &str| Some(text.to_owned());
    Trello {
        site: Site {
            name: "board".into(),
            address: double.url().parse().unwrap(),
            tls: Tls { ca: None, client: None },
            login: Login::Keys("a-key".into(), token.into()),
        },
        fields: Fields {
            approved: vec!["Ready".into(), "Doing".into()],
            rejected: vec!["Declined".into()],
            closed: vec!["Done".into(), "Backed out".into()],
            assets: name("hosts"),
            moves: Moves { begun: name("Doing"), done: name("Done"), failed: name("Backed out") },
            ..Fields::default()
        },
        cui: "CUI".into(),
    }
}

fn count(double: &Double, what: &str) -> usize {
    double.tell(&json!({"do": what, "card": "Abcd1234"})).as_array().unwrap().len()
}

#[tokio::test]
async fn a_card_is_read_with_its_list_dates_label_and_checklist() {
    let Some(double) = Double::start("trello", &seed()) else { return };
    let trello = system(&double, "a-token");
    let (change, said) = trello.read("Abcd1234", WITHIN).await.unwrap();
    assert_eq!((change.state.as_str(), change.approval, change.closed), ("Ready", Approval::Approved, false));
    assert_eq!((change.starts_ms, change.ends_ms), (Some(1_796_785_200_000), Some(1_796_799_600_000)));
    assert_eq!(change.assets.iter().map(String::as_str).collect::<Vec<_>>(), ["fs01", "fs02"]);
    assert_eq!((change.owner.as_deref(), change.cui), (Some("Ana Lima"), Some(true)));
    assert!(String::from_utf8(said).unwrap().contains("checkItems"), "both answers are kept");
    let backwards = trello.read("Efgh5678", WITHIN).await.unwrap_err();
    assert!(backwards.to_string().contains("is to be over before it begins"), "{backwards}");
    let (later, _) = trello.read("Ijkl9012", WITHIN).await.unwrap();
    assert_eq!((later.approval, later.starts_ms, later.cui), (Approval::Awaited, None, Some(false)));
    assert!(trello.reach(WITHIN).await.unwrap().contains("runbook"));
    let wrong = system(&double, "another-token").read("Abcd1234", WITHIN).await.unwrap_err();
    assert!(
        matches!(&wrong, TicketError::Later { why, .. } if why.contains("401") && !why.contains("another")),
        "{wrong}"
    );
    double.misbehave(json!({"fault": "status", "status": 429, "times": 1}));
    assert!(matches!(trello.read("Abcd1234", WITHIN).await, Err(TicketError::Later { after_ms: None, .. })));
    assert!(matches!(trello.read("Zzzz0000", WITHIN).await, Err(TicketError::Missing(_))));
}

#[tokio::test]
async fn a_card_is_moved_commented_and_given_the_report_once_whatever_is_lost() {
    let Some(double) = Double::start("trello", &seed()) else { return };
    let trello = system(&double, "a-token");
    let before = count(&double, "comments");
    let begun = Entry { id: "run-1/started", text: "begun ``` # by ben", started_ms: 0, end: None };
    assert_eq!(trello.write("Abcd1234", begun, WITHIN).await.unwrap().answer, "commented, now in Doing");
    assert_eq!(trello.write("Abcd1234", begun, WITHIN).await.unwrap().answer, "all of it was there");
    let files = [Attachment { name: "report.html", media_type: "text/html", bytes: b"<p>" }];
    let end = End { ended_ms: 1, succeeded: false, settled: true, summary: "taken back", attachments: &files };
    let ended = Entry { id: "run-1/ended", text: "taken back", started_ms: 0, end: Some(end) };
    for good in 0..40 {
        double.misbehave(json!({"fault": "close", "after": good, "times": 1}));
        let written = trello.write("Abcd1234", ended, WITHIN).await;
        double.behave();
        if written.is_ok() {
            break;
        }
    }
    assert_eq!(trello.write("Abcd1234", ended, WITHIN).await.unwrap().answer, "all of it was there");
    assert_eq!((count(&double, "comments"), count(&double, "attachments")), (before + 2, 1));
    double.misbehave(json!({"fault": "repeat"}));
    let again = Entry { id: "run-2/started", ..begun };
    let endless = trello.write("Abcd1234", again, WITHIN).await.unwrap_err();
    double.behave();
    assert!(endless.to_string().contains("the same page of comments again"), "{endless}");
    let comments = double.tell(&json!({"do": "comments", "card": "Abcd1234"})).to_string();
    assert!(comments.contains("begun ` ` ` # by ben"), "no text ends its block: {comments}");
    let (change, _) = trello.read("Abcd1234", WITHIN).await.unwrap();
    assert_eq!((change.state.as_str(), change.closed), ("Backed out", true));
}

#[tokio::test]
async fn lists_that_are_missing_and_moves_that_are_not_kept_are_said() {
    let Some(double) = Double::start("trello", &seed()) else { return };
    let mut trello = system(&double, "a-token");
    double.misbehave(json!({"fault": "stale", "method": "PUT"}));
    let begun = Entry { id: "run-1/started", text: "begun", started_ms: 0, end: None };
    let found = trello.write("Abcd1234", begun, WITHIN).await.unwrap_err();
    assert!(matches!(&found, TicketError::Later { why, .. } if why.contains("is not there")), "{found}");
    double.behave();
    trello.fields.moves.begun = Some("In work".into());
    let found = trello.write("Abcd1234", begun, WITHIN).await.unwrap_err();
    assert!(
        matches!(&found, TicketError::Never(why) if why.contains("has no list In work; it has Waiting")),
        "{found}"
    );
}
