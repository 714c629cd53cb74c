//! Hosts from others than files: what is asked, what becomes of an answer, and what is refused.

use std::sync::Mutex;

use runbook_lang::inventory::{Files, Inventory, parse_inventory};
use runbook_lang::{Diagnostic, Severity};
use runbook_model::HostName;
use runbook_model::origin::Question;

/// Answers to every question with the same, and remembers what was asked.
struct Says(Result<String, String>, Mutex<Vec<Question>>);

impl Files for Says {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        match path {
            "hosts.ini" => Ok(self.0.clone()?.into_bytes()),
            _ => Err("there is none".into()),
        }
    }

    fn ask(&self, question: &Question, _name: &str) -> Result<Vec<u8>, String> {
        self.1.lock().unwrap().push(question.clone());
        Ok(self.0.clone()?.into_bytes())
    }
}

fn says(answer: &str) -> Says {
    Says(Ok(answer.into()), Mutex::default())
}

fn read(include: &str, says: &Says) -> Result<(Inventory, Vec<Diagnostic>), Vec<Diagnostic>> {
    let text = format!("schema: inventory/v1\ninclude:\n  - {include}\n");
    parse_inventory("inventory.yaml", text.as_bytes(), says).map(|parsed| (parsed.value, parsed.warnings))
}

#[track_caller]
fn good(include: &str, answer: &str) -> Inventory {
    read(include, &says(answer)).unwrap_or_else(|problems| panic!("{problems:#?}")).0
}

/// The code and the words of the first error.
#[track_caller]
fn refused(include: &str, answer: &str) -> (String, String) {
    let problems = read(include, &says(answer)).expect_err("it is refused");
    let first = problems.iter().find(|problem| problem.severity == Severity::Error).unwrap();
    (first.code.name().to_owned(), format!("{} ({})", first.message, first.help.clone().unwrap_or_default()))
}

const PROGRAM: &str = "{command: [./hosts.py, --list], format: ansible-json}";
const NETBOX: &str = "{netbox: {url: https://netbox.example, token: {env: T}}}";
const SERVICENOW: &str = "{servicenow: {url: https://now.example, token: {env: T}, fields: {owner: owned_by, cui: u_cui, groups: u_groups}}}";

#[test]
fn a_dynamic_inventory_brings_hosts_groups_variables_owners_and_flags() {
    let inventory = good(
        PROGRAM,
        r#"{"_meta": {"hostvars": {"w1": {"ansible_host": "10.0.0.1", "ansible_port": 22, "owner": "ana", "cui": true, "n": 3}}},
            "all": {"children": ["ungrouped", "web"], "vars": {"risk": "low"}},
            "web": {"hosts": ["w1", "w2"], "vars": {"cui_owner": "raj"}}, "old": ["w3"], "ungrouped": {}}"#,
    );
    let host = |name: &str| inventory.hosts[&HostName::from(name)].host.clone();
    let w1 = host("w1");
    assert_eq!((w1.address.as_str(), w1.port, w1.cui), ("10.0.0.1", Some(22), true));
    assert_eq!(
        (w1.owner.as_deref(), w1.cui_owner.as_deref(), w1.risk.as_deref()),
        (Some("ana"), Some("raj"), Some("low"))
    );
    assert_eq!(w1.vars["n"], 3);
    assert_eq!(host("w2").groups, ["web"]);
    assert_eq!(host("w3").groups, ["old"]);
    let place = &inventory.hosts[&HostName::from("w1")].span;
    assert_eq!(place.source().name(), "(command hosts.py)");
    assert!(place.text().starts_with("{\"ansible_host\""), "{}", place.text());
}

