//! ServiceNow, over the Table API and the Attachment API.
//!
//! | asked | why |
//! | --- | --- |
//! | `GET table/change_request?sysparm_query=number=KEY` | how it stands, values and what people see of them |
//! | `GET table/task_ci`, page by page | the hosts, beside `cmdb_ci` |
//! | `GET table/sys_journal_field` | whether the entry is among the work notes |
//! | `PATCH table/change_request/ID` | work notes, times, outcome; the state |
//! | `GET attachment`, `POST attachment/file` | the report, if it is not there |

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use runbook_model::ticket::{Approval, Change};
use runbook_ports::Tickets;
use runbook_ports::tickets::{Attachment, Entry, TicketError, Written};
use runbook_wire::Url;
use runbook_wire::http::Method;
use serde_json::{Map, Value, json};

use crate::fields::Moves;
use crate::site::{Body, PAGES_MAX, Site};
use crate::text::{in_order, key, mark, marked, utc, utc_text, written, yes};

/// Rows asked for at once.
const PAGE: &str = "100";
/// The longest work note.
const NOTE_MAX: usize = 60_000;
/// The longest text of `close_notes`.
const CLOSE_MAX: usize = 4_000;
/// States of a change that is over, as every instance begins with: Closed, Canceled.
const CLOSED: [&str; 2] = ["3", "4"];

/// A ServiceNow instance.
pub struct ServiceNow {
    /// Where it is.
    pub site: Site,
    /// The field that says whether CUI is concerned (`u_cui`); `None`: there is none.
    pub cui: Option<String>,
    /// The states (their numbers) to which the change is moved.
    pub moves: Moves,
}

impl ServiceNow {
    fn table(&self, path: &str) -> Url {
        self.site.address.join(&format!("api/now/table/{path}"))
    }

    /// The change's record, with the exact bytes of the answer.
    async fn record(&self, ticket: &str) -> Result<(Value, Vec<u8>), TicketError> {
        let query = format!("number={ticket}");
        let url = self.table("change_request").query(&[
            ("sysparm_query", query.as_str()),
            ("sysparm_display_value", "all"),
            ("sysparm_exclude_reference_link", "true"),
            ("sysparm_limit", "2"),
        ]);
        let (answer, bytes) = self.site.get(&url).await?;
        match answer["result"].as_array().map(Vec::as_slice) {
            Some([record]) if value(record, "sys_id").is_some() => Ok((record.clone(), bytes)),
            Some([]) => Err(TicketError::Missing(format!("{} has no change {ticket}", self.site.address.site()))),
            Some([_, _, ..]) => Err(TicketError::Never(format!("there is more than one change {ticket}"))),
            _ => Err(not_understood()),
        }
    }

    /// All rows of a query, page by page. What people see of each value is asked for.
    async fn rows(&self, url: Url) -> Result<Vec<Value>, TicketError> {
        let mut rows: Vec<Value> = Vec::new();
        for _ in 0..PAGES_MAX {
            let offset = rows.len().to_string();
            let url = url.query(&[("sysparm_limit", PAGE), ("sysparm_offset", &offset)]);
            let answer = self.site.ask(Method::GET, &url, Body::None).await?;
            let total =
                answer.headers.get("x-total-count").and_then(|total| total.to_str().ok()?.parse::<usize>().ok());
            let page: Value = serde_json::from_slice(&answer.body).map_err(|_| not_understood())?;
            let page = page["result"].as_array().ok_or_else(not_understood)?;
            // Of what comes after a page that is repeated nobody knows anything.
            if page.first().is_some_and(|first| rows.contains(first)) {
                return Err(TicketError::Never(format!("{} gives the same page again", self.site.address.site())));
            }
            rows.extend(page.iter().cloned());
            match total {
                Some(total) if rows.len() >= total => return Ok(rows),
                _ if page.is_empty() => return Ok(rows),
                _ => {}
            }
        }
        Err(TicketError::Never(format!("a list of {} has more than {PAGES_MAX} pages", self.site.address.site())))
    }

