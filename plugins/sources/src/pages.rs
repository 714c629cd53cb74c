//! Pages of an answer over HTTP: whole, each once, from one site, within one time.

use std::collections::BTreeSet;
use std::time::Duration;

use runbook_ports::SecretBytes;
use runbook_ports::hosts::SourceError;
use runbook_wire::http::{Answer, Method, Request, StatusCode, send};
use runbook_wire::{Tls, Url, WireError};
use tokio::time::Instant;

/// Pages of one answer.
const PAGES_MAX: usize = 1_000;
/// Somebody who asks to be left alone is asked so often.
const TRIES: u32 = 4;
/// Left alone for so long when nobody says how long.
const PAUSE: Duration = Duration::from_secs(1);

/// Who reads, how far they are, and until when.
pub(crate) struct Reader<'a> {
    tls: &'a Tls,
    headers: Vec<(&'static str, String)>,
    until: Instant,
    within: Duration,
    bytes_max: usize,
    /// The pages that were asked for.
    asked: BTreeSet<String>,
    /// The records that came, by their ids.
    pub(crate) ids: BTreeSet<String>,
    out: Vec<u8>,
}

/// A header's value out of a secret, which may not be one.
pub(crate) fn header(kind: &str, secret: &SecretBytes) -> Result<String, SourceError> {
    let text = std::str::from_utf8(secret.expose()).ok().filter(|text| text.bytes().all(|b| b.is_ascii_graphic()));
    let text = text.ok_or_else(|| SourceError::Refused("the token holds what cannot stand in a header".into()))?;
    Ok(format!("{kind} {text}"))
}

impl<'a> Reader<'a> {
    pub(crate) fn new(tls: &'a Tls, authorization: String, within: Duration, bytes_max: usize) -> Self {
        let headers = vec![("authorization", authorization), ("accept", "application/json".to_owned())];
        let (until, asked, ids) = (Instant::now() + within, BTreeSet::new(), BTreeSet::new());
        Self { tls, headers, until, within, bytes_max, asked, ids, out: vec![b'['] }
    }

    /// The next page.
    pub(crate) async fn page(&mut self, url: &Url) -> Result<Answer, SourceError> {
        if !self.asked.insert(url.path().to_owned()) {
            return Err(SourceError::Incomplete("a page names itself, or an earlier one, as the next".into()));
        }
        if self.asked.len() > PAGES_MAX {
            return Err(SourceError::Incomplete(format!("it has more than {PAGES_MAX} pages")));
        }
        let late = || SourceError::Unreachable(format!("it did not answer within {} s", self.within.as_secs()));
        for again in 1.. {
            let request = Request {
                method: Method::GET,
                url,
                tls: self.tls,
                shown: &url.site(),
                headers: &self.headers,
                body: None,
                bytes_max: self.bytes_max.saturating_sub(self.out.len()),
            };
            let answer = tokio::time::timeout_at(self.until, send(request)).await.map_err(|_| late())?;
            let answer = answer.map_err(|error| match error {
                WireError::Refused(why) => SourceError::Refused(why),
                WireError::TooLong(why) => SourceError::Incomplete(why),
                // Also an answer that ends before its end.
                WireError::Unreachable(why) => SourceError::Unreachable(why),
            })?;
            let busy = matches!(answer.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
            if !busy {
                return self.good(answer);
            }
            let pause = answer.retry_after_s.map_or(PAUSE * again, Duration::from_secs);
            let status = answer.status.as_u16();
            if again == TRIES {
                return Err(SourceError::Unreachable(format!(
                    "it is busy ({status}), also when it was asked {again} times"
                )));
            }
            if Instant::now() + pause >= self.until {
                let (pause, within) = (pause.as_secs(), self.within.as_secs());
                return Err(SourceError::Unreachable(format!(
                    "it is busy ({status}) and asks to be left alone for {pause} s, longer than the {within} s that it has"
                )));
            }
            tokio::time::sleep(pause).await;
        }
        Err(late())
    }

    fn good(&mut self, answer: Answer) -> Result<Answer, SourceError> {
        let status = answer.status;
        match status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => {
                return Err(SourceError::Refused(format!("it does not take the account or token ({})", answer.told())));
            }
            StatusCode::FORBIDDEN => {
                return Err(SourceError::Refused(format!("the account may not read this ({})", answer.told())));
            }
            _ if status.is_redirection() => {
                return Err(SourceError::Refused(format!(
                    "it sends elsewhere ({status}), and nobody is followed; is `url` right?"
                )));
            }
            _ => return Err(SourceError::Refused(answer.told())),
        }
        if answer.content_type != "application/json" {
            let kind = if answer.content_type.is_empty() { "nothing named" } else { &answer.content_type };
            return Err(SourceError::Refused(format!("it answers with {kind}, not with JSON; is `url` right?")));
        }
        if self.out.len() > 1 {
            self.out.extend(b",\n");
        }
        self.out.extend(&answer.body);
        Ok(answer)
    }

    /// A record that came; each comes once.
    pub(crate) fn record(&mut self, id: String) -> Result<(), SourceError> {
        if self.ids.contains(&id) {
            return Err(SourceError::Incomplete(format!(
                "the record {id} came twice: the list changed while it was read, or pages repeat"
            )));
        }
        self.ids.insert(id);
        Ok(())
    }

    /// All pages as one document, when all records are there that were announced.
    pub(crate) fn whole(mut self, announced: u64) -> Result<Vec<u8>, SourceError> {
        let came = self.ids.len() as u64;
        if came != announced {
            return Err(SourceError::Incomplete(format!(
                "it announced {announced} records and gave {came}: the list changed while it was read, or the account may not \
                 see all of them"
            )));
        }
        self.out.push(b']');
        Ok(self.out)
    }
}

/// A page that is not what it should be.
pub(crate) fn malformed(error: &serde_json::Error) -> SourceError {
    SourceError::Incomplete(format!("a page cannot be read, as if it were cut off: {error}"))
}
