//! Inventories: keys laid over each other, includes of every form, selections, and what is refused.

use std::collections::BTreeMap;

use runbook_lang::inventory::{Files, Inventory, parse_inventory};
use runbook_lang::{render, selector};

/// Files by path.
#[derive(Default)]
struct Folder(BTreeMap<String, String>);

impl Folder {
    fn with(mut self, path: &str, text: &str) -> Self {
        self.0.insert(path.into(), text.into());
        self
    }
}

impl Files for Folder {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        self.0.get(path).map(|text| text.clone().into_bytes()).ok_or_else(|| "no such file".into())
    }
}

fn read(text: &str, files: &Folder) -> Result<Inventory, String> {
    match parse_inventory("inventory.yaml", text.as_bytes(), files) {
        Ok(parsed) => Ok(parsed.value),
        Err(problems) => Err(render::text(&problems, false)),
    }
}

fn right(text: &str) -> Inventory {
    read(text, &Folder::default()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn wrong(text: &str, parts: &[&str]) {
    let problems = read(text, &Folder::default()).expect_err("it is refused");
    for part in parts {
        assert!(problems.contains(part), "`{part}` is missing in\n{problems}");
    }
}

fn selected(inventory: &Inventory, text: &str) -> Result<String, String> {
    let selector = selector::parse_text("--limit", text).map_err(|problem| problem.to_string())?;
    match selector.hosts(inventory) {
        Ok(hosts) => Ok(hosts.iter().map(|host| host.as_str()).collect::<Vec<_>>().join(" ")),
        Err(problems) => Err(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

fn language_example() -> Inventory {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/lang/right");
    struct Disk(&'static str);
    impl Files for Disk {
        fn read(&self, path: &str) -> Result<Vec<u8>, String> {
            std::fs::read(format!("{}/{path}", self.0)).map_err(|error| error.to_string())
        }
    }
    let bytes = std::fs::read(format!("{folder}/language.inventory.yaml")).expect("the fixture is there");
    match parse_inventory("language.inventory.yaml", &bytes, &Disk(folder)) {
        Ok(parsed) => parsed.value,
        Err(problems) => panic!("{}", render::text(&problems, false)),
    }
}

#[test]
fn the_example_of_the_language_page_resolves_to_whole_hosts() {
    let inventory = language_example();
    let hosts: Vec<_> = inventory.hosts.values().map(|entry| &entry.host).collect();
    insta::with_settings!({snapshot_path => "../../../tests/fixtures/lang/snapshots", prepend_module_to_snapshot => false}, {
        insta::assert_json_snapshot!("language.inventory", hosts);
    });
    assert_eq!(inventory.sources.len(), 4);
}

#[test]
fn selections_are_names_groups_globs_labels_and_flags() {
    let inventory = language_example();
    let ok = |text: &str| selected(&inventory, text).unwrap_or_else(|problem| panic!("{problem}"));
    assert_eq!(ok("fileservers & cui"), "as01 fs01 fs02");
    assert_eq!(ok("production"), "as01 fs01 fs02 win1");
    assert_eq!(ok("fs* | bastion"), "bastion fs01 fs02");
    assert_eq!(ok("site=hq"), "as01 fs01");
    assert_eq!(ok("fileservers & !(cui|os=windows) | here"), "here");
    assert_eq!(ok("fileservers&!cui"), "win1");
    assert_eq!(ok("owner=jane.*"), "fs01");
    assert_eq!(ok("local"), "db1 here");
    assert_eq!(ok("all & canaries"), "fs02");
    assert_eq!(ok("canar* && cui || web01.example.org"), "fs02 web01.example.org");
}

#[test]
fn selections_that_match_nothing_or_cannot_be_read_are_errors_with_places() {
    let inventory = language_example();
    for (text, parts) in [
        ("filservers", ["--limit:1:1", "did you mean `fileservers`?"]),
        ("cui & site=hp", ["--limit:1:7", "its values are: dr, hq"]),
        ("cui & web", ["--limit:1:1", "matches no host"]),
        ("fs01 fs02", ["--limit:1:6", "`&` or `|` is missing"]),
        ("(fs01", ["--limit:1:6", "not closed"]),
        ("fs01)", ["--limit:1:5", "no bracket is open"]),
        ("fs01 & ", ["--limit:1:8", "a name is missing"]),
        ("", ["--limit:1:1", "empty"]),
        ("a,b", ["--limit:1:2", "no commas"]),
        ("site=", ["--limit:1:1", "not a label"]),
        ("zz*", ["--limit:1:1", "no host or group matches `zz*`"]),
    ] {
        let problem = selected(&inventory, text).expect_err(text);
        for part in parts {
            assert!(problem.contains(part), "{text}: `{part}` is missing in {problem}");
        }
    }
    let deep = format!("{}a{}", "(".repeat(1000), ")".repeat(1000));
    assert!(selected(&inventory, &deep).expect_err("too deep").contains("deep"));
    let deep = format!("{}a", "!".repeat(1000));
    assert!(selected(&inventory, &deep).expect_err("too deep").contains("deep"));
}

#[test]
fn own_keys_win_over_near_groups_over_far_groups_over_defaults() {
    let inventory = right(
        "schema: inventory/v1
defaults: {user: d, port: 1, risk: d, labels: {a: d, b: d}}
hosts:
  h: {port: 4, groups: [near]}
groups:
  near: {defaults: {risk: n, labels: {a: n}}, vars: {x: near}}
  far: {groups: [near], defaults: {risk: f, owner: f}, vars: {x: far, y: far}}
",
    );
    let host = &inventory.hosts[&"h".into()].host;
    assert_eq!((host.port, host.user.as_deref()), (Some(4), Some("d")));
    assert_eq!((host.risk.as_deref(), host.owner.as_deref()), (Some("n"), Some("f")));
    assert_eq!((host.labels["a"].as_str(), host.labels["b"].as_str()), ("n", "d"));
    assert_eq!((host.vars["x"].as_str(), host.vars["y"].as_str()), (Some("near"), Some("far")));
    assert_eq!(host.groups, ["far", "near"]);
    assert_eq!(host.address, "h");
}

#[test]
fn groups_of_the_same_distance_that_differ_are_an_error_naming_both() {
    let text = "schema: inventory/v1
hosts: {h: {groups: [a, b]}}
groups: {a: {defaults: {user: x}}, b: {defaults: {user: y}}}
";
    wrong(text, &["RB0063", "the groups `a` and `b` give the host `h` different values of `user`"]);
    right(&text.replace("user: y", "user: x"));
    right(&text.replace("h: {", "h: {user: z, "));
}

#[test]
fn jumps_are_resolved_nearest_to_us_first_and_circles_are_errors() {
    let inventory = right(
        "schema: inventory/v1
defaults: {jump: outer, user: maint}
hosts:
  outer: {address: o.example.org, port: 2200}
  inner: {address: i}
  h: {jump: inner}
",
    );
    let jumps: Vec<_> = inventory.hosts[&"h".into()].host.jumps.iter().map(|jump| jump.name.as_str()).collect();
    assert_eq!(jumps, ["outer", "inner"]);
    assert_eq!(inventory.hosts[&"h".into()].host.jumps[0].port, Some(2200));
    assert!(inventory.hosts[&"outer".into()].host.jumps.is_empty());
    wrong(
        "schema: inventory/v1\nhosts: {a: {jump: b}, b: {jump: a}}\n",
        &["RB0062", "the way to `a` leads in a circle: a -> b -> a"],
    );
    wrong("schema: inventory/v1\nhosts: {a: {jump: a}}\n", &["RB0062", "a -> a"]);
    wrong("schema: inventory/v1\nhosts: {a: {jump: basion}, bastion: {}}\n", &["RB0061", "did you mean `bastion`?"]);
}

#[test]
fn includes_that_fail_or_lead_in_a_circle_are_errors() {
    let main = "schema: inventory/v1\ninclude: [sub/a.yaml]\n";
    let problems = read(main, &Folder::default()).expect_err("not there");
    assert!(
        problems.contains("RB0065") && problems.contains("`sub/a.yaml` cannot be read: no such file"),
        "{problems}"
    );
    let folder = Folder::default()
        .with("sub/a.yaml", "schema: inventory/v1\ninclude: [b.yaml]\n")
        .with("sub/b.yaml", "schema: inventory/v1\ninclude: [./a.yaml]\n");
    let problems = read(main, &folder).expect_err("a circle");
    assert!(problems.contains("sub/a.yaml -> sub/b.yaml -> sub/a.yaml"), "{problems}");
    wrong("schema: inventory/v1\ninclude: [{ec2: eu-west-1}]\n", &["RB0015", "`ec2` is not supported yet"]);
}

#[test]
fn included_files_are_relative_to_the_file_that_names_them_and_have_defaults_of_their_own() {
    let folder = Folder::default()
        .with("sub/a.yaml", "schema: inventory/v1\ndefaults: {port: 7}\nhosts: {x: {identity: keys/id}}\n");
    let text = "schema: inventory/v1\ndefaults: {port: 5, user: u}\nhosts: {y: {}}\ninclude: [sub/a.yaml]\n";
    let inventory = read(text, &folder).unwrap_or_else(|problems| panic!("{problems}"));
    let host = |name: &str| &inventory.hosts[&name.into()].host;
    assert_eq!((host("x").port, host("x").user.as_deref()), (Some(7), Some("u")));
    assert_eq!(host("y").port, Some(5));
    assert_eq!(host("x").identity.as_deref(), Some("sub/keys/id"));
    let folder = Folder::default().with("sub/a.yaml", "schema: inventory/v1\nhosts: {y: {}}\n");
    let problems = read(text, &folder).expect_err("twice");
    assert!(problems.contains("RB0064") && problems.contains("inventory.yaml:3:9"), "{problems}");
}

#[test]
fn wrong_hosts_are_refused_at_their_places() {
    wrong(
        "schema: inventory/v1
hosts:
  all: {}
  -x: {}
  a: {adress: x, port: 99999, cui: yes}
  b: {address: -oProxyCommand=x, user: 'a b'}
  c: {transport: winrm, auth: basic, tls: {enabled: false}, password: hunter2}
  d: {transport: shh}
  e: {transport: local, address: x}
groups:
  g: {hosts: [bb], groups: [h], var: {}}
",
        &[
            "inventory.yaml:3:3",
            "inventory.yaml:4:3",
            "did you mean `address`?",
            "`port` is 99999",
            "`cui` takes true or false, not `yes`",
            "`address` cannot be `-oProxyCommand=x`",
            "`user` cannot be `a b`",
            "RB0045",
            "did you mean `ssh`?",
            "did you mean `vars`?",
        ],
    );
    wrong(
        "schema: inventory/v1\nhosts: {e: {transport: local, address: x}}\n",
        &["`address` means nothing for the host `e`"],
    );
    wrong("schema: inventory/v1\nhosts: {e: {transport: ssm}}\n", &["RB0060", "has no `instance`"]);
    wrong("schema: inventory/v1\nhosts: {e: {auth: ntlm}}\n", &["it is read by: winrm"]);
    wrong(
        "schema: inventory/v1\nhosts: {a: {}}\ngroups: {g: {hosts: [b], groups: [h]}}\n",
        &["names the host `b`", "made of the group `h`"],
    );
    wrong("schema: inventory/v1\nhosts: {a: {}}\ngroups: {g: {groups: [h]}, h: {groups: [g]}}\n", &["g -> h -> g"]);
    wrong("schema: inventory/v1\n", &["the inventory has no hosts"]);
    wrong(
        "schema: inventory/v1\nhosts: {c: {transport: winrm, auth: basic, tls: {enabled: false}}}\n",
        &["RB0045", "in the open"],
    );
}

#[test]
fn windows_and_cloud_hosts_keep_their_options() {
    let inventory = right(
        "schema: inventory/v1
hosts:
  w: {transport: winrm, auth: kerberos, password: {env: WIN_PW}, tls: {ca: ca.pem}}
  p: {transport: winrm, tls: {enabled: false}}
  i-0abc: {transport: ssm, region: eu-central-1}
  own: {transport: my-plugin, instance: x}
",
    );
    let host = |name: &str| &inventory.hosts[&name.into()].host;
    assert_eq!((host("w").port, host("p").port), (Some(5986), Some(5985)));
    assert_eq!(host("w").os.to_string(), "windows");
    assert_eq!(host("w").options["password"], serde_json::json!({"env": "WIN_PW"}));
    assert_eq!(host("i-0abc").options["instance"], "i-0abc");
    assert_eq!(host("own").options["instance"], "x");
}

#[test]
fn ansible_yaml_inventories_are_read() {
    let folder = Folder::default().with(
        "hosts.yml",
        "all:
  vars: {ntp: 10.0.0.1, ansible_user: ops}
  hosts:
    mail: {ansible_host: 10.1.1.1, ansible_password: hunter2}
  children:
    web:
      hosts:
        web[1:2]:
      vars: {http_port: 80, tls: yes}
      children:
        canary:
          hosts: {web2: }
",
    );
    let text = "schema: inventory/v1\ndefaults: {user: maint}\ninclude: [{ansible: hosts.yml}]\n";
    let inventory = read(text, &folder).unwrap_or_else(|problems| panic!("{problems}"));
    let host = |name: &str| &inventory.hosts[&name.into()].host;
    assert_eq!((host("mail").address.as_str(), host("mail").user.as_deref()), ("10.1.1.1", Some("ops")));
    assert_eq!(host("web1").vars["http_port"], 80);
    assert_eq!(host("web1").vars["tls"], true);
    assert_eq!(host("web2").groups, ["canary", "web"]);
    assert!(!host("mail").vars.values().any(|value| value == "hunter2"));
}

#[test]
fn wrong_csv_and_ini_files_are_refused_at_their_lines() {
    for (file, text, parts) in [
        ("a.csv", "", ["empty", "RB0066"]),
        ("a.csv", "address\n1\n", ["no column `name`", "a.csv:1:1"]),
        ("a.csv", "name,adress\nx,1\n", ["did you mean `address`?", "a.csv:1:6"]),
        ("a.csv", "name,label.site\nx,hq\n", ["did you mean `labels.site`?", "a.csv:1:6"]),
        ("a.csv", "name,var.disk\nx,1\n", ["did you mean `vars.disk`?", "a.csv:1:6"]),
        ("a.csv", "name,rack row\nx,1\n", ["call it `labels.rack row` to select", "a.csv:1:6"]),
        ("a.csv", "name,port\nx,1,2\n", ["has 3 cells, and the header 2", "a.csv:2:1"]),
        ("a.csv", "name,port\nx,\"1\n", ["the quote is not closed", "a.csv:2:3"]),
        ("a.csv", "name,port\nx,abc\n", ["`port` takes a whole number", "a.csv:2:3"]),
        ("a.csv", "name\nx\nx\n", ["RB0064", "a.csv:3:1"]),
        ("a.ini", "[web\nx\n", ["not closed", "a.ini:1:1"]),
        ("a.ini", "[web:kids]\nx\n", ["a section of kind `kids`", "a.ini:1:1"]),
        ("a.ini", "[web]\nx y\n", ["`y` is not a variable", "a.ini:2:3"]),
        ("a.ini", "x ansible_connection=docker\n", ["like the connection `docker`", "a.ini:1:3"]),
        ("a.ini", "x[1:\n", ["range is not closed", "a.ini:1:1"]),
        ("a.ini", "x[1:4294967295]\n", ["not a range", "a.ini:1:1"]),
    ] {
        let form = if file.ends_with("csv") { "csv" } else { "ansible" };
        let main = format!("schema: inventory/v1\ninclude: [{{{form}: {file}}}]\n");
        let problems = read(&main, &Folder::default().with(file, text)).expect_err(text);
        for part in parts {
            assert!(problems.contains(part), "{text}: `{part}` is missing in\n{problems}");
        }
    }
}

/// As the program's files: what is included has its absolute path, and the outermost the one that it was called by.
struct Absolute(Folder);

impl Files for Absolute {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        self.0.read(path)
    }

    fn resolve(&self, from: &str, path: &str) -> String {
        let joined = runbook_lang::inventory::join(from, path);
        if joined.starts_with('/') { joined } else { format!("/project/{joined}") }
    }
}

#[test]
fn an_inventory_that_is_called_by_a_relative_name_and_includes_itself_is_told_once() {
    let text = "schema: inventory/v1\ninclude: [inventory.yaml]\nhosts: {a: {}}\n";
    let files = Absolute(Folder::default().with("/project/inventory.yaml", text));
    let problems = parse_inventory("inventory.yaml", text.as_bytes(), &files).expect_err("it is refused");
    assert_eq!(problems.len(), 1, "{}", render::text(&problems, false));
    let text = render::text(&problems, false);
    assert!(text.contains("/project/inventory.yaml -> /project/inventory.yaml"), "{text}");
}

#[test]
fn ten_thousand_hosts_are_read() {
    let mut text = String::from("schema: inventory/v1\ndefaults: {user: maint}\nhosts:\n");
    for i in 0..10_000 {
        text.push_str(&format!(
            "  host{i:05}: {{address: 10.0.{}.{}, labels: {{site: hq}}, groups: [g]}}\n",
            i / 250,
            i % 250
        ));
    }
    let inventory = right(&text);
    assert_eq!(inventory.hosts.len(), 10_000);
    assert_eq!(inventory.groups["g"].hosts.len(), 10_000);
}
