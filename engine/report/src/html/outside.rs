//! Who outside vouches for the record: what each anchor holds, since when, whether its receipt was checked, and what waits.

use super::Verification;
use super::markup::{badge, facts, text, time};
use crate::json::{AnchorLine, Attachments};
use crate::outside::{Checked, ReceiptCheck};
use crate::style::Tone;
use crate::text::{count, elapsed};

pub(super) fn section(attachments: &Attachments, verification: &Verification) -> String {
    let mut out =
        String::from("<section aria-labelledby=\"outside\">\n<h2 id=\"outside\">Who vouches for this record</h2>\n");
    let anchors = &attachments.anchors;
    if anchors.is_empty() {
        out.push_str(
            "<p>Nobody outside: the ledger's heads are given to no anchor. Whoever holds the ledger's key and its machine can \
             have rewritten this record, and nothing here would show it.</p>\n</section>\n",
        );
        return out;
    }
    let holding = anchors.iter().filter(|anchor| holds(anchor, verification)).count();
    let all = count(anchors.len(), "anchor");
    let hold = match holding {
        0 => format!("None of {all} outside holds a head that covers all of this run."),
        1 => format!("1 of {all} outside holds a head that covers all of this run."),
        n => format!("{n} of {all} outside hold a head that covers all of this run."),
    };
    out.push_str(&format!(
        "<p>{hold} A ledger that was rewritten since does not fit a head that is held elsewhere.</p>\n"
    ));
    for anchor in anchors {
        out.push_str(&self::anchor(anchor, verification));
    }
    out.push_str("</section>\n");
    out
}

/// In a few words, for the head of the report.
pub(super) fn brief(attachments: &Attachments, verification: &Verification) -> String {
    let anchors = &attachments.anchors;
    let holding: Vec<&str> =
        anchors.iter().filter(|anchor| holds(anchor, verification)).map(|anchor| anchor.name.as_str()).collect();
    let said = match (anchors.len(), holding.len()) {
        (0, _) => "by nobody".to_owned(),
        (all, 0) => format!("by none of {}", count(all, "anchor")),
        (all, n) if all == n => format!("by {}", crate::text::list(&holding, 4)),
        (all, _) => format!("by {}, and not by {} of {all}", crate::text::list(&holding, 4), all - holding.len()),
    };
    format!("<a href=\"#outside\">{}</a>", text(&said))
}

/// What waits, for those who read nothing but what needs attention.
pub(super) fn waiting(attachments: &Attachments) -> Vec<String> {
    let late = attachments.anchors.iter().filter(|anchor| !anchor.covers_run);
    late.map(|anchor| format!("<a href=\"#outside\">{}</a>: {}", text(&anchor.name), text(&anchor.standing())))
        .collect()
}

fn anchor(anchor: &AnchorLine, verification: &Verification) -> String {
    let standing = match (holds(anchor, verification), anchor.covers_run) {
        (true, _) => badge(Tone::Good, "holds this run"),
        (false, true) => badge(Tone::Bad, "its receipt is wrong"),
        (false, false) => badge(Tone::Warn, "not all of this run yet"),
    };
    let mut out =
        format!("<div class=\"whole\">\n<h3>{} ({}) {standing}</h3>\n", text(&anchor.name), text(&anchor.kind));
    let mut rows: Vec<(&str, String)> = Vec::new();
    match (anchor.size, &anchor.root) {
        (Some(size), Some(root)) => {
            rows.push(("Head", format!("{}, <code>{}</code>", count(size as usize, "record"), text(root))));
        }
        (Some(size), None) => rows.push(("Head", count(size as usize, "record"))),
        (None, _) => rows.push(("Head", "none of this ledger".into())),
    }
    if let Some(at) = &anchor.at {
        let record = anchor.record.map(|seq| format!(" <span class=\"seq\">(record {seq})</span>")).unwrap_or_default();
        let lag = anchor.after_ms.map(|ms| format!(", {} after the run's last record", elapsed(ms)));
        rows.push(("Receipt", format!("recorded {}{}{record}", time(at), lag.unwrap_or_default())));
        rows.push(("Checked", checked(receipt(anchor, verification))));
    }
    if !anchor.covers_run {
        let since = anchor.waiting_since.as_deref().map(|since| format!(", the first since {}", time(since)));
        let waits = format!("{} of this run", count(anchor.waiting as usize, "record"));
        rows.push(("Waiting", format!("{waits}{}", since.unwrap_or_default())));
    }
    rows.push(("It proves", proves(&anchor.kind).to_owned()));
    out.push_str(&facts(&rows));
    out.push_str("</div>\n");
    out
}

/// It holds all of the run, as far as the check can tell.
fn holds(anchor: &AnchorLine, verification: &Verification) -> bool {
    anchor.covers_run && receipt(anchor, verification).is_none_or(|receipt| receipt.checked != Checked::Wrong)
}

fn receipt<'a>(anchor: &AnchorLine, verification: &'a Verification) -> Option<&'a ReceiptCheck> {
    let of = |receipt: &&ReceiptCheck| receipt.anchor == anchor.name && Some(receipt.size) == anchor.size;
    verification.receipts.iter().find(of)
}

fn checked(receipt: Option<&ReceiptCheck>) -> String {
    let Some(receipt) = receipt else { return badge(Tone::Dim, "not when this was made") };
    let tone = match receipt.checked {
        Checked::Verified => Tone::Good,
        Checked::OwnSettings => Tone::Warn,
        Checked::NotChecked => Tone::Dim,
        Checked::Wrong => Tone::Bad,
    };
    format!("{} {}", badge(tone, receipt.checked.words()), text(&receipt.what))
}

/// What a receipt of this kind shows, and to whom.
fn proves(kind: &str) -> &'static str {
    match kind {
        "witness" => {
            "that another party saw this head at that time and that it continues every head it saw before: against the \
             owner of the ledger's key and machine"
        }
        "rfc3161" => "that this head existed at that time: against back-dating by anybody but the authority",
        "git" | "file" => "that a copy of this head is kept there: against those who cannot change that place",
        "syslog" => "nothing by itself, for a collector acknowledges nothing: its own copy does, where it is kept",
        _ => "what its kind is known for; this version does not know it",
    }
}
