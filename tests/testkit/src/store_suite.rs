//! What every store must do, whatever it is made of. A test file of a store says
//! `runbook_testkit::store_suite!(place)`, where `place()` makes a fresh [`Place`], and gets one test for each fact.

use std::sync::Arc;

use async_trait::async_trait;
use runbook_ledger::{Sealer, Verifier};
use runbook_model::event::{Person, RunHeader};
use runbook_model::schedule::Occurrence;
use runbook_model::{Event, HostName, RunId, RunOutcome, Sha256};
use runbook_ports::blob::BlobStore;
use runbook_ports::store::{Append, Checkpoint, Fence, Head, RunIndex, RunStatus, Settled, Store, StoreError};

/// Somewhere a store is kept, and processes that work on it.
#[async_trait]
pub trait Place: Send + Sync {
    /// The store.
    type Store: Store + BlobStore + 'static;

    /// The store as one more process sees it.
    async fn process(&self) -> Arc<Self::Store>;

    /// Ends a process as SIGKILL does. It is the last one to hold the store.
    async fn kill(&self, store: Arc<Self::Store>);
}

/// One test per fact for the store that the expression makes a [`Place`] for.
#[macro_export]
macro_rules! store_suite {
    ($place:expr) => {
        $crate::store_suite! { @facts $place;
            a_new_store_is_empty
            what_was_appended_is_read_back_by_every_process
            an_append_on_an_old_head_changes_nothing_and_names_the_new_one
            an_append_without_the_lease_changes_nothing
            an_append_that_is_not_in_order_changes_nothing
            a_lost_fence_stops_the_run_even_on_the_right_head
            pages_of_records_are_whole_and_in_order
            a_large_append_is_all_or_nothing
            the_list_of_runs_follows_the_log
            an_occurrence_is_settled_once_whoever_tries
            a_host_is_leased_by_one_run_at_a_time
            a_lease_is_all_or_nothing
            a_dead_process_is_succeeded_and_its_fence_is_worthless
            a_released_lease_is_free_and_cannot_be_used
            two_processes_take_turns_and_the_ledger_verifies
            blobs_of_every_size_are_kept_once_and_read_back
            a_missing_blob_is_missing_and_a_limit_is_kept
            a_blob_in_pieces_is_the_whole_blob
            a_dropped_writer_leaves_no_blob
        }
    };
    (@facts $place:expr; $($fact:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $fact() {
                let place = $place;
                $crate::store_suite::$fact(&place).await;
            }
        )*
    };
}

fn run(n: u32) -> RunId {
    format!("019aab00-0000-7000-8000-{n:012}").into()
}

fn host(name: &str) -> HostName {
    name.into()
}

/// What a controller would append: `count` records of `run` on `head`.
pub fn sealed(head: &Head, run: &RunId, run_seq: u64, count: u64, fence: Option<Fence>) -> Append {
    let mut sealer = Sealer::new(head).expect("a store's head can be sealed on");
    let records = (0..count)
        .map(|n| {
            let event = Event::HostStarted { host: HostName::from(format!("web{}", run_seq + n)), begun_ms: None };
            sealer.seal(1_700_000_000_000 + n, n, run, run_seq + n, &event).expect("the event is short")
        })
        .collect();
    Append {
        expected_size: head.size,
        fence: fence.map(|fence| (run.clone(), fence)),
        records,
        head: sealer.head(),
        ..Append::default()
    }
}

/// The opening of a run, with nothing strange in it.
pub fn header(run: &RunId, started_ms: u64) -> RunHeader {
    RunHeader {
        operator: Person { name: "ada".to_owned(), uid: 1000, from: None },
        ticket: Some("CHG-1".to_owned()),
        started_ms,
        seed: u64::MAX,
        cells: 3,
        engine_version: "0.1.0".to_owned(),
        engine_sha256: Sha256::of(b"engine"),
        controller: "here".to_owned(),
        controller_boot_id: "0".to_owned(),
        ..RunHeader::new(run.clone(), Sha256::of(b"plan"), "restart-service")
    }
}

