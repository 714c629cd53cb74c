//! How an attempt is carried out on a POSIX host: the text that is sent to `sh`, how its answers are read, and a
//! [`Session`](crate::Session) over any [`Wire`](wire::Wire) that reaches such a shell.
//!
//! The protocol in one paragraph. Only constants are on command lines: [`BOOT`], a shell that reads one line from its
//! standard input and evaluates it, and for steps the programs in [`runner`], which read such a line too. That line
//! carries everything else: the step's text, the environment, secrets, standard input, paths. Line ends inside of it are
//! written as `$n` (which the programs set), so one line is enough, and a line that arrives cut off is never evaluated.
//! The host answers between the bytes of the outputs with
//! [`frame`]s, lines that begin with a marker that no output can contain by accident.
//!
//! What is needed on the host: POSIX `sh`, `cat`, `mkdir`, `rm`, `kill`, `sleep`, `tail`, `wc`; `sudo` for `as`; one of
//! `sha256sum`, `shasum`, `openssl` for transfers.

pub mod ending;
pub mod frame;
mod leave;
mod leftovers;
pub mod program;
mod pump;
pub mod runner;
pub mod script;
pub mod session;
mod transfer;
pub mod wire;

/// The constant program of every shell that we start: reads one line and evaluates it. A line without its end (the
/// connection broke while it was sent) is not evaluated.
pub const BOOT: &str = "n=${IFS#??};IFS= read -r s||exit 125;eval \"$s\"";

/// [`BOOT`] as a command for a remote login shell. Nothing in it means anything else to csh or fish than to sh.
pub const COMMAND: &str = "exec sh -c 'n=${IFS#??};IFS= read -r s||exit 125;eval \"$s\"'";

/// `bytes` as one literal word on a line for [`BOOT`]. Must not hold a NUL (callers check).
pub(crate) fn push_word(line: &mut Vec<u8>, bytes: &[u8]) {
    line.push(b'\'');
    for &byte in bytes {
        match byte {
            b'\'' => line.extend_from_slice(b"'\\''"),
            b'\n' => line.extend_from_slice(b"'\"$n\"'"),
            other => line.push(other),
        }
    }
    line.push(b'\'');
}

/// `name='value';`
pub(crate) fn push_assignment(line: &mut Vec<u8>, name: &str, value: &[u8]) {
    line.extend_from_slice(name.as_bytes());
    line.push(b'=');
    push_word(line, value);
    line.push(b';');
}

/// `bytes` in the form that `printf %b` turns back, whatever they are: NUL and bytes beyond ASCII as octal.
pub(crate) fn escape_for_printf(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len() + 16);
    for &byte in bytes {
        match byte {
            b'\\' => text.extend_from_slice(b"\\\\"),
            0 | 0x80.. => text.extend_from_slice(format!("\\0{byte:03o}").as_bytes()),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_carries_boot_unchanged() {
        assert!(!BOOT.contains('\''));
        assert_eq!(COMMAND, format!("exec sh -c '{BOOT}'"));
    }

    #[test]
    fn words_stay_on_one_line() {
        let mut line = Vec::new();
        push_assignment(&mut line, "v", b"a'b\nc\\d $x");
        assert_eq!(line, b"v='a'\\''b'\"$n\"'c\\d $x';");
    }

    #[test]
    fn printf_escapes_are_reversible_and_ascii() {
        assert_eq!(escape_for_printf(b"a\0\xff\\1"), b"a\\0000\\0377\\\\1");
    }
}
