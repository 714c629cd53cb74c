//! A system that is logged in to: one request, and what its answer means.

use std::time::Duration;

use runbook_model::Sha256;
use runbook_ports::SecretBytes;
use runbook_ports::tickets::TicketError;
use runbook_wire::http::{self, Answer, Method, Request, StatusCode};
use runbook_wire::{Address, Login, Tls, Url, WireError};
use serde_json::Value;

/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// So many pages of a list are read.
pub(crate) const PAGES_MAX: usize = 100;

/// Nobody is waited for longer than that at once, whatever he asks for (seconds).
const PATIENCE_S_MAX: u64 = 3_600;

/// A system.
#[derive(Clone)]
pub struct Site {
    /// Its name in the settings.
    pub name: String,
    /// Where it is.
    pub address: Address,
    /// How it is spoken to.
    pub tls: Tls,
    /// How we are let in.
    pub login: Login<SecretBytes>,
}

/// What is sent.
pub(crate) enum Body<'b> {
    None,
    Json(Value),
    /// One file, as its own body.
    File(&'b str, &'b [u8]),
    /// One file in a form: the field's name, the file's name, its type, its bytes.
    Form(&'b str, &'b str, &'b str, &'b [u8]),
}

impl Site {
    /// Asks once. It is for the caller to bound the time of all that he asks ([`Self::by`]).
    ///
    /// # Errors
    /// What is not answered well, told for people, without secrets.
    pub(crate) async fn ask(&self, method: Method, url: &Url, body: Body<'_>) -> Result<Answer, TicketError> {
        let site = self.address.site();
        let mut headers = vec![("accept", "application/json".to_owned())];
        headers.extend(self.login.header().map_err(TicketError::later)?.map(|value| ("authorization", value)));
        let body = match body {
            Body::None => None,
            Body::Json(value) => Some(("application/json".to_owned(), value.to_string().into_bytes())),
            Body::File(kind, bytes) => Some((kind.to_owned(), bytes.to_vec())),
            Body::Form(field, name, kind, bytes) => {
                // Jira takes no file without it: it shows that no page of somebody else sent the form.
                headers.push(("x-atlassian-token", "no-check".to_owned()));
                // Nothing holds its own digest, whatever a host has printed into a report.
                let boundary = Sha256::of(bytes).to_string();
                let form = form(&boundary, field, name, kind, bytes);
                Some((format!("multipart/form-data; boundary={boundary}"), form))
            }
        };
        let request = Request {
            method,
            url,
            tls: &self.tls,
            shown: &site,
            headers: &headers,
            body: body.as_ref().map(|(kind, bytes)| (kind.as_str(), bytes.clone())),
            bytes_max: ANSWER_BYTES_MAX,
        };
        let answer = http::send(request).await.map_err(|error| match error {
            WireError::TooLong(why) => TicketError::Never(why),
            error => TicketError::later(error.to_string()),
        })?;
        judge(&site, answer).map_err(|error| self.without_secrets(error))
    }

    fn without_secrets(&self, error: TicketError) -> TicketError {
        match error {
            TicketError::Later { why, after_ms } => TicketError::Later { why: self.login.without(&why), after_ms },
            TicketError::Never(why) => TicketError::Never(self.login.without(&why)),
            TicketError::Missing(why) => TicketError::Missing(self.login.without(&why)),
        }
    }

    /// All of `work` within the time.
    ///
    /// # Errors
    /// Its own; and when the time is over.
    pub(crate) async fn by<T>(
        &self,
        within: Duration,
        work: impl Future<Output = Result<T, TicketError>>,
    ) -> Result<T, TicketError> {
        match tokio::time::timeout(within, work).await {
            Ok(done) => done,
            Err(_) => {
                let site = self.address.site();
                Err(TicketError::later(format!("{site} did not answer within {} s", within.as_secs_f32())))
            }
        }
    }

    /// What is there, with the exact bytes that say so.
    pub(crate) async fn get(&self, url: &Url) -> Result<(Value, Vec<u8>), TicketError> {
        let answer = self.ask(Method::GET, url, Body::None).await?;
        let site = self.address.site();
        // They are kept as evidence, where no secret is.
        if self.login.is_in(&answer.body) {
            return Err(TicketError::Never(format!("{site} repeats the login in its answer, which is not kept")));
        }
        let value = serde_json::from_slice(&answer.body).map_err(|error| {
            TicketError::Never(format!("{site} answers what is no JSON ({error}): is it the right address?"))
        })?;
        Ok((value, answer.body.to_vec()))
    }
}

fn form(boundary: &str, field: &str, name: &str, kind: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{name}\"\r\nContent-Type: {kind}\r\n\r\n"
    )
    .into_bytes();
    out.extend_from_slice(bytes);
    out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    out
}

/// What a status means.
fn judge(site: &str, answer: Answer) -> Result<Answer, TicketError> {
    let status = answer.status;
    let told = || format!("{site} answers {}", answer.told());
    match status {
        status if status.is_success() => Ok(answer),
        StatusCode::UNAUTHORIZED => Err(TicketError::later(format!(
            "{site} does not let us in (401): the login in runbook.toml has to be mended"
        ))),
        StatusCode::FORBIDDEN => Err(TicketError::later(format!(
            "{site} does not allow it (403): the account of runbook.toml needs more rights"
        ))),
        StatusCode::NOT_FOUND => {
            Err(TicketError::Missing(format!("{site} has no such ticket, or does not show it to us")))
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            let after_ms = answer.retry_after_s.map(|seconds| seconds.min(PATIENCE_S_MAX) * 1_000);
            Err(TicketError::Later { why: format!("{site} asks for patience ({})", status.as_u16()), after_ms })
        }
        status if status.is_server_error() => Err(TicketError::later(told())),
        status if status.is_redirection() => {
            Err(TicketError::Never(format!("{site} leads elsewhere ({}), and is not followed there", status.as_u16())))
        }
        _ => Err(TicketError::Never(told())),
    }
}
