//! What reaches a shell on the host.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use runbook_model::host::{AuthMethod, PeerIdentity};
use runbook_model::outcome::Obstacle;
use runbook_model::session::Here;
use tokio::io::{AsyncRead, AsyncWrite};

/// What a shell is started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// [`BOOT`](super::BOOT), which takes any line.
    Boot,
    /// A runner, which serves one request after another (see [`runner`](super::runner)).
    Runner,
    /// A keeper that waits for one claimed step.
    Keeper,
}

/// Starts shells on the host.
#[async_trait]
pub trait Wire: Send + Sync {
    /// Opens a channel to a shell with this program, waiting while the host allows no more of them at once.
    ///
    /// # Errors
    /// An obstacle: nothing was started.
    async fn open(&self, opening: Opening) -> Result<Channel, Obstacle>;

    /// What serves claimed steps: a runner, or where that is cheaper a keeper.
    fn for_claims(&self) -> Opening {
        Opening::Runner
    }

    /// Whether another channel can be had now without waiting.
    fn spare(&self) -> bool;

    /// Who answered, and how we got in.
    fn identity(&self) -> PeerIdentity;

    /// Reads a line of what the host's server says of the login (`SSH_USER_AUTH`); `None` when it makes no sense.
    fn proved(&self, _line: &str) -> Option<AuthMethod> {
        None
    }

    /// For messages: the host and where it was reached.
    fn place(&self) -> String;

    /// Ends the connection, and says what is known of its end here.
    async fn close(&self) -> Here;
}

/// A shell on the host. Dropping it closes its three streams.
pub struct Channel {
    /// Its standard input.
    pub stdin: Box<dyn AsyncWrite + Send + Unpin>,
    /// Its standard output.
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// Its standard error.
    pub stderr: Box<dyn AsyncRead + Send + Unpin>,
    /// Set when nobody waits for the shell's end any more: the channel is to be closed at once.
    pub abandoned: Arc<AtomicBool>,
    /// Whatever must live as long.
    pub hold: Box<dyn Send + Sync>,
}
