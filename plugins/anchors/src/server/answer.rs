//! What a witness answers to `add-checkpoint`, as C2SP tlog-witness says:
//!
//! | what is wrong | answer |
//! | --- | --- |
//! | not in the form, or `old` is larger than the head | 400 |
//! | a ledger that it does not know | 404 |
//! | not signed by that ledger's key | 403 |
//! | `old` is not the size that it cosigned last, or the size is and the root is not | 409, with that size |
//! | the proof does not prove | 422 |
//! | it could not be made durable | 500 |

use hyper::StatusCode;
use runbook_ledger::note::Note;
use runbook_ledger::witness::AddCheckpoint;
use runbook_ledger::{Checkpoint, cosignature, proof};

use super::Witness;

/// An answer.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn text(status: StatusCode, body: impl Into<String>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: body.into() + "\n" }
    }

    fn size(size: u64) -> Self {
        Self { status: StatusCode::CONFLICT, content_type: "text/x.tlog.size", body: format!("{size}\n") }
    }
}

impl Witness {
    /// Blocking: it may write and sync a file.
    pub(super) fn add_checkpoint(&self, body: &[u8]) -> Reply {
        let Ok(text) = std::str::from_utf8(body) else { return Reply::text(StatusCode::BAD_REQUEST, "not UTF-8") };
        let (request, note) = match AddCheckpoint::parse(text) {
            Ok(read) => read,
            Err(error) => return Reply::text(StatusCode::BAD_REQUEST, error.to_string()),
        };
        let head = match Checkpoint::parse(note.text()) {
            Ok(head) => head,
            Err(error) => return Reply::text(StatusCode::BAD_REQUEST, error.to_string()),
        };
        let mut keys = self.origins.iter().filter(|key| key.name() == head.origin).peekable();
        if keys.peek().is_none() {
            return Reply::text(StatusCode::NOT_FOUND, "this ledger is not known here");
        }
        if !keys.any(|key| note.verify(key).is_ok()) {
            return Reply::text(StatusCode::FORBIDDEN, "the head is not signed by the ledger's key");
        }
        if request.old > head.size {
            return Reply::text(StatusCode::BAD_REQUEST, "the old size is larger than the head's");
        }
        self.continues(&request, &note, head)
    }

    /// From the comparison with what was cosigned last up to its replacement nobody else gets in between.
    fn continues(&self, request: &AddCheckpoint, note: &Note, head: Checkpoint) -> Reply {
        let mut heads = self.heads.lock().expect("nobody panics with it");
        let last = heads.newest(&head.origin);
        let known = last.map_or(0, |last| last.size);
        if request.old != known {
            return Reply::size(known);
        }
        if let Some(last) = last {
            if last.size == head.size && last.root != head.root {
                return Reply::size(known);
            }
            let proved = proof::verify_consistency((last.size, &last.root), (head.size, &head.root), &request.proof);
            if last.size > 0 && proved.is_err() {
                return Reply::text(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "the head is not proved to continue the last one",
                );
            }
        }
        if known == 0 && !request.proof.is_empty() {
            return Reply::text(StatusCode::UNPROCESSABLE_ENTITY, "from an old size of 0 there is nothing to prove");
        }
        let time_s = self.clock.now_ms() / 1_000;
        let line = match cosignature::sign(note.text(), time_s, &self.key, |bytes| Ok(self.signer.sign(bytes))) {
            Ok(line) => line,
            Err(error) => return Reply::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        };
        let (origin, size) = (head.origin.clone(), head.size);
        if let Err(error) = heads.put(head, &format!("{}{line}", request.checkpoint)) {
            tracing::error!(target: "runbook", "the head of {origin} could not be kept: {error}");
            return Reply::text(StatusCode::INTERNAL_SERVER_ERROR, "the head could not be kept");
        }
        tracing::info!(target: "runbook", "cosigned {size} records of {origin}");
        Reply { status: StatusCode::OK, content_type: "text/plain; charset=utf-8", body: line }
    }
}
