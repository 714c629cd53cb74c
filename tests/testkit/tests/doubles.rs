//! The doubles of systems outside, judged by clients that others wrote for the real ones.

use std::process::Command;

use runbook_testkit::double::{Double, judge, judges};
use serde_json::{Value, json};

fn servicenow() -> Value {
    json!({
        "accounts": {"runbook": "a secret of ServiceNow"},
        "tokens": {"a-token": "runbook"},
        "page": 2,
        "display_hours": -5,
        "references": {"change_request": {"assigned_to": "sys_user"}, "cmdb_ci_server": {"owned_by": "sys_user"}},
        "choices": {"change_request": {"state": {"-2": "Scheduled", "-1": "Implement"}}},
        "tables": {
            "sys_user": [{"sys_id": "u1", "user_name": "ana", "name": "Ana Lima", "email": "ana@example.org"}],
            "change_request": [
                {"sys_id": "c1", "number": "CHG0030001", "state": "-2", "assigned_to": "u1",
                 "start_date": "2026-11-28 20:00:00", "end_date": "2026-11-28 23:00:00"},
                {"sys_id": "c2", "number": "CHG0030002", "state": "-1", "short_description": "a & b"},
                {"sys_id": "c3", "number": "CHG0030003", "state": "-1"}],
            "cmdb_ci_server": [{"sys_id": "s1", "name": "web1", "ip_address": "10.0.0.1", "owned_by": "u1"}],
        },
    })
}

const SERVICENOW: &str = r#"
import sys, tempfile
import pysnow, requests
from pysnow.exceptions import NoResults

host = sys.argv[1]
client = pysnow.Client(host=host, user="runbook", password="a secret of ServiceNow", use_ssl=False)
changes = client.resource(api_path="/table/change_request")

# Pages: this instance gives no more than two at a time, and says how many there are.
found = changes.get(query=pysnow.QueryBuilder().field("number").starts_with("CHG003"))
assert [one["number"] for one in found.all()] == ["CHG0030001", "CHG0030002"], found.all()
assert found.headers["X-Total-Count"] == "3"
found = changes.get(query={}, offset=2)
assert [one["number"] for one in found.all()] == ["CHG0030003"]
assert 'rel="next"' not in found.headers["Link"] and 'rel="first"' in found.headers["Link"]

# Conditions, order, fields, as a stream too.
builder = pysnow.QueryBuilder().field("state").equals("-1").AND().field("number").order_descending()
stream = changes.get(query=builder, fields=["number", "state"], stream=True)
assert [one for one in stream.all()] == [{"number": "CHG0030003", "state": "-1"},
                                         {"number": "CHG0030002", "state": "-1"}]
either = pysnow.QueryBuilder().field("number").equals("CHG0030001").OR().field("number").equals("CHG0030003")
assert len(changes.get(query=either).all()) == 2

# References, and what people see of them; times are UTC, and shown in the zone of whoever asks.
change = changes.get(query={"number": "CHG0030001"}).one()
assert change["assigned_to"]["value"] == "u1" and change["assigned_to"]["link"].endswith("/api/now/table/sys_user/u1")
assert change["start_date"] == "2026-11-28 20:00:00"
client.parameters.display_value = "all"
seen = client.resource(api_path="/table/change_request").get(query={"number": "CHG0030001"}).one()
assert seen["state"] == {"display_value": "Scheduled", "value": "-2"}, seen["state"]
assert seen["assigned_to"]["display_value"] == "Ana Lima"
assert seen["start_date"]["display_value"] == "2026-11-28 15:00:00"
client.parameters.display_value = True
client.parameters.exclude_reference_link = True
servers = client.resource(api_path="/table/cmdb_ci_server")
server = servers.get(query={"name": "web1"}, fields=["name", "owned_by", "owned_by.email"]).one()
assert server == {"name": "web1", "owned_by": "Ana Lima", "owned_by.email": "ana@example.org"}, server
client.parameters.display_value = False

