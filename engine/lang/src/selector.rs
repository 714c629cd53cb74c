//! The language in which hosts are selected: `fileservers & cui & !site=hq`.
//!
//! A word is a host, a group, a glob over both (`fs*`), a label (`site=hq`, either side may be a glob) or a flag
//! (`cui`; `local`); `all` is every host. `!` binds strongest, then `&`, then `|`. The keys `os`, `transport`, `owner`,
//! `cui_owner` and `risk` of a host can be asked like labels.

use std::collections::{BTreeMap, BTreeSet};

use globset::{Glob, GlobMatcher};
use runbook_model::{Host, HostName};

use crate::codes::Code;
use crate::diagnostic::{Diagnostic, sorted};
use crate::inventory::Inventory;
use crate::similar;
use crate::source::{Source, Span, Text};
use crate::yaml::shown;

/// A selection that was read without problems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// As written.
    pub text: Text,
    /// Its meaning.
    pub expression: Expression,
}

/// What a selection means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// Every host.
    All,
    /// A host, a group or a flag of this name; a glob when it has `*`, `?` or `[`.
    Name(String, Span),
    /// A label of this name with this value.
    Label(String, String, Span),
    /// Not these.
    Not(Box<Expression>),
    /// In both.
    And(Box<Expression>, Box<Expression>),
    /// In either.
    Or(Box<Expression>, Box<Expression>),
}

/// Nested brackets and `!` in a selection; nobody writes more.
const DEPTH_MAX: usize = 32;
/// Characters of a selection.
const LENGTH_MAX: usize = 8_192;

/// Reads a selection.
///
/// # Errors
/// What is wrong with it, with its place inside the text.
pub fn parse(text: &Text) -> Result<Selector, Diagnostic> {
    if text.value.len() > LENGTH_MAX {
        return Err(Diagnostic::error(Code::SelectorSyntax, &text.span, "the selection is too long")
            .help("put the hosts into a group and select the group"));
    }
    let mut parser = Parser { text, at: 0, depth: 0 };
    parser.space();
    if parser.rest().is_empty() {
        return Err(Diagnostic::error(Code::SelectorSyntax, &text.span, "the selection is empty")
            .help("write the name of a host or group, or `all`"));
    }
    let expression = parser.either()?;
    match parser.rest().chars().next() {
        None => Ok(Selector { text: text.clone(), expression }),
        Some(')') => Err(parser.wrong(1, "no bracket is open here").help("remove it")),
        Some(',') => Err(parser.wrong(1, "a selection has no commas").help("write `|` between alternatives")),
        Some(_) => Err(parser
            .wrong(1, "`&` or `|` is missing before this")
            .help("write `a & b` for hosts in both, `a | b` for hosts in either")),
    }
}

/// Reads a selection given on the command line; its place is in a source named `option`.
///
/// # Errors
/// See [`parse`].
pub fn parse_text(option: &str, text: &str) -> Result<Selector, Diagnostic> {
    let source = Source::new(option, text);
    parse(&Text::new(text.to_owned(), Span::new(&source, 0..text.len())))
}

