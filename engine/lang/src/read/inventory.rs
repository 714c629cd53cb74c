//! An inventory and all that it includes, gathered; [`super::resolve`] then lays the keys over each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::elsewhere::{self, Elsewhere, Shape};
use super::fields::{Fields, Problems, entries, items};
use super::host::{self, HostKeys, Keys, host_keys};
use super::{ansible, csv, records, resolve, runbook, scalar};
use crate::codes::Code;
use crate::diagnostic::{Diagnostic, Parsed, any_error, sorted};
use crate::inventory::{Files, Inventory};
use crate::source::{Source, Span, Text};
use crate::yaml::{self, Content, Node, shown};
use crate::{INVENTORY_BYTES_MAX, similar};

/// The `schema` of an inventory.
pub(crate) const SCHEMA: &str = "inventory/v1";

pub(crate) const KEYS: &[&str] = &["schema", "defaults", "hosts", "groups", "include"];
pub(crate) const GROUP_KEYS: &[&str] = &["groups", "hosts", "vars", "defaults"];
pub(crate) const INCLUDE_KEYS: &[&str] = &["ansible", "csv", "command", "format", "within", "netbox", "servicenow"];
const ASK: &str = "let a program ask it, and include that: {command: [./hosts.py, --list], format: ansible-json}";
pub(crate) const INCLUDE_KEYS_LATER: &[(&str, &str)] =
    &[("ec2", ASK), ("aws", ASK), ("cmdb", ASK), ("url", ASK), ("terraform", ASK)];

/// Files of one inventory.
const FILES_MAX: usize = 64;
/// Hosts of one inventory.
pub(crate) const HOSTS_MAX: usize = 100_000;

/// A host as one file has it.
pub(crate) struct DraftHost {
    pub(crate) name: Text,
    pub(crate) keys: HostKeys,
    /// Which of `Draft::defaults` apply, the nearest first.
    pub(crate) defaults: Vec<usize>,
}

/// A group as all files together have it.
#[derive(Default)]
pub(crate) struct DraftGroup {
    pub(crate) span: Option<Span>,
    /// Groups that it is made of.
    pub(crate) groups: Vec<Text>,
    /// Hosts that it names itself.
    pub(crate) hosts: Vec<Text>,
    pub(crate) keys: Keys,
}

/// All that was read.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) hosts: BTreeMap<String, DraftHost>,
    pub(crate) groups: BTreeMap<String, DraftGroup>,
    /// `defaults` of each file.
    pub(crate) defaults: Vec<HostKeys>,
    pub(crate) sources: Vec<Arc<Source>>,
    /// Names of those that hold a password.
    pub(crate) secretive: BTreeSet<String>,
}

impl Draft {
    /// Adds a host; one that is there already is reported.
    pub(crate) fn add_host(&mut self, host: DraftHost, problems: &mut Problems) {
        if self.hosts.len() >= HOSTS_MAX {
            if self.hosts.len() == HOSTS_MAX && !self.hosts.contains_key(&host.name.value) {
                problems.error(Code::TooComplex, &host.name.span, format!("more than {HOSTS_MAX} hosts"));
            }
            return;
        }
        if let Some(first) = self.hosts.get(&host.name.value) {
            let problem = problems.error(
                Code::DuplicateHost,
                &host.name.span,
                format!("the host `{}` is there twice", host.name.value),
            );
            *problem = problem.clone().label(&first.name.span, "the first one").help("remove one of the two");
            return;
        }
        self.hosts.insert(host.name.value.clone(), host);
    }

    /// The group `name`, made when it is not there.
    pub(crate) fn group(&mut self, name: &str, span: &Span) -> &mut DraftGroup {
        let group = self.groups.entry(name.to_owned()).or_default();
        group.span.get_or_insert_with(|| span.clone());
        group
    }

    /// Adds keys to a group; the same key with another value is reported.
    pub(crate) fn add_group_keys(&mut self, name: &str, span: &Span, keys: Keys, problems: &mut Problems) {
        let group = self.group(name, span);
        for (key, value) in keys {
            match group.keys.get(&key) {
                Some(first) if *first != value => {
                    let problem = problems.error(
                        Code::GroupConflict,
                        &value.span,
                        format!("the group `{name}` gives `{}` two values", shown(&key)),
                    );
                    *problem = problem.clone().label(&first.span, "the other one").help("remove one of the two");
                }
                Some(_) => {}
                None => {
                    group.keys.insert(key, value);
                }
            }
        }
    }
}

