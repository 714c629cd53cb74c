//! Pages of the book that are made from the program itself, and examples in the book that must be right.
//!
//! Run with `UPDATE_BOOK=1` to write the made pages anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use runbook_lang::action::ActionWork;
use runbook_lang::inventory::{Files, parse_inventory};
use runbook_lang::runbook::Parameter;
use runbook_lang::{
    ActionFile, Code, Diagnostic, parse_action, parse_people, parse_policy, parse_runbook, parse_windows, render,
    schema,
};
use runbook_model::origin::Question;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The made part of a page stands between these two.
const BEGIN: &str = "<!-- made from the program; run the tests of runbook-lang with UPDATE_BOOK=1 -->\n";
const END: &str = "<!-- end -->\n";

/// Compares (or writes) what a page has between its marks.
fn made_part_is_current(page: &str, made: &str) {
    let path = root().join(page);
    let text = std::fs::read_to_string(&path).expect("the page is there");
    let begin = text.find(BEGIN).unwrap_or_else(|| panic!("{page} has no {BEGIN}")) + BEGIN.len();
    let end = text.find(END).unwrap_or_else(|| panic!("{page} has no {END}"));
    let wanted = format!("\n{made}\n");
    if text[begin..end] == wanted {
        return;
    }
    if std::env::var_os("UPDATE_BOOK").is_some() {
        std::fs::write(&path, format!("{}{wanted}{}", &text[..begin], &text[end..])).expect("the page can be written");
        return;
    }
    panic!("{page} is old: run the tests of runbook-lang with UPDATE_BOOK=1");
}

/// Whoever the book's inventories include and ask: each knows a host of its own.
struct Everybody;

