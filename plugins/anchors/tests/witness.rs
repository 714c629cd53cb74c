//! A witness on a port of this machine, and ledgers that are what they were and that are not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use runbook_anchors::server::{self, Plain};
use runbook_anchors::{Tls, Witness};
use runbook_ledger::note::Note;
use runbook_ledger::{FileKey, VerifierKey, WitnessKey, cosignature};
use runbook_ports::Anchor as _;
use runbook_ports::anchor::{AnchorError, Receipt, Request};
use runbook_testkit::anchors::{Answer, Ledger, Pki, Server};
use runbook_testkit::virtual_clock::VirtualClock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A witness that answers until it is dropped.
struct Running {
    url: String,
    key: WitnessKey,
    address: std::net::SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    done: Option<tokio::task::JoinHandle<Result<(), server::Error>>>,
}

impl Running {
    async fn start(folder: &Path, origins: Vec<VerifierKey>, plain: Plain) -> Self {
        let witness =
            server::Witness::open(folder, Some("w.example/1"), origins, Arc::new(VirtualClock::new())).unwrap();
        let witness = Arc::new(witness);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if plain == Plain::Http { "http" } else { "https" };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let key = witness.key().clone();
        let done = tokio::spawn(async move {
            server::serve(witness, listener, plain, async {
                let _ = stopped.await;
            })
            .await
        });
        Self { url: format!("{scheme}://{address}"), key, address, stop: Some(stop), done: Some(done) }
    }

    async fn stop(mut self) {
        drop(self.stop.take());
        self.done.take().unwrap().await.unwrap().unwrap();
    }

    async fn ask(&self, ledger: &Ledger, size: u64, known: u64, tls: Tls) -> Result<Receipt, AnchorError> {
        ask(&self.url, &self.key, ledger, size, known, tls).await
    }
}

async fn ask(
    url: &str,
    key: &WitnessKey,
    ledger: &Ledger,
    size: u64,
    known: u64,
    tls: Tls,
) -> Result<Receipt, AnchorError> {
    let anchor = Witness { name: "w".into(), url: url.parse().unwrap(), key: key.clone(), tls };
    let head = ledger.head(size);
    let within = Duration::from_secs(20);
    anchor.anchor(Request { head: &head, known, history: ledger, now_ms: 0, within }).await
}

#[tokio::test]
async fn heads_that_continue_are_cosigned_from_whatever_size_the_ledger_thinks_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(40, |_| 0);
    let witness = Running::start(folder.path(), vec![ledger.key.clone()], Plain::Http).await;
    for (size, known) in [(3, 0), (3, 3), (8, 3), (21, 0), (22, 5), (40, 39), (40, 0)] {
        let receipt = witness.ask(&ledger, size, known, Tls::default()).await.unwrap();
        let note = Note::parse(std::str::from_utf8(&receipt.bytes).unwrap()).unwrap();
        assert!(cosignature::verify(&note, &witness.key).is_ok(), "{size}");
        assert!(note.verify(&ledger.key).is_ok());
    }
    // It has not forgotten after its end.
    witness.stop().await;
    let witness = Running::start(folder.path(), vec![ledger.key.clone()], Plain::Http).await;
    let smaller = witness.ask(&ledger, 39, 39, Tls::default()).await;
    assert_eq!(smaller, Err(AnchorError::OtherHead { size: 40, why: "this ledger's head is of 39".into() }));
    assert!(witness.ask(&ledger, 40, 40, Tls::default()).await.is_ok());
}

#[tokio::test]
async fn a_fork_a_rewritten_and_a_rolled_back_ledger_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(20, |_| 0);
    let witness = Running::start(folder.path(), vec![ledger.key.clone()], Plain::Http).await;
    witness.ask(&ledger, 12, 0, Tls::default()).await.unwrap();
    let fork = Ledger::new(20, |seq| u8::from(seq >= 11));
    for known in [0, 5, 12] {
        let larger = witness.ask(&fork, 20, known, Tls::default()).await;
        assert!(matches!(larger, Err(AnchorError::OtherHead { size: 12, .. })), "{larger:?}");
        let same = witness.ask(&fork, 12, known, Tls::default()).await;
        assert!(matches!(same, Err(AnchorError::OtherHead { size: 12, .. })), "{same:?}");
        let smaller = witness.ask(&fork, 11, known.min(11), Tls::default()).await;
        assert!(matches!(smaller, Err(AnchorError::OtherHead { size: 12, .. })), "{smaller:?}");
    }
    // It still goes on with the true one.
    witness.ask(&ledger, 20, 12, Tls::default()).await.unwrap();
}

