//! The plan as a picture: which step waits for which, and what takes what back. In the languages of Mermaid (shown by
//! code forges and wikis) and of Graphviz.
//!
//! Names come from people, so they only ever stand inside quoted labels, escaped; the ids of nodes are our own.

use std::collections::BTreeMap;

use runbook_model::id::StepId;
use runbook_model::plan::{Once, Phase, Place, Plan, Role, Step};

use crate::printable;

/// Labels are cut to so many characters: a picture with whole sentences in it helps nobody.
const LABEL_CHARS_MAX: usize = 60;

/// A Mermaid flowchart, with a subgraph for each phase.
pub fn mermaid(plan: &Plan) -> String {
    let graph = Graph::of(plan);
    let mut out = String::from("flowchart TD\n");
    for (phase, nodes) in &graph.phases {
        out.push_str(&format!("  subgraph {}[\"{}\"]\n", cluster(*phase), phase.name()));
        for node in nodes {
            let (open, close) = match node.kind {
                Kind::Reads => ("([", "])"),
                Kind::Changes => ("[", "]"),
                Kind::Takes => ("[(", ")]"),
                Kind::Asks => ("{{", "}}"),
                Kind::Aside => ("[/", "/]"),
            };
            let label = node.lines.iter().map(|line| mermaid_text(line)).collect::<Vec<_>>().join("<br/>");
            out.push_str(&format!("    {}{open}\"{label}\"{close}\n", node.key));
        }
        out.push_str("  end\n");
    }
    for edge in &graph.edges {
        let arrow = match edge.kind {
            EdgeKind::Needs => "-->".to_owned(),
            EdgeKind::TakenBackBy(word) => format!("-. {word} .->"),
        };
        out.push_str(&format!("  {} {arrow} {}\n", edge.from, edge.to));
    }
    for (from, to, label) in &graph.between {
        let arrow = match label {
            Some(label) => format!("-. {label} .->"),
            None => "==>".to_owned(),
        };
        out.push_str(&format!("  {} {arrow} {}\n", cluster(*from), cluster(*to)));
    }
    out
}

/// A Graphviz digraph, with a cluster for each phase.
pub fn dot(plan: &Plan) -> String {
    let graph = Graph::of(plan);
    let mut out = format!("digraph \"{}\" {{\n", dot_text(&cut(&plan.runbook.name)));
    out.push_str("  compound=true;\n  rankdir=TB;\n  node [shape=box, fontname=\"sans-serif\"];\n");
    out.push_str("  edge [fontname=\"sans-serif\"];\n");
    for (phase, nodes) in &graph.phases {
        out.push_str(&format!("  subgraph cluster_{} {{\n    label=\"{}\";\n", phase.name(), phase.name()));
        for node in nodes {
            let style = match node.kind {
                Kind::Reads => "style=rounded",
                Kind::Changes => "style=bold",
                Kind::Takes => "shape=cylinder",
                Kind::Asks => "shape=hexagon",
                Kind::Aside => "style=dashed",
            };
            let label = node.lines.iter().map(|line| dot_text(line)).collect::<Vec<_>>().join("\\n");
            out.push_str(&format!("    {} [label=\"{label}\", {style}];\n", node.key));
        }
        out.push_str("  }\n");
    }
    for edge in &graph.edges {
        let attributes = match edge.kind {
            EdgeKind::Needs => String::new(),
            EdgeKind::TakenBackBy(word) => format!(" [label=\"{word}\", style=dashed, constraint=false]"),
        };
        out.push_str(&format!("  {} -> {}{attributes};\n", edge.from, edge.to));
    }
    let first = |phase: Phase| graph.phases.get(&phase).and_then(|nodes| nodes.first());
    let last = |phase: Phase| graph.phases.get(&phase).and_then(|nodes| nodes.last());
    for (from, to, label) in &graph.between {
        if let (Some(tail), Some(head)) = (last(*from), first(*to)) {
            let look = label.map_or("style=bold".to_owned(), |label| format!("label=\"{label}\", style=dashed"));
            out.push_str(&format!(
                "  {} -> {} [ltail=cluster_{}, lhead=cluster_{}, {look}];\n",
                tail.key,
                head.key,
                from.name(),
                to.name()
            ));
        }
    }
    out.push_str("}\n");
    out
}

