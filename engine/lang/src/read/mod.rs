//! From the tree to documents: one reader for each form. A reader reports all that is wrong and goes on with what it
//! could make of the rest; documents leave this module only when nothing was wrong.

pub(crate) mod action;
pub(crate) mod command;
pub(crate) mod fields;
pub(crate) mod graph;
pub(crate) mod parameter;
pub(crate) mod runbook;
pub(crate) mod scalar;
pub(crate) mod step;
