//! What templates are, as tables; the shells' side is in `shells` and `models`.

mod models;
mod shells;

use std::borrow::Cow;
use std::collections::BTreeSet;

use runbook_model::evaluate::{Piece, SecretText};
use runbook_model::shell::ShellKind;
use serde_json::{Value, json};

use super::render::{Found, Values};
use super::*;

/// The names in a JSON document; `secret.*` are secrets, names under `later` are unknown.
struct Document(Value);

impl Values for Document {
    fn value(&self, path: &[String]) -> Result<Found<'_>, String> {
        match path[0].as_str() {
            "secret" => Ok(Found::Secret(SecretText(vec![Piece::Secret(path[1].clone())]))),
            "joined" => Ok(Found::Secret(SecretText(vec![Piece::Text("user:".into()), Piece::Secret("db".into())]))),
            "later" => {
                let name = path.join(".");
                Ok(Found::Unknown(format!("‹{name}›"), BTreeSet::from([name])))
            }
            _ => render::descend(Cow::Borrowed(&self.0), "the document", path).map(Found::Value),
        }
    }
}

fn document() -> Document {
    Document(json!({
        "param": {
            "package": "samba", "evil": "a'; rm -rf /", "n": 3, "yes": true, "no": false, "zero": 0, "empty": "",
            "list": ["one", "two words"], "none": [], "map": {"b": 2, "a": 1}, "null": null,
            "users": [{"name": "jo"}, {"name": "al"}],
        },
        "host": {"os": "linux", "name": "fs01"},
    }))
}

fn rendered(source: &str, place: Place) -> Result<SecretText, String> {
    let template = CompiledTemplate::new(source, place).map_err(|problems| problems[0].to_string())?;
    template.render(&document()).map(|output| output.text).map_err(|(_, message)| message)
}

fn plain(source: &str) -> Result<String, String> {
    rendered(source, Place::Plain).map(|text| match text.0.as_slice() {
        [] => String::new(),
        [Piece::Text(text)] => text.clone(),
        other => panic!("{other:?}"),
    })
}

fn run(source: &str, shell: ShellKind) -> Result<String, String> {
    rendered(source, Place::Run(shell)).map(|text| match text.0.as_slice() {
        [] => String::new(),
        [Piece::Text(text)] => text.clone(),
        other => panic!("{other:?}"),
    })
}

#[test]
fn plain_texts_take_values_as_they_are() {
    for (source, text) in [
        ("no names at all {x} }} '", "no names at all {x} }} '"),
        ("pkg {{param.package}}", "pkg samba"),
        ("{{param.evil}}", "a'; rm -rf /"),
        ("{{{param.evil}}}|{{&param.evil}}", "a'; rm -rf /|a'; rm -rf /"),
        ("{{param.n}} {{param.yes}}", "3 true"),
        (r"\{{.Names}} {{param.n}}", "{{.Names}} 3"),
        ("a{{! a comment, isn't it }}b", "ab"),
        ("{{#if param.yes}}y{{else}}n{{/if}}", "y"),
        ("{{#if param.zero}}y{{else}}n{{/if}}", "n"),
        ("{{#if param.empty}}y{{else if param.none}}e{{else}}n{{/if}}", "n"),
        ("{{#unless param.no}}u{{/unless}}", "u"),
        ("{{#if (eq host.os \"linux\")}}L{{/if}}", "L"),
        ("{{#if (and param.yes (not param.no) (ne param.n 4))}}A{{/if}}", "A"),
        ("{{#if (or param.no (gt param.n 2))}}O{{/if}}", "O"),
        ("{{#each param.list}}{{@index}}={{this}};{{/each}}", "0=one;1=two words;"),
        ("{{#each param.users}}{{this.name}}{{#unless @last}},{{/unless}}{{/each}}", "jo,al"),
        ("{{#each param.users as |user i|}}{{i}}{{user.name}}{{../param.n}}{{@root.param.n}}{{/each}}", "0jo331al33"),
        ("{{#each param.map}}{{@key}}={{this}} {{/each}}", "a=1 b=2 "),
        ("{{#each param.none}}x{{else}}nothing{{/each}}", "nothing"),
        ("{{param.list.[1]}} {{param.users.[0].name}}", "two words jo"),
        ("a {{~param.n~}} b", "a3b"),
    ] {
        assert_eq!(plain(source).as_deref(), Ok(text), "{source}");
    }
}

