//! Alertmanager, by silences (API v2).
//!
//! | asked | why |
//! | --- | --- |
//! | `GET silences?filter=runbook_run!="RUN"` | what is there of the run; its `Date` is the system's clock |
//! | `POST silences` | each silence that is not there yet, or ends too soon |
//! | `DELETE silence/ID` | each that is in force |
//! | the first one once more | the proof: all in force, or none |

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runbook_model::RunId;
use runbook_model::units::rfc3339_ms;
use runbook_ports::SecretBytes;
use runbook_ports::monitor::{Monitor, MonitorError, Mute, Muted, Unmuted};
use runbook_wire::http::{self, Answer, Method, Request, StatusCode, escaped};
use runbook_wire::{Address, Login, Tls, Url};
use serde::Deserialize;
use serde_json::json;

use crate::silences::{self, MARK, Wanted, mark};

/// The longest list that is read: a run's own silences, also those of it that are over.
const LIST_BYTES_MAX: usize = 16 << 20;
/// The longest of the other answers.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// A silence that ended so much before its time was ended by somebody (its clock is told in whole seconds).
const EARLY_MS: u64 = 5_000;
/// A silence begins so long ago, so that no difference of clocks leaves it waiting; the system takes that for now.
const AGO_MS: u64 = 60_000;
/// A text for people is cut there.
const TEXT_MAX: usize = 500;

/// An Alertmanager, or what speaks like one.
pub struct Alertmanager {
    /// Its name in the settings.
    pub name: String,
    /// Where it is, without `/api/v2`.
    pub address: Address,
    /// How it is spoken to.
    pub tls: Tls,
    /// How we are let in.
    pub login: Login<SecretBytes>,
}

/// A silence as it is told.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Silence {
    id: String,
    status: State,
    matchers: Vec<Wanted>,
    starts_at: Timestamp,
    ends_at: Timestamp,
}

#[derive(Debug, Clone, Deserialize)]
struct State {
    state: String,
}

impl Silence {
    fn in_force(&self) -> bool {
        self.status.state != "expired"
    }

    fn ends_ms(&self) -> u64 {
        u64::try_from(self.ends_at.as_millisecond()).unwrap_or(0)
    }

    /// As they are wanted: sorted.
    fn matchers(&self) -> Vec<Wanted> {
        let mut matchers = self.matchers.clone();
        matchers.sort();
        matchers
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    #[serde(rename = "silenceID")]
    silence_id: String,
}

/// A conversation, for the record.
struct Talk<'a> {
    to: &'a Alertmanager,
    said: Vec<u8>,
    within: Duration,
    /// Something may have been muted.
    maybe: bool,
}

