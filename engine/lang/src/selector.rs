//! The language in which hosts are selected: `fileservers & cui & !site=hq`.
//!
//! A word is a host, a group, a glob over both (`fs*`), a label (`site=hq`, either side may be a glob) or a flag
//! (`cui`; `local`); `all` is every host. `!` binds strongest, then `&`, then `|`.

use crate::source::{Span, Text};

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
