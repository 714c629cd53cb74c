//! `notify list`, `check`, `test`, `send`.

use runbook_model::news::NewsKind;
use runbook_model::units::rfc3339_ms;
use runbook_report::list::short;
use runbook_report::style::Tone;
use runbook_report::text::{count, escape_line};
use runbook_store::{Message, MessageState};
use serde_json::{Value, json};

use crate::arguments::notify::{Check, List, Notify as Command, Send, Test};
use crate::failure::{FAULT, Failure};
use crate::notifications::settings::Channel;
use crate::notifications::{self, Target, check_template, reach};
use crate::output::{self, Output, note};
use crate::project::Project;
use crate::record;

/// Runs `notify …`.
pub(crate) async fn run(project: &Project, command: &Command, output: Output) -> Result<u8, Failure> {
    match command {
        Command::List(arguments) => list(project, arguments, output).await,
        Command::Check(arguments) => check(project, arguments, output).await,
        Command::Test(arguments) => test(project, arguments).await,
        Command::Send(arguments) => send(project, arguments).await,
    }
}

fn channels(project: &Project) -> Result<&[Channel], Failure> {
    project.folder()?;
    match project.settings.notify.as_slice() {
        [] => Err(Failure::usage("RB0755", "no channel is set up, so nobody is told anything").next(
            "set one up: a section [notify.NAME] in runbook.toml; docs/operations/notifications.md shows each kind",
        )),
        channels => Ok(channels),
    }
}

async fn list(project: &Project, arguments: &List, output: Output) -> Result<u8, Failure> {
    let messages = match record::open_existing(project).await? {
        Some(store) => store.outbox().await.map_err(|error| record::failed(&error))?,
        None => Vec::new(),
    };
    let open = |message: &&Message| !arguments.open || message.state != MessageState::Delivered;
    let messages: Vec<&Message> = messages.iter().filter(open).collect();
    if arguments.json {
        let mut channels: Vec<Value> = project.settings.notify.iter().map(channel).collect();
        // A system of tickets is told of the runs that are for its tickets.
        let systems = notifications::targets(project).into_iter().filter(|one| matches!(one, Target::Ticket(_)));
        channels.extend(systems.map(|one| json!({"name": one.name(), "kind": one.kind(), "to": one.to(), "on": ["started", "suspended", "ended"]})));
        let messages: Vec<Value> = messages.into_iter().map(document).collect();
        output::json(&json!({ "schema": "notify-list/v1", "channels": channels, "messages": messages }))?;
        return Ok(0);
    }
    if messages.is_empty() {
        note("no messages");
        return Ok(0);
    }
    let palette = output.palette;
    let mut text = String::new();
    for message in messages {
        let (word, tone) = match message.state {
            MessageState::Waiting => ("waiting", Tone::Warn),
            MessageState::Delivered => ("delivered", Tone::Good),
            MessageState::GivenUp => ("GIVEN UP", Tone::Bad),
        };
        let run = message.run.as_ref().map_or("", |run| short(run.as_str()));
        text.push_str(&format!(
            "{}  {:<12} {:<11} {:<9} {}  {}\n",
            palette.paint(tone, &format!("{word:<9}")),
            message.channel,
            message.kind,
            run,
            rfc3339_ms(message.created_ms),
            escape_line(tail(message).as_bytes()),
        ));
    }
    output::data(text)?;
    Ok(0)
}

/// What there is to say of its attempts.
fn tail(message: &Message) -> String {
    let tries = if message.attempts == 1 { "1 attempt".to_owned() } else { format!("{} attempts", message.attempts) };
    match message.state {
        MessageState::Waiting if message.attempts == 0 => "not tried yet".into(),
        MessageState::Waiting => format!("{tries}, again at {}: {}", rfc3339_ms(message.next_ms), message.answer),
        MessageState::Delivered | MessageState::GivenUp => format!("{tries}: {}", message.answer),
    }
}

fn channel(channel: &Channel) -> Value {
    json!({
        "name": channel.name,
        "kind": channel.kind.name(),
        "to": channel.kind.to(),
        "on": channel.on.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
    })
}

