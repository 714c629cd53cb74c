//! A real time stamp authority, and those that mean harm.

use std::time::Duration;

use runbook_anchors::{TimeStamps, Tls};
use runbook_ledger::timestamp;
use runbook_ports::Anchor as _;
use runbook_ports::anchor::{AnchorError, Receipt, Request};
use runbook_testkit::anchors::{Answer, Ledger, Pki, Server, Tsa};

async fn ask(url: &str, within: Duration) -> Result<Receipt, AnchorError> {
    let ledger = Ledger::new(9, |_| 0);
    let head = ledger.head(9);
    let anchor = TimeStamps { name: "tsa".into(), url: url.parse().unwrap(), tls: Tls::default() };
    anchor.anchor(Request { head: &head, known: 0, history: &ledger, now_ms: 0, within }).await
}

async fn answered(answer: impl FnMut(Vec<u8>) -> Answer + Send + 'static) -> AnchorError {
    let server = Server::start(answer);
    ask(&server.url, Duration::from_secs(20)).await.expect_err("no receipt")
}

#[tokio::test]
async fn an_authority_stamps_a_head_and_openssl_verifies_the_receipt() {
    let pki = Pki::new();
    let server = Tsa::new(&pki, "tsa", 30).serve();
    let receipt = ask(&server.url, Duration::from_secs(20)).await.unwrap();
    assert!(receipt.told.starts_with("stamped at 20"), "{}", receipt.told);
    let note = Ledger::new(9, |_| 0).head(9).note;
    let stamp = timestamp::parse(&receipt.bytes).unwrap();
    stamp.must_be_of(note.as_bytes()).unwrap();
    std::fs::write(pki.path("head"), &note).unwrap();
    std::fs::write(pki.path("token"), &receipt.bytes).unwrap();
    let verify = |data: &str| {
        let arguments = ["ts", "-verify", "-data", data, "-in", "token", "-CAfile", "ca.pem"];
        std::process::Command::new("openssl")
            .args(arguments)
            .current_dir(pki.folder())
            .output()
            .unwrap()
            .status
            .success()
    };
    assert!(verify("head"));
    std::fs::write(pki.path("other"), note.replace('9', "8")).unwrap();
    assert!(!verify("other"));
}

#[tokio::test]
async fn a_stamp_of_another_head_for_another_request_or_over_sha1_is_no_receipt() {
    let pki = Pki::new();
    let tsa = Tsa::new(&pki, "tsa", 30);
    let stamp = |bytes: &[u8], digest: &str| tsa.reply(&Tsa::query(bytes, digest));
    let own = Ledger::new(9, |_| 0).head(9).note;
    let other = stamp(b"another head", "-sha256");
    let error = answered(move |_| Tsa::answer(other.clone())).await;
    assert_eq!(error, AnchorError::NotAReceipt(timestamp::Error::OtherImprint.to_string()));
    // A true stamp of this head, which answers an earlier request.
    let earlier = stamp(own.as_bytes(), "-sha256");
    let error = answered(move |_| Tsa::answer(earlier.clone())).await;
    assert_eq!(error, AnchorError::NotAReceipt(timestamp::Error::OtherNonce.to_string()));
    let weak = stamp(own.as_bytes(), "-sha1");
    let error = answered(move |_| Tsa::answer(weak.clone())).await;
    assert_eq!(error, AnchorError::NotAReceipt(timestamp::Error::WeakDigest("SHA-1").to_string()));
}

#[tokio::test]
async fn an_authority_that_refuses_is_quoted() {
    let pki = Pki::new();
    let tsa = Tsa::new(&pki, "tsa", 30);
    // What it does not know as a digest, it refuses in its own words.
    let refusal = tsa.reply(&Tsa::query(b"x", "-sha512"));
    let error = answered(move |_| Tsa::answer(refusal.clone())).await;
    assert!(matches!(&error, AnchorError::Refused(text) if text.contains("refuses")), "{error:?}");
}

#[tokio::test]
async fn hostile_and_broken_servers_cost_neither_memory_nor_time() {
    let error = answered(|_| Answer::Endless("application/timestamp-reply")).await;
    assert!(matches!(&error, AnchorError::NotAReceipt(text) if text.contains("more than")), "{error:?}");
    let error = answered(|_| Answer::Whole("200 OK", "text/html", b"<h1>log in</h1>".to_vec())).await;
    assert!(matches!(error, AnchorError::NotAReceipt(_)), "{error:?}");
    let error = answered(|_| Answer::Whole("200 OK", "application/timestamp-reply", vec![0x30, 0x84, 0xff])).await;
    assert!(matches!(error, AnchorError::NotAReceipt(_)), "{error:?}");
    // A redirect is not followed.
    let error =
        answered(|_| Answer::Bytes(b"HTTP/1.1 302 Found\r\nlocation: http://10.0.0.1/\r\ncontent-length: 0\r\n\r\n"))
            .await;
    assert_eq!(error, AnchorError::Refused("302 Found".into()));
    let error = answered(|_| Answer::Whole("503 Busy", "text/plain", b"come\r\nback \x1b[31mlater".to_vec())).await;
    assert_eq!(error, AnchorError::Unreachable("503 Service Unavailable: come  back  [31mlater".into()));
    let error = answered(|_| Answer::Bytes(b"220 smtp ready\r\n")).await;
    assert!(matches!(error, AnchorError::Unreachable(_)), "{error:?}");
    let error = answered(|_| Answer::Bytes(b"")).await;
    assert!(matches!(error, AnchorError::Unreachable(_)), "{error:?}");
    let error = ask(&Server::nobody(), Duration::from_secs(20)).await.unwrap_err();
    assert!(matches!(error, AnchorError::Unreachable(_)), "{error:?}");
    let silent = Server::start(|_| Answer::Silence);
    let error = ask(&silent.url, Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(&error, AnchorError::Unreachable(text) if text.contains("within 0.3 s")), "{error:?}");
}
