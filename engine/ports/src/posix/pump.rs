//! Moves bytes between a shell on the host and a sink, and takes out what the shell says to us.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::frame::{Filter, Marker, Piece};
use super::wire::Channel;
use crate::transport::{Offsets, OutputSink, Stream};

/// How long the host is given to say that a command began, when it is to be stopped at that moment.
const KEEPER_WITHIN: Duration = Duration::from_secs(10);
/// Output on standard error that is held back until the step's shell said that it began.
const HELD_BYTES_MAX: usize = 64 * 1024;
/// The longest answer to a question that is kept: a list of some ten thousand leftovers.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How much is read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// How a last frame ends when processes are left that may write to the shell's outputs.
const LEFT_BEHIND: &str = " +";

/// How pumping ended.
pub(super) enum End {
    /// With the host's last frame.
    Frame(String),
    /// Without.
    Broken,
    /// Somebody wants it stopped.
    Stop,
    /// The given time was over.
    Late,
}

/// What the pump learned.
pub(super) struct Report {
    /// The process group of what runs, and when its first process started.
    pub keeper: Option<(String, String)>,
    /// The step's working folder does not exist.
    pub no_cwd: bool,
    /// The step's shell never said that it began; `held` is what was said instead.
    pub withheld: bool,
    held: Vec<u8>,
    /// Bytes of frames that are in the stored standard error.
    pub announced: u64,
    /// As which account the step's shell was to begin.
    pub account: Option<String>,
    /// For messages: what came instead of an answer.
    pub noise: String,
    /// The whole request was handed over; the host may have it.
    pub sent: bool,
    /// The host has answered something.
    pub spoke: bool,
    /// What was delivered to the sink, and before it.
    pub delivered: Offsets,
}

impl Report {
    pub(super) fn held_text(&self) -> String {
        let text = String::from_utf8_lossy(&self.held);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let text = lines.join("; ");
        text.chars().filter(|c| !c.is_control()).take(600).collect()
    }
}

/// A last frame that is said on standard output alone.
fn is_lonely(frame: &str) -> bool {
    matches!(frame.split(' ').next(), Some("t" | "f"))
}

/// One event of a channel.
pub(super) enum Read {
    Bytes(Stream, usize),
    Ended(Stream),
    Wrote(usize),
    WriteFailed,
}

/// Moves bytes between a channel and a sink.
pub(super) struct Pump<'a> {
    channel: Option<Channel>,
    marker: Marker,
    line: Zeroizing<Vec<u8>>,
    written: usize,
    write_failed: bool,
    sink: &'a mut dyn OutputSink,
    buffers: [Box<[u8]>; 2],
    filters: [Filter; 2],
    /// The frame `s` was seen.
    spoke: [bool; 2],
    /// The shell serves one step only.
    once: bool,
    noise: Vec<u8>,
    at_end: [bool; 2],
    last: [Option<String>; 2],
    pub(super) keeper: Option<(String, String)>,
    holding: Option<Vec<u8>>,
    no_cwd: bool,
    announced: u64,
    /// As which account the step's shell was to begin (`h`).
    account: Option<String>,
    /// What a download is (`d`).
    pub(super) meta: Option<String>,
    pub(super) answers_only: bool,
    pub(super) delivered: Offsets,
}

impl<'a> Pump<'a> {
    pub(super) fn new(
        channel: Channel,
        marker: &Marker,
        line: Zeroizing<Vec<u8>>,
        sink: &'a mut dyn OutputSink,
        announces: bool,
    ) -> Self {
        Self {
            channel: Some(channel),
            marker: marker.clone(),
            line,
            written: 0,
            write_failed: false,
            sink,
            buffers: [vec![0; CHUNK_BYTES].into(), vec![0; CHUNK_BYTES].into()],
            filters: [Filter::new(marker), Filter::new(marker)],
            spoke: [false; 2],
            once: false,
            noise: Vec::new(),
            at_end: [false; 2],
            last: [None, None],
            keeper: None,
            holding: announces.then(Vec::new),
            no_cwd: false,
            announced: 0,
            account: None,
            meta: None,
            answers_only: false,
            delivered: Offsets::default(),
        }
    }