# A change of one record: its count of changes, and notes that are added and not kept as a value.
before = int(change["sys_mod_count"])
after = changes.update(query={"number": "CHG0030001"}, payload={"state": "-1", "work_notes": "run begun"}).one()
assert after["state"] == "-1" and int(after["sys_mod_count"]) == before + 1
changes.update(query={"number": "CHG0030001"}, payload={"work_notes": "run done", "comments": "seen by all"})
journal = client.resource(api_path="/table/sys_journal_field")
notes = journal.get(query={"element_id": "c1", "element": "work_notes"}).all()
assert [note["value"] for note in notes] == ["run begun", "run done"], notes
client.parameters.display_value = True
shown = client.resource(api_path="/table/change_request").get(query={"number": "CHG0030001"}).one()
assert "(Work notes)\nrun done\n\n" in shown["work_notes"] and "seen by all" not in shown["work_notes"], shown
client.parameters.display_value = False

# A new record, and a file with it.
made = changes.create(payload={"short_description": "new"}).one()
assert made["number"] == "CHG0030004" and len(made["sys_id"]) == 32
with tempfile.NamedTemporaryFile(suffix=".txt") as file:
    file.write(b"the report\n")
    file.flush()
    kept = client.resource(api_path="/table/change_request").attachments.upload(made["sys_id"], file.name, "report.txt")
attachments = client.resource(api_path="/table/change_request").attachments.get(made["sys_id"])
assert [one["file_name"] for one in attachments] == ["report.txt"] and attachments[0]["size_bytes"] == "11"

# What is not there, and who may not.
try:
    changes.get(query={"number": "CHG9"}).one()
    sys.exit("a record that is not there")
except NoResults:
    pass
for status, wrong in ((401, {"password": "wrong"}), (401, {"user": "nobody"})):
    account = {"user": "runbook", "password": "a secret of ServiceNow", **wrong}
    refused = pysnow.Client(host=host, use_ssl=False, **account).resource(api_path="/table/change_request")
    try:
        refused.get(query={}).all()
        sys.exit("an account that is none")
    except requests.exceptions.HTTPError as error:
        assert error.response.status_code == status
session = requests.Session()
session.headers["Authorization"] = "Bearer a-token"
holder = pysnow.Client(host=host, session=session, use_ssl=False).resource(api_path="/table/change_request")
assert len(holder.get(query={}, limit=1).all()) == 1
print("pysnow agrees")
"#;

#[test]
fn pysnow_takes_the_double_for_servicenow() {
    let (Some(python), Some(double)) = (judges(), Double::start("servicenow", &servicenow())) else { return };
    assert_eq!(judge(&python, SERVICENOW, &[double.authority()]).trim(), "pysnow agrees");
}

fn jira() -> Value {
    json!({
        "accounts": {"runbook@example.org": "an API token"},
        "tokens": {"a-token": "runbook@example.org"},
        "page": 2,
        "hours": -5,
        "users": {"runbook@example.org": {"displayName": "Runbook", "emailAddress": "runbook@example.org"},
                  "ana": {"displayName": "Ana Lima", "emailAddress": "ana@example.org", "accountId": "557058:ana"}},
        "fields": [
            {"id": "customfield_10010", "name": "Planned start", "type": "datetime"},
            {"id": "customfield_10012", "name": "Outcome", "type": "option", "allowed": ["Succeeded", "Failed"]}],
        "statuses": {"Approved": "new", "In Progress": "indeterminate", "Done": "done"},
        "workflow": {
            "Approved": [{"id": "21", "name": "Start work", "to": "In Progress"}],
            "In Progress": [
                {"id": "31", "name": "Finish", "to": "Done", "screen": ["customfield_10012"], "required": ["resolution"]},
                {"id": "11", "name": "Stop", "to": "Approved"}]},
        "issues": [
            {"key": "CHG-1", "status": "Approved", "formerly": ["OLD-7"], "properties": {"runbook": {"run": 1}},
             "fields": {"summary": "patch web1", "assignee": "ana", "labels": ["web"], "components": ["nginx"],
                        "customfield_10010": "2026-12-08T22:00:00.000-0500"},
             "comments": [{"author": "ana", "body": "one"}, {"author": "ana", "body": "two"},
                          {"author": "ana", "body": "three"}]},
            {"key": "CHG-2", "status": "Done", "fields": {"summary": "a & b", "resolution": "Done"}},
            {"key": "CHG-3", "status": "Approved", "fields": {"summary": "later"}}],
    })
}

