//! Messages to people outside are kept until they were sent, and one process at a time sends one.

use runbook_store::{Attempt, Message, MessageState, SqliteStore};

fn message(id: &str, channel: &str) -> Message {
    Message::new(id.into(), channel.into(), "ended", Some("r1".into()), "{}".into(), 1_000)
}

fn attempt(state: MessageState) -> Attempt {
    Attempt { state, at_ms: 2_000, next_ms: 9_000, answer: "451 later".into(), sha256: None }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn the_same_message_is_put_once_and_claimed_once() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path()).await.unwrap();
    let other = SqliteStore::open(folder.path()).await.unwrap();
    assert_eq!(store.outbox_put(vec![message("a", "mail"), message("b", "chat")]).await.unwrap(), 2);
    assert_eq!(other.outbox_put(vec![message("a", "mail")]).await.unwrap(), 0);

    let mail = names(&["mail"]);
    assert_eq!(store.outbox_next_ms(&mail).await.unwrap(), Some(1_000));
    assert!(store.outbox_claim(&mail, 999, 5_000).await.unwrap().is_none(), "not due yet");
    let claimed = store.outbox_claim(&mail, 1_000, 5_000).await.unwrap().unwrap();
    assert_eq!((claimed.id.as_str(), claimed.attempts), ("a", 0));
    assert!(other.outbox_claim(&mail, 1_500, 5_000).await.unwrap().is_none(), "somebody sends it");
    assert!(!other.outbox_tried("a", attempt(MessageState::Delivered)).await.unwrap(), "it is not its message");

    assert!(store.outbox_tried("a", attempt(MessageState::Waiting)).await.unwrap());
    assert!(other.outbox_claim(&mail, 8_999, 20_000).await.unwrap().is_none(), "it is retried later");
    let again = other.outbox_claim(&mail, 9_000, 20_000).await.unwrap().unwrap();
    assert_eq!((again.attempts, again.answer.as_str()), (1, "451 later"));
    assert!(other.outbox_unrecorded().await.unwrap().is_empty());
    assert!(other.outbox_tried("a", attempt(MessageState::Delivered)).await.unwrap());
    let settled = store.outbox_unrecorded().await.unwrap();
    assert_eq!((settled.len(), settled[0].attempts, settled[0].settled_ms), (1, 2, Some(2_000)));
    store.outbox_recorded(&names(&["a"])).await.unwrap();
    assert!(store.outbox_unrecorded().await.unwrap().is_empty());
    assert_eq!(store.outbox_next_ms(&mail).await.unwrap(), None);
    assert_eq!(store.outbox().await.unwrap().len(), 2);
}

#[tokio::test]
async fn the_claim_of_a_dead_process_or_one_that_is_over_counts_no_more() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path()).await.unwrap();
    let mail = names(&["mail"]);
    store.outbox_put(vec![message("a", "mail")]).await.unwrap();
    let dead = SqliteStore::open(folder.path()).await.unwrap();
    dead.outbox_claim(&mail, 1_000, 600_000).await.unwrap().unwrap();
    // Its mark goes with it, as with a process that is killed.
    dead.close().await;
    assert_eq!(store.outbox_claim(&mail, 1_001, 5_000).await.unwrap().unwrap().id, "a");

    let other = SqliteStore::open(folder.path()).await.unwrap();
    assert!(other.outbox_claim(&mail, 4_999, 9_000).await.unwrap().is_none());
    assert_eq!(other.outbox_claim(&mail, 5_000, 9_000).await.unwrap().unwrap().id, "a");
    assert!(!store.outbox_tried("a", attempt(MessageState::Delivered)).await.unwrap(), "it was too late");
}
