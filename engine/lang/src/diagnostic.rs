//! What is wrong with a file, where, and what would be right.

use std::fmt;

use serde_json::{Value, json};

use crate::codes::Code;
use crate::source::Span;

/// The version of the JSON form.
pub const SCHEMA: &str = "diagnostics/v1";

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// It can, but somebody should look.
    Warning,
}

impl Severity {
    /// The word that is shown.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// A second place that matters for a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What is there.
    pub message: String,
}

/// One problem. Its place knows its file, so a diagnostic can be shown without anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Which kind of problem; has a page in the book.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// Where.
    pub span: Span,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    /// Other places that matter.
    pub labels: Vec<Label>,
}

impl Diagnostic {
    /// An error.
    pub fn error(code: Code, span: &Span, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            span: span.clone(),
            message: message.into(),
            help: None,
            labels: Vec::new(),
        }
    }

    /// A warning.
    pub fn warning(code: Code, span: &Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, span, message) }
    }

    /// With what would be right.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With another place.
    pub fn label(mut self, span: &Span, message: impl Into<String>) -> Self {
        self.labels.push(Label { span: span.clone(), message: message.into() });
        self
    }

    /// Its JSON form: an element of `diagnostics` in [`to_json`].
    pub fn to_json(&self) -> Value {
        let place = |span: &Span| {
            let (line, column) = span.position();
            let (end_line, end_column) = span.end_position();
            json!({
                "file": span.source().name(),
                "line": line,
                "column": column,
                "end_line": end_line,
                "end_column": end_column,
                "start_byte": span.range().start,
                "end_byte": span.range().end,
            })
        };
        let mut value = json!({
            "code": self.code.name(),
            "severity": self.severity.name(),
            "message": self.message,
            "place": place(&self.span),
        });
        if let Some(help) = &self.help {
            value["help"] = json!(help);
        }
        if !self.labels.is_empty() {
            value["labels"] = self
                .labels
                .iter()
                .map(|label| json!({"message": label.message, "place": place(&label.span)}))
                .collect();
        }
        value
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} [{}]: {}", self.span, self.severity.name(), self.code.name(), self.message)?;
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

/// Problems as one JSON document: `{"schema": "diagnostics/v1", "diagnostics": […]}`.
pub fn to_json(diagnostics: &[Diagnostic]) -> Value {
    json!({"schema": SCHEMA, "diagnostics": diagnostics.iter().map(Diagnostic::to_json).collect::<Vec<_>>()})
}

/// Whether any of them is an error.
pub fn any_error(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
}

/// In the order of their places, each once; at most [`MOST`] errors are kept.
pub fn sorted(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let key = |d: &Diagnostic| (d.span.source().name().to_owned(), d.span.range().start, d.severity, d.code);
    diagnostics.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| a.message.cmp(&b.message)));
    diagnostics.dedup();
    diagnostics.truncate(MOST);
    diagnostics
}

/// More problems than this in one file are not listed: nobody reads them, and a hostile file could make millions.
pub const MOST: usize = 200;

/// A document and what is odd about it though it is right.
#[derive(Debug, Clone)]
pub struct Parsed<T> {
    /// The document.
    pub value: T,
    /// Warnings.
    pub warnings: Vec<Diagnostic>,
}
