//! Every code has a page in the book.

use std::path::Path;

use runbook_lang::Code;

#[test]
fn every_code_has_a_page_that_says_what_happened_what_was_changed_and_what_to_do() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
    let mut names = std::collections::BTreeSet::new();
    for code in Code::ALL {
        assert!(names.insert(code.name()), "{code} is there twice");
        let page = std::fs::read_to_string(folder.join(format!("{code}.md"))).unwrap_or_default();
        for part in [&format!("# {code}: "), "**What happened.**", "**Was anything changed?**", "**What to do.**"] {
            assert!(page.contains(part), "docs/errors/{code}.md has no `{part}`");
        }
    }
}
