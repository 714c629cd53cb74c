//! Asking a person.

use async_trait::async_trait;
use runbook_model::event::Person;

/// What a person said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Yes.
    Confirmed(Person),
    /// No, with what they said.
    Refused(Person, String),
    /// Nobody can be asked.
    Nobody(String),
}

/// Puts the question of a `confirm` step to a person.
#[async_trait]
pub trait Confirmer: Send + Sync {
    /// Waits for an answer; dropped when the step's timeout is over or the run is cancelled.
    async fn confirm(&self, host: &str, question: &str) -> Answer;
}