#[test]
fn strictness_has_no_gaps() {
    for source in [
        "{{param.missing}}",
        "{{{param.missing}}}",
        "{{&param.missing}}",
        "{{#if param.missing}}x{{/if}}",
        "{{#unless param.missing}}x{{/unless}}",
        "{{#each param.missing}}x{{/each}}",
        "{{#if (eq param.missing 1)}}x{{/if}}",
        "{{#if (or param.yes param.missing)}}x{{/if}}",
        "{{param.package.below}}",
        "{{param.list.[9]}}",
        "{{#each param.users}}{{this.missing}}{{/each}}",
    ] {
        assert!(plain(source).is_err(), "{source}");
    }
}

#[test]
fn values_without_a_text_are_errors() {
    for source in ["{{param.map}}", "{{param.list}}", "{{param.null}}", "{{#each param.n}}x{{/each}}"] {
        assert!(plain(source).is_err(), "{source}");
    }
    for source in ["echo {{param.map}}", "echo {{param.null}}", "echo x{{param.list}}", "echo {{param.list}}x"] {
        assert!(run(source, ShellKind::Sh).is_err(), "{source}");
    }
}

#[test]
fn what_brings_text_from_elsewhere_is_refused() {
    for source in [
        "{{> part}}",
        "{{#> part}}x{{/part}}",
        "{{#*inline \"part\"}}x{{/inline}}",
        "{{* decorate}}",
        "{{{{raw}}}}x{{{{/raw}}}}",
        "{{#with param}}{{n}}{{/with}}",
        "{{lookup param \"n\"}}",
        "{{log \"x\"}}",
        "{{eq 1 1}}",
        "{{(eq 1 1)}}",
        "{{#if (len param.list)}}x{{/if}}",
        "{{#if param.yes includeZero=true}}x{{/if}}",
        "{{#if}}x{{/if}}",
        "{{#if a b}}x{{/if}}",
        "{{#each param.list}}x{{/if}}",
        "{{#if param.yes}}x",
        "{{param.x",
        "{{}}",
        "{{ .Names }}",
        "{{this}}",
    ] {
        assert!(CompiledTemplate::new(source, Place::Plain).is_err(), "{source}");
    }
}

#[test]
fn problems_have_their_place() {
    let problems = CompiledTemplate::new("a\nbc {{> part}}", Place::Plain).unwrap_err();
    assert_eq!(problems[0].position, Position { line: 2, column: 4 });
    let names = Names { parameters: BTreeSet::from(["package".to_owned()]), ..Names::default() };
    let problems = check("ä\n  {{param.package}} {{param.pakage}}\n{{#if host.nam}}{{/if}}", Place::Plain, &names);
    let found: Vec<_> =
        problems.iter().map(|problem| (problem.position.to_string(), problem.suggestion.clone().unwrap())).collect();
    assert_eq!(found, [("2:21".to_owned(), "param.package".to_owned()), ("3:1".to_owned(), "host.name".to_owned())]);
}

#[test]
fn verbatim_values_are_warned_of_in_commands_only() {
    let names = Names { parameters: BTreeSet::from(["x".to_owned()]), ..Names::default() };
    let problems = check("echo {{{param.x}}} {{&param.x}}", Place::Run(ShellKind::Sh), &names);
    assert_eq!(problems.len(), 2);
    assert!(problems.iter().all(|problem| problem.severity == Severity::Warning));
    assert_eq!(check("{{{param.x}}}", Place::Plain, &names), []);
}

