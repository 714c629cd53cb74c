//! What may be done, by whom and when: pure decisions, each with its reasons in words.
//!
//! Nothing here reads a clock, a file or a database: the moment and all that is known are arguments, and the same
//! arguments always give the same answer.

pub mod approvals;
pub mod authorize;
pub mod calendar;
pub mod change;
pub mod clock;
pub mod estimate;
pub mod rehearsal;
pub mod reviews;
pub mod rules;
pub mod schedule;
pub mod tools;

pub use authorize::{Act, Ask, Estimate, Granted, Refusal, Rules, authorize};
pub use calendar::Calendar;
pub use rules::{Case, Policed};
