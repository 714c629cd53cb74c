//! A time stamp authority (RFC 3161 over HTTP): the head existed at a time, says the authority.

use std::io::Read as _;
use std::time::Duration;

use async_trait::async_trait;
use runbook_ledger::timestamp::{self, RESPONSE_BYTES_MAX};
use runbook_model::Sha256;
use runbook_model::units::rfc3339_ms;
use runbook_ports::anchor::{Anchor, AnchorError, Receipt, Request};
use runbook_wire::{Tls, Url};

/// An authority. A receipt is its response (DER `TimeStampResp`) exactly: `openssl ts -verify -in` takes it. The stamp is of
/// the bytes of the signed note.
///
/// Whether the response is signed by an authority that one trusts is judged when evidence is verified, by whoever
/// verifies it; here it is checked that it is a stamp of this head, for this request.
#[derive(Debug, Clone)]
pub struct TimeStamps {
    /// The anchor's name.
    pub name: String,
    /// Where it is asked.
    pub url: Url,
    /// How.
    pub tls: Tls,
}

#[async_trait]
impl Anchor for TimeStamps {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "rfc3161"
    }

    async fn anchor(&self, request: Request<'_>) -> Result<Receipt, AnchorError> {
        let head = request.head.note.as_bytes();
        let nonce = nonce().map_err(|error| AnchorError::Refused(format!("no random numbers: {error}")))?;
        let body = timestamp::request(&Sha256::of(head), &nonce);
        let asked = crate::post(&self.url, &self.tls, "application/timestamp-query", body, RESPONSE_BYTES_MAX);
        let answer = crate::by(request.within, &self.url.to_string(), asked).await?;
        if !answer.status.is_success() {
            let told = answer.told();
            return Err(if answer.status.is_server_error() {
                AnchorError::Unreachable(told)
            } else {
                AnchorError::Refused(told)
            });
        }
        if answer.content_type != "application/timestamp-reply" {
            return Err(AnchorError::NotAReceipt(format!("{} answers with no time stamp", self.url)));
        }
        let stamp = timestamp::parse(&answer.body)
            .and_then(|stamp| stamp.must_be_of(head).and_then(|()| stamp.must_answer(&nonce)).map(|()| stamp));
        let stamp = stamp.map_err(|error| match error {
            timestamp::Error::Refused(_) => AnchorError::Refused(error.to_string()),
            error => AnchorError::NotAReceipt(error.to_string()),
        })?;
        let told = format!("stamped at {}", rfc3339_ms(stamp.time_s.saturating_mul(1_000)));
        Ok(Receipt { bytes: answer.body.to_vec(), told })
    }

    async fn reach(&self, within: Duration) -> Result<String, AnchorError> {
        crate::by(within, &self.url.to_string(), crate::reach(&self.url, &self.tls)).await
    }
}

/// What no earlier answer can hold.
fn nonce() -> std::io::Result<[u8; 8]> {
    let mut nonce = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut nonce)?;
    // Without its highest bit it is a positive number of eight bytes, which every authority can read.
    nonce[0] = nonce[0] & 0x7f | 0x40;
    Ok(nonce)
}
