//! `people list`, `check`.

use std::fmt::Write as _;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use runbook_model::people::{Key, Member};
use runbook_report::style::Tone;
use runbook_report::text::{count, escape_line};
use serde_json::{Value, json};

use crate::arguments::InventoryShow;
use crate::arguments::rules::People as Command;
use crate::failure::Failure;
use crate::output::{self, Output, note};
use crate::policy::Staff;
use crate::project::Project;

/// What ends within so many days is said to end soon.
const SOON_DAYS: i64 = 30;

/// Runs `people …`.
pub(crate) fn run(project: &Project, command: &Command, output: Output) -> Result<u8, Failure> {
    match command {
        Command::List(arguments) => list(project, arguments, output),
        Command::Check(arguments) => check(project, arguments, output),
    }
}

fn check(project: &Project, arguments: &InventoryShow, output: Output) -> Result<u8, Failure> {
    let people = Staff::must(project, output.error_palette)?.people;
    if arguments.json {
        output::json(&json!({"schema": "people-check/v1", "people": people.people.len()}))?;
    } else {
        note(format!(
            "right: {}",
            if people.people.len() == 1 { "1 person".into() } else { format!("{} people", people.people.len()) }
        ));
    }
    Ok(0)
}

/// Something that counts until a day.
struct Term {
    what: String,
    until: Date,
}

/// All of a person's that ends, and what is revoked.
fn terms(member: &Member) -> Vec<Term> {
    let mut terms: Vec<Term> = member
        .training
        .iter()
        .map(|(name, until)| Term { what: format!("training in {name}"), until: *until })
        .collect();
    let ends = |key: &Key| key.until.map(|until| Term { what: format!("key {}", short(key)), until });
    terms.extend(member.keys.iter().filter_map(ends));
    if let Some(vendor) = &member.vendor {
        terms.push(Term { what: format!("{} of {}", vendor.sow, vendor.company), until: vendor.sow_until });
        terms.push(Term { what: format!("agreement not to disclose of {}", vendor.company), until: vendor.nda_until });
    }
    terms
}

/// A key's type and the end of its base64.
fn short(key: &Key) -> String {
    let (kind, body) = key.key.split_once(' ').unwrap_or((&key.key, ""));
    let tail: String = body.chars().skip(body.chars().count().saturating_sub(8)).collect();
    format!("{kind} …{tail}")
}

fn list(project: &Project, arguments: &InventoryShow, output: Output) -> Result<u8, Failure> {
    let people = Staff::must(project, output.error_palette)?.people;
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let soon = today.saturating_add(SOON_DAYS.days());
    if arguments.json {
        let listed: Vec<Value> = people
            .people
            .iter()
            .map(|(id, member)| {
                let terms: Vec<Value> = terms(member)
                    .iter()
                    .map(|term| json!({"what": term.what, "until": term.until, "over": term.until < today}))
                    .collect();
                let mut value = json!(member);
                value["id"] = json!(id);
                value["terms"] = terms.into();
                value
            })
            .collect();
        output::json(&json!({"schema": "people-list/v1", "people": listed}))?;
        return Ok(0);
    }
    let mut text = String::new();
    let shown = |text: &str| escape_line(text.as_bytes());
    for (id, member) in &people.people {
        let mut facts = vec![shown(&member.name)];
        if let Some(vendor) = &member.vendor {
            facts.push(format!("of {}", shown(&vendor.company)));
        }
        let roles: Vec<&str> = member.roles.iter().map(String::as_str).collect();
        if !roles.is_empty() {
            facts.push(roles.join(", "));
        }
        let accounts: Vec<String> = member.accounts.iter().map(|account| shown(account)).collect();
        if !accounts.is_empty() {
            facts.push(format!("account {}", accounts.join(", ")));
        }
        facts.push(count(member.keys.len(), "key"));
        let _ = writeln!(text, "{}  {}", output.palette.paint(Tone::Strong, id), facts.join(" · "));
        for key in &member.keys {
            if let Some(revoked) = key.revoked {
                let _ = writeln!(
                    text,
                    "  {} key {} revoked on {revoked}",
                    output.palette.paint(Tone::Bad, "!"),
                    short(key)
                );
            }
        }
        for Term { what, until } in terms(member) {
            let what = shown(&what);
            let (mark, end) = match until {
                until if until < today => (output.palette.paint(Tone::Bad, "!"), format!("was over on {until}")),
                until if until <= soon => (output.palette.paint(Tone::Warn, "~"), format!("is over soon, on {until}")),
                until => (" ".into(), format!("until {until}")),
            };
            let _ = writeln!(text, "  {mark} {what} {end}");
        }
    }
    output::data(text)?;
    Ok(0)
}
