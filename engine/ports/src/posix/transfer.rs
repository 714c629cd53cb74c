//! Files to and from a POSIX host, streamed in constant memory through `cat`.

use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use runbook_model::Sha256;
use runbook_model::digest::Hasher;
use runbook_model::outcome::{Obstacle, ObstacleKind};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::frame::Marker;
use super::pump::{End, Gather, Pump};
use super::script;
use super::session::{PosixSession, elevation};
use super::wire::{Opening, Wire};
use crate::transport::{OutputSink, Session, Stream, Transferred, UploadTarget};

const CHUNK_BYTES: usize = 128 * 1024;

fn local(message: String) -> Transferred {
    Transferred::NotStarted(Obstacle { kind: ObstacleKind::Local, message })
}

/// The lines that start a transfer, as `account` when there is one.
fn lines(account: Option<&str>, script: Vec<u8>) -> Vec<u8> {
    let mut lines = account.map(script::become_account).unwrap_or_default();
    lines.extend_from_slice(&script);
    lines
}

pub(super) async fn upload<W: Wire>(
    session: &PosixSession<W>,
    source: &Path,
    target: &UploadTarget,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Transferred {
    if !target.to.starts_with('/') || target.to.ends_with('/') || target.to.contains('\0') {
        return local(format!("`{}` is not the absolute path of a file", target.to));
    }
    let mut file = match File::open(source).await {
        Ok(file) => file,
        Err(error) => return local(format!("{} cannot be read: {error}", source.display())),
    };
    let marker = Marker::fresh();
    let mut channel = match session.channel(Opening::Boot).await {
        Ok(channel) => channel,
        Err(obstacle) => return Transferred::NotStarted(obstacle),
    };
    let mut stdin = std::mem::replace(&mut channel.stdin, Box::new(tokio::io::sink()));
    let mut said = Gather::default();
    let mut pump = Pump::new(channel, &marker, Zeroizing::default(), &mut said, false);
    pump.answers_only = true;
    let send = async {
        stdin.write_all(&lines(target.account.as_deref(), script::upload(&marker, target))).await?;
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut sent = 0;
        loop {
            let n = file.read(&mut buffer).await.map_err(Sending::Source)?;
            if n == 0 {
                break;
            }
            stdin.write_all(&buffer[..n]).await?;
            sent += n as u64;
            progress(sent);
        }
        stdin.flush().await?;
        stdin.shutdown().await?;
        drop(stdin);
        Ok::<u64, Sending>(sent)
    };
    let never = CancellationToken::new();
    let (sent, end) = tokio::join!(send, pump.run(None, &never));
    let noise = pump.noise();
    drop(pump);
    if let Err(Sending::Source(error)) = &sent {
        // What had arrived by then has a wrong digest, and was removed.
        return Transferred::Failed(format!("{} cannot be read: {error}", source.display()));
    }
    match end {
        End::Frame(frame) => match frame.strip_prefix("f ") {
            Some(text) => Transferred::Failed(format!("{}: {} was not written: {text}", session.place(), target.to)),
            None => Transferred::Done { sha256: target.sha256, bytes: sent.unwrap_or(target.bytes) },
        },
        _ => broken(session, target.account.as_deref(), &noise).await,
    }
}

enum Sending {
    Source(io::Error),
    Channel,
}

impl From<io::Error> for Sending {
    fn from(_: io::Error) -> Self {
        Sending::Channel
    }
}

/// The channel ended without an answer.
async fn broken<W: Wire>(session: &PosixSession<W>, account: Option<&str>, noise: &str) -> Transferred {
    if let Err(obstacle) = session.check().await {
        return Transferred::Lost(obstacle.message);
    }
    let said = noise.trim_start_matches("; it said: ");
    match account {
        // The link is up, so what was said has arrived; the shell behind `sudo` never spoke.
        Some(account) => Transferred::NotStarted(elevation(&session.place(), account, said)),
        None => Transferred::Lost(format!("{}: the transfer's shell was ended on the host{noise}", session.place())),
    }
}

pub(super) async fn download<W: Wire>(
    session: &PosixSession<W>,
    from: &str,
    account: Option<&str>,
    bytes_max: u64,
    target: &Path,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Transferred {
    if from.contains('\0') {
        return local("a path cannot have a NUL byte".into());
    }
    let mut keep = match Keep::new(target, progress).await {
        Ok(keep) => keep,
        Err(error) => return local(format!("{} cannot be written: {error}", target.display())),
    };
    let marker = Marker::fresh();
    let channel = match session.channel(Opening::Boot).await {
        Ok(channel) => channel,
        Err(obstacle) => return Transferred::NotStarted(obstacle),
    };
    let lines = Zeroizing::new(lines(account, script::download(&marker, from, bytes_max)));
    let mut pump = Pump::new(channel, &marker, lines, &mut keep, false);
    pump.answers_only = true;
    let end = pump.run(None, &CancellationToken::new()).await;
    let meta = pump.meta.take();
    let noise = pump.noise();
    drop(pump);
    let place = session.place();
    match end {
        End::Frame(frame) => match (frame.strip_prefix("f "), meta) {
            (Some(text), _) => Transferred::Failed(format!("{place}: {from} was not fetched: {text}")),
            (None, Some(meta)) => match keep.finish(target, &meta).await {
                Ok((sha256, bytes)) => Transferred::Done { sha256, bytes },
                Err(why) => Transferred::Failed(format!("{place}: {from} was not fetched: {why}")),
            },
            (None, None) => {
                Transferred::Failed(format!("{place}: {from} was not fetched: the host answered `{frame}`"))
            }
        },
        _ => broken(session, account, &noise).await,
    }
}

/// Writes into a temporary file beside the target; removed when dropped unfinished.
struct Keep<'a> {
    path: Option<PathBuf>,
    file: File,
    hasher: Hasher,
    bytes: u64,
    failed: Option<io::Error>,
    progress: &'a (dyn Fn(u64) + Send + Sync),
}

impl<'a> Keep<'a> {
    async fn new(target: &Path, progress: &'a (dyn Fn(u64) + Send + Sync)) -> io::Result<Self> {
        let name = target.file_name().ok_or_else(|| io::Error::other("it is not the path of a file"))?;
        let path = target.with_file_name(format!(".{}.{}", name.to_string_lossy(), Marker::fresh().as_str()));
        let mut options = tokio::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        options.mode(0o600);
        let file = options.open(&path).await?;
        Ok(Self { path: Some(path), file, hasher: Hasher::default(), bytes: 0, failed: None, progress })
    }

    async fn finish(mut self, target: &Path, meta: &str) -> Result<(Sha256, u64), String> {
        let written = async {
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            self.file.flush().await?;
            self.file.sync_all().await
        };
        written.await.map_err(|error| format!("it could not be written here: {error}"))?;
        let sha256 = std::mem::take(&mut self.hasher).finish();
        let (bytes, digest) = meta.split_once(' ').unwrap_or((meta, ""));
        if bytes != self.bytes.to_string() || !sha256.to_string().ends_with(digest) || digest.len() != 64 {
            return Err("it changed while it was read".into());
        }
        let Some(path) = self.path.take() else { return Err("it was finished twice".into()) };
        match tokio::fs::rename(&path, target).await {
            Ok(()) => Ok((sha256, self.bytes)),
            Err(error) => {
                self.path = Some(path);
                Err(format!("it could not be written here: {error}"))
            }
        }
    }
}

impl Drop for Keep<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            // Nobody can be told; a leftover has a telling name.
            drop(std::fs::remove_file(path));
        }
    }
}

#[async_trait]
impl OutputSink for Keep<'_> {
    async fn write(&mut self, stream: Stream, bytes: &[u8]) {
        if stream != Stream::Stdout || self.failed.is_some() {
            return;
        }
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        if let Err(error) = self.file.write_all(bytes).await {
            self.failed = Some(error);
        }
        (self.progress)(self.bytes);
    }

    async fn cut_off(&mut self, _stream: Stream, by: &str) {
        self.failed.get_or_insert_with(|| std::io::Error::other(format!("{by} passed on a part of it only")));
    }
}
