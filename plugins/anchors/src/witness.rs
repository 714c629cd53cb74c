//! A witness (C2SP tlog-witness): it has seen this head, and that it continues all heads that it saw before.

use std::time::Duration;

use async_trait::async_trait;
use hyper::StatusCode;
use runbook_ledger::note::Note;
use runbook_ledger::witness::{AddCheckpoint, size};
use runbook_ledger::{WitnessKey, cosignature};
use runbook_model::units::rfc3339_ms;
use runbook_ports::anchor::{Anchor, AnchorError, Receipt, Request};
use runbook_wire::{Tls, Url};

/// The longest answer that is read: a few signature lines.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// How often the size is corrected by the witness's word: others may give it heads at the same time.
const TRIES_MAX: u32 = 4;

/// A witness. A receipt is the signed note with the witness's cosignature below the ledger's own signature.
#[derive(Debug, Clone)]
pub struct Witness {
    /// The anchor's name.
    pub name: String,
    /// The submission prefix.
    pub url: Url,
    /// Its key.
    pub key: WitnessKey,
    /// How it is spoken to.
    pub tls: Tls,
}

#[async_trait]
impl Anchor for Witness {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "witness"
    }

    async fn anchor(&self, request: Request<'_>) -> Result<Receipt, AnchorError> {
        crate::by(request.within, &self.url.to_string(), self.add_checkpoint(&request)).await
    }

    async fn reach(&self, within: Duration) -> Result<String, AnchorError> {
        crate::by(within, &self.url.to_string(), crate::reach(&self.url, &self.tls)).await
    }
}

impl Witness {
    async fn add_checkpoint(&self, request: &Request<'_>) -> Result<Receipt, AnchorError> {
        let head = request.head;
        let url = self.url.join("add-checkpoint");
        let mut old = request.known.min(head.size);
        for _ in 0..TRIES_MAX {
            let proof = match old {
                0 => Vec::new(),
                old => request.history.consistency(old, head.size).await.map_err(AnchorError::Refused)?,
            };
            let body = AddCheckpoint { old, proof, checkpoint: head.note.clone() }.text();
            let answer =
                crate::post(&url, &self.tls, "text/plain; charset=utf-8", body.into_bytes(), ANSWER_BYTES_MAX).await?;
            let told = || answer.told();
            match answer.status {
                StatusCode::OK => return self.receipt(&head.note, &answer.body),
                StatusCode::CONFLICT => {
                    let there = std::str::from_utf8(&answer.body).ok().and_then(|body| size(body.strip_suffix('\n')?));
                    match there {
                        Some(there) if there > head.size => {
                            let why = format!("this ledger's head is of {}", head.size);
                            return Err(AnchorError::OtherHead { size: there, why });
                        }
                        Some(there) if there != old => old = there,
                        // Of the same size, and it says so although we did: with another root.
                        _ if old == head.size => {
                            return Err(AnchorError::OtherHead { size: old, why: "its root is another one".into() });
                        }
                        _ => return Err(AnchorError::NotAReceipt(told())),
                    }
                }
                StatusCode::UNPROCESSABLE_ENTITY => {
                    let why = "this ledger does not begin with its records".into();
                    return Err(AnchorError::OtherHead { size: old, why });
                }
                StatusCode::NOT_FOUND => {
                    return Err(AnchorError::Refused(format!(
                        "it does not know the ledger {}: give it the ledger's public key ({})",
                        head.origin,
                        told()
                    )));
                }
                StatusCode::FORBIDDEN => {
                    return Err(AnchorError::Refused(format!(
                        "it knows another key of the ledger {} ({})",
                        head.origin,
                        told()
                    )));
                }
                status if status.is_client_error() => return Err(AnchorError::Refused(told())),
                _ => return Err(AnchorError::Unreachable(told())),
            }
        }
        Err(AnchorError::Unreachable(format!("{url}: its size changes all the time")))
    }

    fn receipt(&self, note: &str, lines: &[u8]) -> Result<Receipt, AnchorError> {
        let wrong = |why: String| {
            AnchorError::NotAReceipt(format!("{} answers with no cosignature of its key: {why}", self.url))
        };
        let lines = std::str::from_utf8(lines).map_err(|error| wrong(error.to_string()))?;
        let cosigned = format!("{note}{lines}");
        let read = Note::parse(&cosigned).map_err(|error| wrong(error.to_string()))?;
        // The lines must not change what is signed.
        if !note.starts_with(read.text()) || !note[read.text().len()..].starts_with('\n') {
            return Err(wrong("it puts another text in the place of the head".into()));
        }
        let time_s = cosignature::verify(&read, &self.key).map_err(|error| wrong(error.to_string()))?;
        let told = format!("cosigned by {} at {}", self.key.name(), rfc3339_ms(time_s.saturating_mul(1_000)));
        Ok(Receipt { bytes: cosigned.into_bytes(), told })
    }
}
