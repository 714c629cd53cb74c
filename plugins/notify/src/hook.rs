//! One message over HTTPS, and what its answer means.

use std::str::FromStr;
use std::time::Duration;

use runbook_model::Sha256;
use runbook_ports::notifier::{Delivered, NotifyError};
use runbook_wire::http::{self, Answer, Method, Request, StatusCode};
use runbook_wire::{Tls, Url};

/// The longest answer that is read: a word, or a page that says what is wrong.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Longer than that nobody is left alone because he asks for it.
const AFTER_MS_MAX: u64 = 3_600_000;

/// Shorter parts of an address are words, not secrets.
const SECRET_MIN: usize = 8;

/// Where a message goes to. Whoever knows it may be able to write there: only its site is ever shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Url);

impl FromStr for Address {
    type Err = String;

    /// `https://…`; `http://…` only to this machine. An error does not hold the text.
    fn from_str(text: &str) -> Result<Self, String> {
        let url: Url = text.parse().map_err(|_| "it is no https:// address without user and password".to_owned())?;
        if url.is_private() {
            Ok(Self(url))
        } else {
            Err("it must begin with https://: over http:// others could read the message, and the address".into())
        }
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Address({})", self.site())
    }
}

impl Address {
    /// `text` without what is secret of the address: servers like to repeat it.
    fn without(&self, text: &str) -> String {
        let parts = self.0.path().split(['/', '?', '&', '=', ';']).filter(|part| part.len() >= SECRET_MIN);
        parts.fold(text.to_owned(), |text, part| text.replace(part, "…"))
    }

    /// Scheme, host and port.
    pub fn site(&self) -> String {
        self.0.site()
    }
}

/// Posts a JSON body there.
pub(crate) async fn post(
    address: &Address,
    tls: &Tls,
    headers: &[(&'static str, String)],
    body: Vec<u8>,
    within: Duration,
) -> Result<Delivered, NotifyError> {
    let site = address.site();
    let sha256 = Sha256::of(&body);
    let request = Request {
        method: Method::POST,
        url: &address.0,
        tls,
        shown: &site,
        headers,
        body: Some(("application/json", body)),
        bytes_max: ANSWER_BYTES_MAX,
    };
    let answer = crate::by(within, &site, async { http::send(request).await.map_err(crate::wire) }).await?;
    judge(&site, address, &answer).map(|answer| Delivered { answer, sha256 })
}

/// Whether a connection can be made there.
pub(crate) async fn reach(address: &Address, tls: &Tls, within: Duration) -> Result<String, NotifyError> {
    crate::by(within, &address.site(), async { http::reach(&address.0, tls).await.map_err(crate::wire) }).await
}

fn judge(site: &str, address: &Address, answer: &Answer) -> Result<String, NotifyError> {
    let status = answer.status;
    let told = address.without(&answer.told());
    let patience =
        matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS);
    if status.is_success() {
        return Ok(told);
    }
    let told = format!("{site}: {told}");
    if patience || status.is_server_error() {
        let after_ms = answer.retry_after_s.map(|seconds| seconds.saturating_mul(1_000).min(AFTER_MS_MAX));
        Err(NotifyError::Later { why: told, after_ms })
    } else if status.is_redirection() {
        Err(NotifyError::Never(format!("{told} (it points elsewhere, and that is not followed)")))
    } else {
        Err(NotifyError::Never(told))
    }
}