#[test]
fn commands_quote_values_for_their_shell() {
    for (shell, source, text) in [
        (ShellKind::Sh, "apt-get install -y {{param.package}}", "apt-get install -y samba"),
        (ShellKind::Sh, "rm {{param.evil}}", r"rm 'a'\''; rm -rf /'"),
        (ShellKind::Sh, "x={{param.package}}; y --n={{param.n}}", "x='samba'; y --n='3'"),
        (ShellKind::Sh, "{{param.package}} -x", "'samba' -x"),
        (ShellKind::Sh, "cp {{param.list}} /tmp", "cp one 'two words' /tmp"),
        (ShellKind::Sh, "cp {{param.none}} /tmp", "cp  /tmp"),
        (ShellKind::Sh, "echo {{param.n}} >&2", "echo 3 >&2"),
        (ShellKind::Sh, "echo {{param.n}}>f", "echo '3'>f"),
        (ShellKind::Sh, "echo {{{param.evil}}}", "echo a'; rm -rf /"),
        (ShellKind::Powershell, "Get-Item {{param.evil}}", "Get-Item 'a''; rm -rf /'"),
        (ShellKind::Powershell, "Stop-Service {{param.list}}", "Stop-Service 'one','two words'"),
        (ShellKind::Powershell, "$x = {{param.none}}", "$x = @()"),
        (ShellKind::Cmd, "dir {{param.package}}", "dir \"samba\""),
        (ShellKind::Sh, "{{#each param.list}}echo {{this}}\n{{/each}}", "echo one\necho 'two words'\n"),
    ] {
        assert_eq!(run(source, shell).as_deref(), Ok(text), "{source}");
    }
}

#[test]
fn secrets_become_words_or_pieces_and_never_text() {
    assert_eq!(run("x {{secret.db}}", ShellKind::Sh).unwrap(), "x \"${RUNBOOK_SECRET_db}\"");
    assert_eq!(run("x -p{{secret.db}}", ShellKind::Bash).unwrap(), "x -p\"${RUNBOOK_SECRET_db}\"");
    assert_eq!(run("x \"a {{secret.db}}\"", ShellKind::Sh).unwrap(), "x \"a \"\"${RUNBOOK_SECRET_db}\"\"\"");
    assert_eq!(run("x {{joined}}", ShellKind::Sh).unwrap(), "x 'user:'\"${RUNBOOK_SECRET_db}\"");
    assert_eq!(run("x {{secret.db}}", ShellKind::Powershell).unwrap(), "x ${env:RUNBOOK_SECRET_db}");
    assert_eq!(
        rendered("u={{secret.db}};{{param.n}}", Place::Private).unwrap(),
        SecretText(vec![Piece::Text("u=".into()), Piece::Secret("db".into()), Piece::Text(";3".into())])
    );
    assert!(plain("{{secret.db}}").is_err());
    for (source, shell) in [
        ("x {{secret.db}}", ShellKind::Cmd),
        ("x {{joined}}", ShellKind::Powershell),
        ("x {{{secret.db}}}", ShellKind::Sh),
        ("x 'a {{secret.db}}'", ShellKind::Sh),
        ("{{#if secret.db}}x{{/if}}", ShellKind::Sh),
        ("{{#each secret.db}}x{{/each}}", ShellKind::Sh),
    ] {
        assert!(run(source, shell).is_err(), "{source}");
    }
    let names = Names { secrets: BTreeSet::from(["db".to_owned()]), ..Names::default() };
    assert_eq!(check("{{secret.db}}", Place::Private, &names), []);
    assert_eq!(check("x {{secret.db}}", Place::Run(ShellKind::Sh), &names), []);
    for (source, place) in [
        ("{{secret.db}}", Place::Plain),
        ("x {{secret.db}}", Place::Run(ShellKind::Cmd)),
        ("x {{{secret.db}}}", Place::Run(ShellKind::Sh)),
        ("{{#if secret.db}}x{{/if}}", Place::Private),
    ] {
        assert_eq!(check(source, place, &names).len(), 1, "{source}");
    }
}

#[test]
fn what_is_not_known_yet_is_shown_and_listed() {
    let template = CompiledTemplate::new(
        "a {{later.x}} {{#if later.y}}b{{/if}}{{#each later.z}}c{{/each}}",
        Place::Run(ShellKind::Sh),
    )
    .unwrap();
    let output = template.render(&document()).unwrap();
    assert_eq!(output.unknown, BTreeSet::from(["later.x", "later.y", "later.z"].map(str::to_owned)));
    assert_eq!(output.into_plain(), "a ‹later.x› ‹if …›‹each later.z›");
}

