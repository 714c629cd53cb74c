//! Records of a table of ServiceNow.

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runbook_ports::SecretBytes;
use runbook_ports::hosts::{HostSource, SourceError};
use runbook_wire::http::Answer;
use runbook_wire::{Tls, Url};
use serde::Deserialize;

use crate::pages::{Reader, header, malformed};

/// Records of a page that are asked for.
const PAGE: &str = "500";

/// A ServiceNow.
pub struct ServiceNow {
    /// Where it is.
    pub url: Url,
    /// How it is spoken to.
    pub tls: Tls,
    /// Who logs in.
    pub login: Login,
    /// The table.
    pub table: String,
    /// `sysparm_query`; empty: all records.
    pub query: String,
    /// The fields of a record; `sys_id` is among them.
    pub fields: Vec<String>,
}

/// Who logs in.
pub enum Login {
    /// Account and password.
    Password {
        /// The account.
        user: String,
        /// Its password.
        password: SecretBytes,
    },
    /// A bearer token.
    Token(SecretBytes),
}

#[derive(Deserialize)]
struct Page {
    result: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    sys_id: Shown,
}

#[derive(Deserialize)]
struct Shown {
    value: String,
}

#[async_trait]
impl HostSource for ServiceNow {
    async fn ask(&self, within: Duration, bytes_max: usize) -> Result<Vec<u8>, SourceError> {
        let authorization = match &self.login {
            Login::Token(token) => header("Bearer", token)?,
            Login::Password { user, password } => {
                let both = [user.as_bytes(), b":", password.expose()].concat();
                format!("Basic {}", STANDARD.encode(both))
            }
        };
        let mut reader = Reader::new(&self.tls, authorization, within, bytes_max);
        // In an order of its own, or pages may overlap.
        let ordered = match self.query.as_str() {
            "" => "ORDERBYsys_id".to_owned(),
            query => format!("{query}^ORDERBYsys_id"),
        };
        let fields = self.fields.join(",");
        let first = self.url.join("api/now/table").join(&self.table).query(&[
            ("sysparm_query", &ordered),
            ("sysparm_fields", &fields),
            ("sysparm_display_value", "all"),
            ("sysparm_exclude_reference_link", "true"),
            ("sysparm_limit", PAGE),
        ]);
        let mut url = first;
        loop {
            let answer = reader.page(&url).await?;
            let page: Page = serde_json::from_slice(&answer.body).map_err(|error| malformed(&error))?;
            for record in page.result {
                reader.record(record.sys_id.value)?;
            }
            let Some(next) = next(&answer) else {
                let total = answer.headers.get("x-total-count").and_then(|value| value.to_str().ok()?.parse().ok());
                let total = total.ok_or_else(|| {
                    SourceError::Incomplete("it does not say how many records there are (X-Total-Count)".into())
                })?;
                return reader.whole(total);
            };
            url = self.url.same_site(&next).ok_or_else(|| {
                SourceError::Refused(format!("its next page is not on {}, and nobody is followed", self.url.site()))
            })?;
        }
    }
}

/// The page after this one, of the header `Link` (RFC 8288).
fn next(answer: &Answer) -> Option<String> {
    answer.headers.get_all("link").iter().filter_map(|value| value.to_str().ok()).find_map(next_of)
}

fn next_of(header: &str) -> Option<String> {
    let mut rest = header;
    while let Some((_, after)) = rest.split_once('<') {
        let (target, parameters) = after.split_once('>')?;
        let end = parameters.find('<').unwrap_or(parameters.len());
        let named = parameters[..end].split([';', ',']).map(str::trim);
        if named.into_iter().any(|parameter| matches!(parameter, "rel=\"next\"" | "rel=next")) {
            return Some(target.to_owned());
        }
        rest = &parameters[end..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::next_of;

    #[test]
    fn the_next_page_is_the_one_that_says_so() {
        let header = "<https://x/a?o=0,1>;rel=\"first\",<https://x/a?o=2>;rel=\"next\",<https://x/a?o=4>;rel=\"last\"";
        assert_eq!(next_of(header).as_deref(), Some("https://x/a?o=2"));
        assert_eq!(next_of("<https://x/a>; rel=next").as_deref(), Some("https://x/a"));
        assert_eq!(next_of("<https://x/a>;rel=\"first\",<https://x/b>;rel=\"last\""), None);
        assert_eq!(next_of("<https://x/a"), None);
    }
}
