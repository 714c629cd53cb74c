//! Records: sealing an event into a line, and reading the line back.

use runbook_model::event::Event;
use runbook_model::record::{BYTES_MAX, Head, Record, SCHEMA, Sealed};
use runbook_model::units::rfc3339_ms;
use runbook_model::{RunId, Sha256};
use serde::Serialize;

use crate::strict;
use crate::tree::{Frontier, NotAFrontier, leaf_hash};

/// Why an event could not be sealed, or a line not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Longer than an entry of the ledger may be.
    #[error("the record has {bytes} bytes; at most {BYTES_MAX} fit into one (what can be large belongs into a blob)")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It has a line end in it.
    #[error("a record is one line, and this one has a line end in it")]
    NotOneLine,
    /// It is not a record's JSON.
    #[error("not a record: {0}")]
    NotARecord(String),
    /// It is of a version that this program does not know.
    #[error("the record is of the form {0:?}, which this version of runbook does not know")]
    UnknownSchema(String),
    /// The head to go on from cannot be one.
    #[error(transparent)]
    Frontier(#[from] NotAFrontier),
    /// The head to go on from has records and no last one, or the reverse.
    #[error("a ledger of {size} records {}", if *.size == 0 { "has no last record" } else { "must name its last record" })]
    LastLeaf {
        /// Its size.
        size: u64,
    },
}

/// What the first record has in `prev`: the leaf hash of nothing.
pub fn first_prev() -> Sha256 {
    leaf_hash(b"")
}

/// [`Record`] by reference: the same fields in the same order, so the same bytes.
#[derive(Serialize)]
struct Line<'a> {
    schema: &'a str,
    seq: u64,
    prev: &'a Sha256,
    time: &'a str,
    mono_ms: u64,
    run: &'a RunId,
    run_seq: u64,
    event: &'a Event,
}

/// Seals events on the end of a ledger, one after the other.
///
/// What it has sealed is not stored yet: when storing fails because another process appended first, make a new one from
/// the head that the store names and seal the same events again.
#[derive(Debug, Clone)]
pub struct Sealer {
    tree: Frontier,
    last_leaf: Option<Sha256>,
}

impl Sealer {
    /// Goes on from a ledger's end.
    ///
    /// # Errors
    /// When the head contradicts itself.
    pub fn new(head: &Head) -> Result<Self, Error> {
        if head.last_leaf.is_some() != (head.size > 0) {
            return Err(Error::LastLeaf { size: head.size });
        }
        let tree = Frontier::from_parts(head.size, head.frontier.clone())?;
        Ok(Self { tree, last_leaf: head.last_leaf })
    }

    /// Seals one event as record `run_seq` of its run. The times are Unix milliseconds and the process's monotonic
    /// clock in milliseconds.
    ///
    /// # Errors
    /// `TooLong`; the sealer is then as it was before.
    pub fn seal(
        &mut self,
        now_ms: u64,
        mono_ms: u64,
        run: &RunId,
        run_seq: u64,
        event: &Event,
    ) -> Result<Sealed, Error> {
        let seq = self.tree.size();
        let line =
            Line { schema: SCHEMA, seq, prev: &self.prev(), time: &rfc3339_ms(now_ms), mono_ms, run, run_seq, event };
        let bytes = serde_json::to_vec(&line).expect("events are representable as JSON");
        if bytes.len() > BYTES_MAX {
            return Err(Error::TooLong { bytes: bytes.len() });
        }
        let leaf = leaf_hash(&bytes);
        self.tree.push(leaf);
        self.last_leaf = Some(leaf);
        Ok(Sealed { seq, run: run.clone(), run_seq, leaf, bytes })
    }

    /// The ledger's end after what was sealed so far.
    pub fn head(&self) -> Head {
        Head { size: self.tree.size(), last_leaf: self.last_leaf, frontier: self.tree.roots().to_vec() }
    }

    /// What the next record has in `prev`: the leaf hash of the last one.
    pub fn prev(&self) -> Sha256 {
        self.last_leaf.unwrap_or_else(first_prev)
    }

    /// How many records there are.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// The root of the tree after what was sealed so far.
    pub fn root(&self) -> Sha256 {
        self.tree.root()
    }
}

