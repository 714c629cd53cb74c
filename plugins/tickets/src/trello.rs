//! Trello, whose cards are the tickets.
//!
//! | asked | why |
//! | --- | --- |
//! | `GET cards/ID` | how it stands: its list, start and due, labels, members |
//! | `GET cards/ID/checklists` | the hosts, as the items of the checklist that the settings name |
//! | `GET cards/ID/actions`, page by page | whether the entry is among the comments |
//! | `POST cards/ID/actions/comments`, `…/attachments` | what is not there yet |
//! | `GET boards/ID/lists`, `PUT cards/ID` | the list to which it is moved |

use std::collections::BTreeSet;
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
use crate::text::{in_order, key, mark, marked, moment, text, written};

/// Comments asked for at once.
const PAGE: usize = 100;
/// The longest comment that Trello takes.
const COMMENT_MAX: usize = 16_000;

/// A Trello.
pub struct Trello {
    /// Where it is (`https://api.trello.com`).
    pub site: Site,
    /// What its lists mean, which are the states of its cards; `assets` is the checklist whose items are the hosts.
    pub fields: Fields,
    /// The label that says that CUI is concerned.
    pub cui: String,
}

impl Trello {
    fn url(&self, path: &str) -> Url {
        self.site.address.join(&format!("1/{path}"))
    }

    async fn card(&self, card: &str) -> Result<(Value, Vec<u8>), TicketError> {
        let url = self.url(&format!("cards/{card}")).query(&[
            ("fields", "name,idList,idBoard,start,due,dateLastActivity,closed,labels,shortLink,shortUrl"),
            ("list", "true"),
            ("members", "true"),
            ("member_fields", "fullName,username"),
        ]);
        self.site.get(&url).await
    }

    async fn is_there(&self, card: &str, mark: &str) -> Result<bool, TicketError> {
        let (mut before, mut seen): (Option<String>, BTreeSet<String>) = Default::default();
        for _ in 0..PAGES_MAX {
            let most = PAGE.to_string();
            let mut url = self
                .url(&format!("cards/{card}/actions"))
                .query(&[("filter", "commentCard"), ("limit", most.as_str())]);
            if let Some(before) = &before {
                url = url.query(&[("before", before)]);
            }
            let (page, _) = self.site.get(&url).await?;
            let comments = page.as_array().ok_or_else(|| not_understood("comments that are no list"))?;
            let says = |one: &Value| one["data"]["text"].as_str().is_some_and(|text| text.contains(mark));
            if comments.iter().any(says) {
                return Ok(true);
            }
            let last = comments.last().and_then(|one| text(&one["id"]));
            match last {
                // Of what comes after a page that is repeated nobody knows anything.
                Some(last) if seen.insert(last.clone()) => before = Some(last),
                Some(_) => return Err(not_understood("the same page of comments again")),
                None => return Ok(false),
            }
        }
        Err(TicketError::Never(format!("{card} has more than {PAGES_MAX} pages of comments")))
    }

    async fn attach(&self, card: &str, file: &Attachment<'_>) -> Result<bool, TicketError> {
        let url = self.url(&format!("cards/{card}/attachments"));
        let (there, _) = self.site.get(&url).await?;
        let there = there.as_array().ok_or_else(|| not_understood("attachments that are no list"))?;
        if there.iter().any(|one| one["name"].as_str() == Some(file.name)) {
            return Ok(false);
        }
        let form = Body::Form("file", file.name, file.media_type, file.bytes);
        self.site.ask(Method::POST, &url, form).await?;
        Ok(true)
    }