/// Reads all pages and verifies them.
pub async fn verify<S: Store + ?Sized>(store: &S) -> Head {
    let mut verifier = Verifier::new([]);
    loop {
        let page = store.ledger(verifier.size(), 100).await.unwrap();
        if page.is_empty() {
            break;
        }
        for record in &page {
            verifier.push_sealed(record).unwrap();
        }
    }
    let head = store.head().await.unwrap();
    verifier.finish(Some(&head)).unwrap();
    head
}

/// A fact.
pub async fn a_new_store_is_empty<P: Place>(place: &P) {
    let store = place.process().await;
    assert_eq!(store.head().await.unwrap(), Head::default());
    assert_eq!(store.ledger(0, 10).await.unwrap(), []);
    assert_eq!(store.records(&run(1), 0, 10).await.unwrap(), []);
    assert_eq!(store.checkpoints().await.unwrap(), []);
    assert_eq!(store.last_checkpoint().await.unwrap(), None);
    assert_eq!(store.runs().await.unwrap(), []);
    assert_eq!(store.holder(&run(1)).await.unwrap(), None);
}

/// A fact.
pub async fn what_was_appended_is_read_back_by_every_process<P: Place>(place: &P) {
    let (one, two) = (place.process().await, place.process().await);
    let fence = one.lease(&run(1), "ada", &[], 5).await.unwrap();
    let content = b"hello".to_vec();
    let digest = Sha256::of(&content);
    let checkpoint = Checkpoint { size: 2, note: "a note\n\u{2014} of two\n".to_owned() };
    let mut append = sealed(&Head::default(), &run(1), 0, 2, Some(fence));
    append.checkpoint = Some(checkpoint.clone());
    append.blobs = vec![(digest, content.clone())];
    one.append(append.clone()).await.unwrap();
    for store in [&one, &two] {
        assert_eq!(store.head().await.unwrap(), append.head);
        assert_eq!(store.ledger(0, 10).await.unwrap(), append.records);
        assert_eq!(store.records(&run(1), 0, 10).await.unwrap(), append.records);
        assert_eq!(store.records(&run(2), 0, 10).await.unwrap(), []);
        assert_eq!(store.checkpoints().await.unwrap(), std::slice::from_ref(&checkpoint));
        assert_eq!(store.signed_frontier(2).await.unwrap().as_ref(), Some(&append.head.frontier));
        assert_eq!(store.signed_frontier(1).await.unwrap(), None);
        assert_eq!(store.get(&digest, 5).await.unwrap(), content);
    }
    // Records that no run owns, and an append of nothing but a signed head.
    two.append(sealed(&append.head, &run(2), 0, 1, None)).await.unwrap();
    let head = one.head().await.unwrap();
    let later = Checkpoint { size: 3, note: "later\n".to_owned() };
    let only = Append { expected_size: 3, head: head.clone(), checkpoint: Some(later.clone()), ..Append::default() };
    one.append(only).await.unwrap();
    assert_eq!(two.last_checkpoint().await.unwrap(), Some(later.clone()));
    assert_eq!(two.checkpoints().await.unwrap(), [checkpoint, later]);
    assert_eq!(verify(&*two).await, head);
}

/// A fact.
pub async fn an_append_on_an_old_head_changes_nothing_and_names_the_new_one<P: Place>(place: &P) {
    let (one, two) = (place.process().await, place.process().await);
    let first = sealed(&Head::default(), &run(1), 0, 3, None);
    one.append(first.clone()).await.unwrap();
    let mut late = sealed(&Head::default(), &run(2), 0, 1, None);
    late.blobs = vec![(Sha256::of(b"late"), b"late".to_vec())];
    late.checkpoint = Some(Checkpoint { size: 1, note: "late\n".to_owned() });
    late.index =
        Some(RunIndex { header: header(&run(2), 5), status: RunStatus::Running, outcome: None, ended_ms: None });
    match two.append(late.clone()).await {
        Err(StoreError::HeadMoved(head)) => assert_eq!(head, first.head),
        other => panic!("{other:?}"),
    }
    assert_eq!(two.ledger(0, 10).await.unwrap(), first.records);
    assert_eq!(two.checkpoints().await.unwrap(), []);
    assert_eq!(two.runs().await.unwrap(), []);
    assert!(!two.has(&Sha256::of(b"late")).await.unwrap());
    // A head ahead of the store's is an old one of another store.
    let ahead = sealed(&sealed(&first.head, &run(2), 0, 1, None).head, &run(2), 0, 1, None);
    assert!(matches!(two.append(ahead).await, Err(StoreError::HeadMoved(head)) if head == first.head));
    // Sealed again on the head that it named, it goes in.
    two.append(sealed(&first.head, &run(2), 0, 1, None)).await.unwrap();
    assert_eq!(verify(&*one).await.size, 4);
}