#[test]
fn values_inside_the_authors_own_quoting_are_refused() {
    for source in [
        "awk '{print {{param.x}}}'",
        "sh -c 'echo {{param.x}}'",
        "sh -c \"echo {{param.x}}\"",
        "bash -lc \"{{param.x}} b\"",
        "eval \"{{param.x}}{{param.x}}\"",
        "echo '{{param.x}}{{param.x}}'",
        "echo $'{{param.x}}'",
        "echo `echo {{param.x}}`",
        "# {{param.x}}",
        "x # {{param.x}}",
        "cat <<EOF\n{{param.x}}\nEOF\n",
        "cat <<-'EOF'\n{{param.x}}\n\tEOF\n",
        "cat << {{param.x}}",
        "echo \\\\{{param.x}}",
        "echo ${x:-{{param.x}} }",
        "echo $(( {{param.x}} + 1 ))",
        "(( {{param.x}} ))",
        "echo $[ {{param.x}} ]",
        "a[{{param.x}}]=1",
        "[[ 1 -eq {{param.x}} ]]",
        "[[ {{param.x}} -eq 1 ]]",
        "[[ -v {{param.x}} ]]",
        "echo \"$(case x in x) echo \"{{param.x}}\" ;; esac)\"",
        "x=\"${y:-'}\" {{param.x}}\"",
        "echo \"{{#if param.y}}\"{{/if}} {{param.x}}",
        "{{#each param.l}}'{{/each}} {{param.x}}",
        "cat <<EOF \"\nEOF\n\" {{param.x}}",
        "cat << -EOF\nEOF\n{{param.x}}\n-EOF\n",
    ] {
        for shell in [ShellKind::Sh, ShellKind::Bash] {
            let problems = CompiledTemplate::new(source, Place::Run(shell)).expect_err(source);
            assert_eq!(problems[0].severity, Severity::Error);
        }
    }
    let problems = CompiledTemplate::new("echo \"{{param.x}}\"", Place::Run(ShellKind::Powershell)).unwrap_err();
    assert_eq!(
        problems[0].to_string(),
        "{{param.x}} stands inside double quotes (write it without the quotes: {{param.x}} is already quoted)"
    );
    let problems = CompiledTemplate::new("sh -c 'echo {{param.x}}'", Place::Run(ShellKind::Sh)).unwrap_err();
    assert_eq!(
        problems[0].to_string(),
        "{{param.x}} stands inside single quotes, among text that another program may read as its own (pass it through \
         `env: {X: \"{{param.x}}\"}` and write \"$X\")"
    );
}

#[test]
fn values_outside_quotes_are_accepted() {
    for source in [
        "x=$(cat {{param.x}}) && echo \"$x\" 'it' {{param.x}}",
        "echo \"$(cat {{param.x}})\"",
        "cat <<'EOF' > {{param.x}}\nit's \"text\"\nEOF\necho {{param.x}}",
        "cat <<-EOF\n\tit's $x\n\tEOF\necho {{param.x}}",
        "x=$(cat <<EOF\nit's\nEOF\n) {{param.x}}",
        "# it's a comment\necho {{param.x}}",
        "echo a#b' {{' {{param.x}}",
        "echo ${x:-'}'} ${#x} $# $$ {{param.x}}",
        "echo $((1 + 2)) {{param.x}}",
        "if [ {{param.x}} = \"$y\" ]; then echo {{param.x}};fi",
        "[[ $a == {{param.x}} ]] && echo",
        "case {{param.x}} in a) echo 'x' ;; *) echo {{param.x}} ;; esac",
        "echo a\\\n{{param.x}}",
        "grep x <<<{{param.x}} && echo \"a\\\"b\" {{param.x}}",
        "{{#if param.y}}'a'{{else}}\"b\"{{/if}} {{param.x}}",
        "{{#each param.l}}echo '{' {{this}}\n{{/each}}echo {{param.x}}",
        "echo \"{{param.x}}\" '{{param.x}}' \"a $(b) {{param.x}}\"",
        "sh -c \"{{param.x}}\" && echo -n \"a {{param.x}} b{{param.x}}\"",
        "curl -H 'A: b' -o {{param.x}} https://x/{{param.x}}",
    ] {
        let source = source.replace("' {{'", "'\\{{'");
        for shell in [ShellKind::Sh, ShellKind::Bash] {
            if let Err(problems) = CompiledTemplate::new(&source, Place::Run(shell)) {
                panic!("{source}: {problems:?}");
            }
        }
    }
}

