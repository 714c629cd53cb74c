//! What a live view sees of a run.

use runbook_model::id::Cell;
use runbook_model::outcome::Wait;
use runbook_model::record::Record;

use crate::store::Holder;
use crate::transport::Stream;

/// Sees a run while it happens. Called in order and must return at once: a slow view drops what it cannot show, it never
/// holds up the run. What it is shown of records is already durable.
pub trait Observer: Send + Sync {
    /// A record was committed.
    fn committed(&self, record: &Record);

    /// A host, or the run itself (`what`), is held, and the run waits for it.
    fn held(&self, _what: &str, _by: &Holder) {}

    /// A running attempt has printed something (secrets masked). For a tail, not for keeping: pieces may be left out.
    fn output(&self, _cell: &Cell, _stream: Stream, _bytes: &[u8]) {}

    /// A host does not answer and is waited for on behalf of the cell; `None` when it is not any more.
    fn waiting(&self, _cell: &Cell, _wait: Option<&Wait>) {}

    /// A transfer goes on.
    fn progress(&self, _cell: &Cell, _bytes_done: u64, _bytes_total: u64) {}
}
