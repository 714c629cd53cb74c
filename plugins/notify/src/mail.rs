//! A mail as bytes: headers that hold one line each whatever is put into them, and a plain text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use runbook_ports::notifier::Message;

use crate::{cut, is_unseen, line};

/// Characters of a subject, at most.
const SUBJECT_MAX: usize = 180;
/// Characters of a text, at most.
const TEXT_MAX: usize = 100_000;
/// Bytes of a text that one encoded word of a header holds: 75 characters, less what is around it.
const WORD_BYTES_MAX: usize = 42;
/// Characters of a line of base64.
const LINE: usize = 76;

/// The mail, with CRLF at the ends of its lines. The same bytes however often it is made.
pub(crate) fn mail(message: &Message<'_>, from: &str, to: &[String]) -> Vec<u8> {
    let domain = from.rsplit_once('@').map_or("localhost", |(_, domain)| domain);
    let at = i64::try_from(message.made_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let date = jiff::fmt::rfc2822::to_string(&at.unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(TimeZone::UTC));
    let headers = [
        ("Date", date.unwrap_or_default()),
        ("From", format!("runbook <{from}>")),
        ("To", to.join(",\r\n ")),
        ("Subject", subject(&cut(&line(message.subject), SUBJECT_MAX))),
        ("Message-ID", format!("<{}@{domain}>", message.id)),
        // Nobody's absence is answered to it (RFC 3834).
        ("Auto-Submitted", "auto-generated".into()),
        ("MIME-Version", "1.0".into()),
        ("Content-Type", "text/plain; charset=utf-8".into()),
        ("Content-Transfer-Encoding", "base64".into()),
    ];
    let mut mail: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    mail.push_str("\r\n");
    let text: String = cut(message.text, TEXT_MAX).chars().filter(|c| !is_unseen(*c)).collect();
    let text: String = text.lines().map(|text| line(text) + "\r\n").collect();
    let encoded = STANDARD.encode(text);
    for start in (0..encoded.len()).step_by(LINE) {
        mail.push_str(&encoded[start..encoded.len().min(start + LINE)]);
        mail.push_str("\r\n");
    }
    mail.into_bytes()
}

/// A header's text (RFC 2047). What is plain stays as it is.
fn subject(text: &str) -> String {
    let plain = text.chars().all(|c| c == ' ' || c.is_ascii_graphic()) && !text.contains("=?") && text.len() <= LINE;
    if plain {
        return text.to_owned();
    }
    let mut words = vec![String::new()];
    for c in text.chars() {
        if words.last().is_some_and(|word| word.len() + c.len_utf8() > WORD_BYTES_MAX) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(c);
        }
    }
    let encoded: Vec<String> = words.iter().map(|word| format!("=?utf-8?B?{}?=", STANDARD.encode(word))).collect();
    encoded.join("\r\n ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(subject: &str, text: &str) -> String {
        let message =
            Message { id: "msg_1", made_ms: 1_700_000_000_000, now_ms: 0, subject, text, kind: "ended", news: "{}" };
        String::from_utf8(mail(&message, "runbook@example.com", &["a@example.com".into(), "b@example.com".into()]))
            .unwrap()
    }

    #[test]
    fn a_subject_cannot_add_a_header_or_end_them() {
        let mail = made("x\r\nBcc: evil@example.com\r\n\r\nbody\u{85}\u{2028}", "y");
        let (headers, _) = mail.split_once("\r\n\r\n").unwrap();
        assert!(!headers.lines().any(|line| line.starts_with("Bcc")), "{mail}");
        assert_eq!(headers.matches("Subject:").count(), 1);
        assert_eq!(headers.lines().filter(|line| !line.starts_with(' ')).count(), 9, "{headers}");
    }

    #[test]
    fn lines_are_short_and_a_long_subject_is_folded_into_whole_characters() {
        let mail = made(&"fs01 – ausgefallen \u{1f980} ".repeat(50), &"z".repeat(5_000));
        assert!(mail.split("\r\n").all(|line| line.len() <= 90), "{mail}");
        assert!(!mail.replace("\r\n", "").contains(['\r', '\n']));
        assert!(mail.is_ascii());
        for word in mail.split("=?utf-8?B?").skip(1) {
            let word = STANDARD.decode(word.split("?=").next().unwrap()).unwrap();
            assert!(String::from_utf8(word).is_ok());
        }
    }

    #[test]
    fn a_plain_subject_can_be_read_in_the_log_of_a_mail_server() {
        let mail = made("fs01: upgraded", "all well");
        assert!(mail.contains("\r\nSubject: fs01: upgraded\r\nMessage-ID: <msg_1@example.com>\r\n"), "{mail}");
        assert!(mail.starts_with("Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"), "{mail}");
    }
}
