//! One file per command: what is read, which part does the work, what is printed, which code comes back.

pub(crate) mod access;
pub(crate) mod actions;
pub(crate) mod approvals;
pub(crate) mod approve;
pub(crate) mod doctor;
pub(crate) mod evidence;
pub(crate) mod inventory;
pub(crate) mod notify;
pub(crate) mod people;
pub(crate) mod plan;
pub(crate) mod policy;
pub(crate) mod reference;
pub(crate) mod retention;
pub(crate) mod review;
pub(crate) mod schedule;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod snapshots;
pub(crate) mod ticket;
pub(crate) mod validate;
pub(crate) mod windows;
pub(crate) mod witness;
pub(crate) mod work;