struct Parser<'a> {
    text: &'a Text,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text.value[self.at..]
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn wrong(&self, length: usize, message: &str) -> Diagnostic {
        let span = self.text.within(self.at..(self.at + length).min(self.text.value.len()));
        Diagnostic::error(Code::SelectorSyntax, &span, message)
    }

    fn eat(&mut self, operator: char) -> bool {
        let found = self.rest().starts_with(operator);
        if found {
            self.at += operator.len_utf8();
            // `&&` and `||` are the same as `&` and `|`.
            if matches!(operator, '&' | '|') && self.rest().starts_with(operator) {
                self.at += 1;
            }
            self.space();
        }
        found
    }

    fn either(&mut self) -> Result<Expression, Diagnostic> {
        let mut left = self.both()?;
        while self.eat('|') {
            left = Expression::Or(Box::new(left), Box::new(self.both()?));
        }
        Ok(left)
    }

    fn both(&mut self) -> Result<Expression, Diagnostic> {
        let mut left = self.one()?;
        while self.eat('&') {
            left = Expression::And(Box::new(left), Box::new(self.one()?));
        }
        Ok(left)
    }

    fn one(&mut self) -> Result<Expression, Diagnostic> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.wrong(1, "the selection is nested too deep").help("put the hosts into a group"));
        }
        let found = self.one_inside();
        self.depth -= 1;
        found
    }

    fn one_inside(&mut self) -> Result<Expression, Diagnostic> {
        if self.eat('!') {
            return Ok(Expression::Not(Box::new(self.one()?)));
        }
        let open = self.at;
        if self.eat('(') {
            let inner = self.either()?;
            if !self.eat(')') {
                let mut problem = self.wrong(1, "a bracket is not closed").help("add `)`");
                problem = problem.label(&self.text.within(open..open + 1), "it was opened here");
                return Err(problem);
            }
            return Ok(inner);
        }
        let length = self.rest().find(|c: char| c.is_whitespace() || "&|!(),".contains(c)).unwrap_or(self.rest().len());
        if length == 0 {
            return Err(self
                .wrong(1, "a name is missing here")
                .help("write the name of a host or group, a glob, a label such as site=hq, or a flag such as cui"));
        }
        let word = self.rest()[..length].to_owned();
        let span = self.text.within(self.at..self.at + length);
        for glob in word.split('=') {
            if is_glob(glob) && matcher(glob).is_none() {
                return Err(self.wrong(length, &format!("`{}` is not a glob", shown(&word))));
            }
        }
        let expression = match word.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.is_empty() && !value.contains('=') => {
                Expression::Label(key.into(), value.into(), span)
            }
            Some(_) => {
                return Err(self
                    .wrong(length, &format!("`{}` is not a label", shown(&word)))
                    .help("write name=value without spaces, for example site=hq"));
            }
            None if word == "all" => Expression::All,
            None => Expression::Name(word, span),
        };
        self.at += length;
        self.space();
        Ok(expression)
    }
}

fn is_glob(word: &str) -> bool {
    word.contains(['*', '?', '[', '{'])
}

fn matcher(glob: &str) -> Option<GlobMatcher> {
    Glob::new(glob).ok().map(|glob| glob.compile_matcher())
}

impl Selector {
    /// The hosts of `inventory` that are meant.
    ///
    /// # Errors
    /// A name that is nowhere in the inventory, or no host at all: each is an error at its place, never an empty
    /// success.
    pub fn hosts(&self, inventory: &Inventory) -> Result<BTreeSet<HostName>, Vec<Diagnostic>> {
        let mut problems = Vec::new();
        let hosts = self.expression.hosts(inventory, &mut problems);
        if problems.is_empty() && hosts.is_empty() {
            problems.push(
                Diagnostic::error(
                    Code::NoHost,
                    &self.text.span,
                    format!("the selection `{}` matches no host", shown(&self.text.value)),
                )
                .help(format!(
                    "each of its names exists, but no host is in all of them; the inventory has {} hosts and the groups {}",
                    inventory.hosts.len(),
                    listed(inventory.groups.keys().map(String::as_str)),
                )),
            );
        }
        if problems.is_empty() { Ok(hosts) } else { Err(sorted(problems)) }
    }
}

/// A few of `names`, for a message.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.len() {
        0 => "(none)".into(),
        1..=12 => names.join(", "),
        more => format!("{} and {} more", names[..12].join(", "), more - 12),
    }
}

impl Expression {
    fn hosts(&self, inventory: &Inventory, problems: &mut Vec<Diagnostic>) -> BTreeSet<HostName> {
        let all = || inventory.hosts.keys().cloned().collect::<BTreeSet<_>>();
        match self {
            Expression::All => all(),
            Expression::Not(inner) => {
                let without = inner.hosts(inventory, problems);
                all().into_iter().filter(|host| !without.contains(host)).collect()
            }
            Expression::And(left, right) => {
                let (left, right) = (left.hosts(inventory, problems), right.hosts(inventory, problems));
                left.into_iter().filter(|host| right.contains(host)).collect()
            }
            Expression::Or(left, right) => {
                let mut hosts = left.hosts(inventory, problems);
                hosts.append(&mut right.hosts(inventory, problems));
                hosts
            }
            Expression::Name(name, span) => named(name, span, inventory, problems),
            Expression::Label(key, value, span) => labelled(key, value, span, inventory, problems),
        }
    }
}

