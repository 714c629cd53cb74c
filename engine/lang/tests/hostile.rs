//! Whatever the bytes: an answer, no panic, and places that lie inside the file.

use proptest::prelude::*;
use runbook_lang::inventory::{Files, parse_inventory};
use runbook_lang::{
    Diagnostic, FILE_BYTES_MAX, INVENTORY_BYTES_MAX, load, parse_action, parse_people, parse_policy, parse_runbook,
    parse_windows, render, selector,
};

/// Every file has the same bytes.
struct Always<'a>(&'a [u8]);

impl Files for Always<'_> {
    fn read(&self, _path: &str) -> Result<Vec<u8>, String> {
        Ok(self.0.to_vec())
    }
}

fn sound(problems: &[Diagnostic]) {
    assert!(!problems.is_empty());
    for problem in problems {
        let text = problem.span.source().text();
        assert!(problem.span.range().end <= text.len());
        assert!(text.get(problem.span.range()).is_some());
        let (line, column) = problem.span.position();
        assert!(line >= 1 && column >= 1);
    }
    let shown = render::text(problems, true);
    assert!(!shown.is_empty());
    runbook_lang::diagnostic::to_json(problems);
}

fn all(bytes: &[u8]) {
    if let Err(problems) = parse_runbook("f.yaml", bytes) {
        sound(&problems);
    }
    if let Err(problems) = parse_action("f.yaml", bytes) {
        sound(&problems);
    }
    if let Err(problems) = parse_windows("f.yaml", bytes) {
        sound(&problems);
    }
    if let Err(problems) = parse_people("f.yaml", bytes) {
        sound(&problems);
    }
    if let Err(problems) = parse_policy("f.yaml", bytes) {
        sound(&problems);
    }
    let mut inventories = vec![bytes.to_vec()];
    for form in ["csv: f.csv", "ansible: f.ini", "ansible: f.yml"] {
        inventories.push(format!("schema: inventory/v1\nhosts: {{a: {{}}}}\ninclude: [{{{form}}}]\n").into_bytes());
    }
    for inventory in inventories {
        if let Err(problems) = parse_inventory("i.yaml", &inventory, &Always(bytes)) {
            sound(&problems);
        }
    }
}

/// Pieces of which runbooks are made, put together without sense.
fn pieces() -> impl Strategy<Value = String> {
    let words = [
        "schema: runbook/v1",
        "schema: inventory/v1",
        "schema: action/v1",
        "schema: windows/v1",
        "schema: people/v1",
        "people: {a: {name: A, keys: [b], vendor: {company: c}, supervisor: b}}",
        "schema: policy/v1",
        "rules: [{for: {tiers: [routine], hosts: a}, approvals: {roles: {b: 1}}, ticket: c}]",
        "windows: {a: {when: every day 22:00 for 4h, zone: UTC}}",
        "freezes: {a: {from: 2026-12-18, until: 2027-01-01}}",
        "name: x",
        "execute:",
        "prechecks:",
        "  - run: x",
        "  - {run: [a, b], needs: [c]}",
        "    id: a",
        "    needs: [a]",
        "    undo: {run: y}",
        "    timeout: 5m",
        "parameters:",
        "  p: {type: string, default: a}",
        "    on: controller",
        "    expect: {exit_code: 0}",
        "rollback:",
        "  steps:",
        "hosts:",
        "  a: {groups: [g], jump: b}",
        "groups:",
        "  g: {groups: [g]}",
        "include: [x.yaml, {csv: y}]",
        "[web:children]",
        "web[1:3]",
        "a,b,\"c",
        "&x",
        "*x",
        "<<: *x",
        "!!str",
        "---",
        "...",
        "|",
        ">",
        "\t",
        "é",
        "\u{202e}",
        "\0",
        "{{param.p}}",
        "{{{x}}}",
        "\"",
        "'",
        "#",
        "kind: snapshot",
        "posix: {take: x}",
        "take: {posix: y}",
        "- ",
        "? ",
        ": ",
        "retry: {attempts: 2}",
    ];
    let piece = (prop::sample::select(words.to_vec()), prop::sample::select(vec!["\n", "\n", "\n", " ", "\r\n", ""]));
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.into_iter().flat_map(|(a, b)| [a, b]).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        all(&bytes);
    }

    #[test]
    fn any_mixture_of_the_language_gets_an_answer(text in pieces()) {
        all(text.as_bytes());
    }

    #[test]
    fn any_selection_gets_an_answer(text in "[a-c!&|()=*? ,é\\[]{0,40}") {
        if let Err(problem) = selector::parse_text("--limit", &text) {
            sound(&[problem]);
        }
    }

    /// A right file with one byte replaced.
    #[test]
    fn a_right_file_with_one_wrong_byte_gets_an_answer(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = include_bytes!("../../../tests/fixtures/lang/right/every-key.runbook.yaml").to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Err(problems) = parse_runbook("f.yaml", &bytes) {
            sound(&problems);
        }
    }
}