/// Reads a record's line. Never panics, whatever the bytes.
///
/// # Errors
/// When it is not one line of a known form.
pub fn parse(bytes: &[u8]) -> Result<Record, Error> {
    if bytes.len() > BYTES_MAX {
        return Err(Error::TooLong { bytes: bytes.len() });
    }
    if bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return Err(Error::NotOneLine);
    }
    match serde_json::from_slice::<Record>(bytes) {
        // Its fields are known to be there once; an event may have fields of a later version.
        Ok(record) if record.schema == SCHEMA => match strict::check(bytes) {
            Ok(()) => Ok(record),
            Err(error) => Err(Error::NotARecord(error.to_string())),
        },
        Ok(record) => Err(Error::UnknownSchema(record.schema)),
        Err(error) => {
            #[derive(serde::Deserialize)]
            struct Form {
                schema: String,
            }
            // A later version may have other fields: say that rather than name the first one that is strange.
            match serde_json::from_slice::<Form>(bytes) {
                Ok(form) if form.schema != SCHEMA => Err(Error::UnknownSchema(form.schema)),
                _ => Err(Error::NotARecord(error.to_string())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use runbook_model::HostName;
    use runbook_model::event::Person;

    use super::*;

    fn run() -> RunId {
        "019aab00-0000-7000-8000-000000000001".into()
    }

    #[test]
    fn a_sealed_event_is_read_back_as_it_was() {
        let mut sealer = Sealer::new(&Head::default()).unwrap();
        let started = sealer.seal(1_795_339_800_007, 5, &run(), 0, &Event::RunStarted).unwrap();
        let event = Event::CancelAsked { by: Person { name: "ada\n\u{1b}".into(), uid: 1000, from: None } };
        let asked = sealer.seal(1_795_339_800_008, 6, &run(), 1, &event).unwrap();

        let first = parse(&started.bytes).unwrap();
        assert_eq!((first.seq, first.prev, first.run_seq), (0, first_prev(), 0));
        assert_eq!(first.time, "2026-11-22T09:30:00.007Z");
        let second = parse(&asked.bytes).unwrap();
        assert_eq!((second.seq, second.prev, second.run_seq), (1, started.leaf, 1));
        assert_eq!(second.event, event);
        assert_eq!(serde_json::to_vec(&second).unwrap(), asked.bytes, "a record's own form is what is sealed");
        assert_eq!(sealer.head().size, 2);
        assert_eq!(sealer.head().last_leaf, Some(asked.leaf));
    }

    #[test]
    fn the_line_is_exactly_this() {
        let mut sealer = Sealer::new(&Head::default()).unwrap();
        let sealed = sealer.seal(0, 5, &run(), 0, &Event::RunStarted).unwrap();
        assert_eq!(
            String::from_utf8(sealed.bytes).unwrap(),
            concat!(
                r#"{"schema":"record/v1","seq":0,"#,
                r#""prev":"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d","#,
                r#""time":"1970-01-01T00:00:00.000Z","mono_ms":5,"#,
                r#""run":"019aab00-0000-7000-8000-000000000001","run_seq":0,"event":{"type":"run_started"}}"#
            )
        );
    }

    #[test]
    fn an_event_too_long_for_a_record_is_refused_and_changes_nothing() {
        let mut sealer = Sealer::new(&Head::default()).unwrap();
        let event = Event::HostStarted { host: HostName::from("x".repeat(BYTES_MAX)), begun_ms: None };
        assert!(matches!(sealer.seal(0, 0, &run(), 0, &event), Err(Error::TooLong { .. })));
        assert_eq!(sealer.head(), Head::default());
    }

    #[test]
    fn a_head_that_contradicts_itself_is_refused() {
        let mut head = Head { size: 1, last_leaf: None, frontier: vec![first_prev()] };
        assert!(matches!(Sealer::new(&head), Err(Error::LastLeaf { size: 1 })));
        head.last_leaf = Some(first_prev());
        head.frontier.clear();
        assert!(matches!(Sealer::new(&head), Err(Error::Frontier(_))));
    }

    #[test]
    fn a_line_that_two_readers_could_take_for_two_things_is_refused() {
        let mut sealer = Sealer::new(&Head::default()).unwrap();
        let sealed = sealer.seal(0, 5, &run(), 0, &Event::RunStarted).unwrap();
        let line = String::from_utf8(sealed.bytes).unwrap();
        assert!(parse(line.as_bytes()).is_ok());
        for (from, to) in [
            (r#""seq":0"#, r#""seq":0,"seq":0"#),
            (r#""type":"run_started""#, r#""type":"run_started","type":"run_started""#),
            (r#""type":"run_started""#, r#""type":"run_started","x":1,"x":2"#),
            (r#""type":"run_started""#, r#""type":"run_started","x":1.5"#),
            (r#""type":"run_started""#, r#""type":"run_started","x":18446744073709551616"#),
            (r#""type":"run_started""#, r#""type":"run_started","x":NaN"#),
            (r#""type":"run_started""#, r#""type":"run_started","x":"\ud800""#),
            (r#""mono_ms":5"#, r#""mono_ms":18446744073709551616"#),
        ] {
            let changed = line.replacen(from, to, 1);
            assert_ne!(changed, line);
            assert!(matches!(parse(changed.as_bytes()), Err(Error::NotARecord(_))), "{changed}");
        }
        // Written anew in another order it says the same and is other bytes: another leaf.
        let reordered = line.replacen(r#""schema":"record/v1","seq":0"#, r#""seq":0,"schema":"record/v1""#, 1);
        assert!(parse(reordered.as_bytes()).is_ok());
        assert_ne!(leaf_hash(reordered.as_bytes()), sealed.leaf);
        let later = line.replacen(r#""type":"run_started""#, r#""type":"run_started","added":7"#, 1);
        assert!(parse(later.as_bytes()).is_ok(), "a later version may add a field");
    }

    #[test]
    fn lines_of_another_form_are_named_as_such() {
        assert!(
            matches!(parse(br#"{"schema":"record/v9","x":1}"#), Err(Error::UnknownSchema(form)) if form == "record/v9")
        );
        assert!(matches!(parse(b"{}\n"), Err(Error::NotOneLine)));
        assert!(matches!(parse(b"{}"), Err(Error::NotARecord(_))));
        assert!(matches!(parse(&vec![b' '; BYTES_MAX + 1]), Err(Error::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_change_of_one_byte_keeps_the_leaf(at in 0_usize..150, to in any::<u8>()) {
            let mut sealer = Sealer::new(&Head::default()).unwrap();
            let sealed = sealer.seal(0, 5, &run(), 0, &Event::RunStarted).unwrap();
            let mut bytes = sealed.bytes.clone();
            bytes[at] = to;
            let _ = parse(&bytes);
            prop_assert_eq!(leaf_hash(&bytes) == sealed.leaf, bytes == sealed.bytes);
        }
    }
}