#[test]
fn a_password_in_an_answer_is_not_taken_over_and_its_source_is_known_for_it() {
    let answer = r#"{"_meta": {"hostvars": {"w": {"ansible_password": "x"}}}, "all": {"hosts": ["w"]}}"#;
    let (inventory, warnings) = read(PROGRAM, &says(answer)).unwrap();
    assert!(inventory.secretive.contains("(command hosts.py)"));
    assert!(warnings[0].message.contains("passwords never come from an inventory"), "{warnings:?}");
    assert!(
        !good(PROGRAM, r#"{"_meta": {"hostvars": {}}, "all": {"hosts": ["w"]}}"#)
            .secretive
            .contains("(command hosts.py)")
    );
}

#[test]
fn variables_of_an_ini_file_bring_owners_and_flags_too() {
    let inventory = good("{ansible: hosts.ini}", "[web]\nw1 owner=ana cui=yes\n[web:vars]\nrisk=high\ncui_owner=raj\n");
    let host = &inventory.hosts[&HostName::from("w1")].host;
    assert_eq!((host.owner.as_deref(), host.cui, host.risk.as_deref()), (Some("ana"), true, Some("high")));
    assert_eq!((host.cui_owner.as_deref(), host.vars["owner"].as_str()), (Some("raj"), Some("ana")));
}

#[test]
fn records_of_netbox_become_hosts_with_their_labels_groups_owners_and_flags() {
    let inventory = good(
        NETBOX,
        r#"[{"count": 2, "next": "x", "results": [{"id": 1, "name": "w1", "primary_ip4": {"address": "10.0.0.1/24"},
            "role": {"slug": "server"}, "site": {"slug": "hq"}, "status": {"value": "active"}, "tags": [{"slug": "web"}],
            "custom_fields": {"owner": "ana", "cui": true, "risk": {"value": "high"}, "cui_owner": null}}]},
{"count": 2, "next": null, "results": [{"id": 2, "name": "w2", "primary_ip4": null, "tags": [], "custom_fields": {}}]}]"#,
    );
    let w1 = &inventory.hosts[&HostName::from("w1")].host;
    assert_eq!((w1.address.as_str(), w1.cui, w1.owner.as_deref()), ("10.0.0.1", true, Some("ana")));
    assert_eq!((w1.risk.as_deref(), w1.cui_owner.as_deref()), (Some("high"), None));
    let labels: Vec<_> = w1.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!((labels.join(" ").as_str(), w1.groups.join(" ").as_str()), ("role=server site=hq status=active", "web"));
    assert_eq!(inventory.hosts[&HostName::from("w2")].host.address, "w2");
}

#[test]
fn records_of_servicenow_become_hosts_as_people_see_them_but_flags_as_they_are() {
    let answer = r#"[{"result": [{"sys_id": {"value": "a1"}, "name": {"display_value": "w1", "value": "w1"},
        "ip_address": {"display_value": "10.0.0.1", "value": "10.0.0.1"}, "u_groups": {"display_value": "Web, DMZ", "value": "g1,g2"},
        "owned_by": {"display_value": "Ana Lima", "value": "u1"}, "u_cui": {"display_value": "Ja", "value": "1"}}]}]"#;
    let host = good(SERVICENOW, answer).hosts[&HostName::from("w1")].host.clone();
    assert_eq!((host.owner.as_deref(), host.cui, host.groups.join(" ").as_str()), (Some("Ana Lima"), true, "DMZ Web"));
    let says = says(answer);
    read(SERVICENOW, &says).unwrap();
    let asked = says.1.lock().unwrap();
    let [Question::Servicenow { table, fields, .. }] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!(table, "cmdb_ci_server");
    assert_eq!(fields.join(","), "ip_address,name,owned_by,sys_id,u_cui,u_groups");
}