impl Files for Everybody {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        let text = match path.rsplit_once('.') {
            Some((_, "csv")) => "name\nin-csv\n",
            Some((_, "ini")) => "in-ini\n",
            _ => "schema: inventory/v1\nhosts: {in-yaml: {}}\n",
        };
        Ok(text.into())
    }

    fn ask(&self, question: &Question, _name: &str) -> Result<Vec<u8>, String> {
        let answer = match question {
            Question::Command { .. } => r#"{"_meta": {"hostvars": {}}, "all": {"hosts": ["by-program"]}}"#.to_owned(),
            Question::Netbox { list, .. } => format!(
                r#"[{{"results": [{{"id": 1, "name": "{}", "rack": {{"name": "r1"}}, "custom_fields": {{"risk_class": "high"}}}}]}}]"#,
                list.replace('/', "-")
            ),
            Question::Servicenow { fields, .. } => {
                let field = |name: &String| format!(r#""{name}": {{"display_value": "1", "value": "1"}}"#);
                let fields: Vec<String> = fields.iter().map(field).collect();
                format!(r#"[{{"result": [{{{}}}]}}]"#, fields.join(", "))
            }
        };
        Ok(answer.into())
    }
}

#[test]
fn the_reference_is_current() {
    let mut reference = Reference { written: BTreeMap::new(), text: String::new() };
    for (title, schema) in [
        ("A runbook", schema::runbook()),
        ("An inventory", schema::inventory()),
        ("A packaged action", schema::action()),
        ("A calendar of windows", schema::windows()),
        ("The people", schema::people()),
        ("A policy", schema::policy()),
    ] {
        reference.file(title, &schema);
    }
    made_part_is_current("docs/language/reference.md", reference.text.trim_end());
}

/// One section per kind of mapping, each once, though two files may have it.
struct Reference {
    written: BTreeMap<String, String>,
    text: String,
}

impl Reference {
    fn file(&mut self, title: &str, schema: &Value) {
        writeln!(self.text, "## {title}\n\n{}", table(schema, schema)).expect("memory");
        for (name, definition) in schema["$defs"].as_object().expect("a schema has definitions") {
            if definition.get("properties").is_none() {
                continue;
            }
            let table = table(schema, definition);
            match self.written.get(name) {
                Some(first) => assert_eq!(first, &table, "`{name}` means two things"),
                None => {
                    writeln!(self.text, "### {name}\n\n{table}").expect("memory");
                    self.written.insert(name.clone(), table);
                }
            }
        }
    }
}

/// Keys that must be there first, then the others.
fn table(schema: &Value, object: &Value) -> String {
    let required: BTreeSet<&str> =
        object["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = object["properties"].as_object().expect("an object has properties");
    let (first, then): (Vec<_>, Vec<_>) = properties.iter().partition(|(key, _)| required.contains(key.as_str()));
    let mut table = String::from("| key | value | meaning |\n| --- | --- | --- |\n");
    for (key, property) in first.into_iter().chain(then) {
        let must = if required.contains(key.as_str()) { " (required)" } else { "" };
        let meaning = property["description"].as_str().unwrap_or_default();
        writeln!(table, "| `{key}`{must} | {} | {} |", value(schema, property), meaning.replace('|', "\\|"))
            .expect("memory");
    }
    table
}

/// What a value may be, in words.
fn value(schema: &Value, property: &Value) -> String {
    if let Some(name) = property["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        let definition = &schema["$defs"][name];
        return match name {
            "actionName" => "name of an action".into(),
            "anything" => "any value".into(),
            "backoff" => "number, 1 to 100".into(),
            "flag" => "`true` or `false`".into(),
            "hostPath" => "absolute path".into(),
            "mode" => "octal mode".into(),
            "name" => "name".into(),
            "on" => "`controller` or `host:NAME`".into(),
            "optionalText" => "text, or nothing".into(),
            "port" => "1 to 65535".into(),
            "share" => "count or percentage".into(),
            "sha256" => "SHA-256 digest".into(),
            "duration" | "id" | "size" | "text" => name.into(),
            _ if definition.get("properties").is_some() => format!("[{name}](#{})", name.to_lowercase()),
            _ => value(schema, definition),
        };
    }
    if let Some(word) = property["const"].as_str() {
        return format!("`{word}`");
    }
    let list = |key: &str| property[key].as_array().cloned();
    if let Some(words) = list("enum") {
        return words
            .iter()
            .map(|word| format!("`{}`", word.as_str().unwrap_or_default()))
            .collect::<Vec<_>>()
            .join(", ");
    }
    if let Some(choices) = list("anyOf").or_else(|| list("oneOf").filter(|_| property.get("properties").is_none())) {
        let mut words: Vec<String> = choices.iter().map(|choice| value(schema, choice)).collect();
        words.dedup();
        if let [one, several] = words.as_slice()
            && *several == format!("list of {one}")
        {
            return format!("{one}; or a list");
        }
        return words.join(" or ");
    }
    match property["type"].as_str() {
        Some("array") => format!("list of {}", value(schema, &property["items"])),
        Some("object") if property.get("properties").is_some() => {
            let keys = property["properties"].as_object().expect("an object");
            let keys: Vec<String> =
                keys.iter().map(|(key, property)| format!("`{key}:` {}", value(schema, property))).collect();
            format!("{{{}}}", keys.join(", "))
        }
        Some("object") => format!("names, each with {}", value(schema, &property["additionalProperties"])),
        Some("integer") => match (property["minimum"].as_i64(), property["maximum"].as_i64()) {
            (Some(least), Some(most)) => format!("{least} to {most}"),
            _ => "whole number".into(),
        },
        Some("string") => "text".into(),
        Some("null") => "nothing".into(),
        other => panic!("no words for {other:?} in {property}"),
    }
}

#[test]
fn the_list_of_what_ships_is_current() {
    let mut made = String::from("## Actions\n\n");
    for path in yaml_files("runbooks/actions") {
        let text = std::fs::read_to_string(&path).expect("readable");
        let action = parse_action(&path.display().to_string(), text.as_bytes()).unwrap_or_else(fail).value;
        action_section(&mut made, &action, caveat(&text));
    }
    made.push_str("## Runbooks\n\n");
    for path in yaml_files("runbooks") {
        let text = std::fs::read_to_string(&path).expect("readable");
        let file = path.file_name().expect("a file").to_string_lossy().into_owned();
        let runbook = parse_runbook(&path.display().to_string(), text.as_bytes()).unwrap_or_else(fail).value;
        writeln!(made, "### {file}\n").expect("memory");
        if let Some(title) = &runbook.title {
            writeln!(made, "{}.\n", title.value).expect("memory");
        }
        // The lines before the first key are written for people; the indented ones are the command to try.
        let head: Vec<&str> = text
            .lines()
            .map_while(|line| line.strip_prefix('#'))
            .map(|line| line.strip_prefix(' ').unwrap_or(line))
            .collect();
        for paragraph in head.split(|line| line.is_empty()) {
            let (fence, close) =
                if paragraph.iter().all(|line| line.starts_with("  ")) { ("```sh\n", "\n```") } else { ("", "") };
            let lines: Vec<&str> = paragraph.iter().map(|line| line.trim_start()).collect();
            writeln!(made, "{fence}{}{close}\n", lines.join("\n")).expect("memory");
        }
        parameters(&mut made, &runbook.parameters);
    }
    made_part_is_current("docs/library.md", made.trim_end());
}

fn action_section(made: &mut String, action: &ActionFile, caveat: Option<String>) {
    let by_os = match &action.work {
        ActionWork::Once(by_os) => by_os,
        ActionWork::Snapshot { take, .. } => take,
    };
    let systems: Vec<&str> = [("POSIX", by_os.posix.is_some()), ("Windows", by_os.windows.is_some())]
        .into_iter()
        .filter_map(|(name, there)| there.then_some(name))
        .collect();
    writeln!(made, "### {}\n", action.name.value).expect("memory");
    let account = action.account.as_ref().map(|account| format!("; as {}", account.value)).unwrap_or_default();
    writeln!(made, "*{}; {}{account}.* {}", action.kind.name(), systems.join(" and "), text(&action.description))
        .expect("memory");
    if let Some(caveat) = caveat {
        writeln!(made, "\n**{caveat}**").expect("memory");
    }
    made.push('\n');
    parameters(made, &action.parameters);
}

fn parameters(made: &mut String, parameters: &BTreeMap<String, Parameter>) {
    if parameters.is_empty() {
        return;
    }
    made.push_str("| parameter | type | default | meaning |\n| --- | --- | --- | --- |\n");
    for (name, parameter) in parameters {
        let default = match &parameter.default {
            Some(default) => shown(&default.value, parameter),
            None if parameter.required => "(required)".into(),
            None => String::new(),
        };
        let mut meaning = text(&parameter.description);
        if !parameter.allowed.is_empty() {
            let words: Vec<String> = parameter.allowed.iter().map(|word| shown(&word.value, parameter)).collect();
            write!(meaning, " ({})", words.join(", ")).expect("memory");
        }
        let kind = parameter.kind.name();
        writeln!(made, "| `{name}` | {kind} | {default} | {} |", meaning.trim().replace('|', "\\|")).expect("memory");
    }
    made.push('\n');
}

/// A value as the file has it: durations and sizes are seconds and bytes once they are read.
fn shown(value: &Value, parameter: &Parameter) -> String {
    let written =
        parameter.default.as_ref().filter(|default| default.value == *value).map(|default| default.span.text());
    match (value, written) {
        (Value::Number(_), Some(written)) => format!("`{written}`"),
        (Value::String(text), _) if text.is_empty() => "(empty)".into(),
        (Value::String(text), _) => format!("`{text}`"),
        (Value::Array(items), _) if items.is_empty() => "(none)".into(),
        (Value::Array(items), _) => {
            items.iter().map(|item| format!("`{}`", item.as_str().unwrap_or_default())).collect::<Vec<_>>().join(", ")
        }
        (other, _) => format!("`{other}`"),
    }
}

fn text(text: &Option<runbook_lang::Text>) -> String {
    text.as_ref().map(|text| text.value.split_whitespace().collect::<Vec<_>>().join(" ")).unwrap_or_default()
}

/// What an action's file says at its top of how it was tested.
fn caveat(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("# ")).collect();
    (!lines.is_empty()).then(|| lines.join(" "))
}

fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(root().join(folder))
        .expect("the folder is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{folder} has files");
    files
}