#[tokio::test]
async fn a_ledger_that_is_not_known_or_has_another_key_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(5, |_| 0);
    let other = FileKey::from_seed([9; 32]);
    let stranger = VerifierKey::new("runbook-other", &other.public_key()).unwrap();
    let namesake = VerifierKey::new(ledger.key.name(), &other.public_key()).unwrap();
    for (origins, words) in [(vec![stranger], "it does not know the ledger"), (vec![namesake], "it knows another key")]
    {
        let witness = Running::start(folder.path(), origins, Plain::Http).await;
        let refused = witness.ask(&ledger, 5, 0, Tls::default()).await.unwrap_err();
        assert!(matches!(&refused, AnchorError::Refused(text) if text.contains(words)), "{refused:?}");
        witness.stop().await;
    }
}

#[tokio::test]
async fn a_witness_over_tls_is_believed_with_its_authority_alone() {
    let pki = Pki::new();
    pki.certify_server("w");
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(5, |_| 0);
    let plain = Plain::Tls(pki.path("w.pem"), pki.path("w.key"));
    let witness = Running::start(folder.path(), vec![ledger.key.clone()], plain).await;
    let with = |ca: &Path| Tls { ca: Some(ca.to_owned()), client: None };
    witness.ask(&ledger, 5, 0, with(&pki.path("ca.pem"))).await.unwrap();
    let stranger = Pki::new();
    let refused = witness.ask(&ledger, 5, 0, with(&stranger.path("ca.pem"))).await.unwrap_err();
    assert!(matches!(&refused, AnchorError::Refused(text) if text.contains("certificate")), "{refused:?}");
}

#[tokio::test]
async fn only_one_process_is_the_witness_in_a_folder_and_its_key_is_its_own() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let open = |name| server::Witness::open(folder.path(), name, Vec::new(), Arc::new(VirtualClock::new()));
    let first = open(None).unwrap();
    assert!(matches!(open(None), Err(server::Error::Taken(_))));
    let key = first.key().clone();
    drop(first);
    assert_eq!(*open(None).unwrap().key(), key);
    assert!(matches!(open(Some("another")), Err(server::Error::Settings(_))));
    let private = folder.path().join("witness.key");
    let mode = std::fs::metadata(&private).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(open(None), Err(server::Error::Open { mode: 0o640, .. })));
    std::fs::remove_file(&private).unwrap();
    assert!(matches!(open(None), Err(server::Error::Damaged { .. })));
}

#[tokio::test]
async fn a_head_that_does_not_read_any_more_stops_the_witness_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(5, |_| 0);
    let witness = Running::start(folder.path(), vec![ledger.key.clone()], Plain::Http).await;
    witness.ask(&ledger, 5, 0, Tls::default()).await.unwrap();
    witness.stop().await;
    let head = std::fs::read_dir(folder.path().join("heads")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&head, "").unwrap();
    let opened = server::Witness::open(folder.path(), None, Vec::new(), Arc::new(VirtualClock::new()));
    assert!(matches!(opened, Err(server::Error::Damaged { .. })));
}

