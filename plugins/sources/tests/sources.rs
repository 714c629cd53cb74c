//! Sources of hosts against programs and doubles that mean well, fail, or lie.

use std::time::Duration;

use runbook_ports::HostSource;
use runbook_ports::hosts::SourceError;
use runbook_sources::{Command, Login, Netbox, ServiceNow};
use runbook_testkit::double::Double;
use runbook_wire::Tls;
use serde_json::{Value, json};
use tokio::time::Instant;

const BYTES: usize = 1 << 20;

fn program(script: &str) -> Command {
    Command { argv: ["sh", "-c", script].map(str::to_owned).to_vec(), folder: std::env::temp_dir() }
}

async fn says(source: &dyn HostSource) -> Result<String, SourceError> {
    source.ask(Duration::from_secs(5), BYTES).await.map(|bytes| String::from_utf8(bytes).expect("text"))
}

/// The names in pages.
fn names(answer: &str, list: &str) -> Vec<String> {
    let pages: Vec<Value> = serde_json::from_str(answer).expect("a list of pages");
    let records = pages.iter().flat_map(|page| page[list].as_array().cloned().unwrap_or_default());
    let name = |record: Value| record["name"]["value"].as_str().or_else(|| record["name"].as_str()).map(str::to_owned);
    records.filter_map(name).collect()
}

#[tokio::test]
async fn a_program_says_what_it_prints_and_nothing_else_is_an_answer() {
    assert_eq!(says(&program("echo hello; echo noise >&2")).await.unwrap(), "hello\n");
    // More on standard error than a pipe holds does not stop it.
    assert_eq!(says(&program("head -c 500000 /dev/zero >&2; echo done")).await.unwrap(), "done\n");
    for (script, words) in [
        ("echo half; echo 'no such vault' >&2; exit 3", "exit status: 3); it says: no such vault"),
        ("kill -9 $$", "signal: 9"),
        ("true", "printed nothing; it says nothing"),
        ("yes", "more than 1048576 bytes"),
    ] {
        let told = says(&program(script)).await.expect_err(script).to_string();
        assert!(told.contains(words), "{script}: {told}");
    }
    let none = Command { argv: vec!["./no-such-program".into()], folder: std::env::temp_dir() };
    assert!(says(&none).await.unwrap_err().to_string().contains("cannot be started"));
}

#[tokio::test]
async fn a_program_that_does_not_end_is_ended_with_its_children() {
    let folder = std::env::temp_dir().join(format!("sources-{}", std::process::id()));
    let script = format!("sleep 300 & echo $! > {}; wait", folder.display());
    let begun = Instant::now();
    let told = program(&script).ask(Duration::from_secs(1), BYTES).await.unwrap_err();
    assert!(matches!(&told, SourceError::Unreachable(why) if why.contains("within 1 s, and was ended")), "{told:?}");
    assert!(begun.elapsed() < Duration::from_secs(4));
    let child = std::fs::read_to_string(&folder).unwrap();
    let _ = std::fs::remove_file(&folder);
    let gone =
        || std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).map_or(true, |stat| stat.contains(") Z "));
    for _ in 0..100 {
        if gone() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the child {child} lives");
}

fn netbox() -> Option<(Double, Netbox)> {
    let devices: Vec<Value> = (1..=5).map(|no| json!({"name": format!("web{no}")})).collect();
    let seed =
        json!({"tokens": {"good": "runbook", "nbt_a.b": "runbook"}, "page": 2, "lists": {"dcim/devices": devices}});
    let double = Double::start("netbox", &seed)?;
    let (url, token) = (double.url().parse().unwrap(), "good".into());
    let source = Netbox { url, tls: Tls::default(), token, list: "dcim/devices".into(), filter: Vec::new() };
    Some((double, source))
}

fn servicenow() -> Option<(Double, ServiceNow)> {
    let servers: Vec<Value> =
        (1..=5).map(|no| json!({"sys_id": format!("s{no}"), "name": format!("web{no}")})).collect();
    let seed = json!({"accounts": {"me": "a b:c"}, "tokens": {"good": "me"}, "page": 2, "tables": {"cmdb_ci_server": servers}});
    let double = Double::start("servicenow", &seed)?;
    let source = ServiceNow {
        url: double.url().parse().unwrap(),
        tls: Tls::default(),
        login: Login::Password { user: "me".into(), password: "a b:c".into() },
        table: "cmdb_ci_server".into(),
        query: String::new(),
        fields: vec!["name".into(), "sys_id".into()],
    };
    Some((double, source))
}

#[tokio::test]
async fn all_pages_come_each_once_as_they_are() {
    let (Some((netbox_double, mut netbox)), Some((_servicenow_double, mut servicenow))) = (netbox(), servicenow())
    else {
        return;
    };
    let all = ["web1", "web2", "web3", "web4", "web5"];
    let answer = says(&netbox).await.unwrap();
    assert_eq!(names(&answer, "results"), all);
    assert!(!answer.contains("\"config_context\":"));
    netbox.token = "nbt_a.b".into();
    assert_eq!(names(&says(&netbox).await.unwrap(), "results"), all);
    let asked = netbox_double.requests();
    assert_eq!(
        (asked.len(), asked[0]["authorization"].as_str(), asked[5]["authorization"].as_str()),
        (6, Some("Token"), Some("Bearer"))
    );
    netbox.filter = vec![("name".into(), "web4".into()), ("name".into(), "web2".into())];
    assert_eq!(names(&says(&netbox).await.unwrap(), "results"), ["web2", "web4"]);

    assert_eq!(names(&says(&servicenow).await.unwrap(), "result"), all);
    servicenow.login = Login::Token("good".into());
    servicenow.query = "nameSTARTSWITHweb^name!=web3".into();
    assert_eq!(names(&says(&servicenow).await.unwrap(), "result"), ["web1", "web2", "web4", "web5"]);
}

