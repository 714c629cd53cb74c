//! Views of the event log: terminal, text, JSON.
//!
//! A view is a pure function of a run's records, its plan and, where a view shows sizes or contents, of blobs that the
//! caller has read. Nothing here reads a clock, a file or a terminal: time, width and height are arguments, and what
//! comes back is text or a document. So `show`, `explain`, the live view and what a later page shows cannot differ in
//! what they say.
//!
//! One part is more than a view: [`bundle`] reads the files of a bundle, because whoever verifies one has nothing else.
//!
//! [`RunView`] folds the records; everything else reads a `RunView`.

pub mod access;
pub mod brief;
pub mod bundle;
pub mod check;
pub mod explain;
pub mod html;
pub mod json;
pub mod list;
pub mod live;
pub mod logs;
pub mod matrix;
pub mod monitoring;
pub mod objectives;
pub mod outside;
pub mod recording;
pub mod rehearsal;
mod session;
pub mod show;
pub mod style;
pub mod summary;
pub mod text;
mod unknown;
pub mod verdict;
pub mod view;

pub use style::Palette;
pub use view::RunView;