const JIRA: &str = r#"
import io, sys
from jira import JIRA
from jira.exceptions import JIRAError

url, deployment = sys.argv[1:]
cloud = deployment == "Cloud"

def refused(status, what, words):
    try:
        what()
    except JIRAError as error:
        assert error.status_code == status and words in error.text, (error.status_code, error.text)
        return
    sys.exit(f"not refused: {words}")

def client(**login):
    return JIRA(server=url, max_retries=0, get_server_info=True, **login)

jira = client(basic_auth=("runbook@example.org", "an API token"))
assert jira.server_info()["deploymentType"] == deployment
assert jira.myself()["displayName"] == "Runbook"
names = {field["name"]: field["id"] for field in jira.fields()}
assert names["Planned start"] == "customfield_10010" and names["Assignee"] == "assignee"

# An issue, all of it and some of it; under a key that it had, too.
issue = jira.issue("CHG-1")
fields = issue.fields
assert (fields.summary, fields.status.name, fields.status.statusCategory.key) == ("patch web1", "Approved", "new")
assert fields.assignee.displayName == "Ana Lima" and fields.labels == ["web"]
assert fields.assignee.accountId == "557058:ana" if cloud else fields.assignee.name == "ana"
assert [one.name for one in fields.components] == ["nginx"] and fields.attachment == []
assert fields.customfield_10010 == "2026-12-08T22:00:00.000-0500" and fields.updated.endswith("-0500")
assert fields.comment.total == 3 and len(fields.comment.comments) == 2
some = jira.issue("CHG-1", fields="summary,status")
assert set(some.raw["fields"]) == {"summary", "status"}, some.raw
assert jira.issue("OLD-7", fields="summary").key == "CHG-1"

# Comments come in pages: this instance gives no more than two at a time.
assert [one.body for one in jira.comments("CHG-1")] == ["one", "two"]
assert [one.body for one in jira.comments("CHG-1", start_at=2, max_results=50)] == ["three"]
assert [one.body for one in jira.comments("CHG-1", order_by="-created")] == ["three", "two"]
before = jira.issue("CHG-1").fields.updated
added = jira.add_comment("CHG-1", "run begun\n{noformat}\nweb1\n{noformat}")
assert added.author.displayName == "Runbook" and jira.comment("CHG-1", added.id).body == added.body
assert jira.issue("CHG-1").fields.updated > before
refused(400, lambda: jira.add_comment("CHG-1", " "), "Comment body can not be empty!")

# What is offered depends on the state.
assert [(one["id"], one["name"], one["to"]["name"]) for one in jira.transitions("CHG-1")] == [
    ("21", "Start work", "In Progress")]
words = "is not valid for this issue" if cloud else "workflow operation (Finish) that is not valid for the current state"
refused(400, lambda: jira.transition_issue("CHG-1", "31"), words)
jira.transition_issue("CHG-1", "Start work")
assert jira.issue("CHG-1").fields.status.statusCategory.key == "indeterminate"
refused(400, lambda: jira.transition_issue("CHG-1", "Finish"), "Resolution is required.")
refused(400, lambda: jira.transition_issue("CHG-1", "Finish", fields={"summary": "x"}), "cannot be set")
jira.transition_issue("CHG-1", "Finish", comment="run done",
                      fields={"resolution": {"name": "Done"}, "customfield_10012": {"value": "Succeeded"}})
done = jira.issue("CHG-1").fields
assert (done.status.name, done.resolution.name, done.customfield_10012.value) == ("Done", "Done", "Succeeded")
assert jira.transitions("CHG-1") == [] and done.comment.total == 5

# Fields that are set: a time is shown in the zone of whoever asks.
jira.issue("CHG-1").update(fields={"customfield_10010": "2026-12-09T03:30:00.000+0000"},
                           update={"labels": [{"add": "seen"}]})
again = jira.issue("CHG-1").fields
assert again.customfield_10010 == "2026-12-08T22:30:00.000-0500" and again.labels == ["web", "seen"]
refused(400, lambda: jira.issue("CHG-1").update(fields={"customfield_10010": "tomorrow"}), "Error parsing date string")
refused(400, lambda: jira.issue("CHG-1").update(fields={"customfield_10012": {"value": "Odd"}}), "not valid")