/// Flags that every host has or has not.
const FLAGS: &[&str] = &["cui", "local"];

fn named(name: &str, span: &Span, inventory: &Inventory, problems: &mut Vec<Diagnostic>) -> BTreeSet<HostName> {
    let flagged = |flag: &str| -> BTreeSet<HostName> {
        let has = |host: &Host| match flag {
            "cui" => host.cui,
            "local" => host.transport == "local",
            _ => false,
        };
        inventory.hosts.iter().filter(|(_, entry)| has(&entry.host)).map(|(name, _)| name.clone()).collect()
    };
    let mut hosts = BTreeSet::new();
    let mut known = false;
    if is_glob(name) {
        let matcher = matcher(name);
        let matches = |text: &str| matcher.as_ref().is_some_and(|matcher| matcher.is_match(text));
        hosts.extend(inventory.hosts.keys().filter(|host| matches(host.as_str())).cloned());
        for (group, members) in &inventory.groups {
            if matches(group) {
                hosts.extend(members.hosts.iter().cloned());
            }
        }
        known = !hosts.is_empty();
    } else {
        if let Some((host, _)) = inventory.hosts.get_key_value(&HostName::from(name)) {
            hosts.insert(host.clone());
            known = true;
        }
        if let Some(group) = inventory.groups.get(name) {
            hosts.extend(group.hosts.iter().cloned());
            known = true;
        }
        if !known && FLAGS.contains(&name) {
            hosts = flagged(name);
            known = true;
        }
    }
    if !known {
        let names = inventory
            .hosts
            .keys()
            .map(HostName::as_str)
            .chain(inventory.groups.keys().map(String::as_str))
            .chain(FLAGS.iter().copied());
        let what = if is_glob(name) { "no host or group matches" } else { "no host, group or flag is called" };
        let mut problem = Diagnostic::error(Code::UnknownHost, span, format!("{what} `{}`", shown(name)));
        problem.help = Some(match similar::nearest(name, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "the groups are: {}; `runbook inventory list` shows the hosts",
                listed(inventory.groups.keys().map(String::as_str))
            ),
        });
        problems.push(problem);
    }
    hosts
}

fn labelled(
    key: &str,
    value: &str,
    span: &Span,
    inventory: &Inventory,
    problems: &mut Vec<Diagnostic>,
) -> BTreeSet<HostName> {
    let test = |pattern: &str| {
        let matcher = is_glob(pattern).then(|| matcher(pattern)).flatten();
        let pattern = pattern.to_owned();
        move |text: &str| matcher.as_ref().map_or(text == pattern, |matcher| matcher.is_match(text))
    };
    let (is_key, is_value) = (test(key), test(value));
    // What a host says of itself is asked in the same way as its labels; a label of the same name goes before.
    let labels = |host: &Host| -> BTreeMap<String, String> {
        let mut labels = BTreeMap::from([
            ("os".to_owned(), host.os.to_string()),
            ("transport".to_owned(), host.transport.clone()),
            ("cui".to_owned(), host.cui.to_string()),
        ]);
        for (name, value) in [("owner", &host.owner), ("cui_owner", &host.cui_owner), ("risk", &host.risk)] {
            if let Some(value) = value {
                labels.insert(name.to_owned(), value.clone());
            }
        }
        labels.extend(host.labels.clone());
        labels
    };
    let mut hosts = BTreeSet::new();
    let (mut keys, mut values) = (BTreeSet::new(), BTreeSet::new());
    for (name, entry) in &inventory.hosts {
        for (label, found) in labels(&entry.host) {
            if is_key(&label) {
                if is_value(&found) {
                    hosts.insert(name.clone());
                }
                values.insert(found);
            }
            keys.insert(label);
        }
    }
    if hosts.is_empty() {
        let (message, hint) = if values.is_empty() {
            let hint = similar::hint(key, keys.iter().map(String::as_str), "the labels are");
            (format!("no host has a label `{}`", shown(key)), hint)
        } else {
            let hint = similar::hint(value, values.iter().map(String::as_str), "its values are");
            (format!("no host has the label `{}` with the value `{}`", shown(key), shown(value)), hint)
        };
        let mut problem = Diagnostic::error(Code::UnknownHost, span, message);
        problem.help = hint;
        problems.push(problem);
    }
    hosts
}