/// See [`crate::inventory::parse_inventory`].
pub(crate) fn inventory(name: &str, bytes: &[u8], files: &dyn Files) -> Result<Parsed<Inventory>, Vec<Diagnostic>> {
    let mut loader = Loader {
        files,
        draft: Draft::default(),
        open: Vec::new(),
        seen: BTreeSet::new(),
        problems: Vec::new(),
        answering: false,
    };
    loader.yaml(name, bytes, &[]);
    let (draft, mut problems) = (loader.draft, loader.problems);
    let inventory = if any_error(&problems) { None } else { resolve::resolve(draft, &mut problems) };
    let problems = sorted(problems);
    match inventory {
        Some(value) if !any_error(&problems) => Ok(Parsed { value, warnings: problems }),
        _ => Err(problems),
    }
}

struct Loader<'f> {
    files: &'f dyn Files,
    draft: Draft,
    /// Files that are being read, the main one first.
    open: Vec<String>,
    /// All files that were read or begun.
    seen: BTreeSet<String>,
    problems: Vec<Diagnostic>,
    /// What is read is an answer: it names no further sources.
    answering: bool,
}

impl Loader<'_> {
    /// Reads an inventory of our own form.
    fn yaml(&mut self, name: &str, bytes: &[u8], outer: &[usize]) {
        let source = match yaml::source(name, bytes, INVENTORY_BYTES_MAX) {
            Ok(source) => source,
            Err(problem) => return self.problems.push(*problem),
        };
        self.draft.sources.push(source.clone());
        // As its includes would name it: the outermost may be named relative to where the program runs.
        let file = name.rsplit_once('/').map_or(name, |(_, file)| file);
        let path = self.files.resolve(name, file);
        self.seen.insert(path.clone());
        let mut problems = Problems::new(&source);
        let node = yaml::tree(&source, yaml::INVENTORY_NODES_MAX, &mut problems.list);
        let includes = node.as_ref().and_then(|node| self.document(node, outer, &mut problems));
        self.problems.append(&mut problems.list);
        if let Some((includes, layers)) = includes {
            if self.answering && !includes.is_empty() {
                let at = Span::new(&source, 0..0);
                let problem = Diagnostic::error(Code::NotHere, &at, "what a program prints has no `include`");
                return self.problems.push(problem.help("write `include` into the inventory's own file"));
            }
            self.open.push(path);
            for include in includes {
                match include {
                    Include::File(file) => self.include(&file, &layers),
                    Include::Elsewhere(asked) => self.ask(&asked, &layers),
                }
            }
            self.open.pop();
        }
    }

    /// The hosts and groups of one document; gives its includes and the defaults that hold in them.
    fn document(
        &mut self,
        node: &Node,
        outer: &[usize],
        problems: &mut Problems,
    ) -> Option<(Vec<Include>, Vec<usize>)> {
        let fields = Fields::of(node, "an inventory", KEYS, &[], problems)?;
        runbook::schema(&fields, "an inventory", SCHEMA, problems);
        let mut layers = outer.to_vec();
        if let Some(node) = fields.get("defaults", problems) {
            let defaults = host_keys(node, "`defaults`", self.files, problems);
            self.draft.defaults.push(defaults);
            layers.insert(0, self.draft.defaults.len() - 1);
        }
        if let Some(node) = fields.get("hosts", problems) {
            for entry in entries(node, "hosts", "hosts: {web1: {address: 10.0.0.1}}", problems) {
                let name = host_name(entry.key.clone(), problems);
                let keys = host_keys(&entry.value, "a host", self.files, problems);
                if let Some(name) = name {
                    self.draft.add_host(DraftHost { name, keys, defaults: layers.clone() }, problems);
                }
            }
        }
        if let Some(node) = fields.get("groups", problems) {
            for entry in entries(node, "groups", "groups: {web: {hosts: [web1]}}", problems) {
                self.group(&entry.key, &entry.value, problems);
            }
        }
        if fields.entry("hosts").is_none() && fields.entry("include").is_none() {
            problems.error(Code::MissingKey, &Span::new(node.span.source(), 0..0), "the inventory has no hosts").help =
                Some("add `hosts`, or `include` a file that has some".into());
        }
        let includes = fields.get("include", problems).map(|node| includes(node, problems)).unwrap_or_default();
        Some((includes, layers))
    }

    fn group(&mut self, name: &Text, node: &Node, problems: &mut Problems) {
        let Some(name) = host::group_name(name.clone(), problems) else { return };
        let group = self.draft.group(&name.value, &name.span);
        // The group's own entry is a better place than a host that named it.
        group.span = Some(name.span.clone());
        if node.is_null() {
            return;
        }
        let Some(fields) = Fields::of(node, "a group", GROUP_KEYS, &[], problems) else { return };
        if let Some(node) = fields.get("groups", problems) {
            group.groups.extend(host::group_names(node, problems));
        }
        if let Some(node) = fields.get("hosts", problems) {
            group.hosts.extend(scalar::text_list(node, "hosts", "hosts: [web1, web2]", problems));
        }
        let mut keys = Keys::new();
        if let Some(node) = fields.get("vars", problems) {
            host::vars(node, &mut keys, problems);
        }
        if let Some(node) = fields.get("defaults", problems) {
            let defaults = host_keys(node, "`defaults` of a group", self.files, problems);
            for (key, value) in defaults.keys {
                if let Some(first) = keys.get(&key) {
                    let problem = problems.error(
                        Code::DuplicateKey,
                        &value.span,
                        format!("the group `{}` gives `{key}` twice", name.value),
                    );
                    *problem = problem.clone().label(&first.span, "the other one").help("remove one of the two");
                }
                keys.insert(key, value);
            }
            if let Some(first) = defaults.groups.first() {
                problems.error(Code::NotHere, &first.span, "`groups` means nothing in a group's `defaults`").help =
                    Some("a group is made of other groups by its own `groups`".into());
            }
        }
        self.draft.add_group_keys(&name.value, &name.span, keys, problems);
    }

    /// Hosts from somebody who is no file.
    fn ask(&mut self, asked: &Elsewhere, layers: &[usize]) {
        let from = asked.span.source().name().to_owned();
        let question = asked.question(&from, self.files);
        if !self.seen.insert(format!("{question:?}")) {
            self.problems.push(
                Diagnostic::error(Code::DuplicateHost, &asked.span, "the same is asked for twice")
                    .help("include it once"),
            );
            return;
        }
        if self.seen.len() > FILES_MAX {
            let text = format!("the inventory has more than {FILES_MAX} files");
            self.problems.push(Diagnostic::error(Code::TooComplex, &asked.span, text));
            return;
        }
        let names = self.draft.sources.iter().map(|source| source.name());
        let name = asked.name(&from, &question, self.files, &names.collect());
        let bytes = match self.files.ask(&question, &name) {
            Ok(bytes) => bytes,
            Err(why) => {
                let text = format!("the inventory's source {} gave no hosts: {why}", shown(&question.from()));
                self.problems.push(Diagnostic::error(Code::NoAnswer, &asked.span, text).help(elsewhere::NO_ANSWER));
                return;
            }
        };
        let before = self.draft.hosts.len();
        let wrong = self.problems.len();
        match &asked.shape {
            Shape::Own => {
                self.answering = true;
                self.yaml(&name, &bytes, layers);
                self.answering = false;
            }
            Shape::Csv => self.foreign(&name, &bytes, layers, csv::read),
            Shape::Ansible => self.foreign(&name, &bytes, layers, ansible::read),
            Shape::AnsibleJson => self.foreign(&name, &bytes, layers, ansible::read_json),
            Shape::Records(wanted) => {
                self.foreign(&name, &bytes, layers, |source, layers, files, draft, problems| {
                    records::read(source, wanted, layers, files, draft, problems);
                });
            }
        }
        if self.draft.hosts.len() == before && !any_error(&self.problems[wrong..]) {
            let text = format!("the inventory's source {} answers with no host at all", shown(&question.from()));
            self.problems.push(Diagnostic::error(Code::UnusableAnswer, &asked.span, text).help(
                "nothing was changed; ask it yourself with the same filter and account, or remove it from `include`",
            ));
        }
    }

    fn include(&mut self, include: &FileInclude, layers: &[usize]) {
        let written = &include.path;
        let path = self.files.resolve(written.span.source().name(), &written.value);
        if let Some(begin) = self.open.iter().position(|open| *open == path) {
            let chain: Vec<&str> =
                self.open[begin..].iter().map(String::as_str).chain(std::iter::once(path.as_str())).collect();
            self.problems.push(
                Diagnostic::error(
                    Code::InventoryCycle,
                    &written.span,
                    format!("these files include each other: {}", chain.join(" -> ")),
                )
                .help("remove one of these includes"),
            );
            return;
        }
        if !self.seen.insert(path.clone()) {
            self.problems.push(
                Diagnostic::error(Code::DuplicateHost, &written.span, format!("`{}` is included twice", shown(&path)))
                    .help("include it once"),
            );
            return;
        }
        if self.seen.len() > FILES_MAX {
            let problem = Diagnostic::error(
                Code::TooComplex,
                &written.span,
                format!("the inventory has more than {FILES_MAX} files"),
            );
            self.problems.push(problem);
            return;
        }
        let bytes = match self.files.read(&path) {
            Ok(bytes) => bytes,
            Err(why) => {
                self.problems.push(
                    Diagnostic::error(
                        Code::Include,
                        &written.span,
                        format!("the inventory source `{}` cannot be read: {why}", shown(&path)),
                    )
                    .help("mend the source or remove it; hosts of a source that fails are never left out silently"),
                );
                return;
            }
        };
        match include.form {
            Form::Own => self.yaml(&path, &bytes, layers),
            Form::Csv => self.foreign(&path, &bytes, layers, csv::read),
            Form::Ansible => self.foreign(&path, &bytes, layers, ansible::read),
        }
    }

    fn foreign(
        &mut self,
        path: &str,
        bytes: &[u8],
        layers: &[usize],
        read: impl FnOnce(&Arc<Source>, &[usize], &dyn Files, &mut Draft, &mut Problems),
    ) {
        match yaml::source(path, bytes, INVENTORY_BYTES_MAX) {
            Ok(source) => {
                self.draft.sources.push(source.clone());
                let mut problems = Problems::new(&source);
                read(&source, layers, self.files, &mut self.draft, &mut problems);
                self.problems.append(&mut problems.list);
            }
            Err(problem) => self.problems.push(*problem),
        }
    }
}