    async fn to(&self, card: &str, wanted: &str) -> Result<bool, TicketError> {
        let (now, _) = self.card(card).await?;
        if now["list"]["name"].as_str().is_some_and(|list| list.eq_ignore_ascii_case(wanted)) {
            return Ok(false);
        }
        let board = text(&now["idBoard"]).ok_or_else(|| not_understood("a card without a board"))?;
        let (lists, _) = self.site.get(&self.url(&format!("boards/{}/lists", key(&board)?))).await?;
        let lists = lists.as_array().ok_or_else(|| not_understood("lists that are no list"))?;
        let named = |one: &&Value| one["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(wanted));
        let Some(list) = lists.iter().find(named).and_then(|one| text(&one["id"])) else {
            let names: Vec<&str> = lists.iter().filter_map(|one| one["name"].as_str()).collect();
            return Err(TicketError::Never(format!(
                "the board of {card} has no list {wanted}; it has {}",
                names.join(", ")
            )));
        };
        let url = self.url(&format!("cards/{card}"));
        self.site.ask(Method::PUT, &url, Body::Json(json!({ "idList": list }))).await?;
        let (now, _) = self.card(card).await?;
        match now["idList"].as_str() == Some(&list) {
            true => Ok(true),
            false => Err(TicketError::later(format!("{card} was to be moved to {wanted}, and is not there"))),
        }
    }

    async fn read_all(&self, ticket: &str) -> Result<(Change, Vec<u8>), TicketError> {
        let ticket = key(ticket)?;
        let (card, mut bytes) = self.card(ticket).await?;
        let state = text(&card["list"]["name"]).ok_or_else(|| not_understood("a card without a list"))?;
        let (starts_ms, ends_ms) = (moment("start", &card["start"])?, moment("due", &card["due"])?);
        in_order(ticket, starts_ms, ends_ms)?;
        let mut assets = BTreeSet::new();
        if let Some(wanted) = &self.fields.assets {
            let (lists, more) = self.site.get(&self.url(&format!("cards/{ticket}/checklists"))).await?;
            bytes.push(b'\n');
            bytes.extend(more);
            let lists = lists.as_array().ok_or_else(|| not_understood("checklists that are no list"))?;
            let named = |one: &&Value| one["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(wanted));
            let items = lists.iter().filter(named).filter_map(|one| one["checkItems"].as_array()).flatten();
            assets.extend(items.filter_map(|item| text(&item["name"])));
        }
        let labels = card["labels"].as_array().into_iter().flatten();
        let labels: Vec<&str> = labels.filter_map(|label| label["name"].as_str()).collect();
        let members = card["members"].as_array().into_iter().flatten();
        let change = Change {
            key: text(&card["shortLink"]).unwrap_or_else(|| ticket.to_owned()),
            title: text(&card["name"]).unwrap_or_default(),
            approval: self.fields.approval(&state),
            closed: card["closed"] == true || self.fields.is_closed(&state),
            state,
            starts_ms,
            ends_ms,
            owner: members.filter_map(|member| text(&member["fullName"])).next(),
            assets,
            cui: Some(labels.iter().any(|label| label.eq_ignore_ascii_case(&self.cui))),
            plan_sha256: None,
            version: text(&card["dateLastActivity"]).unwrap_or_default(),
            url: text(&card["shortUrl"]),
        };
        Ok((change, bytes))
    }

    async fn write_all(&self, ticket: &str, entry: Entry<'_>) -> Result<Written, TicketError> {
        let ticket = key(ticket)?;
        let said = marked(&entry, COMMENT_MAX);
        let mut done = Vec::new();
        if !self.is_there(ticket, &mark(entry.id)).await? {
            // Nothing in it is markup; the block is not left by what it says.
            let body = format!("```\n{}\n```", said.replace("```", "` ` `"));
            let url = self.url(&format!("cards/{ticket}/actions/comments"));
            self.site.ask(Method::POST, &url, Body::Json(json!({ "text": body }))).await?;
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
            done.push(format!("now in {wanted}"));
        }
        Ok(written(&said, &done))
    }
}

fn not_understood(what: &str) -> TicketError {
    TicketError::Never(format!("Trello answers {what}: is it the right address?"))
}

#[async_trait]
impl Tickets for Trello {
    fn name(&self) -> &str {
        &self.site.name
    }

    fn kind(&self) -> &'static str {
        "trello"
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
                let (me, _) = self.site.get(&self.url("members/me")).await?;
                let who = text(&me["username"]).unwrap_or_default();
                Ok(format!("{} lets us in as {who}", self.site.address.site()))
            })
            .await
    }
}
