//! The daemon: runs what is due by itself.
//!
//! It keeps nothing that matters. What became of an occurrence is in the record, under a key that is there once; a run is
//! worked on by a process of its own, which goes on when the daemon ends; and what the daemon has seen last is a file that
//! may be lost: then it looks back no further than to its start.

mod child;
mod daemon;
mod memory;
mod news;

pub(crate) use daemon::Daemon;
