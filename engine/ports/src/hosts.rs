//! Somebody beside the inventory's files who knows hosts.

use std::time::Duration;

use async_trait::async_trait;

/// Why there is no answer. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Nobody answers, or not in time.
    #[error("{0}")]
    Unreachable(String),
    /// It refuses: an account, a certificate, a program that fails. For somebody to mend.
    #[error("{0}")]
    Refused(String),
    /// It answers, and not with all of it.
    #[error("{0}")]
    Incomplete(String),
}

/// A source of hosts.
#[async_trait]
pub trait HostSource: Send + Sync {
    /// All that it has to say, once, at most `bytes_max` bytes: what a program printed, or a list in JSON of its pages, each as
    /// it came. An answer that is not whole is an error. One that asks to be left alone is asked again when it says, within
    /// the time.
    ///
    /// # Errors
    /// When there is no whole answer.
    async fn ask(&self, within: Duration, bytes_max: usize) -> Result<Vec<u8>, SourceError>;
}
