//! The real program with people outside around it: an Exim with STARTTLS and a login, servers of chats and webhooks, and
//! ones that mean harm. All on this machine.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod place;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use place::Place;
use runbook_testkit::anchors::Pki;
use runbook_testkit::mail::{Exim, PASSWORD, Scripted, USER};
use serde_json::{Value, json};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A request to a server.
#[derive(Debug, Clone)]
struct Request {
    path: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Request {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A server that answers each request as `answer` says: status line and headers, and a body; `None`: nothing, ever.
struct Hook {
    url: String,
    got: mpsc::Receiver<Request>,
}

impl Hook {
    fn start(mut answer: impl FnMut(&Request) -> Option<(String, String)> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (say, got) = mpsc::channel();
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for mut stream in listener.incoming().map_while(Result::ok) {
                let Some(request) = read(&stream) else { continue };
                let _ = say.send(request.clone());
                match answer(&request) {
                    Some((head, body)) => {
                        let length = body.len();
                        let _ = write!(stream, "HTTP/1.1 {head}\r\ncontent-length: {length}\r\n\r\n{body}");
                    }
                    None => kept.push(stream),
                }
            }
        });
        Self { url, got }
    }

    fn taking() -> Self {
        Self::start(|_| Some(("200 OK".into(), "ok".into())))
    }

    fn next(&self) -> Request {
        self.got.recv_timeout(Duration::from_secs(20)).expect("a request comes")
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    Some(Request { path, headers, body: String::from_utf8(body).ok()? })
}

fn project(settings: &str) -> Place {
    let place = Place::project();
    set(&place, settings);
    place
}

fn set(place: &Place, settings: &str) {
    place.write("runbook.toml", settings);
}

fn apply(place: &Place) -> place::Said {
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0)
}

fn webhook(url: &str, more: &str) -> String {
    format!(
        "[notify.hook]\nkind = \"webhook\"\nurl = \"{url}\"\nsecret = {{ command = [\"echo\", \"{SECRET}\"] }}\n{more}"
    )
}

fn mail(port: u16, pki: &Pki, to: &str) -> String {
    format!(
        "[notify.mail]\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {port}\nca = \"{}\"\nuser = \"{USER}\"\n\
         password = {{ file = \"password\" }}\nfrom = \"runbook@example.com\"\nto = [\"{to}\"]\n",
        pki.path("ca.pem").display()
    )
}

fn messages(place: &Place) -> Vec<Value> {
    let list = place.run(&["notify", "list", "--json"]).code(0).json();
    assert_eq!(list["schema"], "notify-list/v1");
    list["messages"].as_array().unwrap().clone()
}

fn states(place: &Place) -> Vec<String> {
    let word = |message: &Value, key: &str| message[key].as_str().unwrap().to_owned();
    messages(place).iter().map(|one| format!("{} {}", word(one, "kind"), word(one, "state"))).collect()
}

/// The notices on record of what became of messages.
fn on_record(place: &Place) -> Vec<Value> {
    use runbook_model::Event;
    use runbook_ports::Store as _;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let records = runtime.block_on(async {
        let store = runbook_store::SqliteStore::open(&place.path(".runbook")).await.unwrap();
        let records = store.ledger(0, 10_000).await.unwrap();
        store.close().await;
        records
    });
    let notice =
        |sealed: runbook_ports::store::Sealed| match runbook_ledger::record::parse(&sealed.bytes).unwrap().event {
            Event::Installation(notice) => Some(serde_json::to_value(notice).unwrap()),
            _ => None,
        };
    records.into_iter().filter_map(notice).filter(|notice| notice["type"] == "notified").collect()
}

