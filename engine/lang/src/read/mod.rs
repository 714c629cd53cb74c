//! From the tree to documents: one reader for each form. A reader reports all that is wrong and goes on with what it
//! could make of the rest; documents leave this module only when nothing was wrong.

pub(crate) mod access;
pub(crate) mod action;
pub(crate) mod ansible;
pub(crate) mod command;
pub(crate) mod csv;
pub(crate) mod elsewhere;
pub(crate) mod fields;
pub(crate) mod graph;
pub(crate) mod host;
pub(crate) mod inventory;
pub(crate) mod parameter;
pub(crate) mod people;
pub(crate) mod policy;
pub(crate) mod records;
pub(crate) mod resolve;
pub(crate) mod runbook;
pub(crate) mod scalar;
pub(crate) mod schedule;
pub(crate) mod step;
pub(crate) mod texts;
pub(crate) mod windows;
