//! Jira, Data Center and Cloud, over the REST API version 2, which both have.
//!
//! | asked | why |
//! | --- | --- |
//! | `GET issue/KEY` | how it stands; its attachments |
//! | `GET issue/KEY/comment`, page by page | whether the entry is there |
//! | `POST issue/KEY/comment`, `…/attachments` | what is not there yet |
//! | `GET issue/KEY/transitions`, `POST` it | what leads to the wanted state, if the ticket is not there |
//! | `GET issue/KEY` | whether it is there now |

use std::time::Duration;

use async_trait::async_trait;
use runbook_model::ticket::Change;
use runbook_ports::Tickets;
use runbook_ports::tickets::{Attachment, Entry, TicketError, Written};
use runbook_wire::Url;
use runbook_wire::http::Method;
use serde_json::{Value, json};

use crate::fields::Fields;
use crate::site::{Body, PAGES_MAX, Site};
use crate::text::{in_order, key, mark, marked, moment, names, text, written, yes};

/// Comments asked for at once.
const PAGE: usize = 100;
/// The longest comment that Jira takes unless it was told otherwise.
const COMMENT_MAX: usize = 32_000;

/// A Jira.
pub struct Jira {
    /// Where it is.
    pub site: Site,
    /// What its fields mean.
    pub fields: Fields,
}

impl Jira {
    fn url(&self, path: &str) -> Url {
        self.site.address.join(&format!("rest/api/2/{path}"))
    }

    async fn issue(&self, key: &str, fields: &str) -> Result<(Value, Vec<u8>), TicketError> {
        self.site.get(&self.url(&format!("issue/{key}")).query(&[("fields", fields)])).await
    }

    async fn state(&self, key: &str) -> Result<String, TicketError> {
        let (issue, _) = self.issue(key, "status").await?;
        text(&issue["fields"]["status"]["name"]).ok_or_else(|| not_understood("an issue without a status"))
    }

    /// Whether a comment ends with the mark.
    async fn is_there(&self, key: &str, mark: &str) -> Result<bool, TicketError> {
        let mut at = 0;
        for _ in 0..PAGES_MAX {
            let (from, most) = (at.to_string(), PAGE.to_string());
            let url = self.url(&format!("issue/{key}/comment")).query(&[("startAt", &from), ("maxResults", &most)]);
            let (page, _) = self.site.get(&url).await?;
            let comments = page["comments"].as_array().ok_or_else(|| not_understood("comments that are no list"))?;
            // Of a page that is another one than was asked for nobody knows what is missing.
            if page["startAt"].as_u64().is_some_and(|from| usize::try_from(from) != Ok(at)) {
                return Err(not_understood("another page than was asked for"));
            }
            if comments.iter().any(|comment| comment["body"].as_str().is_some_and(|body| body.contains(mark))) {
                return Ok(true);
            }
            at += comments.len();
            let total = page["total"].as_u64().and_then(|total| usize::try_from(total).ok());
            // One that pages without a total gives all at once, or ends with an empty page.
            if comments.is_empty() || at >= total.unwrap_or(at) {
                return Ok(false);
            }
        }
        Err(TicketError::Never(format!("{key} has more than {} pages of comments", PAGES_MAX)))
    }

    async fn attach(&self, key: &str, file: &Attachment<'_>) -> Result<bool, TicketError> {
        let (issue, _) = self.issue(key, "attachment").await?;
        let there = issue["fields"]["attachment"].as_array();
        if there.into_iter().flatten().any(|one| one["filename"].as_str() == Some(file.name)) {
            return Ok(false);
        }
        let form = Body::Form("file", file.name, file.media_type, file.bytes);
        self.site.ask(Method::POST, &self.url(&format!("issue/{key}/attachments")), form).await?;
        Ok(true)
    }