/// A fact.
pub async fn an_append_without_the_lease_changes_nothing<P: Place>(place: &P) {
    let store = place.process().await;
    let append = sealed(&Head::default(), &run(1), 0, 1, Some(Fence(1)));
    assert!(matches!(store.append(append).await, Err(StoreError::FenceLost)));
    assert_eq!(store.head().await.unwrap(), Head::default());
}

/// A fact.
pub async fn an_append_that_is_not_in_order_changes_nothing<P: Place>(place: &P) {
    let store = place.process().await;
    let mut gap = sealed(&Head::default(), &run(1), 0, 3, None);
    gap.records.remove(1);
    assert!(matches!(store.append(gap).await, Err(StoreError::Failed(_))));
    let mut short = sealed(&Head::default(), &run(1), 0, 3, None);
    short.head.size = 2;
    assert!(matches!(store.append(short).await, Err(StoreError::Failed(_))));
    let first = sealed(&Head::default(), &run(1), 0, 2, None);
    store.append(first.clone()).await.unwrap();
    let again = sealed(&first.head, &run(1), 1, 1, None);
    assert!(matches!(store.append(again).await, Err(StoreError::Failed(_))), "record 1 of the run exists");
    assert_eq!(verify(&*store).await, first.head);
}

/// A fact.
pub async fn a_lost_fence_stops_the_run_even_on_the_right_head<P: Place>(place: &P) {
    let one = place.process().await;
    let first = one.lease(&run(1), "ada", &[], 5).await.unwrap();
    one.release(&run(1), first).await.unwrap();
    let second = one.lease(&run(1), "bob", &[], 6).await.unwrap();
    assert!(second > first);
    let stale = sealed(&Head::default(), &run(1), 0, 1, Some(first));
    assert!(matches!(one.append(stale).await, Err(StoreError::FenceLost)));
    assert!(matches!(one.release(&run(1), first).await, Err(StoreError::FenceLost)));
    // The fence is looked at before the head: who is not the controller does not get to try again.
    one.append(sealed(&Head::default(), &run(1), 0, 1, Some(second))).await.unwrap();
    let stale = sealed(&Head::default(), &run(1), 0, 1, Some(first));
    assert!(matches!(one.append(stale).await, Err(StoreError::FenceLost)));
    assert_eq!(verify(&*one).await.size, 1);
}

/// A fact.
pub async fn pages_of_records_are_whole_and_in_order<P: Place>(place: &P) {
    let store = place.process().await;
    let mut head = Head::default();
    for n in 0..10 {
        let append = sealed(&head, &run(n % 2), u64::from(n / 2) * 3, 3, None);
        head = append.head.clone();
        store.append(append).await.unwrap();
    }
    let mut seen = Vec::new();
    while let page = store.records(&run(1), seen.len() as u64, 4).await.unwrap()
        && !page.is_empty()
    {
        seen.extend(page);
    }
    assert_eq!(seen.len(), 15);
    assert!(seen.iter().zip(0..).all(|(record, n)| record.run == run(1) && record.run_seq == n));
    assert!(seen.is_sorted_by_key(|record| record.seq));
    let page = store.ledger(28, 10).await.unwrap();
    assert_eq!(page.iter().map(|record| record.seq).collect::<Vec<_>>(), [28, 29]);
    assert_eq!(store.ledger(0, 0).await.unwrap(), []);
    assert_eq!(store.ledger(u64::MAX, 10).await.unwrap(), []);
}