#[tokio::test]
async fn ledgers_that_ask_at_the_same_time_never_take_the_witness_back() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Arc::new(Ledger::new(40, |_| 0));
    let witness = Running::start(folder.path(), vec![ledger.key.clone()], Plain::Http).await;
    let mut asked = tokio::task::JoinSet::new();
    for size in 1..=40 {
        let (ledger, url, key) = (Arc::clone(&ledger), witness.url.clone(), witness.key.clone());
        asked.spawn(async move { (size, ask(&url, &key, &ledger, size, 0, Tls::default()).await) });
    }
    let mut cosigned = 0;
    while let Some(answer) = asked.join_next().await {
        match answer.unwrap() {
            (size, Ok(_)) => cosigned = cosigned.max(size),
            // Overtaken: by a larger head, or all the time.
            (size, Err(AnchorError::OtherHead { size: there, .. })) => assert!(there > size, "{there} {size}"),
            (_, Err(error)) => assert!(matches!(error, AnchorError::Unreachable(_)), "{error:?}"),
        }
    }
    let kept = server::Witness::open(folder.path(), None, Vec::new(), Arc::new(VirtualClock::new()));
    assert!(matches!(kept, Err(server::Error::Taken(_))), "it still runs");
    witness.stop().await;
    let kept = server::Witness::open(folder.path(), None, Vec::new(), Arc::new(VirtualClock::new())).unwrap();
    assert_eq!(kept.known(), [(ledger.key.name().to_owned(), cosigned)]);
}

async fn raw(address: std::net::SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // It may have closed before it has read all.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn requests_that_are_none_too_long_or_elsewhere_are_answered_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(5, |_| 0);
    let witness = Running::start(folder.path(), vec![ledger.key.clone()], Plain::Http).await;
    let post = |body: &str| {
        let length = body.len();
        format!(
            "POST /add-checkpoint HTTP/1.1\r\nhost: w\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    let note = ledger.head(5).note;
    for (request, status) in [
        ("GET /add-checkpoint HTTP/1.1\r\nhost: w\r\nconnection: close\r\n\r\n".to_owned(), "405"),
        ("GET / HTTP/1.1\r\nhost: w\r\nconnection: close\r\n\r\n".to_owned(), "404"),
        (post("old 0\n"), "400"),
        (post(&format!("old 6\n\n{note}")), "400"),
        (post(&format!("old 0\nPlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\n{note}")), "422"),
        (post(&"x".repeat(70_000)), "413"),
        (post(&format!("old 3\n\n{note}")), "409"),
        (post(&format!("old 0\n\n{note}")), "200"),
        ("not http\r\n\r\n".to_owned(), "400"),
    ] {
        let answer = raw(witness.address, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {answer}");
    }
    let conflict = raw(witness.address, post(&format!("old 0\n\n{note}")).as_bytes()).await;
    assert!(conflict.contains("content-type: text/x.tlog.size") && conflict.ends_with("\r\n\r\n5\n"), "{conflict}");
}

#[tokio::test]
async fn an_answer_that_is_no_cosignature_of_the_witnesss_key_is_no_receipt() {
    let ledger = Ledger::new(5, |_| 0);
    let secret = FileKey::from_seed([3; 32]);
    let key = WitnessKey::new("w", &secret.public_key()).unwrap();
    let head = ledger.head(5);
    let text = Note::parse(&head.note).unwrap().text().to_owned();
    let line = |text: &str| cosignature::sign(text, 9, &key, |bytes| Ok(secret.sign(bytes))).unwrap();
    let good = line(&text);
    let other_text = line(&text.replace("\n5\n", "\n6\n"));
    let answers = [
        (good.clone(), true),
        (format!("{good}{good}"), true),
        (other_text, false),
        (String::new(), false),
        ("\n".into(), false),
        (format!("\n{good}"), false),
        (format!("other\n\n{good}"), false),
        (good.trim_end().to_owned(), false),
        (good.replace(" w ", " x "), false),
    ];
    for (answer, receipt) in answers {
        let told = answer.clone();
        let server = Server::start(move |_| Answer::Whole("200 OK", "text/plain", answer.clone().into_bytes()));
        let asked = ask(&server.url, &key, &ledger, 5, 0, Tls::default()).await;
        assert_eq!(asked.is_ok(), receipt, "{told:?}: {asked:?}");
    }
    // A size that leads nowhere does not go on for ever.
    let mut size = 0;
    let server = Server::start(move |_| {
        size = (size + 1) % 5;
        Answer::Whole("409 Conflict", "text/x.tlog.size", format!("{size}\n").into_bytes())
    });
    let asked = ask(&server.url, &key, &ledger, 5, 0, Tls::default()).await;
    assert!(matches!(asked, Err(AnchorError::Unreachable(_))), "{asked:?}");
}
