//! Jira, on a server that a third party wrote after Jira Data Center 8.20.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use runbook_model::ticket::Approval;
use runbook_ports::Tickets as _;
use runbook_ports::tickets::{Attachment, End, Entry, TicketError};
use runbook_testkit::double::{judge, judges};
use runbook_tickets::{Fields, Jira, Login, Moves, Site};
use runbook_wire::Tls;
use tempfile::TempDir;

const WITHIN: Duration = Duration::from_secs(30);

/// The server, which ends with this.
struct Server {
    process: Child,
    url: String,
    _place: TempDir,
}

impl Server {
    async fn start(python: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let place = tempfile::tempdir().unwrap();
        let config = place.path().join("jira.yaml");
        std::fs::write(
            &config,
            "project_key: OPS\nstatuses:\n  - [Waiting for approval, todo, '1']\n  - [Approved, todo, '2']\n  - [Implementing, \
             inprogress, '3']\n  - [Done, done, '4']\n  - [Backed out, done, '5']\ntransition_scheme:\n  Waiting for approval: \
             [Approved]\n  Approved: [Implementing]\n  Implementing: [Done, Backed out]\n  Done: []\n  Backed out: []\n",
        )
        .unwrap();
        let process = Command::new(python.with_file_name("jira820"))
            .arg("serve")
            .env("JIRA820_PORT", port.to_string())
            .env("JIRA820_CONFIG", &config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { process, url: format!("http://127.0.0.1:{port}"), _place: place };
        // It says nowhere when it is ready; nothing else is there to wait for.
        let ready = async {
            while server.jira().reach(WITHIN).await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), ready).await.expect("jira820 answers");
        server
    }

    fn jira(&self) -> Jira {
        let state = |name: &str| Some(name.to_owned());
        Jira {
            site: Site {
                name: "jira".into(),
                address: self.url.parse().unwrap(),
                tls: Tls { ca: None, client: None },
                login: Login::Bearer("any".into()),
            },
            fields: Fields {
                approved: vec!["Approved".into(), "Implementing".into()],
                moves: Moves { begun: state("Implementing"), done: state("Done"), failed: state("Backed out") },
                ..Fields::default()
            },
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Makes an issue with the third party's own client, and moves it to `Approved` when it is wanted so. Gives its key.
const MAKE: &str = r#"
import sys
from jira import JIRA
client = JIRA(server=sys.argv[1], token_auth="any")
issue = client.create_issue(project="OPS", summary="Patches", issuetype={"name": "Task"})
while sys.argv[2] != "waiting" and str(client.issue(issue.key).fields.status) != "Approved":
    offered = {one["to"]["name"]: one["id"] for one in client.transitions(issue)}
    client.transition_issue(issue, offered["Approved"])
print(issue.key)
"#;

/// What the third party's client sees in the end.
const SEE: &str = r#"
import sys
from jira import JIRA
client = JIRA(server=sys.argv[1], token_auth="any")
issue = client.issue(sys.argv[2])
print(issue.fields.status)
for comment in client.comments(issue):
    print("comment", comment.body.replace("\n", "|"))
for attachment in issue.fields.attachment:
    print("attachment", attachment.filename, attachment.get().decode())
"#;

#[tokio::test]
async fn a_ticket_is_read_moved_commented_and_given_the_report_and_the_client_of_others_sees_it() {
    let Some(python) = judges() else { return };
    let server = Server::start(&python).await;
    let jira = server.jira();
    let make = |state: &str| judge(&python, MAKE, &[&server.url, state]).trim().to_owned();
    let waiting = make("waiting");
    let (change, _) = jira.read(&waiting, WITHIN).await.unwrap();
    assert_eq!((change.state.as_str(), change.approval), ("Waiting for approval", Approval::Awaited));
    let key = make("approved");
    let (change, said) = jira.read(&key, WITHIN).await.unwrap();
    assert_eq!((change.approval, change.closed, change.title.as_str()), (Approval::Approved, false, "Patches"));
    assert!(!said.is_empty() && !change.version.is_empty());
    assert!(matches!(jira.read("OPS-999999", WITHIN).await, Err(TicketError::Missing(_))));

    let begun = Entry { id: "run-1/started", text: "begun {noformat} by *ben*", started_ms: 0, end: None };
    assert_eq!(jira.write(&key, begun, WITHIN).await.unwrap().answer, "commented, now Implementing");
    assert_eq!(jira.write(&key, begun, WITHIN).await.unwrap().answer, "all of it was there");
    let files = [Attachment { name: "report-run-1.html", media_type: "text/html", bytes: b"<p>the report</p>" }];
    let end = End { ended_ms: 1, succeeded: true, settled: true, summary: "done", attachments: &files };
    let ended = Entry { id: "run-1/ended", text: "done; plan 00ff", started_ms: 0, end: Some(end) };
    assert_eq!(
        jira.write(&key, ended, WITHIN).await.unwrap().answer,
        "commented, attached report-run-1.html, now Done"
    );
    assert_eq!(jira.write(&key, ended, WITHIN).await.unwrap().answer, "all of it was there");
    let seen = judge(&python, SEE, &[&server.url, &key]);
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[0], "Done");
    assert_eq!(lines[1], "comment {noformat}|begun { noformat} by *ben*|[runbook run-1/started]|{noformat}");
    assert!(lines[2].contains("done; plan 00ff|[runbook run-1/ended]"), "{seen}");
    assert_eq!(lines[3..], ["attachment report-run-1.html <p>the report</p>"]);
    assert!(jira.read(&key, WITHIN).await.unwrap().0.closed);

    // A state from which no way leads there: said with those that there are, and the comment is there all the same.
    let end = End { succeeded: true, ..end };
    let early = Entry { id: "run-2/ended", text: "done", started_ms: 0, end: Some(End { attachments: &[], ..end }) };
    let found = jira.write(&waiting, early, WITHIN).await.unwrap_err();
    assert!(matches!(&found, TicketError::Never(why) if why.contains("it offers Approved")), "{found}");
    assert!(judge(&python, SEE, &[&server.url, &waiting]).contains("[runbook run-2/ended]"));
}
