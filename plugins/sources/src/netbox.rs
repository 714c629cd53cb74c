//! Devices or virtual machines of NetBox.

use std::time::Duration;

use async_trait::async_trait;
use runbook_ports::SecretBytes;
use runbook_ports::hosts::{HostSource, SourceError};
use runbook_wire::{Tls, Url};
use serde::Deserialize;

use crate::pages::{Reader, header, malformed};

/// Records of a page that are asked for.
const PAGE: &str = "500";

/// A NetBox.
pub struct Netbox {
    /// Where it is, without `/api`.
    pub url: Url,
    /// How it is spoken to.
    pub tls: Tls,
    /// Its token, of either version.
    pub token: SecretBytes,
    /// `dcim/devices` or `virtualization/virtual-machines`.
    pub list: String,
    /// Names and values of the query.
    pub filter: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Page {
    count: u64,
    next: Option<String>,
    results: Vec<Numbered>,
}

#[derive(Deserialize)]
struct Numbered {
    id: u64,
}

#[async_trait]
impl HostSource for Netbox {
    async fn ask(&self, within: Duration, bytes_max: usize) -> Result<Vec<u8>, SourceError> {
        // Tokens of the second version say so in their first letters.
        let kind = if self.token.expose().starts_with(b"nbt_") { "Bearer" } else { "Token" };
        let mut reader = Reader::new(&self.tls, header(kind, &self.token)?, within, bytes_max);
        // What a device is configured with is large, slow, and may hold secrets.
        let mut query = vec![("limit", PAGE), ("exclude", "config_context")];
        query.extend(self.filter.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mut url = self.url.join("api").join(&format!("{}/", self.list)).query(&query);
        loop {
            let answer = reader.page(&url).await?;
            let page: Page = serde_json::from_slice(&answer.body).map_err(|error| malformed(&error))?;
            for record in page.results {
                reader.record(record.id.to_string())?;
            }
            let Some(next) = page.next else { return reader.whole(page.count) };
            url = self.url.same_site(&next).ok_or_else(|| {
                SourceError::Refused(format!("its next page is not on {}, and nobody is followed", self.url.site()))
            })?;
        }
    }
}