    /// The whole line was handed over; the host may have it.
    pub(super) fn sent(&self) -> bool {
        self.written == self.line.len()
    }

    /// Closes the channel without waiting for its shell.
    pub(super) fn abandon(&mut self) {
        if let Some(channel) = self.channel.take() {
            channel.abandoned.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.channel.is_some()
    }

    /// What came instead of an answer.
    pub(super) fn noise(&self) -> String {
        let text = String::from_utf8_lossy(&self.noise);
        // An earlier request's frames are for nobody's eyes.
        let words = |line: &&str| !line.is_empty() && !line.starts_with('\u{1e}');
        let text: String = text.lines().map(str::trim).filter(words).take(3).collect::<Vec<_>>().join("; ");
        let text: String = text.chars().filter(|c| !c.is_control()).take(300).collect();
        if text.is_empty() { String::new() } else { format!("; it said: {text}") }
    }

    /// What was learned, and the shell, if it can serve again.
    pub(super) fn finish(mut self) -> (Report, Option<Channel>) {
        let ends = match &self.last {
            [Some(out), Some(_)] => !out.ends_with(LEFT_BEHIND),
            [Some(out), None] => self.answers_only || is_lonely(out),
            _ => false,
        };
        let serves = ends && self.sent() && !self.once && self.at_end == [false, false];
        let channel = if serves { self.channel.take() } else { None };
        let report = Report {
            noise: self.noise(),
            sent: self.sent(),
            spoke: self.spoke != [false, false],
            delivered: self.delivered,
            keeper: self.keeper.take(),
            no_cwd: self.no_cwd,
            withheld: self.holding.is_some(),
            held: self.holding.take().unwrap_or_default(),
            announced: self.announced,
            account: self.account.take(),
        };
        (report, channel)
    }

    pub(super) async fn run(&mut self, late: Option<Duration>, stop: &CancellationToken) -> End {
        let mut deadline = None;
        loop {
            if deadline.is_none()
                && let Some(late) = late
                && self.keeper.is_some()
            {
                deadline = Some(tokio::time::Instant::now() + late);
            }
            let read = tokio::select! {
                read = self.read() => read,
                () = stop.cancelled() => return End::Stop,
                () = tokio::time::sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)), if deadline.is_some() => {
                    return End::Late;
                }
            };
            if let Some(end) = self.deliver(read).await {
                return end;
            }
        }
    }

    /// Waits until the host has said that it began, or that it will not; for a while.
    pub(super) async fn await_keeper(&mut self) {
        let limit = tokio::time::Instant::now() + KEEPER_WITHIN;
        while self.keeper.is_none() {
            let read = tokio::select! {
                read = self.read() => read,
                () = tokio::time::sleep_until(limit) => return,
            };
            if self.deliver(read).await.is_some() {
                return;
            }
        }
    }

    /// Takes what comes within `limit`, until both streams have ended or the last frame was seen.
    pub(super) async fn drain(&mut self, limit: Duration) -> End {
        let limit = tokio::time::Instant::now() + limit;
        loop {
            let read = tokio::select! {
                read = self.read() => read,
                () = tokio::time::sleep_until(limit) => return End::Late,
            };
            if let Some(end) = self.deliver(read).await {
                return end;
            }
        }
    }

    /// The next event. May be dropped while it waits; nothing is lost.
    pub(super) async fn read(&mut self) -> Read {
        let Some(channel) = self.channel.as_mut() else { return Read::Ended(Stream::Stdout) };
        let [out, err] = &mut self.buffers;
        let writing = self.written < self.line.len() && !self.write_failed;
        let bytes = |stream, read: std::io::Result<usize>| match read {
            Ok(0) | Err(_) => Read::Ended(stream),
            Ok(n) => Read::Bytes(stream, n),
        };
        tokio::select! {
            n = channel.stdout.read(out), if !self.at_end[0] => bytes(Stream::Stdout, n),
            n = channel.stderr.read(err), if !self.at_end[1] => bytes(Stream::Stderr, n),
            n = channel.stdin.write(&self.line[self.written..]), if writing => match n {
                Ok(0) | Err(_) => Read::WriteFailed,
                Ok(n) => Read::Wrote(n),
            },
            else => Read::Ended(Stream::Stdout),
        }
    }

    /// Takes an event in; `Some` when that was the last one.
    pub(super) async fn deliver(&mut self, read: Read) -> Option<End> {
        match read {
            Read::Wrote(n) => {
                self.written += n;
                if self.sent()
                    && let Some(channel) = self.channel.as_mut()
                {
                    drop(channel.stdin.flush().await);
                }
            }
            Read::WriteFailed => self.write_failed = true,
            Read::Bytes(stream, n) => {
                let at = usize::from(stream == Stream::Stderr);
                let pieces = self.filters[at].push(&self.buffers[at][..n]);
                for piece in pieces {
                    match piece {
                        Piece::Bytes(bytes) => self.output(stream, &bytes).await,
                        Piece::Frame(text) => self.frame(stream, text).await,
                    }
                }
            }
            Read::Ended(stream) => {
                let at = usize::from(stream == Stream::Stderr);
                if !self.at_end[at] {
                    self.at_end[at] = true;
                    let rest = self.filters[at].finish();
                    if !rest.is_empty() && self.last[at].is_none() {
                        self.output(stream, &rest).await;
                    }
                }
            }
        }
        match &self.last {
            [Some(frame), Some(_)] => return Some(End::Frame(frame.clone())),
            [Some(frame), None] if self.at_end[1] || is_lonely(frame) || self.answers_only => {
                return Some(End::Frame(frame.clone()));
            }
            _ => {}
        }
        (self.at_end == [true, true]).then_some(End::Broken)
    }

    async fn output(&mut self, stream: Stream, bytes: &[u8]) {
        let at = usize::from(stream == Stream::Stderr);
        if !self.spoke[at] {
            let room = HELD_BYTES_MAX.saturating_sub(self.noise.len());
            self.noise.extend_from_slice(&bytes[..bytes.len().min(room)]);
            return;
        }
        if self.last[at].is_some() {
            // After the end: from processes that the program left behind.
            return;
        }
        if stream == Stream::Stderr
            && let Some(held) = self.holding.as_mut()
            && held.len() < HELD_BYTES_MAX
        {
            held.extend_from_slice(bytes);
            return;
        }
        match stream {
            Stream::Stdout => self.delivered.stdout += bytes.len() as u64,
            Stream::Stderr => self.delivered.stderr += bytes.len() as u64,
        }
        self.sink.write(stream, bytes).await;
    }

    async fn frame(&mut self, stream: Stream, text: String) {
        let at = usize::from(stream == Stream::Stderr);
        match text.split_once(' ').unwrap_or((&text, "")) {
            ("s", rest) => {
                self.spoke[at] = true;
                self.once |= rest == "1";
            }
            ("w", who) => {
                let (group, start) = who.split_once(' ').unwrap_or((who, "-"));
                self.keeper = Some((group.to_owned(), start.to_owned()));
            }
            ("b", _) => {
                self.announced = self.marker.frame_bytes("b");
                if let Some(held) = self.holding.take()
                    && !held.is_empty()
                {
                    self.output(stream, &held).await;
                }
            }
            ("c", _) => {
                self.no_cwd = true;
                self.announced = self.marker.frame_bytes("c");
            }
            ("h", account) => {
                self.account = Some(account.to_owned());
                self.holding.get_or_insert_default();
            }
            ("d", meta) => self.meta = Some(meta.to_owned()),
            _ => {
                if self.last[at].is_none() {
                    self.last[at] = Some(text);
                }
            }
        }
    }
}

impl Drop for Pump<'_> {
    fn drop(&mut self) {
        if let Some(channel) = &self.channel {
            channel.abandoned.store(self.last[0].is_none(), Ordering::Relaxed);
        }
    }
}

/// A sink for short answers.
#[derive(Default)]
pub(super) struct Gather(pub Vec<u8>);

#[async_trait]
impl OutputSink for Gather {
    async fn write(&mut self, stream: Stream, bytes: &[u8]) {
        if stream == Stream::Stdout && self.0.len() < ANSWER_BYTES_MAX {
            self.0.extend_from_slice(bytes);
        }
    }

    /// Nobody stands between a pump and its host.
    async fn cut_off(&mut self, _stream: Stream, _by: &str) {}
}
