//! Ends what runs attached when this process dies without a word: one small shell per session, made when it is first
//! needed. It waits for the end of a pipe that only we hold open, and only then reads which process groups run: they
//! stand on a board, a file in memory that both have open. So a step costs it nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::process::Child;

use crate::Shell;

/// Its program, a constant: the board is its standard output. When its input ends, what still runs gets TERM, and KILL
/// five seconds later.
const PROGRAM: &str = "trap '' INT HUP
read -r l
l=
while read -r p; do [ \"$p\" ] && l=\"$l $p\"; done <&1
[ \"$l\" ] || exit 0
for p in $l; do kill -s TERM -- \"-$p\"; done
sleep 5
for p in $l; do kill -s KILL -- \"-$p\"; done
";

/// A line of the board: a number and spaces.
const LINE_BYTES: usize = 12;

pub(crate) struct Lifeline {
    shell: Shell,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    board: Option<Board>,
    /// It does not hold everything that runs.
    torn: bool,
}

struct Board {
    file: File,
    /// Lines that hold no number.
    free: Vec<u64>,
    lines: u64,
    /// Holds the pipe.
    _watching: Child,
}

/// A group's place on the board.
pub(crate) struct Held(u64);

impl Lifeline {
    pub(crate) fn new(shell: Shell) -> Self {
        Self { shell, state: Mutex::default() }
    }

    /// Group `group` runs.
    pub(crate) fn hold(&self, group: u32) -> Option<Held> {
        let mut state = self.state();
        if state.board.is_none() && !state.torn {
            state.board = Board::new(&self.shell).ok();
        }
        let held = state.board.as_mut().and_then(|board| board.add(group).ok());
        if held.is_none() && !std::mem::replace(&mut state.torn, true) {
            tracing::warn!("steps that run attached on this machine may outlive this program if it is killed");
        }
        held
    }

    /// What was held has ended.
    pub(crate) fn release(&self, held: Option<Held>) {
        if let (Some(Held(line)), Some(board)) = (held, &mut self.state().board) {
            board.clear(line);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Board {
    fn new(shell: &Shell) -> io::Result<Self> {
        let file = in_memory()?;
        let mut command = shell.command(&["sh", "-c", PROGRAM]);
        command.stdout(Stdio::from(file.try_clone()?)).stderr(Stdio::null());
        Ok(Self { file, free: Vec::new(), lines: 0, _watching: command.spawn()? })
    }

    fn add(&mut self, group: u32) -> io::Result<Held> {
        let line = self.free.last().copied().unwrap_or(self.lines);
        self.write(line, &group.to_string())?;
        if self.free.pop().is_none() {
            self.lines += 1;
        }
        Ok(Held(line))
    }

    fn clear(&mut self, line: u64) {
        // The line is there already, so nothing can be missing for writing it. If it is not cleared all the same, it is
        // not used again either.
        if self.write(line, "").is_ok() {
            self.free.push(line);
        }
    }

    fn write(&self, line: u64, text: &str) -> io::Result<()> {
        let mut bytes = [b' '; LINE_BYTES];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        bytes[LINE_BYTES - 1] = b'\n';
        // At its place: the shell reads from the beginning.
        self.file.write_all_at(&bytes, line * LINE_BYTES as u64)
    }
}

#[cfg(target_os = "linux")]
fn in_memory() -> io::Result<File> {
    Ok(rustix::fs::memfd_create("runbook", rustix::fs::MemfdFlags::CLOEXEC)?.into())
}

#[cfg(not(target_os = "linux"))]
fn in_memory() -> io::Result<File> {
    tempfile::tempfile()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use runbook_model::host::Host;

    use super::*;
    use crate::Settings;

    fn here() -> Host {
        let host = serde_json::json!({"name": "here", "transport": "local", "address": "localhost", "os": "linux"});
        serde_json::from_value(host).unwrap()
    }

    #[tokio::test]
    async fn what_is_held_ends_when_nobody_holds_the_line_any_more_and_what_was_released_goes_on() {
        let shell = Shell::new(&here(), &Settings::default());
        let lifeline = Lifeline::new(shell.clone());
        let mut children = [1, 2, 3].map(|_| shell.command(&["sleep", "1000"]).kill_on_drop(true).spawn().unwrap());
        let held = children.each_ref().map(|child| lifeline.hold(child.id().unwrap()));
        assert!(held.iter().all(Option::is_some));
        let [_, second, _] = held;
        lifeline.release(second);
        // As when this process is killed: the pipe has no writer any more.
        drop(lifeline);
        for n in [0, 2] {
            assert_eq!(children[n].wait().await.unwrap().signal(), Some(15));
        }
        assert_eq!(children[1].try_wait().unwrap(), None, "it was released");
    }

    #[tokio::test]
    async fn a_line_of_the_board_is_used_again() {
        let lifeline = Lifeline::new(Shell::new(&here(), &Settings::default()));
        for _ in 0..3 {
            let held = lifeline.hold(u32::MAX);
            assert!(held.is_some());
            lifeline.release(held);
        }
        assert_eq!(lifeline.state().board.as_ref().unwrap().lines, 1);
    }
}