# A file; and a second one of that name beside it.
for content in (b"the \r\nreport\x00\xff\n", b"another"):
    kept = jira.add_attachment("CHG-1", io.BytesIO(content), filename="report \u00fc.html")
    assert kept.size == len(content) and kept.mimeType == "text/html" and kept.get() == content
assert [one.filename for one in jira.issue("CHG-1").fields.attachment] == ["report \u00fc.html"] * 2
place = f"{url}/rest/api/2/issue/CHG-1/attachments"
plain = {"Content-Type": None, "X-Atlassian-Token": None}
refused(403, lambda: jira._session.post(place, files={"file": ("a", b"a")}, headers=plain), "XSRF check failed")

# Search, in pages.
found = jira.search_issues("project = CHG ORDER BY key DESC", maxResults=False, fields="summary")
assert [one.key for one in found] == ["CHG-3", "CHG-2", "CHG-1"], found
assert [one.key for one in jira.search_issues("key = CHG-2")] == ["CHG-2"]
assert len(jira.search_issues("key in (CHG-1, CHG-2) AND status = Done")) == 2
refused(400, lambda: jira.search_issues("key = CHG-9"), "does not exist for field 'key'")
refused(400, lambda: jira.search_issues("what is this"), "Error in the JQL Query")

assert [one.key for one in jira.issue_properties("CHG-1")] == ["runbook"]
jira.add_issue_property("CHG-1", "other", {"run": 2})
assert jira.issue_property("CHG-1", "other").value.run == 2

# What is not there, and who may not.
refused(404, lambda: jira.issue("CHG-9"), "do not have permission" if cloud else "Issue Does Not Exist")
words = "authenticat"
for login in ({"basic_auth": ("runbook@example.org", "wrong")}, {"token_auth": "wrong"}):
    refused(401, lambda: client(**login), words)
refused(401, lambda: client().issue("CHG-1"), words)
assert client(token_auth="a-token").issue("CHG-3").fields.summary == "later"
print("jira agrees")
"#;

#[test]
fn the_python_client_takes_the_double_for_jira() {
    for (deployment, context) in [("Server", "/jira"), ("Cloud", "")] {
        let mut seed = jira();
        seed["deployment"] = json!(deployment);
        seed["context"] = json!(context);
        let (Some(python), Some(double)) = (judges(), Double::start("jira", &seed)) else { return };
        let url = format!("{}{context}", double.url());
        assert_eq!(judge(&python, JIRA, &[&url, deployment]).trim(), "jira agrees", "{deployment}");
        let attachments = double.tell(&json!({"do": "attachments", "key": "CHG-1"}));
        assert_eq!(attachments[1]["text"], "another");
        let set = json!({"do": "set", "key": "CHG-3", "status": "Done", "fields": {"assignee": "ana"}});
        assert_eq!(double.tell(&set)["fields"]["assignee"]["displayName"], "Ana Lima");
    }
}

fn trello() -> Value {
    json!({
        "keys": ["a-key"],
        "tokens": {"a-token": "runbook", "a-reader": "runbook"},
        "read_only": ["a-reader"],
        "members": {"ana": "Ana Lima", "runbook": "Runbook"},
        "page": 2,
        "boards": [{"name": "Changes", "lists": ["Approved", "Doing", "Done", {"name": "Old", "closed": true}]}],
        "cards": [
            {"shortLink": "Abcd1234", "name": "Patch web1", "board": "Changes", "list": "Approved", "members": ["ana"],
             "labels": ["approved"], "start": "2026-12-08T22:00:00.000Z", "due": "2026-12-09T02:00:00.000Z",
             "comments": [{"member": "ana", "text": "one"}, {"member": "ana", "text": "two"},
                          {"member": "ana", "text": "three"}],
             "checklists": [{"name": "Before", "items": [{"name": "backup", "state": "complete"}, {"name": "page"}]}]},
            {"shortLink": "Hidden12", "name": "not for us", "board": "Changes", "list": "Done", "hidden": true}],
    })
}

const TRELLO: &str = r#"
import datetime, io, sys
import requests, trello
from trello.exceptions import ResourceUnavailable, Unauthorized

url = sys.argv[1]