    async fn noted(&self, sys_id: &str, mark: &str) -> Result<bool, TicketError> {
        let query = format!("element_id={sys_id}^element=work_notes");
        let url =
            self.table("sys_journal_field").query(&[("sysparm_query", &query), ("sysparm_fields", "sys_id,value")]);
        let rows = self.rows(url).await?;
        Ok(rows.iter().any(|row| row["value"].as_str().is_some_and(|value| value.contains(mark))))
    }

    async fn attach(&self, sys_id: &str, file: &Attachment<'_>) -> Result<bool, TicketError> {
        let base = self.site.address.join("api/now/attachment");
        let query = format!("table_sys_id={sys_id}^file_name={}", file.name);
        let rows = self.rows(base.query(&[("sysparm_query", &query)])).await?;
        if !rows.is_empty() {
            return Ok(false);
        }
        let to = [("table_name", "change_request"), ("table_sys_id", sys_id), ("file_name", file.name)];
        let body = Body::File(file.media_type, file.bytes);
        self.site.ask(Method::POST, &base.join("file").query(&to), body).await?;
        Ok(true)
    }

    /// Changes fields, and sees that they are so.
    async fn set(&self, sys_id: &str, fields: Map<String, Value>) -> Result<(), TicketError> {
        let url = self.table(&format!("change_request/{sys_id}"));
        self.site.ask(Method::PATCH, &url, Body::Json(Value::Object(fields.clone()))).await?;
        let (now, _) = self.site.get(&url).await?;
        for (name, wanted) in &fields {
            // Notes have no value of their own.
            if name != "work_notes" && &now["result"][name] != wanted {
                return Err(TicketError::Never(format!(
                    "the change's {name} was to be {wanted}, and is {} (a rule of the instance may forbid it)",
                    now["result"][name]
                )));
            }
        }
        Ok(())
    }

    async fn read_all(&self, ticket: &str) -> Result<(Change, Vec<u8>), TicketError> {
        let ticket = key(ticket)?;
        let (record, bytes) = self.record(ticket).await?;
        let sys_id = value(&record, "sys_id").unwrap_or_default().to_owned();
        let date = |name: &str| utc(name, value(&record, name).unwrap_or_default());
        let (starts_ms, ends_ms) = (date("start_date")?, date("end_date")?);
        in_order(ticket, starts_ms, ends_ms)?;
        let mut assets: BTreeSet<String> = shown(&record, "cmdb_ci").map(str::to_owned).into_iter().collect();
        let query = format!("task={sys_id}");
        let affected = self.table("task_ci").query(&[
            ("sysparm_query", query.as_str()),
            ("sysparm_fields", "sys_id,ci_item"),
            ("sysparm_display_value", "all"),
        ]);
        let affected = self.rows(affected).await?;
        assets.extend(affected.iter().filter_map(|row| shown(row, "ci_item")).map(str::to_owned));
        if let Some(name) = self.cui.as_ref().filter(|name| record.get(name.as_str()).is_none()) {
            return Err(TicketError::Never(format!("{ticket} has no field {name}, which runbook.toml names")));
        }
        let state = value(&record, "state").unwrap_or_default();
        let change = Change {
            key: value(&record, "number").unwrap_or(ticket).to_owned(),
            title: value(&record, "short_description").unwrap_or_default().to_owned(),
            state: shown(&record, "state").unwrap_or(state).to_owned(),
            approval: match value(&record, "approval") {
                Some("approved") => Approval::Approved,
                Some("rejected") => Approval::Rejected,
                _ => Approval::Awaited,
            },
            closed: CLOSED.contains(&state) || value(&record, "active") == Some("false"),
            starts_ms,
            ends_ms,
            owner: shown(&record, "assigned_to").or_else(|| value(&record, "assigned_to")).map(str::to_owned),
            assets,
            cui: self.cui.as_ref().and_then(|name| yes(&json!(value(&record, name)))),
            plan_sha256: None,
            version: value(&record, "sys_mod_count").unwrap_or_default().to_owned(),
            url: Some(format!("{}/nav_to.do?uri=change_request.do?sys_id={sys_id}", self.site.address.site())),
        };
        Ok((change, bytes))
    }