/// A name that a host can have.
pub(crate) fn host_name(name: Text, problems: &mut Problems) -> Option<Text> {
    if name.value == "all" {
        problems.error(Code::InvalidName, &name.span, "`all` means every host and cannot be the name of one");
        return None;
    }
    scalar::name(name, "the name of a host", host::is_name, host::NAME_RULES, problems)
}

#[derive(Clone, Copy)]
enum Form {
    Own,
    Csv,
    Ansible,
}

struct FileInclude {
    path: Text,
    form: Form,
}

enum Include {
    File(FileInclude),
    Elsewhere(Elsewhere),
}

/// `include`: paths, `{ansible: path}`, `{csv: path}`, and who else is asked.
fn includes(node: &Node, problems: &mut Problems) -> Vec<Include> {
    let mut includes = Vec::new();
    for item in items(node, "include", "include: [more.yaml]", problems) {
        if !matches!(item.content, Content::Mapping(_)) {
            includes.extend(
                scalar::literal(item, "include", problems)
                    .map(|path| Include::File(FileInclude { path, form: Form::Own })),
            );
            continue;
        }
        let Some(fields) = Fields::of(item, "an include", INCLUDE_KEYS, INCLUDE_KEYS_LATER, problems) else { continue };
        let before = includes.len();
        for (key, form) in [("ansible", Form::Ansible), ("csv", Form::Csv)] {
            if let Some(path) = fields.get(key, problems).and_then(|node| scalar::literal(node, key, problems)) {
                includes.push(Include::File(FileInclude { path, form }));
            }
        }
        includes.extend(elsewhere::all(&fields, problems).into_iter().map(Include::Elsewhere));
        if includes.len() > before + 1 {
            problems.error(Code::Conflict, &item.span, "an include names one source").help =
                Some("write two entries".into());
        }
        if matches!(&item.content, Content::Mapping(entries) if entries.is_empty()) {
            problems.error(Code::MissingKey, &item.span, "an include names a source").help =
                Some("write a path, {ansible: FILE}, {csv: FILE}, {command: …}, {netbox: …} or {servicenow: …}".into());
        }
    }
    includes
}

/// `did you mean` for a host or group.
pub(crate) fn member_hint(name: &str, draft: &Draft) -> Option<String> {
    let known = draft.hosts.keys().chain(draft.groups.keys()).map(String::as_str);
    similar::nearest(name, known).map(|near| format!("did you mean `{near}`?"))
}
