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