class There(requests.Session):
    """This client knows one address: what it asks there is asked here."""

    def request(self, method, target, **more):
        real = "https://api.trello.com/"
        assert target.startswith(real), target
        return super().request(method, f"{url}/{target.removeprefix(real)}", **more)

def client(**login):
    return trello.TrelloClient(http_service=There(), **{"api_key": "a-key", **login})

def refused(kind, status, what, words):
    try:
        what()
    except kind as error:
        assert error._status == status and error._msg.startswith(words), (error._status, error._msg)
        return
    sys.exit(f"not refused: {words}")

# A login by header, signed as OAuth has it, and one in the query.
signed = client(api_secret="a-secret", token="a-token", token_secret="another")
plain = client(api_secret="a-token")
for one in (signed, plain):
    assert one.get_card("Abcd1234").name == "Patch web1"
me = plain.get_member("me")
assert (me.username, me.full_name) == ("runbook", "Runbook")

# A card: where it stands, who has it, and when.
card = plain.get_card("Abcd1234")
assert plain.get_card(card.id).id == card.id and len(card.id) == 24
assert card.short_url.endswith("/c/Abcd1234") and card.url.endswith("/c/Abcd1234/1-patch-web1")
assert card.due == "2026-12-09T02:00:00.000Z" and card.is_due_complete is False and card.closed is False
assert [label.name for label in card.labels] == ["approved"] and card.get_list().name == "Approved"
assert [plain.get_member(one).full_name for one in card.member_id] == ["Ana Lima"]
board = plain.get_board(card.board_id)
assert [one.name for one in board.open_lists()] == ["Approved", "Doing", "Done"]
assert [one.name for one in board.all_lists()][-1] == "Old"
lists = {one.name: one.id for one in board.open_lists()}
checklist, = card.fetch_checklists()
assert [(one["name"], one["checked"]) for one in checklist.items] == [("backup", True), ("page", False)]

# Comments: the newest come first, and here no more than two at a time.
def pages(before=None):
    while True:
        query = {"filter": "commentCard", "limit": 1000, **({"before": before} if before else {})}
        rows = plain.fetch_json(f"/cards/{card.id}/actions", query_params=query)
        if not rows:
            return
        assert len(rows) <= 2
        yield from rows
        before = rows[-1]["id"]

assert [one["data"]["text"] for one in pages()] == ["three", "two", "one"]
assert [one["data"]["text"] for one in card.fetch_comments(force=True)] == ["two", "three"]
before = card.date_last_activity
made = signed.get_card("Abcd1234").comment("run begun\n**web1**")
assert made["type"] == "commentCard" and made["memberCreator"]["username"] == "runbook"
assert [one["data"]["text"] for one in pages()][0] == "run begun\n**web1**"
assert plain.get_card("Abcd1234").date_last_activity > before
plain.fetch_json(f"/cards/{card.id}/actions/comments", http_method="POST", query_params={"text": "by the query"})
assert next(pages())["data"]["text"] == "by the query"
card.update_comment(made["id"], "run begun, twice")
refused(ResourceUnavailable, 400, lambda: card.comment(" "), "invalid value for text")

# It is moved on, and done.
card.change_list(lists["Doing"])
assert plain.get_card("Abcd1234").get_list().name == "Doing"
moved = card.fetch_actions("updateCard:idList")[0]["data"]
assert (moved["listBefore"]["name"], moved["listAfter"]["name"]) == ("Approved", "Doing")
card.set_due_complete()
card.set_due(datetime.datetime(2026, 12, 9, 5, 0, tzinfo=datetime.timezone(datetime.timedelta(hours=2))))
card.set_closed(True)
again = plain.get_card("Abcd1234")
assert (again.is_due_complete, again.due, again.closed) == (True, "2026-12-09T03:00:00.000Z", True)
put = plain.fetch_json("/cards/Abcd1234", http_method="PUT", post_args={"idList": lists["Done"], "closed": False})
assert (put["idList"], put["closed"], put["dueComplete"]) == (lists["Done"], False, True)
refused(ResourceUnavailable, 400, lambda: card.change_list("0" * 24), "invalid value for idList")
shown = plain.fetch_json("/cards/Abcd1234", query_params={"fields": "name,idList", "list": "true", "members": "true"})
assert set(shown) == {"id", "name", "idList", "list", "members"} and shown["list"]["name"] == "Done"