impl Talk<'_> {
    fn error(&self, why: impl Into<String>) -> MonitorError {
        MonitorError { why: self.to.login.without(&why.into()), maybe: self.maybe }
    }

    async fn ask(&mut self, method: Method, url: Url, body: Option<Vec<u8>>) -> Result<Answer, MonitorError> {
        let site = self.to.address.site();
        self.said.extend_from_slice(format!("{method} {}\n", url.path()).as_bytes());
        if let Some(body) = &body {
            self.said.extend_from_slice(body);
            self.said.push(b'\n');
        }
        let mut headers = vec![("accept", "application/json".to_owned())];
        let authorization = self.to.login.header().map_err(|why| MonitorError { why, maybe: false })?;
        headers.extend(authorization.map(|value| ("authorization", value)));
        let bytes_max = if method == Method::GET { LIST_BYTES_MAX } else { ANSWER_BYTES_MAX };
        let request = Request {
            method,
            url: &url,
            tls: &self.to.tls,
            shown: &site,
            headers: &headers,
            body: body.map(|body| ("application/json", body)),
            bytes_max,
        };
        let answer = match tokio::time::timeout(self.within, http::send(request)).await {
            Ok(answer) => answer.map_err(|error| self.error(error.to_string()))?,
            Err(_) => return Err(self.error(format!("{site} did not answer within {} s", self.within.as_secs_f32()))),
        };
        self.said.extend_from_slice(format!("{}\n", answer.status.as_u16()).as_bytes());
        // What lets us in is on no record, whoever repeats it.
        match self.to.login.is_in(&answer.body) {
            false => self.said.extend_from_slice(answer.body.trim_ascii_end()),
            true => {
                self.said.extend_from_slice(self.to.login.without(&String::from_utf8_lossy(&answer.body)).as_bytes())
            }
        }
        self.said.extend_from_slice(b"\n\n");
        match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(self.error(format!("{site} does not let us in ({}); see the login in the settings", answer.status)))
            }
            status if status.is_redirection() => {
                Err(self.error(format!("{site}: {status} (it points elsewhere, and that is not followed)")))
            }
            _ => Ok(answer),
        }
    }

    /// What is there of the run, and the system's time (Unix ms).
    async fn list(&mut self, run: &RunId) -> Result<(Vec<Silence>, u64), MonitorError> {
        let mark = mark(run);
        let filter = format!("{MARK}!=\"{}\"", mark.value);
        let url = self.to.api("silences").query(&[("filter", filter.as_str())]);
        let answer = self.ask(Method::GET, url, None).await?;
        let site = self.to.address.site();
        if !answer.status.is_success() {
            return Err(self.error(format!("{site}: {}", answer.told())));
        }
        let found: Vec<Silence> = serde_json::from_slice(&answer.body)
            .map_err(|_| self.error(format!("{site} answers something that is no list of silences")))?;
        let now_ms = date(&answer).ok_or_else(|| {
            self.error(format!("{site} does not say what time it is there (no `Date` in its answer)"))
        })?;
        // Who does not heed the filter must not have others' silences ended by us.
        Ok((found.into_iter().filter(|silence| silence.matchers.contains(&mark)).collect(), now_ms))
    }

    async fn post(&mut self, id: Option<&str>, silence: &Posted<'_>) -> Result<String, MonitorError> {
        let mut body = json!({
            "matchers": silence.matchers,
            "startsAt": silence.starts_at,
            "endsAt": rfc3339_ms(silence.until_ms),
            "createdBy": silence.by,
            "comment": silence.comment,
        });
        if let Some(id) = id {
            body["id"] = id.into();
        }
        self.maybe = true;
        let answer = self.ask(Method::POST, self.to.api("silences"), Some(body.to_string().into_bytes())).await?;
        let site = self.to.address.site();
        if !answer.status.is_success() {
            return Err(self.error(format!("{site}: {}", answer.told())));
        }
        let made: Made = serde_json::from_slice(&answer.body)
            .map_err(|_| self.error(format!("{site} does not say which silence it made")))?;
        Ok(made.silence_id)
    }
}

/// What is asked for.
struct Posted<'a> {
    matchers: &'a [Wanted],
    starts_at: String,
    until_ms: u64,
    by: &'a str,
    comment: &'a str,
}

/// The `Date` of an answer (Unix ms).
fn date(answer: &Answer) -> Option<u64> {
    let text = answer.headers.get("date")?.to_str().ok()?;
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    u64::try_from(at.as_millisecond()).ok()
}

/// In one line, and not too long.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_MAX).collect()
}

impl Alertmanager {
    fn api(&self, part: &str) -> Url {
        self.address.join("api/v2").join(part)
    }

    fn talk(&self, within: Duration) -> Talk<'_> {
        Talk { to: self, said: Vec::new(), within, maybe: false }
    }
}