fn fail<T>(problems: Vec<Diagnostic>) -> T {
    panic!("{}", render::text(&problems, false))
}

/// Whole files must be right; lists of steps must be right but for the names that only a whole file declares.
#[test]
fn the_examples_in_the_book_are_right() {
    let (mut whole, mut parts, mut wrong) = (0, 0, String::new());
    for page in pages(&root().join("docs")) {
        let name = page.strip_prefix(root()).expect("below the root").display().to_string();
        for (line, block) in yaml_blocks(&std::fs::read_to_string(&page).expect("readable")) {
            let place = format!("{name}:{line}");
            let found = if block.starts_with("schema: runbook/v1") {
                whole += 1;
                parse_runbook(&place, block.as_bytes()).err()
            } else if block.starts_with("schema: action/v1") {
                whole += 1;
                parse_action(&place, block.as_bytes()).err()
            } else if block.starts_with("schema: inventory/v1") {
                whole += 1;
                parse_inventory(&place, block.as_bytes(), &Everybody).err()
            } else if block.starts_with("schema: windows/v1") {
                whole += 1;
                parse_windows(&place, block.as_bytes()).err()
            } else if block.starts_with("schema: people/v1") {
                whole += 1;
                parse_people(&place, block.as_bytes()).err()
            } else if block.starts_with("schema: policy/v1") {
                whole += 1;
                parse_policy(&place, block.as_bytes()).err()
            } else if block.starts_with("- ") {
                parts += 1;
                let file = format!("schema: runbook/v1\nname: part\nirreversible: part\nexecute:\n{block}");
                parse_runbook(&place, file.as_bytes()).err().map(|problems| {
                    let declared_elsewhere = [
                        Code::Template,
                        Code::Expression,
                        Code::UnknownParameter,
                        Code::UnknownStep,
                        Code::SecretExposed,
                    ];
                    problems.into_iter().filter(|problem| !declared_elsewhere.contains(&problem.code)).collect()
                })
            } else {
                None
            };
            wrong.push_str(&found.map(|problems| render::text(&problems, false)).unwrap_or_default());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(whole >= 5 && parts >= 5, "{whole} whole files and {parts} lists of steps were found");
}

fn pages(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            found.extend(pages(&path));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The blocks of a page that say they are YAML, with their lines.
fn yaml_blocks(page: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in page.lines().enumerate() {
        match &mut open {
            None if line == "```yaml" => open = Some((number + 2, String::new())),
            Some(_) if line == "```" => blocks.extend(open.take()),
            Some((_, block)) => {
                block.push_str(line);
                block.push('\n');
            }
            None => {}
        }
    }
    blocks
}
