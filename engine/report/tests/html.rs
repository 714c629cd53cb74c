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
    let verification = Verification {
        verdict: "consistent in itself, key not pinned".into(),
        code: 11,
        checked: vec!["14 records are whole".into()],
        not_checked: vec!["whether the key is the right one".into()],
        ..Verification::default()
    };
    let attachments =
        Attachments { ledger: Some(LedgerHead { size: 14, root: "sha256:00".into() }), ..Attachments::default() };
    let mut page = html::head(view, &verification);
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
