//! Large contents: read, decompressed and hashed on threads of their own, while what came before is packed and written.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};

use runbook_ledger::segments::LINE_BYTES;
use runbook_model::Sha256;
use runbook_model::digest::Hasher;

/// Bytes that go from one thread to the other at once.
const PIECE: usize = 256 * 1024;
/// So many pieces wait in between.
const PIECES: usize = 8;

/// What is known of a content that was read to its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    pub(super) bytes: u64,
    /// Of what is behind the first line of an output.
    pub(super) inner: Sha256,
}

impl Measured {
    /// Reads it to its end.
    pub(super) fn of(content: impl Read) -> io::Result<Self> {
        let mut inner = Inner::default();
        let mut content = content;
        let mut buffer = vec![0; PIECE];
        loop {
            match content.read(&mut buffer) {
                Ok(0) => return Ok(inner.finish()),
                Ok(length) => inner.push(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Measures what comes piece by piece.
#[derive(Default)]
pub(super) struct Inner {
    bytes: u64,
    hasher: Hasher,
}

impl Inner {
    pub(super) fn push(&mut self, piece: &[u8]) {
        let line = (LINE_BYTES as u64).saturating_sub(self.bytes).min(piece.len() as u64);
        self.hasher.update(&piece[usize::try_from(line).unwrap_or(piece.len())..]);
        self.bytes += piece.len() as u64;
    }

    pub(super) fn finish(self) -> Measured {
        Measured { bytes: self.bytes, inner: self.hasher.finish() }
    }
}

/// A content that is read on a thread of its own.
pub(super) struct Piped {
    pieces: Receiver<io::Result<Vec<u8>>>,
    /// What was read is filled again: new memory for each piece would cost more than reading it.
    used: Sender<Vec<u8>>,
    open: Vec<u8>,
    at: usize,
}

impl Piped {
    /// Begins to read.
    pub(super) fn begin(mut content: impl Read + Send + 'static) -> Self {
        let (send, pieces) = sync_channel(PIECES);
        let (used, again) = channel::<Vec<u8>>();
        std::thread::spawn(move || {
            loop {
                let mut piece = again.try_recv().unwrap_or_default();
                piece.resize(PIECE, 0);
                let mut length = 0;
                let read = loop {
                    match content.read(&mut piece[length..]) {
                        Ok(0) => break Ok(()),
                        Ok(more) => length += more,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => break Err(error),
                    }
                    if length == PIECE {
                        break Ok(());
                    }
                };
                piece.truncate(length);
                let ends = length < PIECE;
                // Nobody listens any more: whoever wrote it has failed.
                if (length > 0 && send.send(Ok(piece)).is_err())
                    || read.is_err_and(|error| send.send(Err(error)).is_err())
                    || ends
                {
                    return;
                }
            }
        });
        Self { pieces, used, open: Vec::new(), at: 0 }
    }
}

impl Read for Piped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.open.len() {
            match self.pieces.recv() {
                Ok(piece) => {
                    let before = std::mem::replace(&mut self.open, piece?);
                    self.at = 0;
                    // Whoever fills it may have come to the end.
                    let _ = self.used.send(before);
                }
                // It has been read to its end.
                Err(_) => return Ok(0),
            }
        }
        let length = buffer.len().min(self.open.len() - self.at);
        buffer[..length].copy_from_slice(&self.open[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_on_another_thread_is_the_same_whatever_its_length() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 12 * PIECE + 7] {
            let content: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let mut read = Vec::new();
            Piped::begin(io::Cursor::new(content.clone())).read_to_end(&mut read).unwrap();
            assert!(read == content, "{length}");
            let measured = Measured::of(content.as_slice()).unwrap();
            assert_eq!(measured.bytes, length as u64);
            assert_eq!(measured.inner, Sha256::of(&content[LINE_BYTES.min(length)..]));
        }
    }

    #[test]
    fn what_fails_in_the_middle_fails_for_the_reader_too() {
        struct Fails(usize);
        impl Read for Fails {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::InvalidData)?;
                Ok(buffer.len().min(1000))
            }
        }
        for reads in [0, 1, 1000] {
            let mut piped = Piped::begin(Fails(reads));
            let read = io::copy(&mut piped, &mut io::sink());
            assert_eq!(read.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