    async fn write_all(&self, ticket: &str, entry: Entry<'_>) -> Result<Written, TicketError> {
        let ticket = key(ticket)?;
        let said = marked(&entry, NOTE_MAX);
        let (record, _) = self.record(ticket).await?;
        let sys_id = value(&record, "sys_id").unwrap_or_default().to_owned();
        let mut done = Vec::new();
        if !self.noted(&sys_id, &mark(entry.id)).await? {
            let note = json!({ "work_notes": said });
            self.site.ask(Method::PATCH, &self.table(&format!("change_request/{sys_id}")), Body::Json(note)).await?;
            if !self.noted(&sys_id, &mark(entry.id)).await? {
                return Err(TicketError::later(format!("a work note was added to {ticket}, and is not there")));
            }
            done.push("noted".to_owned());
        }
        for file in entry.end.iter().flat_map(|end| end.attachments) {
            if self.attach(&sys_id, file).await? {
                done.push(format!("attached {}", file.name));
            }
        }
        let mut fields = Map::new();
        let mut set = |name: &str, wanted: &str| {
            if value(&record, name).unwrap_or_default() != wanted {
                fields.insert(name.to_owned(), json!(wanted));
            }
        };
        set("work_start", &utc_text(entry.started_ms));
        if let Some(end) = &entry.end {
            set("work_end", &utc_text(end.ended_ms));
            if end.settled {
                set("close_code", if end.succeeded { "successful" } else { "unsuccessful" });
                let summary: String = end.summary.chars().filter(|c| !c.is_control()).take(CLOSE_MAX).collect();
                set("close_notes", &summary);
            }
        }
        if !fields.is_empty() {
            let names = fields.keys().cloned().collect::<Vec<_>>().join(", ");
            self.set(&sys_id, fields).await?;
            done.push(format!("set {names}"));
        }
        if let Some(state) = self.moves.of(entry.end.as_ref()) {
            // Somebody may have moved it meanwhile.
            let (now, _) = self.record(ticket).await?;
            match value(&now, "state").unwrap_or_default() {
                now if now == state => {}
                now if CLOSED.contains(&now) => {
                    return Err(TicketError::Never(format!(
                        "{ticket} is closed there, and is not opened again for state {state}"
                    )));
                }
                _ => {
                    self.set(&sys_id, Map::from_iter([("state".to_owned(), json!(state))])).await?;
                    done.push(format!("now in state {state}"));
                }
            }
        }
        Ok(written(&said, &done))
    }
}

fn not_understood() -> TicketError {
    TicketError::Never("ServiceNow answers what is no list of records: is it the right address?".into())
}

/// A field's value, when it has one; of an answer with both.
fn value<'v>(record: &'v Value, name: &str) -> Option<&'v str> {
    record[name]["value"].as_str().or_else(|| record[name].as_str()).filter(|value| !value.trim().is_empty())
}

/// What people see of it.
fn shown<'v>(record: &'v Value, name: &str) -> Option<&'v str> {
    record[name]["display_value"].as_str().filter(|value| !value.trim().is_empty())
}

#[async_trait]
impl Tickets for ServiceNow {
    fn name(&self) -> &str {
        &self.site.name
    }

    fn kind(&self) -> &'static str {
        "servicenow"
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
                let url = self.table("change_request").query(&[("sysparm_limit", "1"), ("sysparm_fields", "number")]);
                self.site.get(&url).await?;
                Ok(format!("{} lets us in, and shows changes", self.site.address.site()))
            })
            .await
    }
}