/// Never ends.
struct Endless(usize);

impl std::io::Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        buffer.fill(b'a');
        self.0 += buffer.len();
        assert!(self.0 < 64 << 20, "it is read without end");
        Ok(buffer.len())
    }
}

#[test]
fn a_file_that_is_too_large_is_not_read_to_its_end() {
    let problem = load("huge.yaml", Endless(0), FILE_BYTES_MAX).expect_err("too large");
    assert_eq!(problem.code.name(), "RB0002");
    let bytes = vec![b'a'; FILE_BYTES_MAX + 1];
    assert_eq!(parse_runbook("huge.yaml", &bytes).expect_err("too large")[0].code.name(), "RB0002");
    assert_eq!(load("ok.yaml", &bytes[1..], FILE_BYTES_MAX).expect("just right").len(), FILE_BYTES_MAX);
}

/// Large enough to hurt if the time grew with the square; smaller than the limit, so that debug builds stay quick.
const BIG: usize = FILE_BYTES_MAX / 8;

#[test]
fn files_that_are_made_to_hurt_are_refused() {
    let big = |line: &str, head: &str| {
        let mut text = head.to_owned();
        while text.len() + line.len() < BIG {
            text.push_str(line);
        }
        text
    };
    let many_keys = {
        let mut text = String::new();
        for i in 0..15_000 {
            text.push_str(&format!("k{i}: 1\n"));
        }
        text
    };
    let steps = |count: usize, text: &str| {
        let mut file = "schema: runbook/v1\nname: x\nexecute:\n".to_owned();
        for i in 0..count {
            file.push_str(&format!("- {{id: s{i}, run: '{{{{{text}}}}}'}}\n"));
        }
        file
    };
    let nested_anchors: String = (0..60).map(|i| format!("&a{i} [")).collect::<String>() + &"x, ".repeat(20_000);
    for text in [
        "[".repeat(BIG),
        "{".repeat(BIG),
        "- ".repeat(BIG / 2),
        "? ".repeat(BIG / 2),
        "!".repeat(BIG),
        "&a ".repeat(BIG / 3),
        "\"".repeat(BIG - 1),
        big("a: b\n", ""),
        big("- {a: b}\n", ""),
        big("  - run: x\n", "schema: runbook/v1\nname: x\nexecute:\n"),
        big("  - {id: a, needs: [a]}\n", "schema: runbook/v1\nname: x\nexecute:\n"),
        steps(900, "steps.s1.stdout"),
        steps(20_000, "x"),
        big("a,", ""),
        big("x[1:99999]\n", ""),
        big("# \n", ""),
        many_keys,
        format!("x: {nested_anchors}"),
    ] {
        all(text.as_bytes());
        assert!(parse_runbook("f.yaml", text.as_bytes()).is_err());
    }
    let large = vec![b'a'; INVENTORY_BYTES_MAX + 1];
    assert_eq!(parse_inventory("i", &large, &Always(b"")).expect_err("too large")[0].code.name(), "RB0002");
}