struct Graph {
    phases: BTreeMap<Phase, Vec<Node>>,
    edges: Vec<Edge>,
    between: Vec<(Phase, Phase, Option<&'static str>)>,
}

struct Node {
    key: String,
    lines: Vec<String>,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Reads,
    Changes,
    Takes,
    Asks,
    /// Outside the normal course.
    Aside,
}

struct Edge {
    from: String,
    to: String,
    kind: EdgeKind,
}

#[derive(Clone, Copy)]
enum EdgeKind {
    Needs,
    TakenBackBy(&'static str),
}

impl Graph {
    fn of(plan: &Plan) -> Self {
        let keys: BTreeMap<&StepId, String> =
            plan.steps.iter().enumerate().map(|(n, step)| (&step.id, format!("s{}", n + 1))).collect();
        let mut phases: BTreeMap<Phase, Vec<Node>> = BTreeMap::new();
        let mut edges = Vec::new();
        for step in &plan.steps {
            let Some(key) = keys.get(&step.id) else { continue };
            phases.entry(step.phase).or_default().push(Node { key: key.clone(), lines: label(step), kind: kind(step) });
            let mut edge = |of: &StepId, kind: EdgeKind| {
                edges.extend(keys.get(of).map(|from| Edge { from: from.clone(), to: key.clone(), kind }));
            };
            for need in &step.needs {
                edge(need, EdgeKind::Needs);
            }
            match &step.role {
                Role::Undo { of } => edge(of, EdgeKind::TakenBackBy("undone by")),
                Role::Restore { of } => edge(of, EdgeKind::TakenBackBy("restored by")),
                Role::Release { of } => edge(of, EdgeKind::TakenBackBy("released by")),
                _ => {}
            }
        }
        let normal: Vec<Phase> = phases.keys().copied().filter(|phase| *phase != Phase::Rollback).collect();
        let mut between: Vec<_> = normal.windows(2).map(|pair| (pair[0], pair[1], None)).collect();
        if phases.contains_key(&Phase::Rollback) {
            for phase in [Phase::Execute, Phase::Verify] {
                if phases.contains_key(&phase) {
                    between.push((phase, Phase::Rollback, Some("on failure")));
                }
            }
            if phases.contains_key(&Phase::Finally) {
                between.push((Phase::Rollback, Phase::Finally, None));
            }
        }
        Self { phases, edges, between }
    }
}

fn kind(step: &Step) -> Kind {
    let asks = crate::invariants::actions(&step.work)
        .any(|action| matches!(action, runbook_model::plan::Action::Confirm { .. }));
    match step.role {
        Role::Release { .. } => Kind::Aside,
        Role::Take => Kind::Takes,
        _ if asks => Kind::Asks,
        _ if step.read_only => Kind::Reads,
        _ => Kind::Changes,
    }
}

fn label(step: &Step) -> Vec<String> {
    let mut lines = vec![cut(step.id.as_str())];
    if !step.name.is_empty() && step.name != step.id.as_str() {
        lines.push(cut(&step.name));
    }
    match &step.on {
        Place::Host => {}
        Place::Controller => lines.push("on the controller".into()),
        Place::Named(host) => lines.push(cut(&format!("on {}", host.name))),
    }
    match step.once {
        None => {}
        Some(Once::Run) => lines.push("once in the run".into()),
        Some(Once::Batch) => lines.push("once in each batch".into()),
    }
    if step.when.is_some() {
        lines.push("conditional".into());
    }
    lines
}

/// The id of a phase's subgraph: `end` and the like are words of Mermaid, so none stands alone.
fn cluster(phase: Phase) -> String {
    format!("phase_{}", phase.name())
}

fn cut(text: &str) -> String {
    let text = printable::text(text);
    if text.chars().count() <= LABEL_CHARS_MAX {
        return text;
    }
    text.chars().take(LABEL_CHARS_MAX - 1).chain(['…']).collect()
}

/// Mermaid knows no escape inside quotes but character entities, written with `#`. Everything that begins syntax
/// somewhere in its grammar (comments, directives, Markdown strings, HTML, links) is written so.
fn mermaid_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_alphanumeric() || " .,:-_/+()=…".contains(c) => out.push(c),
            c => out.push_str(&format!("#{};", u32::from(c))),
        }
    }
    out
}

/// Graphviz decodes backslash escapes and HTML entities inside quotes.
fn dot_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '&' => out.push_str("&amp;"),
            c => out.push(c),
        }
    }
    out
}