    /// Moves the ticket on, if it is not there; by a way that it offers now.
    async fn to(&self, key: &str, wanted: &str) -> Result<bool, TicketError> {
        if self.state(key).await?.eq_ignore_ascii_case(wanted) {
            return Ok(false);
        }
        let url = self.url(&format!("issue/{key}/transitions"));
        let (offered, _) = self.site.get(&url).await?;
        let offered =
            offered["transitions"].as_array().ok_or_else(|| not_understood("transitions that are no list"))?;
        let leads = |one: &&Value| one["to"]["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(wanted));
        let Some(id) = offered.iter().find(leads).and_then(|one| text(&one["id"])) else {
            let ways: Vec<&str> = offered.iter().filter_map(|one| one["to"]["name"].as_str()).collect();
            return Err(TicketError::Never(format!(
                "{key} cannot be moved to {wanted} from where it is; it offers {}",
                if ways.is_empty() { "nothing".to_owned() } else { ways.join(", ") }
            )));
        };
        self.site.ask(Method::POST, &url, Body::Json(json!({"transition": {"id": id}}))).await?;
        // An answer is no proof.
        let now = self.state(key).await?;
        match now.eq_ignore_ascii_case(wanted) {
            true => Ok(true),
            false => Err(TicketError::later(format!("{key} was to be moved to {wanted}, and still is {now}"))),
        }
    }

    async fn read_all(&self, ticket: &str) -> Result<(Change, Vec<u8>), TicketError> {
        let ticket = key(ticket)?;
        let own = &self.fields;
        let more = [&own.starts, &own.ends, &own.assets, &own.cui];
        let wanted: Vec<&str> = ["summary", "status", "assignee", "updated"]
            .into_iter()
            .chain(more.into_iter().flatten().map(String::as_str))
            .collect();
        let (issue, bytes) = self.issue(ticket, &wanted.join(",")).await?;
        let fields = &issue["fields"];
        if let Some(now) = text(&issue["key"]).filter(|now| !now.eq_ignore_ascii_case(ticket)) {
            return Err(TicketError::Missing(format!("{ticket} was moved, and is called {now} now")));
        }
        let state = text(&fields["status"]["name"]).ok_or_else(|| not_understood("an issue without a status"))?;
        let field = |name: &Option<String>| name.as_ref().map(|name| fields[name.as_str()].clone()).unwrap_or_default();
        // A field that the settings name and the issue does not have at all is a mistake, not an empty one.
        if let Some(name) = more.into_iter().flatten().find(|name| fields.get(name.as_str()).is_none()) {
            return Err(TicketError::Never(format!("{ticket} has no field {name}, which runbook.toml names")));
        }
        let (starts_ms, ends_ms) = (moment("starts", &field(&own.starts))?, moment("ends", &field(&own.ends))?);
        in_order(ticket, starts_ms, ends_ms)?;
        let change = Change {
            key: text(&issue["key"]).unwrap_or_else(|| ticket.to_owned()),
            title: text(&fields["summary"]).unwrap_or_default(),
            approval: self.fields.approval(&state),
            closed: fields["status"]["statusCategory"]["key"] == "done" || own.is_closed(&state),
            state,
            starts_ms,
            ends_ms,
            owner: text(&fields["assignee"]["displayName"]).or_else(|| text(&fields["assignee"]["name"])),
            assets: names(&field(&own.assets)),
            cui: yes(&field(&own.cui)),
            plan_sha256: None,
            version: text(&fields["updated"]).unwrap_or_default(),
            url: Some(self.site.address.join(&format!("browse/{ticket}")).to_string()),
        };
        Ok((change, bytes))
    }

    async fn write_all(&self, ticket: &str, entry: Entry<'_>) -> Result<Written, TicketError> {
        let ticket = key(ticket)?;
        let said = marked(&entry, COMMENT_MAX);
        let mut done = Vec::new();
        if !self.is_there(ticket, &mark(entry.id)).await? {
            // Nothing in it is markup; the block is not left by what it says.
            let body = format!("{{noformat}}\n{}\n{{noformat}}", said.replace("{noformat}", "{ noformat}"));
            let url = self.url(&format!("issue/{ticket}/comment"));
            self.site.ask(Method::POST, &url, Body::Json(json!({ "body": body }))).await?;
            done.push("commented".to_owned());
        }
        for file in entry.end.iter().flat_map(|end| end.attachments) {
            if self.attach(ticket, file).await? {
                done.push(format!("attached {}", file.name));
            }
        }
        if let Some(wanted) = self.fields.moves.of(entry.end.as_ref())
            && self.to(ticket, wanted).await?
        {
            done.push(format!("now {wanted}"));
        }
        Ok(written(&said, &done))
    }
}

fn not_understood(what: &str) -> TicketError {
    TicketError::Never(format!("Jira answers {what}: is it the right address?"))
}

#[async_trait]
impl Tickets for Jira {
    fn name(&self) -> &str {
        &self.site.name
    }

    fn kind(&self) -> &'static str {
        "jira"
    }

    fn site(&self) -> String {
        self.site.address.site()
    }

    async fn read(&self, ticket: &str, within: Duration) -> Result<(Change, Vec<u8>), TicketError> {
        self.site.by(within, self.read_all(ticket)).await
    }

    async fn write(&self, ticket: &str, entry: Entry<'_>, within: Duration) -> Result<Written, TicketError> {
        self.site.by(within, self.write_all(ticket, entry)).await
    }

    async fn reach(&self, within: Duration) -> Result<String, TicketError> {
        self.site
            .by(within, async {
                let (me, _) = self.site.get(&self.url("myself")).await?;
                let who = text(&me["displayName"]).or_else(|| text(&me["name"])).unwrap_or_default();
                Ok(format!("{} lets us in as {who}", self.site.address.site()))
            })
            .await
    }
}