#[test]
fn only_active_devices_are_asked_for_unless_somebody_says_otherwise() {
    let filter = |include: &str| {
        let says = says(r#"[{"results": [{"id": 1, "name": "w"}]}]"#);
        read(include, &says).unwrap();
        match &says.1.lock().unwrap()[0] {
            Question::Netbox { filter, .. } => {
                filter.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join("&")
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(filter(NETBOX), "status=active");
    let more = "{netbox: {url: https://n.example, token: {env: T}, filter: {status: staged, role: [a, b]}}}";
    assert_eq!(filter(more), "status=staged&role=a&role=b");
}

#[test]
fn an_answer_that_cannot_be_used_is_refused_with_what_is_wrong() {
    for (include, answer, code, words) in [
        (PROGRAM, "{\"_meta\": {\"hostvars\": {}}, \"all\": {\"hosts\": []}}", "RB0068", "no host at all"),
        (PROGRAM, "{\"web\": {\"hosts\": [\"w\"]}}", "RB0068", "there is no `_meta`"),
        (PROGRAM, "{\"_meta\": {\"hostvars\": {}}, \"web\": {\"hosts\": [", "RB0068", "EOF while parsing"),
        (PROGRAM, "{\"_meta\": {\"hostvars\": {}}, \"web\": 7}", "RB0068", "`web` is no group"),
        (PROGRAM, "{\"_meta\": {\"hostvars\": {}}, \"web\": {\"hosts\": [\"a b\"]}}", "RB0017", "a b"),
        (NETBOX, "[{\"results\": []}]", "RB0068", "no host at all"),
        (NETBOX, "[{\"results\": [{\"id\": 7, \"name\": null}]}]", "RB0068", "the record 7 has no name"),
        (
            NETBOX,
            "[{\"results\": [{\"id\": 1, \"name\": \"w\", \"custom_fields\": {\"cui\": \"perhaps\"}}]}]",
            "RB0068",
            "perhaps",
        ),
        (NETBOX, "[{\"results\": [{\"id\": 1, \"name\": \"w\"}, {\"id\": 2, \"name\": \"w\"}]}]", "RB0064", "twice"),
        (NETBOX, "{\"detail\": \"x\"}", "RB0068", "not a list of records"),
        (
            SERVICENOW,
            "[{\"result\": [{\"sys_id\": {\"value\": \"1\"}, \"name\": {\"display_value\": \"w\", \"value\": \"w\"}}]}]",
            "RB0068",
            "no record has a field `owned_by`",
        ),
    ] {
        let (found, told) = refused(include, answer);
        assert!(found == code && told.contains(words), "{answer}: {found} {told}");
    }
    let silent = Says(Err("it did not answer within 3 s".into()), Mutex::default());
    let problems = read(NETBOX, &silent).err().unwrap();
    assert_eq!(problems[0].code.name(), "RB0067");
    assert!(
        problems[0]
            .message
            .contains("https://netbox.example/api/dcim/devices/ gave no hosts: it did not answer within 3 s")
    );
    assert!(problems[0].help.as_ref().unwrap().starts_with("nothing was changed"));
}

#[test]
fn an_entry_that_is_wrong_is_refused_before_anybody_is_asked() {
    for (include, words) in [
        ("{command: [./x]}", "a command needs `format`"),
        ("{command: [], format: csv}", "`command` is empty"),
        ("{command: [./x], format: xml}", "xml"),
        ("{command: [./x], format: csv, within: 1h}", "longer than 10m"),
        ("{csv: a.csv, format: csv}", "means nothing without `command`"),
        ("{command: [./x], format: csv, netbox: {url: https://n.example, token: {env: T}}}", "names one source"),
        ("{netbox: {url: https://n.example, token: secret}}", "never by its value"),
        ("{netbox: {url: https://n.example}}", "needs `token`"),
        ("{netbox: {url: http://n.example, token: {env: T}}}", "without TLS"),
        ("{netbox: {url: https://me:pw@n.example, token: {env: T}}}", "user and password do not stand in it"),
        ("{netbox: {url: https://n.example, token: {env: T}, filter: {limit: 1}}}", "`limit` is no filter"),
        ("{netbox: {url: https://n.example, token: {env: T}, tag: web}}", "no key `tag`"),
        ("{netbox: {url: https://n.example, token: {env: T}, fields: {color: x}}}", "`color`"),
        ("{servicenow: {url: https://n.example}}", "needs `token`"),
        ("{servicenow: {url: https://n.example, user: u}}", "needs `password`"),
        ("{servicenow: {url: https://n.example, token: {env: T}, user: u}}", "means nothing with `token`"),
        ("{servicenow: {url: https://n.example, token: {env: T}, table: ../x}}", "../x"),
        ("{servicenow: {url: https://n.example, token: {env: T}, fields: {owner: \"a&b\"}}}", "no field of a table"),
        ("{cmdb: x}", "`cmdb` is not supported yet"),
    ] {
        let says = says("");
        let problems = read(include, &says).err().unwrap_or_default();
        let told: Vec<_> = problems.iter().map(|one| format!("{} {:?}", one.message, one.help)).collect();
        assert!(told.iter().any(|told| told.contains(words)), "{include}: {told:#?}");
        let whole = problems.iter().all(|one| !one.message.contains(":pw@") && !one.message.contains("`secret`"));
        assert!(whole, "{told:#?}");
    }
}

#[test]
fn what_a_program_prints_includes_nothing_and_the_same_is_asked_for_once() {
    let own = "{command: [./x], format: yaml}";
    let (code, told) = refused(own, "schema: inventory/v1\nhosts: {a: {}}\ninclude: [hosts.ini]\n");
    assert!(code == "RB0025" && told.contains("no `include`"), "{code} {told}");
    assert_eq!(good(own, "schema: inventory/v1\nhosts: {a: {}}\n").hosts.len(), 1);
    assert_eq!(good("{command: [./x], format: csv}", "name,owner\na,ana\n").hosts.len(), 1);
    let (code, told) =
        refused(&format!("{PROGRAM}\n  - {PROGRAM}"), "{\"_meta\": {\"hostvars\": {}}, \"all\": {\"hosts\": [\"w\"]}}");
    assert!(code == "RB0064" && told.contains("asked for twice"), "{code} {told}");
}
