//! Ends what runs attached when this process dies without a word: one small shell per session, made when it is first
//! needed, that is told of every process group that runs and reads from a pipe that only we hold open.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::sync::Mutex;

use crate::Shell;

/// Its program, a constant. When its input ends, what still runs gets TERM, and KILL five seconds later.
const PROGRAM: &str = "trap '' INT HUP
l=' '
while read -r o p; do
  case $o in
  +) l=\"$l$p \" ;;
  *) l=\"${l%% $p *} ${l#* $p }\" ;;
  esac
done
for p in $l; do kill -s TERM -- \"-$p\"; f=1; done 2>/dev/null
[ \"${f:-}\" ] || exit 0
sleep 5
for p in $l; do kill -s KILL -- \"-$p\"; done 2>/dev/null
";

pub(crate) struct Lifeline {
    shell: Shell,
    pipe: Mutex<Option<ChildStdin>>,
    broken: AtomicBool,
}

impl Lifeline {
    pub(crate) fn new(shell: Shell) -> Self {
        Self { shell, pipe: Mutex::new(None), broken: AtomicBool::new(false) }
    }

    /// Group `group` runs.
    pub(crate) async fn hold(&self, group: u32) {
        self.tell(&format!("+ {group}\n")).await;
    }

    /// Group `group` has ended.
    pub(crate) async fn release(&self, group: u32) {
        self.tell(&format!("- {group}\n")).await;
    }

    async fn tell(&self, text: &str) {
        if self.broken.load(Ordering::Relaxed) {
            return;
        }
        let mut pipe = self.pipe.lock().await;
        if pipe.is_none() {
            let mut command = self.shell.command(&["sh", "-c", PROGRAM]);
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            *pipe = command.spawn().ok().and_then(|mut child| child.stdin.take());
        }
        let written = match pipe.as_mut() {
            Some(pipe) => pipe.write_all(text.as_bytes()).await.is_ok(),
            None => false,
        };
        if !written {
            tracing::warn!("steps that run attached on this machine will outlive this program if it is killed");
            self.broken.store(true, Ordering::Relaxed);
        }
    }
}
