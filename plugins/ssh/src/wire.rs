//! Channels of a connection, as many at once as the host's sshd allows.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use openssh::{Child, ChildStderr, ChildStdin, ChildStdout, Session, Stdio};
use runbook_model::host::{AuthMethod, PeerIdentity};
use runbook_model::outcome::{Obstacle, ObstacleKind};
use runbook_model::session::Here;
use runbook_ports::posix::COMMAND;
use runbook_ports::posix::runner::RUNNER_COMMAND;
use runbook_ports::posix::wire::{Channel, Opening, Wire};
use tokio::io::AsyncWrite;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::login;
use crate::master::Master;

/// A channel that sshd refused is asked for again after these waits: the one before it may be closing at that moment.
const RETRY_MS: [u64; 6] = [2, 5, 10, 20, 50, 100];
/// The same, when it is the only one: nothing else can be waited for.
const LONELY_TRIES_MAX: u32 = 120;
/// How long a channel whose shell has said its last is given to close by itself.
const CLOSING: Duration = Duration::from_secs(1);

pub(crate) struct SshWire {
    master: Master,
    slots: Arc<Semaphore>,
    /// As many channels at once as are believed to be allowed.
    limit: Arc<AtomicUsize>,
}

impl SshWire {
    pub(crate) fn new(master: Master, sessions_max: usize) -> Self {
        let sessions_max = sessions_max.max(1);
        let (slots, limit) = (Arc::new(Semaphore::new(sessions_max)), Arc::new(AtomicUsize::new(sessions_max)));
        Self { master, slots, limit }
    }

    fn obstacle(&self, message: &str) -> Obstacle {
        Obstacle { kind: ObstacleKind::Session, message: format!("{}: {message}", self.master.place()) }
    }

    async fn slot(&self) -> Result<OwnedSemaphorePermit, Obstacle> {
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        slot.map_err(|_| self.obstacle("the session is closed"))
    }
}

fn refused(error: &openssh::Error) -> bool {
    match error {
        openssh::Error::SshMux(error) => {
            let text = error.to_string();
            text.contains("refused") || text.contains("open failed") || text.contains("Session open")
        }
        _ => false,
    }
}

#[async_trait]
impl Wire for SshWire {
    async fn open(&self, opening: Opening) -> Result<Channel, Obstacle> {
        let program = match opening {
            Opening::Boot => COMMAND,
            Opening::Runner | Opening::Keeper => RUNNER_COMMAND.as_str(),
        };
        let mut slot = self.slot().await?;
        let mut tries = 0;
        let child = loop {
            let mut command = Arc::clone(&self.master.session).arc_raw_command(program);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            match command.spawn().await {
                Ok(child) => break child,
                Err(error) if refused(&error) => {
                    let lonely = self.slots.available_permits() + 1 >= self.limit.load(Ordering::Relaxed);
                    let wait = RETRY_MS.get(tries as usize).copied();
                    if wait.is_none() && !lonely {
                        // The host allows no more than are in use now: the free slots and this one are gone for good.
                        let gone = self.slots.forget_permits(usize::MAX >> 4) + 1;
                        slot.forget();
                        let left = self.limit.fetch_sub(gone, Ordering::Relaxed) - gone;
                        tracing::debug!(host = self.master.place(), left, "sshd allows fewer sessions");
                        slot = self.slot().await?;
                        tries = 0;
                        continue;
                    }
                    tries += 1;
                    if tries > LONELY_TRIES_MAX {
                        return Err(self.obstacle(
                            "sshd refused to open a session on this connection (MaxSessions in its sshd_config; at least 1 \
                             is needed, 10 is usual)",
                        ));
                    }
                    tokio::time::sleep(Duration::from_millis(wait.unwrap_or(250))).await;
                }
                Err(error) => {
                    let why = if self.master.is_alive().await {
                        format!("no channel could be opened: {}", chain(&error))
                    } else {
                        "the connection broke before the command was sent".to_owned()
                    };
                    return Err(self.obstacle(&why));
                }
            }
        };
        let abandoned = Arc::new(AtomicBool::new(false));
        let mut closing = Closing { child: Some(child), slot: Some(slot), abandoned: Arc::clone(&abandoned) };
        let (stdin, stdout, stderr) =
            closing.streams().ok_or_else(|| self.obstacle("a channel came without streams"))?;
        Ok(Channel {
            stdin: Box::new(ClosingWriter(Some(stdin))),
            stdout: Box::new(stdout),
            stderr: Box::new(stderr),
            abandoned,
            hold: Box::new(closing),
        })
    }

    fn spare(&self) -> bool {
        self.slots.available_permits() > 0
    }

    fn identity(&self) -> PeerIdentity {
        self.master.identity()
    }

    fn proved(&self, line: &str) -> Option<AuthMethod> {
        login::proved(line)
    }

    fn place(&self) -> String {
        self.master.place().to_owned()
    }

    async fn close(&self) -> Here {
        self.slots.close();
        self.master.end_in_background().await
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Standard input that is closed by `shutdown`: the pipe itself knows no such thing.
struct ClosingWriter(Option<ChildStdin>);

impl AsyncWrite for ClosingWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.0.as_mut() {
            Some(pipe) => Pin::new(pipe).poll_write(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0.as_mut() {
            Some(pipe) => Pin::new(pipe).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0 = None;
        Poll::Ready(Ok(()))
    }
}

/// Keeps the slot until the channel is really closed.
struct Closing {
    child: Option<Child<Arc<Session>>>,
    slot: Option<OwnedSemaphorePermit>,
    abandoned: Arc<AtomicBool>,
}

impl Closing {
    fn streams(&mut self) -> Option<(ChildStdin, ChildStdout, ChildStderr)> {
        let child = self.child.as_mut()?;
        Some((child.stdin().take()?, child.stdout().take()?, child.stderr().take()?))
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        let (Some(child), Some(slot)) = (self.child.take(), self.slot.take()) else { return };
        if self.abandoned.load(Ordering::Relaxed) {
            // Dropping the child closes the channel from our side.
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                drop(tokio::time::timeout(CLOSING, child.wait()).await);
                drop(slot);
            });
        }
    }
}
