//! sh and bash themselves as judges of the quoting.

use std::io::Write;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;

/// Values that are likely to break something, and random ones.
fn values(count: usize) -> Vec<String> {
    let mut values: Vec<String> = [
        "",
        " ",
        "'",
        "\"",
        "\\",
        "\n",
        "\n\n",
        "a\n",
        "\t",
        "$(id)",
        "`id`",
        "${HOME}",
        "$HOME",
        "~",
        "~root",
        "*",
        "?",
        "[a]",
        "{a,b}",
        "-rf",
        "--",
        "-",
        "=",
        "A=b",
        "#",
        "# x",
        "!",
        "!!",
        ";",
        "&",
        "|",
        "<",
        ">",
        "(",
        ")",
        "if",
        "then",
        "fi",
        "case",
        "in",
        "do",
        "done",
        "{",
        "}",
        "2",
        "0",
        "\\'",
        "'\\''",
        "\u{1}",
        "\u{7f}",
        "ä€😀",
        "\u{2018}",
        "\u{a0}",
        "\r\n",
        "a\\\nb",
        "EOF\n",
        "$'\\n'",
        "\u{feff}",
        "\u{202e}",
        "%s",
        "%n",
        "\\0",
        "\\c",
    ]
    .map(str::to_owned)
    .to_vec();
    let strategy = prop_oneof![
        prop::collection::vec(any::<char>(), 0..12).prop_map(|chars| chars.into_iter().collect::<String>()),
        "['\"\\\\$`(){}#!;&|<>*?~ \n\ta-c=-]{0,16}",
    ];
    let mut runner = TestRunner::deterministic();
    while values.len() < count {
        let value = strategy.new_tree(&mut runner).expect("the strategy has no filter").current();
        values.push(value.replace('\0', ""));
    }
    values
}

/// Runs `script` and gives what it printed.
fn output_of(shell: &str, script: &str, folder: &std::path::Path) -> Vec<u8> {
    let path = folder.join("script");
    std::fs::File::create(&path).and_then(|mut file| file.write_all(script.as_bytes())).expect("the script is written");
    let output = Command::new(shell)
        .arg(&path)
        .current_dir(folder)
        .stdin(Stdio::null())
        .env("LC_ALL", "C.UTF-8")
        .output()
        .expect("the shell is installed");
    output.stdout
}

struct One(Value);

impl Values for One {
    fn value(&self, _path: &[String]) -> Result<Found<'_>, String> {
        Ok(Found::Value(Cow::Borrowed(&self.0)))
    }
}

fn text(source: &str, shell: ShellKind, value: Value) -> String {
    let template = CompiledTemplate::new(source, Place::Run(shell)).unwrap_or_else(|p| panic!("{source}: {p:?}"));
    template.render(&One(value)).unwrap_or_else(|p| panic!("{source}: {p:?}")).into_plain()
}

const SHELLS: [(&str, ShellKind); 2] = [("sh", ShellKind::Sh), ("bash", ShellKind::Bash)];