/// A fact.
pub async fn a_large_append_is_all_or_nothing<P: Place>(place: &P) {
    let store = place.process().await;
    let mut large = sealed(&Head::default(), &run(1), 0, 1000, None);
    large.blobs = (0..300_u32).map(|n| (Sha256::of(&n.to_be_bytes()), n.to_be_bytes().to_vec())).collect();
    let mut broken = large.clone();
    broken.records[999].run_seq = 5;
    assert!(matches!(store.append(broken).await, Err(StoreError::Failed(_))), "record 5 of the run is there twice");
    assert_eq!(store.head().await.unwrap(), Head::default());
    assert_eq!(store.ledger(0, 10).await.unwrap(), []);
    store.append(large.clone()).await.unwrap();
    assert_eq!(verify(&*store).await, large.head);
    for (digest, content) in &large.blobs {
        assert_eq!(store.get(digest, 4).await.unwrap(), *content);
    }
}

/// A fact.
pub async fn the_list_of_runs_follows_the_log<P: Place>(place: &P) {
    let store = place.process().await;
    let mut head = Head::default();
    let lines = [
        RunIndex { header: header(&run(2), 900), status: RunStatus::Running, outcome: None, ended_ms: None },
        RunIndex { header: header(&run(1), 1000), status: RunStatus::Running, outcome: None, ended_ms: None },
        RunIndex {
            header: header(&run(2), 900),
            status: RunStatus::Ended,
            outcome: Some(RunOutcome::RolledBack),
            ended_ms: Some(1100),
        },
        RunIndex {
            header: header(&run(1), 1000),
            status: RunStatus::Suspended,
            outcome: Some(RunOutcome::Unknown),
            ended_ms: None,
        },
    ];
    for (n, index) in lines.iter().enumerate() {
        let mut append = sealed(&head, &index.header.run, n as u64 / 2, 1, None);
        append.index = Some(index.clone());
        head = append.head.clone();
        store.append(append).await.unwrap();
    }
    assert_eq!(store.runs().await.unwrap(), lines[2..], "the oldest first, each as it stands");
}

