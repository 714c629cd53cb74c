//! The report for people.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod sample;

use std::collections::BTreeSet;

use runbook_model::{HostOutcome, Sha256};
use runbook_report::RunView;
use runbook_report::html::{self, Contents, Verification};
use runbook_report::json::{Attachments, LedgerHead};
use runbook_report::objectives::Revision;
use sample::{Writer, taken_back};

const HOSTILE: &[u8] = b"<script>alert(1)</script>\x1b[2J</pre>\xe2\x80\xae&amp;\"'>\r\n";

fn page(view: &RunView) -> String {
    with(view, Attachments::default())
}

fn with(view: &RunView, attachments: Attachments) -> String {
    let verification = Verification {
        verdict: "consistent in itself, key not pinned".into(),
        code: 11,
        checked: vec!["14 records are whole".into()],
        not_checked: vec!["whether the key is the right one".into()],
        receipts: sample::receipts(),
        ..Verification::default()
    };
    let attachments = Attachments { ledger: Some(LedgerHead { size: 14, root: "sha256:00".into() }), ..attachments };
    let mut page = html::head(view, &attachments, &verification);
    for (name, host) in &view.hosts {
        let contents: Contents = html::contents_of(host).into_iter().map(|digest| (digest, HOSTILE.to_vec())).collect();
        page.push_str(&html::host(view, &attachments, name, host, &contents));
    }
    page.push_str(&html::tail(view, &attachments, &verification, Revision::R2));
    page
}

/// The values of an attribute, everywhere in the page.
fn values<'a>(page: &'a str, attribute: &str) -> Vec<&'a str> {
    let begin = format!(" {attribute}=\"");
    page.split(&begin).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn what_went_wrong_comes_first_and_each_link_leads_somewhere() {
    let page = page(&taken_back().view());
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("it says {text}"));
    assert!(at("rolled back") < at("<h2 id=\"attention\""));
    assert!(at("<h2 id=\"attention\"") < at("<h2 id=\"matrix\""));
    assert!(page.contains("fs01/upgrade</a> took 2 attempts"));
    assert!(page.contains("not started: the failure budget is spent"));
    assert!(page.contains("CHG-1042") && page.contains("jane"));
    let ids = values(&page, "id");
    let unique: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), unique.len(), "an id twice");
    let links = values(&page, "href");
    assert!(links.len() > 10);
    for link in links {
        let target = link.strip_prefix('#').unwrap_or_else(|| panic!("{link} leads out of the file"));
        assert!(unique.contains(target), "{link} leads nowhere");
    }
}

#[test]
fn nothing_that_a_host_printed_is_markup() {
    let page = page(&taken_back().view());
    assert!(
        page.contains("&lt;script&gt;alert(1)&lt;/script&gt;\\x1b[2J&lt;/pre&gt;\\u{202e}&amp;amp;&quot;&#39;&gt;")
    );
    assert!(!page.contains("<script>alert"));
    assert!(!page.contains('\u{1b}') && !page.contains('\u{202e}'));
}

#[test]
fn the_page_asks_nobody_for_anything() {
    let page = page(&taken_back().view());
    assert!(page.contains("default-src 'none'"));
    for outside in ["http://", "https://", "//cdn", "@import", "url(", " src="] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    assert_eq!(page(&taken_back().view()), page(&taken_back().view()));
}

#[test]
fn a_good_run_needs_no_attention() {
    let mut run = Writer::new(&[&["fs01", "fs02"]]);
    run.good_host("fs01").good_host("fs02").run_ended(HostOutcome::Succeeded);
    let page = page(&run.view());
    assert!(page.contains("Nothing: every host was done and verified"));
    assert!(page.contains("done and verified on every host"));
}

#[test]
fn a_run_without_an_end_is_never_called_done() {
    let mut run = Writer::new(&[&["fs01"]]);
    run.until_upgrade("fs01");
    let page = page(&run.view());
    assert!(page.contains("not ended"));
    assert!(page.contains("the run has no end on record"));
    assert!(!page.contains("done and verified"));
}

#[test]
fn a_content_that_is_not_there_is_told() {
    let view = taken_back().view();
    let (name, host) = view.hosts.iter().next().expect("a host");
    let section = html::host(&view, &Attachments::default(), name, host, &Contents::new());
    assert!(section.contains("Not shown here"));
    let long = vec![b'x'; html::EXCERPT_BYTES as usize + 1];
    let contents: Contents = [(Sha256::of(b"upgrade"), long)].into();
    let section = html::host(&view, &Attachments::default(), name, host, &contents);
    assert!(section.contains("The beginning; the rest is in the record."));
}

#[test]
fn who_vouches_is_drawn_with_what_was_checked_and_what_waits() {
    let view = taken_back().view();
    let outside = |page: &str| {
        let from = page.find("<h2 id=\"outside\"").expect("the section is there");
        page[from..][..page[from..].find("</section>").unwrap()].to_owned()
    };
    assert!(outside(&page(&view)).contains("Nobody outside"));
    assert!(page(&view).contains("<a href=\"#outside\">by nobody</a>"));
    let page = with(&view, Attachments { anchors: sample::anchors(), ..Attachments::default() });
    assert!(page.contains("<a href=\"#outside\">by disk and w1, and not by 2 of 4</a>"));
    let section = outside(&page);
    for told in [
        "2 of 4 anchors outside hold a head",
        "1.2s after the run's last record",
        "the witness w (pinned) saw this run",
        "<span class=\"badge good\">verified</span>",
        "<span class=\"badge none\">not checked</span>",
        "<span class=\"badge bad\">wrong</span>",
        "copied to /mnt/&lt;heads&gt;",
        "12 records of this run, the first since <span class=\"time\">2026-11-22T09:30:20.000Z</span>",
        "none of this ledger",
    ] {
        assert!(section.contains(told), "{told}: {section}");
    }
    let attention = &page[page.find("<h2 id=\"attention\"").unwrap()..page.find("<h2 id=\"who\"").unwrap()];
    assert!(attention.contains("Not held outside yet") && attention.contains("tsa</a>: NOT all of this run yet"));
    assert!(!attention.contains("w1</a>"));
    // Whoever holds it, the page without a check says that there was none.
    let view = &view;
    let attachments = Attachments { anchors: sample::anchors(), ..Attachments::default() };
    let unchecked = html::tail(view, &attachments, &Verification::default(), Revision::R2);
    assert!(outside(&unchecked).contains("not when this was made"));
}

#[test]
fn what_redacted_editions_withhold_is_told_at_the_output_and_with_the_record() {
    let view = taken_back().view();
    let page = with(&view, Attachments { redactions: sample::redactions(), ..Attachments::default() });
    let told = "3 lines of stderr, by ann on 2026-11-23T08:00:00.000Z (match &lt;secret&gt;): a name";
    assert_eq!(page.matches(told).count(), 2, "at the output and with the record");
    assert_eq!(page.matches("Withheld in redacted editions: ").count(), 1, "only where there is an output");
    assert!(page.contains("<h3>Withheld in redacted editions</h3>"));
    assert!(!with(&view, Attachments::default()).contains("Withheld"));
}
