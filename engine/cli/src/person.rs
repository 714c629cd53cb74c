//! Who sits in front of it, and how they are asked.

use std::io::{self, BufRead as _, Write as _};
use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use runbook_model::event::Person;
use runbook_ports::Confirmer;
use runbook_ports::person::Answer;
use runbook_report::text::escape_lines;

use crate::live::Live;

/// The account behind this process; with sudo, the one that called it.
pub(crate) fn operator() -> Person {
    let own = rustix::process::getuid().as_raw();
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    let (uid, name) = match (own, number("SUDO_UID"), std::env::var("SUDO_USER").ok()) {
        (0, Some(uid), Some(name)) if !name.is_empty() => (uid, name),
        _ => (own, account_name(own)),
    };
    let from = std::env::var("SSH_CONNECTION").ok().and_then(|text| text.split(' ').next().map(str::to_owned));
    Person { name, uid, from: from.filter(|from| !from.is_empty()) }
}

/// The account's name by /etc/passwd, else by `id` (directories), else its number.
fn account_name(uid: u32) -> String {
    let local = std::fs::read_to_string("/etc/passwd").ok().and_then(|text| {
        let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let line = lines.find(|fields| fields.get(2).is_some_and(|field| *field == uid.to_string()))?;
        Some(line[0].to_owned())
    });
    local
        .or_else(|| {
            let output = Command::new("id").arg("-un").output().ok().filter(|output| output.status.success())?;
            let name = String::from_utf8(output.stdout).ok()?.trim().to_owned();
            (!name.is_empty()).then_some(name)
        })
        .unwrap_or_else(|| uid.to_string())
}

/// Asks on the terminal; anything but a yes is a no. `None` when nobody answered (end of input).
pub(crate) fn ask(question: &str) -> Option<bool> {
    {
        let mut err = io::stderr().lock();
        let _ = write!(err, "{question} [y/N] ");
        let _ = err.flush();
    }
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line) {
        Ok(n) if n > 0 => Some(matches!(line.trim().to_lowercase().as_str(), "y" | "yes")),
        _ => None,
    }
}

/// Puts `confirm` steps to the person at the terminal of `apply` and `resume`, one question at a time.
pub(crate) struct TerminalConfirmer {
    pub(crate) live: Arc<Live>,
    pub(crate) person: bool,
    pub(crate) who: Person,
    /// One question at a time.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

#[async_trait]
impl Confirmer for TerminalConfirmer {
    async fn confirm(&self, host: &str, question: &str) -> Answer {
        if !self.person {
            return Answer::Nobody("there is no terminal on which somebody could be asked".into());
        }
        let _turn = self.turn.lock().await;
        let asked = self.live.ask(format!("{host}: {}", escape_lines(question.as_bytes()))).await;
        match asked {
            Some(answer) if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") => {
                Answer::Confirmed(self.who.clone())
            }
            Some(answer) => Answer::Refused(self.who.clone(), answer.trim().to_owned()),
            None => Answer::Nobody("the terminal was closed".into()),
        }
    }
}
