//! Chats: an incoming webhook of Slack, a workflow of Teams. Whoever knows the address can write there, so it is a secret.

use std::time::Duration;

use async_trait::async_trait;
use runbook_ports::notifier::{Delivered, Message, Notifier, NotifyError};
use runbook_wire::Tls;
use serde_json::{Value, json};

use crate::hook::{self, Address};
use crate::{cut, line};

/// A header block holds 150 characters.
const SLACK_HEADER_MAX: usize = 140;
/// A section's text holds 3000 characters, and an escaped one counts as it is sent.
const SLACK_TEXT_MAX: usize = 2_900;
/// A card and what is around it may have 28 KiB; a character may take twelve bytes.
const TEAMS_TEXT_MAX: usize = 1_800;
/// Lines of a card, at most.
const TEAMS_LINES_MAX: usize = 40;

/// A channel of Slack.
pub struct Slack {
    /// The channel's name in the settings.
    pub name: String,
    /// Its incoming webhook.
    pub address: Address,
    /// How it is spoken to.
    pub tls: Tls,
}

/// A channel of Teams, behind a workflow that posts cards.
pub struct Teams {
    /// The channel's name in the settings.
    pub name: String,
    /// The workflow's address.
    pub address: Address,
    /// How it is spoken to.
    pub tls: Tls,
}

macro_rules! chat {
    ($type:ident, $kind:literal, $body:ident) => {
        #[async_trait]
        impl Notifier for $type {
            fn name(&self) -> &str {
                &self.name
            }

            fn kind(&self) -> &'static str {
                $kind
            }

            fn to(&self) -> String {
                self.address.site()
            }

            async fn deliver(&self, message: Message<'_>, within: Duration) -> Result<Delivered, NotifyError> {
                let body = $body(&message).to_string().into_bytes();
                hook::post(&self.address, &self.tls, &[], body, within).await
            }

            async fn reach(&self, within: Duration) -> Result<String, NotifyError> {
                hook::reach(&self.address, &self.tls, within).await
            }
        }
    };
}

chat!(Slack, "slack", slack);
chat!(Teams, "teams", teams);

/// The three characters that are markup there. Without them there is no mention and no link, whatever a name holds.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// As much of `text` as fits when it is escaped.
fn fitting(text: &str, characters_max: usize) -> String {
    let mut kept = String::new();
    let mut length = 0;
    for c in text.chars() {
        let piece = escaped(&c.to_string());
        length += piece.chars().count();
        if length > characters_max {
            kept.push('…');
            break;
        }
        kept.push_str(&piece);
    }
    kept
}

fn slack(message: &Message<'_>) -> Value {
    let subject = fitting(&line(message.subject), SLACK_HEADER_MAX);
    let text: Vec<String> = message.text.lines().map(line).collect();
    let mut blocks = vec![json!({
        "type": "header",
        "text": { "type": "plain_text", "text": subject, "emoji": false },
    })];
    // A section without text is refused.
    let text = fitting(text.join("\n").trim(), SLACK_TEXT_MAX);
    if !text.is_empty() {
        blocks.push(json!({
            "type": "section",
            "text": { "type": "plain_text", "text": text, "emoji": false },
        }));
    }
    let about = format!("{} · {}", message.kind, message.id);
    blocks.push(json!({
        "type": "context",
        "elements": [{ "type": "plain_text", "text": fitting(&about, SLACK_HEADER_MAX), "emoji": false }],
    }));
    json!({ "text": subject, "blocks": blocks })
}

fn teams(message: &Message<'_>) -> Value {
    // Runs of text in a rich text block are never read as Markdown, so a name cannot be a link.
    let block = |text: String, run: Value| {
        let mut run = run;
        run["type"] = "TextRun".into();
        run["text"] = text.into();
        json!({ "type": "RichTextBlock", "inlines": [run], "spacing": "Small" })
    };
    let subject = cut(&line(message.subject), SLACK_HEADER_MAX);
    let text = cut(message.text, TEAMS_TEXT_MAX);
    let mut body = vec![block(subject.clone(), json!({ "weight": "Bolder", "size": "Medium" }))];
    let lines = text.lines().map(line).filter(|line| !line.trim().is_empty()).take(TEAMS_LINES_MAX);
    body.extend(lines.map(|line| block(line, json!({}))));
    body.push(block(format!("{} · {}", message.kind, message.id), json!({ "isSubtle": true, "size": "Small" })));
    json!({
        "type": "message",
        "summary": subject,
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "fallbackText": subject,
                "body": body,
            },
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<'a>(subject: &'a str, text: &'a str) -> Message<'a> {
        Message { id: "msg_1", made_ms: 0, now_ms: 0, subject, text, kind: "ended", news: "{}" }
    }

    #[test]
    fn a_name_is_neither_a_mention_nor_a_link_in_slack() {
        let body = slack(&message("<!channel> fs01\n*x*", "<https://evil.example|click> &amp;")).to_string();
        assert!(!body.contains('<') && !body.contains('>'), "{body}");
        assert!(body.contains("&lt;!channel&gt; fs01 *x*") && body.contains("&amp;amp;"), "{body}");
    }

    #[test]
    fn all_texts_of_slack_are_plain_and_within_its_limits() {
        let long = "<".repeat(10_000);
        let body = slack(&message(&long, &long));
        for block in body["blocks"].as_array().unwrap() {
            let text = if block["type"] == "context" { &block["elements"][0] } else { &block["text"] };
            assert_eq!(text["type"], "plain_text");
            let max = if block["type"] == "header" { 150 } else { 3_000 };
            assert!(text["text"].as_str().unwrap().chars().count() <= max);
        }
        assert_eq!(slack(&message("x", " \n "))["blocks"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn a_card_of_teams_has_plain_runs_only_and_is_small_enough() {
        let long = "\u{1f980}[x](https://evil.example) <at>all</at>\n".repeat(2_000);
        let body = teams(&message(&long, &long));
        assert!(body.to_string().len() < 20 << 10, "{}", body.to_string().len());
        let blocks = body["attachments"][0]["content"]["body"].as_array().unwrap();
        assert!(blocks.len() > 3 && blocks.iter().all(|block| block["type"] == "RichTextBlock"));
        assert!(blocks.iter().all(|block| block["inlines"][0]["type"] == "TextRun"));
    }

    #[test]
    fn characters_that_are_not_seen_do_not_turn_a_text_around() {
        let body = slack(&message("fs\u{202e}10", "a\u{0}b\u{200b}")).to_string();
        assert!(body.contains("fs10") && body.contains("a b"), "{body}");
    }
}