fn document(message: &Message) -> Value {
    let waits = message.state == MessageState::Waiting;
    json!({
        "id": message.id,
        "channel": message.channel,
        "kind": message.kind,
        "run": message.run,
        "state": message.state.name(),
        "created": rfc3339_ms(message.created_ms),
        "attempts": message.attempts,
        "next": waits.then(|| rfc3339_ms(message.next_ms)),
        "settled": message.settled_ms.map(rfc3339_ms),
        "answer": message.answer,
        "sha256": message.sha256,
    })
}

async fn check(project: &Project, arguments: &Check, output: Output) -> Result<u8, Failure> {
    let channels = channels(project)?;
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    for one in channels {
        let template = one.template.as_deref().map(check_template);
        let reached = if arguments.offline { None } else { Some(reach(project, one).await) };
        let problems: Vec<String> =
            [template.and_then(Result::err), reached.clone().and_then(Result::err)].into_iter().flatten().collect();
        let told = reached.and_then(Result::ok).unwrap_or_else(|| "not asked".into());
        found.push(json!({ "name": one.name, "kind": one.kind.name(), "reach": told, "problems": problems }));
        let name = format!("{} ({})", one.name, one.kind.name());
        if problems.is_empty() && !arguments.json {
            let on: Vec<&str> = one.on.iter().copied().map(NewsKind::name).collect();
            let good = output.error_palette.paint(Tone::Good, "right");
            note(format!("{good}  {name}: {}; told of {}", escape_line(told.as_bytes()), on.join(", ")));
        }
        wrong.extend(problems.into_iter().map(|problem| format!("{name}: {problem}")));
    }
    if arguments.json {
        output::json(&json!({ "schema": "notify-check/v1", "channels": found }))?;
    }
    if wrong.is_empty() {
        return Ok(0);
    }
    let mut failure = Failure::usage("RB0756", format!("{} not right", count(wrong.len(), "thing")));
    for problem in wrong {
        failure = failure.detail(problem);
    }
    Err(failure.changed("").next("mend it; until then messages wait, and are given up after a day"))
}

async fn test(project: &Project, arguments: &Test) -> Result<u8, Failure> {
    let channels = channels(project)?;
    let name = &arguments.name;
    let Some(channel) = channels.iter().find(|channel| channel.name == *name) else {
        let known: Vec<&str> = channels.iter().map(|channel| channel.name.as_str()).collect();
        return Err(Failure::usage("RB0755", format!("there is no channel `{name}`"))
            .next(format!("known: {}", known.join(", "))));
    };
    match notifications::test(project, channel).await {
        Ok(answer) => {
            note(format!("taken by {name} ({}): {}", channel.kind.name(), escape_line(answer.as_bytes())));
            note("see whether it has arrived: that it was taken is all that can be known here");
            Ok(0)
        }
        Err(why) => Err(Failure::new("RB0757", FAULT, format!("{name} ({}) did not take it", channel.kind.name()))
            .detail(why)
            .changed("the message is not kept")
            .next("`runbook notify check` says what is wrong with which channel")),
    }
}

async fn send(project: &Project, arguments: &Send) -> Result<u8, Failure> {
    if notifications::targets(project).is_empty() {
        channels(project)?;
    }
    let Some(store) = record::open_existing(project).await? else {
        if arguments.json {
            output::json(&json!({ "schema": "notify-send/v1", "delivered": 0, "given_up": 0, "waiting": 0 }))?;
        }
        return Ok(0);
    };
    if arguments.now {
        store.outbox_hurry().await.map_err(|error| record::failed(&error))?;
    }
    let sent = notifications::send_due(project, &store).await?;
    let outbox = store.outbox().await.map_err(|error| record::failed(&error))?;
    let waiting = outbox.iter().filter(|message| message.state == MessageState::Waiting).count();
    if arguments.json {
        output::json(&json!({
            "schema": "notify-send/v1",
            "delivered": sent.delivered,
            "given_up": sent.given_up,
            "waiting": waiting,
            "next": sent.next_ms.map(rfc3339_ms),
        }))?;
        return Ok(0);
    }
    note(format!("{} sent, {} given up, {waiting} waiting", count(sent.delivered, "message"), sent.given_up));
    for (channel, why) in &sent.later {
        note(format!("  {channel}: {}", escape_line(why.as_bytes())));
    }
    Ok(0)
}