#[tokio::test]
async fn who_asks_to_be_left_alone_is_asked_again_when_it_says_and_not_for_ever() {
    let (Some((double, netbox)), Some((other, servicenow))) = (netbox(), servicenow()) else { return };
    let sources: [(&Double, &dyn HostSource); 2] = [(&double, &netbox), (&other, &servicenow)];
    for (double, source) in sources {
        double.misbehave(json!({"fault": "status", "status": 429, "retry_after": 1, "times": 2, "after": 1}));
        let begun = Instant::now();
        assert!(says(source).await.unwrap().contains("web5"));
        assert!(begun.elapsed() >= Duration::from_secs(2), "it waited as it was told");
        double.misbehave(json!({"fault": "status", "status": 429, "retry_after": 60}));
        let told = says(source).await.unwrap_err().to_string();
        assert!(told.contains("(429) and asks to be left alone for 60 s, longer than the 5 s"), "{told}");
        double.behave();
        let before = double.requests().len();
        double.misbehave(json!({"fault": "status", "status": 503, "retry_after": 0}));
        let told = says(source).await.unwrap_err().to_string();
        assert!(told.contains("busy (503), also when it was asked 4 times"), "{told}");
        assert_eq!(double.requests().len() - before, 4);
        double.behave();
    }
}

#[tokio::test]
async fn anything_but_a_whole_answer_is_an_error() {
    let (Some((double, netbox)), Some((other, servicenow))) = (netbox(), servicenow()) else { return };
    let both: [(&Double, &dyn HostSource, &str); 2] =
        [(&double, &netbox, "netbox"), (&other, &servicenow, "servicenow")];
    let no_next_page = "is not on http://127.0.0.1";
    for (double, source, name) in both {
        let mut faults = vec![
            (json!({"fault": "status", "status": 500}), "500"),
            (json!({"fault": "status", "status": 403}), "may not read this"),
            (json!({"fault": "close", "after": 1}), ""),
            (json!({"fault": "truncated", "after": 1}), ""),
            (json!({"fault": "malformed", "after": 2}), "as if it were cut off"),
            (json!({"fault": "empty"}), "as if it were cut off"),
            (json!({"fault": "html"}), "text/html, not with JSON"),
            (json!({"fault": "redirect", "to": "http://203.0.113.1/"}), "nobody is followed"),
            (json!({"fault": "huge", "bytes": BYTES * 2}), "more than"),
            (json!({"fault": "repeat", "after": 1}), "came twice|names itself"),
            (json!({"fault": "elsewhere", "times": 1}), no_next_page),
            (json!({"fault": "hang", "seconds": 30, "after": 1}), "did not answer within 5 s"),
        ];
        if name == "netbox" {
            faults.push((json!({"fault": "twice", "times": 1}), "the record 2 came twice"));
            faults.push((json!({"fault": "fewer"}), "announced 6 records and gave 5"));
        } else {
            faults.push((json!({"fault": "no_total"}), "does not say how many"));
            faults.push((json!({"fault": "status", "status": 401}), "does not take the account or token"));
        }
        for (fault, words) in faults {
            double.misbehave(fault.clone());
            let told = says(source).await.expect_err(&format!("{name} {fault}")).to_string();
            assert!(words.split('|').any(|words| told.contains(words)), "{name} {fault}: {told}");
            assert!(!told.contains("a b:c") && !told.contains("YSBiOmM"), "{told}");
            double.behave();
        }
        assert!(says(source).await.is_ok(), "and now it is well again");
    }
    let mut wrong = servicenow;
    wrong.login = Login::Password { user: "me".into(), password: "wrong".into() };
    let told = says(&wrong).await.unwrap_err();
    assert!(matches!(&told, SourceError::Refused(why) if why.contains("User Not Authenticated")), "{told:?}");
    wrong.login = Login::Token("two\nlines".into());
    assert!(says(&wrong).await.unwrap_err().to_string().contains("cannot stand in a header"));
}

#[tokio::test]
async fn nobody_is_believed_without_a_certificate_that_is() {
    let pki = runbook_testkit::anchors::Pki::new();
    pki.certify_server("localhost");
    let tls = json!({"certificate": pki.path("localhost.pem"), "key": pki.path("localhost.key")});
    let seed = json!({"tokens": {"good": "x"}, "tls": tls, "name": "localhost", "lists": {"dcim/devices": [{"name": "web1"}]}});
    let Some(double) = Double::start("netbox", &seed) else { return };
    let source = |ca| Netbox {
        url: double.url().parse().unwrap(),
        tls: Tls { ca, client: None },
        token: "good".into(),
        list: "dcim/devices".into(),
        filter: Vec::new(),
    };
    assert!(says(&source(Some(pki.path("ca.pem")))).await.unwrap().contains("web1"));
    let told = says(&source(None)).await.unwrap_err();
    assert!(matches!(&told, SourceError::Refused(why) if why.contains("TLS with localhost")), "{told:?}");
    assert_eq!(double.requests().len(), 1, "the token was sent to nobody else");
}