# Files.
content = b"the \r\nreport\x00\xff\n"
kept = card.attach(name="report.html", mimeType="text/html", file=io.BytesIO(content))
assert (kept["name"], kept["bytes"], kept["mimeType"], kept["isUpload"]) == ("report.html", len(content), "text/html", True)
assert card.attach(name="more", url="https://example.org/")["isUpload"] is False
assert [one["name"] for one in plain.get_card("Abcd1234").attachments] == ["report.html", "more"]
place = f"{url}/1/cards/{card.id}/attachments/{kept['id']}/download/report.html"
header = {"Authorization": 'OAuth oauth_consumer_key="a-key", oauth_token="a-token"'}
assert requests.get(place, headers=header).content == content
assert requests.get(place, params={"key": "a-key", "token": "a-token"}).status_code == 401

# What is not there, and who may not.
refused(ResourceUnavailable, 404, lambda: plain.get_card("Nothing1"), "The requested resource was not found.")
refused(ResourceUnavailable, 400, lambda: plain.get_card("nothing"), "invalid id")
refused(Unauthorized, 401, lambda: plain.get_card("Hidden12"), "unauthorized card permission requested")
refused(Unauthorized, 401, lambda: client(api_key="b", api_secret="a-token").get_card("Abcd1234"), "invalid key")
for wrong in ({"api_secret": "b"}, {"api_secret": "s", "token": "b", "token_secret": "s"}):
    refused(Unauthorized, 401, lambda: client(**wrong).get_card("Abcd1234"), "invalid token")
reader = client(api_secret="a-reader").get_card("Abcd1234")
refused(Unauthorized, 401, lambda: reader.comment("x"), "unauthorized card permission requested")
print("py-trello agrees")
"#;

#[test]
fn py_trello_takes_the_double_for_trello() {
    let (Some(python), Some(double)) = (judges(), Double::start("trello", &trello())) else { return };
    assert_eq!(judge(&python, TRELLO, &[double.url()]).trim(), "py-trello agrees");
    let attachments = double.tell(&json!({"do": "attachments", "card": "Abcd1234"}));
    assert_eq!(attachments[0]["bytes"], 15);
    let set =
        json!({"do": "set", "card": "Abcd1234", "fields": {"list": "Doing", "members": ["runbook"], "due": null}});
    let card = double.tell(&set);
    assert_eq!(card["idList"], double.tell(&json!({"do": "id", "of": "list", "name": "Doing"})));
    assert_eq!(card["due"], Value::Null);
}

/// The same as curl sees it: what a fault does to an answer.
#[test]
fn a_double_misbehaves_as_it_is_told_and_no_longer() {
    let Some(double) = Double::start("servicenow", &servicenow()) else { return };
    let url = format!("{}/api/now/table/cmdb_ci_server", double.url());
    let ask = || {
        let curl = Command::new("curl")
            .args(["-sS", "-i", "-m", "10", "-u", "runbook:a secret of ServiceNow", &url])
            .output()
            .expect("curl runs (tests/setup)");
        (curl.status.code(), String::from_utf8_lossy(&curl.stdout).into_owned())
    };
    assert!(ask().1.starts_with("HTTP/1.1 200"));
    double.misbehave(json!({"fault": "status", "status": 429, "retry_after": 7, "times": 1}));
    let (_, refused) = ask();
    assert!(refused.starts_with("HTTP/1.1 429") && refused.contains("Retry-After: 7\r\n"), "{refused}");
    assert!(ask().1.starts_with("HTTP/1.1 200"), "once, and no longer");
    double.misbehave(json!({"fault": "status", "status": 401, "times": 1}));
    assert!(ask().1.contains("User Not Authenticated"));
    double.misbehave(json!({"fault": "truncated"}));
    assert_eq!(ask().0, Some(18), "curl: a partial file");
    double.behave();
    double.misbehave(json!({"fault": "close", "after": 1}));
    assert_eq!(ask().0, Some(0));
    assert_eq!(ask().0, Some(52), "curl: an empty reply");
    double.behave();
    double.misbehave(json!({"fault": "repeat", "times": 1}));
    assert!(ask().1.contains("sysparm_offset=0>;rel=\"next\""));
    let requests = double.requests();
    assert_eq!(requests.len(), 8);
    assert_eq!(requests[0]["authorization"], "Basic");
}