#[async_trait]
impl Monitor for Alertmanager {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "alertmanager"
    }

    fn site(&self) -> String {
        self.address.site()
    }

    async fn mute(&self, mute: Mute<'_>, within: Duration) -> Result<Muted, MonitorError> {
        let wanted =
            silences::of(mute.run, mute.hosts).map_err(|why| MonitorError { why, maybe: mute.known.is_some() })?;
        let mut talk = self.talk(within);
        talk.maybe = mute.known.is_some();
        let (there, now_ms) = talk.list(mute.run).await?;
        let until_ms = now_ms.saturating_add(mute.for_ms);
        let ago = rfc3339_ms(now_ms.saturating_sub(AGO_MS));
        let (by, comment) = (line(mute.by), line(mute.comment));
        let known = |silence: &Silence| {
            mute.known.is_some_and(|(ids, until_ms)| {
                ids.contains(&silence.id) && silence.ends_ms().saturating_add(EARLY_MS) < until_ms
            })
        };
        let (mut ids, mut ended_by_others) = (BTreeSet::new(), Vec::new());
        for matchers in &wanted {
            let posted = |starts_at: String| Posted { matchers, starts_at, until_ms, by: &by, comment: &comment };
            let same = there.iter().filter(|silence| silence.matchers() == *matchers);
            let in_force = same.clone().filter(|silence| silence.in_force()).max_by_key(|silence| silence.ends_at);
            let id = match in_force {
                Some(silence) if silence.ends_ms() >= until_ms => silence.id.clone(),
                // With its own beginning it stays the same one.
                Some(silence) => talk.post(Some(&silence.id), &posted(silence.starts_at.to_string())).await?,
                None => match same.clone().find(|silence| known(silence)) {
                    Some(ended) => {
                        ended_by_others.push(ended.id.clone());
                        continue;
                    }
                    None => talk.post(None, &posted(ago.clone())).await?,
                },
            };
            ids.insert(id);
        }
        let (there, _) = talk.list(mute.run).await?;
        let active = |id: &&String| there.iter().any(|one| one.id == **id && one.status.state == "active");
        if let Some(lost) = ids.iter().find(|id| !active(id)) {
            return Err(talk.error(format!("{} took silence {lost}, and it is not in force", self.site())));
        }
        let ends = there.iter().filter(|silence| ids.contains(&silence.id)).map(Silence::ends_ms);
        // What was asked for may be cut by the system; the latest end is what people are told.
        let until_ms = ends.max().unwrap_or(until_ms);
        Ok(Muted { ids: ids.into_iter().collect(), ended_by_others, until_ms, exchange: talk.said })
    }

    async fn unmute(&self, run: &RunId, ids: &[String], within: Duration) -> Result<Unmuted, MonitorError> {
        let mut talk = self.talk(within);
        talk.maybe = true;
        let (there, _) = talk.list(run).await?;
        let mut ended = Vec::new();
        for silence in there.iter().filter(|silence| silence.in_force()) {
            let url = self.api("silence").join(&escaped(&silence.id));
            let answer = talk.ask(Method::DELETE, url, None).await?;
            // Somebody else may have ended it in between; what counts is asked below.
            if answer.status.is_success() {
                ended.push(silence.id.clone());
            }
        }
        // What is on record and not found by its mark is looked at by its own name.
        for id in ids.iter().filter(|id| !there.iter().any(|silence| silence.id == **id)) {
            let url = self.api("silence").join(&escaped(id));
            let answer = talk.ask(Method::GET, url, None).await?;
            match answer.status {
                StatusCode::NOT_FOUND => {}
                status if status.is_success() => {
                    let silence: Silence = serde_json::from_slice(&answer.body)
                        .map_err(|_| talk.error(format!("{} answers something that is no silence", self.site())))?;
                    if silence.in_force() {
                        return Err(talk.error(format!(
                            "silence {id} does not bear the mark of the run any more, and is in force"
                        )));
                    }
                }
                _ => return Err(talk.error(format!("{}: {}", self.site(), answer.told()))),
            }
        }
        let (left, at_ms) = talk.list(run).await?;
        if let Some(silence) = left.iter().find(|silence| silence.in_force()) {
            return Err(talk.error(format!("{} still has silence {} in force", self.site(), silence.id)));
        }
        Ok(Unmuted { ids: ended, at_ms, exchange: talk.said })
    }

    async fn reach(&self, within: Duration) -> Result<String, MonitorError> {
        let mut talk = self.talk(within);
        // What every login may read, and nothing of the answer is looked at but that it is one.
        let (_, _) = talk.list(&RunId::from("none")).await?;
        Ok(format!(
            "{} answers{}",
            self.site(),
            if matches!(self.login, Login::None) { "" } else { ", and lets us in" }
        ))
    }
}
