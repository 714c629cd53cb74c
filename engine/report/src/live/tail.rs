//! The last line that something printed.

/// Bytes of an unfinished line that are kept. A progress bar without line ends must not grow for ever.
const BYTES_MAX: usize = 512;

/// The end of a stream: its last line that is not empty.
#[derive(Debug, Clone, Default)]
pub(super) struct Tail {
    last: Vec<u8>,
    open: Vec<u8>,
}

impl Tail {
    /// Adds what was printed.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        // Only the end of a large piece can be seen; a carriage return starts a line over, as on a terminal.
        let bytes = &bytes[bytes.len().saturating_sub(4 * BYTES_MAX)..];
        for &byte in bytes {
            match byte {
                b'\n' | b'\r' => {
                    if self.open.iter().any(|b| !b.is_ascii_whitespace()) {
                        self.last = std::mem::take(&mut self.open);
                    }
                    self.open.clear();
                }
                byte => {
                    if self.open.len() < BYTES_MAX {
                        self.open.push(byte);
                    }
                }
            }
        }
    }

    /// The line to show.
    pub(super) fn line(&self) -> Option<&[u8]> {
        let open = self.open.iter().any(|b| !b.is_ascii_whitespace());
        let line = if open { &self.open } else { &self.last };
        (!line.is_empty()).then_some(line.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_with_something_in_it_is_shown() {
        let mut tail = Tail::default();
        assert_eq!(tail.line(), None);
        tail.push(b"one\ntw");
        assert_eq!(tail.line(), Some(&b"tw"[..]));
        tail.push(b"o\n\n  \n");
        assert_eq!(tail.line(), Some(&b"two"[..]));
        tail.push(b"10%\r20%\r30%");
        assert_eq!(tail.line(), Some(&b"30%"[..]));
    }

    #[test]
    fn a_line_without_end_is_bounded() {
        let mut tail = Tail::default();
        for _ in 0..1000 {
            tail.push(&[b'x'; 1000]);
        }
        assert!(tail.line().unwrap().len() <= BYTES_MAX);
    }
}