fn netbox() -> Value {
    let tag = |slug: &str| json!({"id": 1, "name": slug, "slug": slug});
    json!({
        "tokens": {"0123456789abcdef0123456789abcdef01234567": "runbook", "nbt_abc.def": "runbook"},
        "page": 2,
        "lists": {
            "dcim/devices": [
                {"name": "web1", "primary_ip4": {"id": 7, "address": "10.0.0.1/24"}, "tags": [tag("web"), tag("dmz")],
                 "role": {"id": 1, "name": "Server", "slug": "server"}, "site": {"id": 1, "name": "HQ", "slug": "hq"},
                 "custom_fields": {"cui": true, "owner": "ana"}},
                {"name": "web2", "site": {"id": 1, "name": "HQ", "slug": "hq"}},
                {"name": "old", "status": {"value": "decommissioning", "label": "Decommissioning"}},
                {"name": "web3"}, {"name": "web4"}],
            "virtualization/virtual-machines": [{"name": "vm1"}],
        },
    })
}

const NETBOX: &str = r#"
import sys
import pynetbox
from pynetbox.core.query import RequestError

url = sys.argv[1]
for token in ("0123456789abcdef0123456789abcdef01234567", "nbt_abc.def"):
    api = pynetbox.api(url, token=token)
    assert api.version == "4.2", api.version
    devices = list(api.dcim.devices.all(limit=2))
    assert [one.name for one in devices] == ["web1", "web2", "old", "web3", "web4"], devices
    assert api.dcim.devices.count() == 5
    assert api.dcim.devices.count(status="active") == 4
    one = api.dcim.devices.get(name="web1")
    assert one.primary_ip4.address == "10.0.0.1/24" and [tag.slug for tag in one.tags] == ["web", "dmz"]
    assert one.status.value == "active" and one.custom_fields == {"cui": True, "owner": "ana"}
    assert [one.name for one in api.dcim.devices.filter(site="hq", tag=["web"])] == ["web1"]
    assert [one.name for one in api.dcim.devices.filter(cf_cui="true")] == ["web1"]
    assert api.dcim.devices.get(99) is None
    assert [one.name for one in api.virtualization.virtual_machines.all()] == ["vm1"]
try:
    list(pynetbox.api(url, token="wrong").dcim.devices.all())
    sys.exit("a token that is none")
except RequestError as error:
    assert error.req.status_code == 403
print("pynetbox agrees")
"#;

#[test]
fn pynetbox_takes_the_double_for_netbox() {
    let (Some(python), Some(double)) = (judges(), Double::start("netbox", &netbox())) else { return };
    assert_eq!(judge(&python, NETBOX, &[double.url()]).trim(), "pynetbox agrees");
}

