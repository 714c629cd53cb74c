//! PowerShell and cmd do not run here. These are models of their documented rules, written apart from the lexers under
//! test: they read a whole text into words.

use proptest::prelude::*;

use super::*;

/// Words of a PowerShell text in argument mode, as far as it has only bare characters and quoted strings.
/// `None` when something else would happen (an expansion, a comment, a separator).
fn powershell_words(text: &str) -> Option<Vec<String>> {
    let single = |c: char| "'\u{2018}\u{2019}\u{201A}\u{201B}".contains(c);
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == ' ' {
            words.extend(word.take());
        } else if single(c) {
            // A string at the beginning of a word ends with its closing quote.
            let whole = word.is_none();
            let mut string = word.take().unwrap_or_default();
            loop {
                let c = chars.next()?;
                if !single(c) || chars.next_if(|next| single(*next)).is_some() {
                    string.push(c);
                } else {
                    break;
                }
            }
            if whole && chars.peek().is_some_and(|next| *next != ' ') {
                return None;
            }
            word = Some(string);
        } else if c.is_ascii_alphanumeric() || "-=:/.\\".contains(c) {
            word.get_or_insert_default().push(c);
        } else {
            return None;
        }
    }
    words.extend(word);
    Some(words)
}

/// What a program gets from one line of cmd.exe: percent expansion, quotes and carets, then the C runtime's rules.
/// `None` when the line is more than one command, or anything is expanded.
fn cmd_words(line: &str) -> Option<Vec<String>> {
    // Phase 1 and 5: percent and delayed expansion look inside quotes too; phase 2 is line by line.
    if line.contains(['%', '!', '\r', '\n', '\0', '\u{1a}']) {
        return None;
    }
    let mut passed = String::new();
    let mut quoted = false;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                quoted = !quoted;
                passed.push(c);
            }
            '^' if !quoted => passed.push(chars.next()?),
            '&' | '|' | '<' | '>' | '(' | ')' if !quoted => return None,
            c => passed.push(c),
        }
    }
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut backslashes = 0;
    for c in passed.chars().chain([' ']) {
        if c == '\\' {
            backslashes += 1;
            continue;
        }
        let escaped = c == '"' && backslashes % 2 == 1;
        if backslashes > 0 {
            let kept = if c == '"' { backslashes / 2 } else { backslashes };
            word.get_or_insert_default().push_str(&"\\".repeat(kept));
            backslashes = 0;
        }
        match c {
            '"' if escaped => word.get_or_insert_default().push('"'),
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' | '\t' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::collection::vec(any::<char>(), 0..12)
            .prop_map(|chars| chars.into_iter().filter(|c| *c != '\0').collect::<String>()),
        "['\"\\\\$`(){}#@!;&|<>*?~ \u{2018}\u{2019}\u{201c}\u{ff02}%^\n\ta-c=-]{0,16}",
        "[ -~]{0,16}",
        r"[A-Z]:\\[a-zA-Z0-9 ()&.\\_-]{0,20}",
    ]
}

fn quoted_in(source: &str, shell: ShellKind, value: &str) -> Result<String, String> {
    let template = CompiledTemplate::new(source, Place::Run(shell)).map_err(|p| p[0].to_string())?;
    let values = Document(json!({"v": value}));
    template.render(&values).map(|output| output.into_plain()).map_err(|(_, message)| message)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn powershell_takes_every_value_as_one_word(value in any_value()) {
        for (source, before) in [("cmd {{v}} end", ""), ("cmd -Path:{{v}} end", "-Path:"), ("cmd --x={{v}} end", "--x=")] {
            let text = quoted_in(source, ShellKind::Powershell, &value).unwrap();
            prop_assert_eq!(
                powershell_words(&text),
                Some(vec!["cmd".to_owned(), format!("{before}{value}"), "end".to_owned()]),
                "{}", text
            );
        }
    }

    #[test]
    fn cmd_takes_every_value_as_one_word_or_refuses_it(value in any_value()) {
        for (source, before) in [("cmd {{v}} end", ""), ("cmd /x:{{v}} end", "/x:")] {
            if let Ok(text) = quoted_in(source, ShellKind::Cmd, &value) {
                prop_assert_eq!(
                    cmd_words(&text),
                    Some(vec!["cmd".to_owned(), format!("{before}{value}"), "end".to_owned()]),
                    "{}", text
                );
            }
        }
    }
}