#[test]
fn a_clever_text_is_lost_only_after_the_clever_part() {
    assert!(CompiledTemplate::new("echo {{param.x}}; echo `'`", Place::Run(ShellKind::Sh)).is_ok());
    assert!(CompiledTemplate::new("echo `'`; echo {{param.x}}", Place::Run(ShellKind::Sh)).is_err());
}

#[test]
fn hostile_texts_are_refused_in_bounded_time() {
    let deep = "{{#if a}}".repeat(20_000);
    let parentheses = format!("{{{{#if {}", "(not ".repeat(20_000));
    let elses = format!("{{{{#if a}}}}{}{{{{/if}}}}", "{{else if a}}".repeat(5_000));
    let hidden = format!("{{{{#if {}", "(not \")\" ".repeat(5_000));
    let literal = format!("{{{{#if {}", "[".repeat(100_000));
    let object = format!("{{{{#if {}", "{\"a\":".repeat(10_000));
    let braces = "{".repeat(200_000);
    let long = "x{{a}}".repeat(100_000);
    for source in [deep, parentheses, elses, hidden, literal, object, braces, long] {
        assert!(CompiledTemplate::new(&source, Place::Plain).is_err());
    }
}

#[test]
fn the_examples_in_the_book_are_what_it_says() {
    let page = include_str!("../../../../../docs/language/templates.md");
    let mut seen = 0;
    for line in page.lines().filter(|line| line.starts_with("run: ") && !line.ends_with('|')) {
        let (command, note) = line["run: ".len()..].split_once(" # ").unwrap_or((&line["run: ".len()..], ""));
        let accepted = CompiledTemplate::new(command.trim_end(), Place::Run(ShellKind::Sh)).is_ok();
        assert_eq!(accepted, !note.contains("error"), "{line}");
        seen += 1;
    }
    assert_eq!(seen, 4);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_text_makes_it_panic(source in "(\\PC|\\{\\{|\\}\\}|#if |#each |else|/if|/each|['\"\\\\$()`~^&>*!\\[\\].@ \n]){0,40}") {
            for place in [Place::Plain, Place::Run(ShellKind::Bash), Place::Run(ShellKind::Powershell), Place::Run(ShellKind::Cmd)] {
                if let Ok(template) = CompiledTemplate::new(&source, place) {
                    let _ = template.render(&document());
                }
            }
        }

        /// The parser is Handlebars'; so the text that we make of it must be what Handlebars makes of it.
        #[test]
        fn plain_texts_are_what_handlebars_makes_of_them(
            parts in prop::collection::vec(prop::sample::select(vec![
                "a", " ", "\n", "  \n", "it's", "\\{{x}}", "{{param.n}}", "{{{param.evil}}}", "{{~param.n}}", "{{param.n~}}",
                "{{! note }}", "{{#if param.yes}}", "{{else}}", "{{/if}}", "{{#each param.list}}", "{{this}}", "{{/each}}",
                "{{@index}}", "{{#unless param.no}}", "{{/unless}}", "{{^}}",
            ]), 0..14)
        ) {
            let source = parts.concat();
            if let Ok(ours) = plain(&source) {
                let mut handlebars = handlebars::Handlebars::new();
                handlebars.set_strict_mode(true);
                handlebars.register_escape_fn(handlebars::no_escape);
                // Inside `each`, a name starts from the item there, and from the top here.
                let loops = source.matches("#each").count();
                let only_items = loops == 1 && source.matches("param.").count() == 1;
                if !source.contains("#each") || only_items {
                    let theirs = handlebars.render_template(&source, &document().0);
                    prop_assert_eq!(Some(ours), theirs.ok(), "{}", source);
                }
            }
        }
    }
}