/// What curl is answered: the status, and the value.
fn curl(arguments: &[&str]) -> (String, Value) {
    let output = Command::new("curl")
        .args(["-sS", "-m", "10", "-w", "\n%{http_code}"])
        .args(arguments)
        .output()
        .expect("curl runs (tests/setup)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').expect("a status");
    (status.to_owned(), serde_json::from_str(body).unwrap_or(Value::Null))
}

#[test]
fn what_is_not_kept_in_jira_is_answered_as_done() {
    let Some(double) = Double::start("jira", &jira()) else { return };
    let place = format!("{}/rest/api/2/issue/CHG-1", double.url());
    let login = "Authorization: Bearer a-token";
    let issue = || curl(&["-H", login, &place]).1["fields"].clone();
    let first = issue();
    let set = json!({"do": "set", "key": "CHG-1", "status": "In Progress", "fields": {"summary": "other"}});
    let told = double.tell(&set)["fields"].clone();
    assert_eq!(issue(), told);
    assert!(told["updated"].as_str() > first["updated"].as_str());

    double.misbehave(json!({"fault": "stale"}));
    let seen = issue();
    assert_eq!((&seen["summary"], &seen["updated"]), (&first["summary"], &first["updated"]));
    let comments = format!("{place}/comment");
    assert_eq!(curl(&["-H", login, "--json", r#"{"body":"x"}"#, &comments]).0, "201");
    let transitions = format!("{place}/transitions");
    assert_eq!(curl(&["-H", login, "--json", r#"{"transition":{"id":"11"}}"#, &transitions]).0, "204");
    let attachments = format!("{place}/attachments");
    assert_eq!(
        curl(&["-H", login, "-H", "X-Atlassian-Token: no-check", "-F", "file=x;filename=a", &attachments]).0,
        "200"
    );
    assert_eq!(curl(&["-H", login, "-X", "PUT", "--json", r#"{"fields":{"summary":"y"}}"#, &place]).0, "204");
    double.behave();
    assert_eq!(issue(), told);
    assert_eq!(double.tell(&json!({"do": "comments", "key": "CHG-1"})).as_array().map(Vec::len), Some(3));

    double.misbehave(json!({"fault": "repeat", "times": 1}));
    let page = curl(&["-H", login, &format!("{comments}?startAt=2")]).1;
    assert_eq!((&page["startAt"], &page["comments"][0]["body"]), (&json!(0), &json!("one")));
    double.misbehave(json!({"fault": "status", "status": 429, "retry_after": 7, "times": 1}));
    let (status, value) = curl(&["-H", login, &place]);
    assert_eq!((&*status, &value["errorMessages"][0]), ("429", &json!("Rate limit exceeded.")));

    double.tell(&json!({"do": "move", "key": "CHG-1", "to": "OPS-5"}));
    assert_eq!(curl(&["-H", login, &place]).1["key"], "OPS-5");
    double.tell(&json!({"do": "set", "key": "OPS-5", "hidden": true}));
    assert_eq!(curl(&["-H", login, &place]).0, "403");
}

#[test]
fn what_is_not_kept_in_trello_is_answered_as_done() {
    let Some(double) = Double::start("trello", &trello()) else { return };
    let place = format!("{}/1/cards/Abcd1234", double.url());
    let login = r#"Authorization: OAuth oauth_consumer_key="a-key", oauth_token="a-token""#;
    let card = || curl(&["-H", login, &place]).1;
    let first = card();
    let set = json!({"do": "set", "card": "Abcd1234", "fields": {"list": "Doing", "name": "other"}});
    let told = double.tell(&set);
    assert_eq!(card(), told);
    assert!(told["dateLastActivity"].as_str() > first["dateLastActivity"].as_str());

    double.misbehave(json!({"fault": "stale"}));
    assert_eq!(card(), first);
    let comments = format!("{place}/actions/comments");
    let (status, made) = curl(&["-H", login, "--json", r#"{"text":"x"}"#, &comments]);
    assert_eq!((&*status, &made["data"]["text"]), ("200", &json!("x")));
    let (status, changed) = curl(&["-H", login, "-X", "PUT", "--json", r#"{"dueComplete":true}"#, &place]);
    assert_eq!((&*status, &changed["dueComplete"]), ("200", &json!(true)));
    assert_eq!(
        curl(&["-H", login, "-F", "file=x;filename=a", "-F", "name=b", &format!("{place}/attachments")]).1["name"],
        "b"
    );
    double.behave();
    assert_eq!(card(), told);
    assert_eq!(double.tell(&json!({"do": "comments", "card": "Abcd1234"})).as_array().map(Vec::len), Some(3));

    let actions = format!("{place}/actions?filter=commentCard");
    let newest = curl(&["-H", login, &actions]).1;
    double.misbehave(json!({"fault": "repeat", "times": 1}));
    let before = newest[1]["id"].as_str().expect("an id");
    assert_eq!(curl(&["-H", login, &format!("{actions}&before={before}")]).1, newest);
    assert_eq!(curl(&["-H", login, &format!("{actions}&before={before}")]).1[0]["data"]["text"], "one");
    double.misbehave(json!({"fault": "status", "status": 429, "times": 1}));
    let (status, value) = curl(&["-H", login, &place]);
    assert_eq!((&*status, &value["error"]), ("429", &json!("API_TOKEN_LIMIT_EXCEEDED")));
    double.tell(&json!({"do": "set", "card": "Abcd1234", "fields": {"hidden": true}}));
    assert_eq!(curl(&["-H", login, &place]).0, "401");
}