#[test]
fn ordinary_windows_paths_can_be_passed_to_cmd() {
    for value in [r"C:\Program Files (x86)\App", "a & b", "Müller", "x=y,z;w", "1", ""] {
        assert!(quoted_in("dir {{v}}", ShellKind::Cmd, value).is_ok(), "{value}");
    }
}

#[test]
fn places_that_change_a_values_meaning_are_refused_in_powershell() {
    for source in [
        "'{{v}}'",
        "\"{{v}}\"",
        "\"$( 'x' ) {{v}}\"",
        "\u{201c}{{v}}\u{201d}",
        "\u{2018}{{v}}\u{2019}",
        "@'\n{{v}}\n'@",
        "@\"\n{{v}}\n\"@",
        "# {{v}}",
        "x # {{v}}",
        "<# {{v}} #>",
        "<#> {{v}} #>",
        "`{{v}}",
        "@{{v}}",
        "${{{v}} }",
        "{{v}}{{v}}",
        "{{v}}'a'",
        "'a'{{v}}",
        "{{v}}abc",
        "{{v}}.Length",
        "cmd --% {{v}}",
        "$x#{{v}}",
        "\"`\" {{v}}\"",
        "'it''s {{v}}'",
        "\"$$( {{v}} )\"",
        "{{v}}#",
        "{{v}}`n",
        "{{#if a}}'{{/if}} {{v}}",
    ] {
        assert!(CompiledTemplate::new(source, Place::Run(ShellKind::Powershell)).is_err(), "{source}");
    }
    for source in [
        "Get-Item {{v}}",
        "'it''s' + {{v}}",
        "\"$(Get-Item {{v}})\"",
        "\"a`\"b\" , {{v}}",
        "# it's\nx {{v}}",
        "<# it's #> x {{v}}",
        "@'\nit's\n'@ | x {{v}}",
        "foo#bar {{v}}",
        "if ($x -eq {{v}}) { y {{v}} }",
        "@{ a = {{v}}; b = {{v}} }",
        "--x={{v}}",
        "x -Path:{{v}}",
        "@({{v}},{{v}})",
        "& {{v}} | y",
        "\"\u{201d} + {{v}}",
    ] {
        if let Err(problems) = CompiledTemplate::new(source, Place::Run(ShellKind::Powershell)) {
            panic!("{source}: {problems:?}");
        }
    }
}

#[test]
fn places_that_change_a_values_meaning_are_refused_in_cmd() {
    for source in [
        "dir \"{{v}}\"",
        "dir ^{{v}}",
        "echo %X% {{v}}",
        "dir \\\\{{v}}",
        "dir \"a\"{{v}}",
        "{{v}}{{v}}",
        "{{v}}\"a\"",
        "x ^\n{{v}}",
        "for %%f in (*) do x {{v}}",
    ] {
        assert!(CompiledTemplate::new(source, Place::Run(ShellKind::Cmd)).is_err(), "{source}");
    }
    for source in [
        "dir {{v}}",
        "dir \"a b\" {{v}}",
        "echo %X%\ndir {{v}}",
        "if exist {{v}} ( del {{v}} )",
        "dir {{v}}\\sub",
        "echo ^& {{v}}",
    ] {
        if let Err(problems) = CompiledTemplate::new(source, Place::Run(ShellKind::Cmd)) {
            panic!("{source}: {problems:?}");
        }
    }
}