#[test]
fn every_value_is_exactly_one_argument_wherever_it_may_stand() {
    // Each prints the value and a NUL; those with `true` print it between `<` and `>`.
    let templates = [
        (r"printf '%s\0' {{v}}", false),
        (r"printf '%s\0' '<'{{v}}'>'", true),
        (r#"printf '%s\0' "<"{{v}}\>"#, true),
        (r"x={{v}} y=$((1)); printf '%s\0' {{v}};", false),
        (r#"x={{v}}; printf '%s\0' "$x""#, false),
        (r#"x=$(printf '%s.' {{v}}); printf '%s\0' "${x%.}""#, false),
        (r#"printf '%s\0' "$(printf '%s>' '<'{{v}})""#, true),
        ("case {{v}} in *) printf '%s\\0' {{v}} ;; esac", false),
        ("if true; then printf '%s\\0' {{v}};fi", false),
        ("cat <<'E' >/dev/null\nit's \"\nE\nprintf '%s\\0' {{v}}", false),
        ("# it's\nprintf '%s\\0' {{v}} # \"", false),
        ("for i in {{v}}; do printf '%s\\0' \"$i\"; done", false),
        ("f() { printf '%s\\0' \"$1\"; }; f {{v}}", false),
        ("(printf '%s\\0' {{v}})", false),
        ("printf '%s\\0' \\\n {{v}}", false),
        (r#"printf '%s\0' "<{{v}}>""#, true),
        (r#"printf '%s\0' "{{v}}" "#, false),
        (r"printf '%s\0' '{{v}}'", false),
        (r#"printf '%s\0' "$(printf '%s>' "<{{v}}")""#, true),
        (r#"x="{{v}}"; printf '%s\0' "${x}""#, false),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let values = values(400);
    for (program, shell) in SHELLS {
        for (source, marked) in templates {
            let script: String =
                values.iter().map(|value| format!("{}\n", text(source, shell, json!(value)))).collect();
            let printed = output_of(program, &script, folder.path());
            let printed: Vec<&[u8]> = printed.split(|byte| *byte == 0).collect();
            assert_eq!(printed.len(), values.len() + 1, "{program}: {source}");
            for (value, printed) in values.iter().zip(printed) {
                let expected = if marked { format!("<{value}>") } else { value.clone() };
                assert_eq!(String::from_utf8_lossy(printed), expected, "{program}: {source}");
            }
        }
    }
}

#[test]
fn every_list_is_as_many_arguments_as_it_has_items() {
    let folder = tempfile::tempdir().expect("a folder");
    let values = values(300);
    for (program, shell) in SHELLS {
        let mut script = String::new();
        for chunk in values.chunks(7) {
            script.push_str(&text("printf '%s\\0' start {{v}} end\n", shell, json!(chunk)));
        }
        let expected: Vec<u8> = values
            .chunks(7)
            .flat_map(|chunk| {
                let words = std::iter::once("start").chain(chunk.iter().map(String::as_str)).chain(["end"]);
                words.flat_map(|word| word.bytes().chain([0])).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(output_of(program, &script, folder.path()), expected, "{program}");
    }
}

/// Random shell texts with a value in them. Most are refused or are no programs at all; in those that are accepted, no
/// shell may ever run what is in the value.
#[test]
fn an_accepted_text_never_runs_what_is_in_a_value() {
    let tokens = [
        "{{v}}", "{{v}}", "{{v}}", "'", "\"", "\\", "$", "(", ")", "{", "}", "`", "#", " ", " ", "\n", "\n", "<<E\n",
        "<<-'E' ", "<<", "<", "E\n", "E", "\tE\n", "case ", "x", "x in x)", ";;esac ", "[[ ", " ]]", " -eq ", ";",
        "$(", "${x:-", "$((", "((", "))", "=", "echo ", "a", "\\\n", "$'", "[", "]", "1", "|", "-", "!", "if ",
        "then ", "fi ", "esac",
    ];
    let attacks = [
        "'; : >pwned; '\"; : >pwned; \"$(: >pwned)`: >pwned`",
        "\n: >pwned\nE\n: >pwned\n",
        "x[$(: >pwned)]",
        "$(: >pwned)",
    ];
    let strategy = prop::collection::vec(prop::sample::select(tokens.to_vec()), 2..14);
    let mut runner = TestRunner::deterministic();
    let mut texts = Vec::new();
    for _ in 0..20_000 {
        let source = strategy.new_tree(&mut runner).expect("the strategy has no filter").current().concat();
        if source.contains("{{v}}") && CompiledTemplate::new(&source, Place::Run(ShellKind::Bash)).is_ok() {
            texts.push(source);
        }
    }
    assert!(texts.len() > 200, "only {} texts are accepted", texts.len());
    texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
    texts.truncate(400);
    let folder = tempfile::tempdir().expect("a folder");
    for (program, shell) in SHELLS {
        let mut script = String::new();
        let mut sources = Vec::new();
        for source in &texts {
            if CompiledTemplate::new(source, Place::Run(shell)).is_err() {
                continue;
            }
            for attack in attacks {
                let text = text(source, shell, json!(attack));
                let quoted = ShellKind::Sh.quote_part(&text).expect("there is no NUL");
                script.push_str(&format!(
                    "(eval {quoted}) >/dev/null 2>&1 </dev/null\nif [ -e pwned ]; then echo {}; rm -f pwned; fi\n",
                    sources.len()
                ));
                sources.push(text);
            }
        }
        let printed = output_of(program, &script, folder.path());
        let caught: Vec<&String> = String::from_utf8_lossy(&printed)
            .lines()
            .map(|line| &sources[line.parse::<usize>().expect("a number")])
            .collect();
        assert!(
            caught.is_empty(),
            "{program} ran a value in {} texts: {:#?}",
            caught.len(),
            &caught[..caught.len().min(5)]
        );
    }
}