/// A fact.
pub async fn an_occurrence_is_settled_once_whoever_tries<P: Place>(place: &P) {
    let stores = [place.process().await, place.process().await];
    let occurrence = |at_ms| Occurrence { schedule: "patch-night".to_owned(), at_ms };
    for at_ms in [1_000, 2_000, 3_000] {
        let tries = stores.iter().zip(1..).map(|(store, n)| {
            let (store, occurrence) = (Arc::clone(store), occurrence(at_ms));
            tokio::spawn(async move {
                let run = run(u32::try_from(at_ms).unwrap() + n);
                loop {
                    let head = store.head().await.unwrap();
                    let settled = Settled { occurrence: occurrence.clone(), run: run.clone(), seq: head.size };
                    let append = Append { settles: Some(settled.clone()), ..sealed(&head, &run, 0, 1, None) };
                    match store.append(append).await {
                        Ok(()) => return Some(settled),
                        Err(StoreError::HeadMoved(_)) => {}
                        Err(StoreError::Settled(by_another)) => {
                            assert_eq!(by_another, occurrence);
                            return None;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        });
        let tries: Vec<_> = tries.collect();
        let mut won = Vec::new();
        for one in tries {
            won.extend(one.await.unwrap());
        }
        assert_eq!(won.len(), 1);
        for store in &stores {
            let kept = store.settled(at_ms).await.unwrap();
            assert_eq!(kept, won, "earlier ones are not told");
        }
    }
    // What is refused leaves nothing, and the ledger goes on.
    let head = verify(&*stores[0]).await;
    assert_eq!(head.size, 3);
    let other = Settled { occurrence: Occurrence { schedule: "other".to_owned(), at_ms: 3_000 }, run: run(9), seq: 3 };
    let append = Append { settles: Some(other), ..sealed(&head, &run(9), 0, 1, None) };
    stores[1].append(append).await.unwrap();
    let names: Vec<_> = stores[0].settled(0).await.unwrap().into_iter().map(|one| one.occurrence.to_string()).collect();
    assert_eq!(names.len(), 4);
    assert!(names.is_sorted());
}

/// A fact.
pub async fn a_host_is_leased_by_one_run_at_a_time<P: Place>(place: &P) {
    let (one, two) = (place.process().await, place.process().await);
    let fence = one.lease(&run(1), "ada", &[host("web1"), host("web2")], 5).await.unwrap();
    for store in [&one, &two] {
        match store.lease(&run(2), "bob", &[host("db1"), host("web2"), host("web1")], 6).await {
            Err(StoreError::Held { what, by }) => {
                assert_eq!(what, "host web2", "the first that is held, in the order asked for");
                assert_eq!((by.run, by.operator.as_str(), by.since_ms, by.alive), (run(1), "ada", 5, true));
                assert!(by.pid > 0);
            }
            other => panic!("{other:?}"),
        }
        match store.lease(&run(1), "bob", &[], 6).await {
            Err(StoreError::Held { what, .. }) => assert_eq!(what, format!("run {}", run(1))),
            other => panic!("{other:?}"),
        }
    }
    let other = two.lease(&run(2), "bob", &[host("db1")], 6).await.unwrap();
    assert_eq!(one.holder(&run(2)).await.unwrap().unwrap().operator, "bob");
    one.release(&run(1), fence).await.unwrap();
    two.release(&run(2), other).await.unwrap();
    two.lease(&run(2), "bob", &[host("db1"), host("web2")], 7).await.unwrap();
}

/// A fact.
pub async fn a_lease_is_all_or_nothing<P: Place>(place: &P) {
    let (one, two) = (place.process().await, place.process().await);
    one.lease(&run(1), "ada", &[host("web9")], 5).await.unwrap();
    let hosts: Vec<_> = (0..=9).map(|n| host(&format!("web{n}"))).collect();
    assert!(matches!(two.lease(&run(2), "bob", &hosts, 6).await, Err(StoreError::Held { .. })));
    assert_eq!(two.holder(&run(2)).await.unwrap(), None);
    two.lease(&run(3), "eve", &hosts[..9], 7).await.unwrap();
}

/// A fact.
pub async fn a_dead_process_is_succeeded_and_its_fence_is_worthless<P: Place>(place: &P) {
    let (one, two) = (place.process().await, place.process().await);
    let dead = one.lease(&run(1), "ada", &[host("web1")], 5).await.unwrap();
    let append = sealed(&Head::default(), &run(1), 0, 1, Some(dead));
    one.append(append.clone()).await.unwrap();
    place.kill(one).await;
    let holder = two.holder(&run(1)).await.unwrap().unwrap();
    assert_eq!((holder.operator.as_str(), holder.alive), ("ada", false));
    // Another run gets the dead one's host, and then the dead run itself must wait for it.
    let other = two.lease(&run(2), "bob", &[host("web1")], 6).await.unwrap();
    let held = two.lease(&run(1), "bob", &[host("web1")], 7).await;
    assert!(matches!(held, Err(StoreError::Held { what, .. }) if what == "host web1"));
    two.release(&run(2), other).await.unwrap();
    let fence = two.lease(&run(1), "bob", &[host("web1")], 8).await.unwrap();
    assert!(fence > dead);
    let stale = sealed(&append.head, &run(1), 1, 1, Some(dead));
    assert!(matches!(two.append(stale).await, Err(StoreError::FenceLost)));
    two.append(sealed(&append.head, &run(1), 1, 1, Some(fence))).await.unwrap();
}

/// A fact.
pub async fn a_released_lease_is_free_and_cannot_be_used<P: Place>(place: &P) {
    let store = place.process().await;
    let fence = store.lease(&run(1), "ada", &[host("web1")], 5).await.unwrap();
    store.release(&run(1), fence).await.unwrap();
    assert_eq!(store.holder(&run(1)).await.unwrap(), None);
    let append = sealed(&Head::default(), &run(1), 0, 1, Some(fence));
    assert!(matches!(store.append(append).await, Err(StoreError::FenceLost)));
    store.lease(&run(2), "bob", &[host("web1")], 6).await.unwrap();
}

/// Appends one record after the other, sealing again whenever another process was first.
pub async fn append_in_turns<S: Store + ?Sized>(
    store: &S,
    run: &RunId,
    from: u64,
    count: u64,
    fence: Option<Fence>,
) -> u64 {
    let mut head = store.head().await.unwrap();
    let mut moved = 0;
    for run_seq in from..from + count {
        loop {
            let append = sealed(&head, run, run_seq, 1, fence);
            let next = append.head.clone();
            match store.append(append).await {
                Ok(()) => {
                    head = next;
                    break;
                }
                Err(StoreError::HeadMoved(now)) => {
                    assert!(now.size > head.size, "the ledger only grows");
                    head = now;
                    moved += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    moved
}

/// A fact.
pub async fn two_processes_take_turns_and_the_ledger_verifies<P: Place>(place: &P) {
    let (one, two) = (place.process().await, place.process().await);
    let three = one.clone();
    let (run1, run2, run3) = (run(1), run(2), run(3));
    tokio::join!(
        append_in_turns(&*one, &run1, 0, 40, None),
        append_in_turns(&*two, &run2, 0, 40, None),
        append_in_turns(&*three, &run3, 0, 40, None),
    );
    assert_eq!(verify(&*two).await.size, 120);
}

/// Bytes that no compression makes much smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.push((state >> 56) as u8);
    }
    bytes
}

fn contents() -> Vec<Vec<u8>> {
    let sizes = [0, 1, 255, 256, 65_535, 65_536, 65_537, 300_000, 3_000_000];
    sizes.iter().flat_map(|&size| [noise(size), vec![b'a'; size]]).collect()
}

/// A fact.
pub async fn blobs_of_every_size_are_kept_once_and_read_back<P: Place>(place: &P) {
    let (one, two) = (place.process().await, place.process().await);
    let mut append = sealed(&Head::default(), &run(1), 0, 1, None);
    for content in contents() {
        let digest = Sha256::of(&content);
        assert_eq!(one.put(&content).await.unwrap(), digest);
        assert_eq!(two.put(&content).await.unwrap(), digest, "twice is once");
        assert!(two.has(&digest).await.unwrap());
        assert_eq!(two.get(&digest, content.len() as u64).await.unwrap(), content);
        let file = two.file(&digest).await.unwrap();
        assert_eq!(std::fs::read(&file.path).unwrap(), content);
        let original = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(original.path(), &content).unwrap();
        let kept = one.put_file(original.path()).await.unwrap();
        assert_eq!(kept, (digest, content.len() as u64));
        drop(file.guard);
        let copy_is_gone = !file.path.exists();
        assert!(copy_is_gone);
        let mut reversed = content;
        reversed.push(b'!');
        append.blobs.push((Sha256::of(&reversed), reversed));
    }
    one.append(append.clone()).await.unwrap();
    for (digest, content) in append.blobs {
        assert_eq!(two.get(&digest, u64::MAX).await.unwrap(), content);
    }
}

/// A fact.
pub async fn a_missing_blob_is_missing_and_a_limit_is_kept<P: Place>(place: &P) {
    let store = place.process().await;
    let absent = Sha256::of(b"absent");
    assert!(!store.has(&absent).await.unwrap());
    assert!(matches!(store.get(&absent, 10).await, Err(StoreError::Missing(_))));
    assert!(matches!(store.file(&absent).await.map(|_| ()), Err(StoreError::Missing(_))));
    let nowhere = std::path::Path::new("/nonexistent/file");
    assert!(matches!(store.put_file(nowhere).await, Err(StoreError::Failed(_))));
    for content in [noise(100), noise(100_000), vec![0; 10_000_000]] {
        let digest = store.put(&content).await.unwrap();
        let length = content.len() as u64;
        assert!(matches!(store.get(&digest, length - 1).await, Err(StoreError::TooLarge(_))));
        assert_eq!(store.get(&digest, length).await.unwrap().len(), content.len());
    }
}

/// A fact.
pub async fn a_blob_in_pieces_is_the_whole_blob<P: Place>(place: &P) {
    let store = place.process().await;
    for content in contents() {
        for piece in [7_777, 1 << 20] {
            let mut writer = store.writer().await.unwrap();
            for bytes in content.chunks(piece) {
                writer.write(bytes).await.unwrap();
            }
            let (digest, length) = writer.finish().await.unwrap();
            assert_eq!((digest, length), (Sha256::of(&content), content.len() as u64));
            assert_eq!(store.get(&digest, length).await.unwrap(), content);
        }
    }
}

/// A fact.
pub async fn a_dropped_writer_leaves_no_blob<P: Place>(place: &P) {
    let store = place.process().await;
    for content in [noise(10), noise(1_000_000)] {
        let mut writer = store.writer().await.unwrap();
        writer.write(&content).await.unwrap();
        drop(writer);
        assert!(!store.has(&Sha256::of(&content)).await.unwrap());
    }
}