fn database(place: &Place) -> Vec<u8> {
    let mut bytes = std::fs::read(place.path(".runbook/runbook.db")).unwrap();
    bytes.extend(std::fs::read(place.path(".runbook/runbook.db-wal")).unwrap_or_default());
    bytes
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn mail_goes_to_a_real_server_in_tls_after_a_login_and_that_is_on_record() {
    let pki = Pki::new();
    pki.certify_server("mx");
    let Some(exim) = Exim::start(&pki, "mx") else { return };
    let place = project(&format!("{}on = [\"all\"]\n", mail(exim.port, &pki, "ops@example.com")));
    place.write("password", &format!("{PASSWORD}\n"));
    let checked = place.run(&["notify", "check"]).code(0);
    assert!(checked.stderr.contains("(TLS), and takes the password"), "{}", checked.stderr);
    apply(&place);
    assert_eq!(states(&place), ["started delivered", "ended delivered"]);

    let mails = exim.mails(2);
    let sent = messages(&place);
    for (message, subject) in sent.iter().zip(["started: ", "done: "]) {
        let id = message["id"].as_str().unwrap();
        let mail = mails.iter().find(|mail| mail.contains(&format!("Message-ID: <{id}@example.com>"))).unwrap();
        assert!(mail.contains(&format!("Subject: {subject}")) && mail.contains("with esmtpsa"), "{mail}");
        assert!(mail.contains("To: ops@example.com") && !mail.contains(PASSWORD), "{mail}");
    }
    let notices = on_record(&place);
    assert_eq!(notices.len(), 2);
    let ended = &notices.iter().find(|notice| notice["news"] == "ended").unwrap();
    assert_eq!(
        (&ended["channel"], &ended["outcome"], &ended["to"], &ended["attempts"]),
        (&json!("mail"), &json!("delivered"), &json!("ops@example.com"), &json!(1))
    );
    assert!(ended["answer"].as_str().unwrap().starts_with("250 OK id="), "{ended}");
    assert_eq!(ended["about_run"], place.run(&["show", "last", "--json"]).json()["run_id"]);
    assert!(!holds(&database(&place), PASSWORD));
    place.run(&["evidence", "verify", "last"]).code(11);
    // Another look sends and records nothing again.
    place.run(&["notify", "send", "--now"]).code(0);
    assert_eq!((exim.mails(2).len(), on_record(&place).len()), (2, 2));
}

#[test]
fn a_server_whose_certificate_is_not_believed_gets_nothing_and_is_tried_again() {
    let (pki, other) = (Pki::new(), Pki::new());
    pki.certify_server("mx");
    pki.certify("elsewhere", "subjectAltName=DNS:elsewhere.example", 30);
    let Some(exim) = Exim::start(&pki, "mx") else { return };
    let place = project(&mail(exim.port, &other, "ops@example.com"));
    place.write("password", PASSWORD);
    let said = apply(&place);
    assert!(said.stderr.contains("1 message not sent yet"), "{}", said.stderr);
    assert_eq!(states(&place), ["ended waiting"]);
    assert!(messages(&place)[0]["answer"].as_str().unwrap().contains("certificate"), "{:?}", messages(&place));
    assert!(!exim.log().contains("<="), "nothing was taken: {}", exim.log());
    place.run(&["notify", "check"]).code(2);
    // Of the right authority, for another host.
    let Some(elsewhere) = Exim::start(&pki, "elsewhere") else { return };
    set(&place, &mail(elsewhere.port, &pki, "ops@example.com"));
    place.run(&["notify", "send", "--now"]).code(0);
    assert_eq!(states(&place), ["ended waiting"]);
    // Once it is mended, it comes.
    set(&place, &mail(exim.port, &pki, "ops@example.com"));
    place.run(&["notify", "send", "--now"]).code(0);
    assert_eq!(states(&place), ["ended delivered"]);
    assert_eq!((exim.mails(1).len(), &on_record(&place)[0]["attempts"]), (1, &json!(3)));
}

#[test]
fn a_mail_is_brought_again_after_greylisting_and_given_up_when_nobody_has_that_mailbox() {
    let pki = Pki::new();
    pki.certify_server("mx");
    let Some(exim) = Exim::start(&pki, "mx") else { return };
    let place = project(&mail(exim.port, &pki, "later@example.com"));
    place.write("password", PASSWORD);
    apply(&place);
    let waiting = &messages(&place)[0];
    assert!(waiting["answer"].as_str().unwrap().contains("451 greylisted"), "{waiting}");
    assert!(waiting["next"].is_string() && on_record(&place).is_empty());
    place.run(&["notify", "send"]).code(0);
    assert_eq!(messages(&place)[0]["attempts"], 1, "it is not due yet");
    exim.knows();
    place.run(&["notify", "send", "--now"]).code(0);
    assert_eq!(on_record(&place)[0]["attempts"], 2);

    set(&place, &mail(exim.port, &pki, "nobody@example.com"));
    let said = apply(&place);
    assert!(said.stderr.contains("1 message given up"), "{}", said.stderr);
    let notice = &on_record(&place)[1];
    assert_eq!((&notice["outcome"], &notice["attempts"]), (&json!("given_up"), &json!(1)));
    assert!(notice["answer"].as_str().unwrap().contains("550 no such mailbox"), "{notice}");
    let doctor = place.run(&["doctor"]);
    assert!(doctor.stdout.contains("1 given up") || doctor.stderr.contains("1 given up"), "{doctor:?}");
    // A wrong password is for somebody to mend.
    place.write("password", "wrong");
    let checked = place.run(&["notify", "check"]).code(2);
    assert!(checked.stderr.contains("535") && !checked.stderr.contains("wrong\n"), "{}", checked.stderr);
}

#[test]
fn a_server_without_starttls_gets_no_mail_and_no_password() {
    let pki = Pki::new();
    let server = Scripted::start(|line| {
        let word = line.split(' ').next().unwrap_or_default();
        Some(match word {
            "" => "220 old ESMTP\r\n".into(),
            "EHLO" => "250-old\r\n250 AUTH PLAIN LOGIN\r\n".into(),
            _ => "250 as you like\r\n".into(),
        })
    });
    let place = project(&mail(server.port, &pki, "ops@example.com"));
    place.write("password", PASSWORD);
    apply(&place);
    assert!(messages(&place)[0]["answer"].as_str().unwrap().contains("offers no STARTTLS"), "{:?}", messages(&place));
    let heard: Vec<String> = server.heard.try_iter().collect();
    assert!(heard.iter().all(|line| line.is_empty() || line.starts_with("EHLO")), "{heard:?}");
}

#[test]
fn what_a_server_says_before_tls_is_not_taken_for_words_in_it_and_endless_replies_end() {
    let pki = Pki::new();
    let early = Scripted::start(|line| {
        Some(match line.split(' ').next().unwrap_or_default() {
            "" => "220 x\r\n".into(),
            "EHLO" => "250-x\r\n250 STARTTLS\r\n".into(),
            _ => "220 go on\r\n250-x\r\n250 AUTH PLAIN\r\n235 welcome\r\n".into(),
        })
    });
    let place = project(&mail(early.port, &pki, "ops@example.com"));
    place.write("password", PASSWORD);
    let checked = place.run(&["notify", "check"]).code(2);
    assert!(checked.stderr.contains("more before TLS"), "{}", checked.stderr);

    let endless = Scripted::start(|_| Some("220-x\r\n".repeat(1 << 20)));
    set(&place, &mail(endless.port, &pki, "ops@example.com"));
    let checked = place.run(&["notify", "check"]).code(2);
    assert!(checked.stderr.contains("does not speak SMTP"), "{}", checked.stderr);
}

#[test]
fn a_run_waits_for_nobody_who_is_told() {
    let silent = Hook::start(|_| None);
    let chat = Hook::taking();
    let place = project(&format!(
        "{}on = [\"all\"]\ntimeout = \"60s\"\n[notify.chat]\nkind = \"slack\"\nurl = \"{}/services/T1\"\non = [\"all\"]\n",
        webhook(&silent.url, ""),
        chat.url
    ));
    let said = apply(&place);
    let ended = jiff::Timestamp::now();
    // What it was told is the run's beginning: the end is told when the run has ended.
    assert_eq!(silent.next().json()["type"], "run.started");
    let run = place.run(&["show", "last", "--json"]).json();
    let time = |key: &str| run[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let (took, after) = (time("ended_at").duration_since(time("started_at")), ended.duration_since(time("ended_at")));
    // The command waits five seconds for the silent one; the run has ended long before.
    assert!(took.as_millis() < 4_000 && (4_500..15_000).contains(&after.as_millis()), "{took:?} {after:?}");
    assert!(said.stderr.contains("not sent yet"), "{}", said.stderr);
    // Whoever is quick is not kept waiting by whoever is not.
    assert_eq!([chat.next(), chat.next()].len(), 2);
    let list = messages(&place);
    let of = |channel: &str, state: &str| {
        list.iter().filter(|one| one["channel"] == channel && one["state"] == state).count()
    };
    assert_eq!((of("chat", "delivered"), of("hook", "waiting")), (2, 2), "{list:?}");
}

#[test]
fn whoever_dies_between_sending_and_writing_it_down_sends_the_same_again() {
    let silent = Hook::start(|_| None);
    let place = project(&webhook(&silent.url, "timeout = \"60s\"\n"));
    apply(&place);
    let first = silent.next();
    assert_eq!(states(&place), ["ended waiting"]);
    // Another one takes it at once, and is killed before it hears an answer.
    let mut sender = place.command(&["notify", "send", "--now"]).stderr(Stdio::null()).spawn().unwrap();
    let second = silent.next();
    sender.kill().unwrap();
    sender.wait().unwrap();

    let taking = Hook::taking();
    set(&place, &webhook(&taking.url, ""));
    place.run(&["notify", "send", "--now"]).code(0);
    let third = taking.next();
    for again in [&second, &third] {
        assert_eq!((&again.headers["webhook-id"], &again.body), (&first.headers["webhook-id"], &first.body));
    }
    assert_eq!(states(&place), ["ended delivered"]);
    assert_eq!(on_record(&place).len(), 1);
}

#[test]
fn a_webhook_is_verified_by_somebody_elses_library() {
    let hook = Hook::taking();
    let place = project(&webhook(&format!("{}/in", hook.url), ""));
    apply(&place);
    let request = hook.next();
    assert_eq!((request.path.as_str(), request.headers["content-type"].as_str()), ("/in", "application/json"));
    let body = request.json();
    assert_eq!((&body["type"], &body["data"]["news"]["schema"]), (&json!("run.ended"), &json!("news/v1")));
    assert_eq!(
        (&body["data"]["news"]["outcome"], &body["data"]["news"]["exit_code"]),
        (&json!("succeeded"), &json!(0))
    );
    let Some(tools) = runbook_testkit::outside::require() else { return };
    let python = tools.join("python3");
    if !Command::new(&python).args(["-c", "import standardwebhooks"]).status().is_ok_and(|status| status.success()) {
        return runbook_testkit::lab::skip("standardwebhooks is missing; run tests/setup");
    }
    let verify = |body: &str, headers: &BTreeMap<String, String>| {
        let program = "import sys, json\nfrom standardwebhooks.webhooks import Webhook\n\
                       Webhook(sys.argv[1]).verify(sys.argv[2], json.loads(sys.argv[3]))";
        let headers = serde_json::to_string(headers).unwrap();
        let done = Command::new(&python).args(["-c", program, SECRET, body, &headers]).stderr(Stdio::null()).status();
        done.unwrap().success()
    };
    assert!(verify(&request.body, &request.headers));
    assert!(!verify(&request.body.replace("succeeded", "failed"), &request.headers));
    let mut later = request.headers.clone();
    later.insert("webhook-timestamp".into(), "1700000000".into());
    assert!(!verify(&request.body, &later));
}

#[test]
fn the_address_of_a_chat_is_a_secret_also_when_the_other_side_repeats_it() {
    let path = "/services/T0123456/B0123456/qwertzuiopasdfgh";
    let hook = Hook::start(move |request| {
        let body = format!("<h1>not found</h1> {} {}", request.path, "qwertzuiopasdfgh");
        Some(("404 Not Found".into(), body))
    });
    let place = project("[notify.chat]\nkind = \"slack\"\nurl = { env = \"CHAT\" }\n");
    let mut command = place.command(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]);
    let output = command.env("CHAT", format!("{}{path}", hook.url)).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(hook.next().path, path);
    let notice = &on_record(&place)[0];
    assert_eq!(notice["outcome"], "given_up");
    assert!(notice["answer"].as_str().unwrap().contains("404"), "{notice}");
    assert!(!holds(&database(&place), "qwertzuiop") && !holds(&output.stderr, "qwertzuiop"));
}

#[test]
fn somebody_who_asks_for_patience_gets_it_and_nobody_is_followed_elsewhere() {
    let hook = Hook::start(|_| Some(("429 Too Many Requests\r\nretry-after: 300".into(), "slow down".into())));
    let place = project(&format!("[notify.chat]\nkind = \"teams\"\nurl = \"{}/workflows/x\"\n", hook.url));
    apply(&place);
    let card = hook.next().json();
    assert_eq!(card["attachments"][0]["contentType"], "application/vnd.microsoft.card.adaptive");
    let message = &messages(&place)[0];
    let time = |key: &str| message[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let pause = time("next").duration_since(time("created")).as_secs();
    assert!((299..320).contains(&pause), "{pause}");

    let elsewhere = Hook::taking();
    let target = elsewhere.url.clone();
    let hook = Hook::start(move |_| Some((format!("307 Temporary Redirect\r\nlocation: {target}/"), String::new())));
    set(&place, &format!("[notify.chat]\nkind = \"teams\"\nurl = \"{}/workflows/x\"\n", hook.url));
    place.run(&["notify", "send", "--now"]).code(0);
    assert_eq!(states(&place), ["ended given_up"]);
    assert!(elsewhere.got.try_recv().is_err());
}

#[test]
fn a_refusal_and_the_end_of_a_dead_program_are_told_too() {
    let hook = Hook::taking();
    let place = project(&webhook(&hook.url, ""));
    let child = place.start_waiting();
    let killed = Command::new("kill").args(["-KILL", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let mut child = child;
    child.wait().unwrap();
    place.run(&["notify", "send"]).code(0);
    let died = hook.next().json();
    assert_eq!((&died["type"], &died["data"]["news"]["runbook"]), (&json!("run.died"), &json!("waiting")));
    place.write("go", "");
    place.run(&["resume", "last"]).code(0);
    let mut kinds = vec![hook.next().json()["type"].clone()];
    // More was on record by the time that it was taken up than when it was looked at first, or it was not.
    kinds.extend(hook.got.try_iter().map(|request| request.json()["type"].clone()));
    assert_eq!(kinds.last(), Some(&json!("run.ended")));

    place.write(
        "windows.yaml",
        "schema: windows/v1\nzone: UTC\nfreezes:\n  audit: {reason: audit, from: 2020-01-01, until: 2099-01-01}\n",
    );
    let said = place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]);
    if said.code == Some(3) {
        let refused = hook.next().json();
        assert_eq!(refused["type"], "run.refused");
        assert!(!refused["data"]["news"]["lines"].as_array().unwrap().is_empty());
    } else {
        panic!("{said:?}");
    }
}

#[test]
fn settings_and_templates_are_checked_and_told_with_their_line() {
    let place = project(
        "[notify.a]\nkind = \"smpt\"\n[notify.b]\nkind = \"slack\"\nurl = \"http://chat.example/x-secret-x\"\n[notify.c]\n\
         kind = \"webhook\"\nurl = \"https://h.example\"\nsecret = \"in-the-file\"\n[notify.d]\nkind = \"smtp\"\n\
         host = \"mx.example\"\ntls = \"none\"\nfrom = \"a@b\"\nto = [\"x@y>\\r\\nRCPT TO:<z@w\"]\non = [\"endd\"]\n",
    );
    let said = place.run(&["notify", "check"]).code(2).stderr;
    for wanted in [
        "line 2: [notify.a] there is no channel of kind `smpt`; did you mean `smtp`?",
        "line 5: [notify.b] `url` cannot be used: it must begin with https://",
        "line 9: [notify.c] a secret does not stand in this file",
        "line 13: [notify.d] `tls = \"none\"` is for a mail server on this machine alone",
        "is no plain mail address",
        "line 16: [notify.d] there is no news called `endd`",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    assert!(!said.contains("x-secret-x") && !said.contains("in-the-file"), "{said}");

    let hook = Hook::taking();
    set(&place, &webhook(&hook.url, "template = \"ended.txt\"\n"));
    place.write("ended.txt", "Subject: {{runbok}}\n{{text}}");
    let said = place.run(&["notify", "check"]).code(2).stderr;
    assert!(said.contains("runbok") && said.contains("ended.txt"), "{said}");
    place.write("ended.txt", "Subject: {{runbook}} on {{controller}}\n{{outcome}}");
    place.run(&["notify", "check"]).code(0);
    apply(&place);
    assert_eq!(hook.next().json()["data"]["text"], "succeeded");
    place.run(&["notify", "test", "hook"]).code(0);
    assert_eq!(hook.next().json()["type"], "run.test");
    assert!(place.run(&["notify", "test", "chat"]).code(2).stderr.contains("RB0755"));
}
