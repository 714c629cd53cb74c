//! The end of the sessions to a host: what each connection came to, and what was looked for afterwards.

use serde::{Deserialize, Serialize};

use crate::access::Withdrawal;
use crate::host::PeerIdentity;

/// Connections that one record names; of more, the newest.
pub const CONNECTIONS_MAX: usize = 20;
/// Processes that one record names.
pub const PROCESSES_MAX: usize = 20;

/// How a run's sessions to one host (or to another place where its steps work) ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionClose {
    /// Attempts that were carried out over them.
    pub attempts: u64,
    /// The connections, oldest first.
    pub connections: Vec<Connection>,
    /// Older ones that are not named.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unnamed: u64,
    /// What was looked for on the host.
    pub look: Look,
    /// How the access ended that the run had been given there; `None`: it had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Box<Withdrawal>>,
}

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// Unix ms.
    pub opened_ms: u64,
    /// Unix ms; `None` when nobody saw its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_ms: Option<u64>,
    /// Why it ended.
    pub why: Closing,
    /// Its end on the controller.
    pub here: Here,
    /// Its end on the host, as the host says.
    pub there: There,
    /// Who answered, where no record of its opening says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Box<PeerIdentity>>,
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Closing {
    /// The work for which it was opened was done.
    Done,
    /// It was idle, and room was needed for another one.
    Idle,
    /// It did not answer any more.
    Lost,
    /// Its controller died, or its operator left the run.
    ControllerGone,
}

/// The end of a connection on the controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Here {
    /// Whatever held it was asked to end, and has.
    Ended,
    /// It did not end when it was asked to, was killed, and is gone.
    Killed,
    /// It is still there, and cannot be ended: what is left.
    Left(String),
    /// Nobody knows: why.
    Unknown(String),
}

/// The end of a connection on its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum There {
    /// The process that served it is gone.
    Gone,
    /// That process was still there, and was ended.
    Ended,
    /// That process is still there, by number, and could not be ended.
    Left(String),
    /// The host was asked over this connection, and not again: it carried nothing any more but that question.
    LastWord,
    /// There is no network between, and so nothing to ask.
    Local,
    /// The host was not, or could not be, asked: why.
    Unknown(String),
}

/// What was looked for on the host when the work was done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// When (Unix ms); `None` when nobody could look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
    /// It was done over a connection that was opened for it, after the others had been closed.
    #[serde(default)]
    pub afterwards: bool,
    /// Processes that the run's steps left and through which somebody can get back in: those with a terminal, and those
    /// that hold a connection of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ways_in: Vec<Process>,
    /// Other processes that its steps left (a service that a step started).
    #[serde(default)]
    pub others: u64,
    /// Why nobody could look, or not at all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

/// A process on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Its number.
    pub pid: u64,
    /// The program's name, as the kernel has it.
    pub name: String,
    /// Why it is a way in.
    pub how: WayIn,
}

/// Why a process is a way back in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WayIn {
    /// It has a terminal (tmux, screen, script).
    Terminal,
    /// It is an SSH client: a tunnel or a shared connection.
    Ssh,
}

impl SessionClose {
    /// What is still open, for people; `None` when nothing is known to be.
    pub fn left(&self) -> Option<String> {
        let mut said: Vec<String> = Vec::new();
        for connection in &self.connections {
            if let Here::Left(what) = &connection.here {
                said.push(format!("the connection is still held on the controller ({what})"));
            }
            if let There::Left(what) = &connection.there {
                said.push(format!("the host still has a process of a connection ({what})"));
            }
        }
        let ways: Vec<String> = self.look.ways_in.iter().map(Process::text).collect();
        if !ways.is_empty() {
            said.push(format!("steps left a way back in: {}", ways.join(", ")));
        }
        (!said.is_empty()).then(|| said.join("; "))
    }

    /// What is not known of its end, for people; `None` when all of it is.
    pub fn unknown(&self) -> Option<String> {
        let mut said: Vec<&str> = Vec::new();
        for connection in &self.connections {
            if let Here::Unknown(why) = &connection.here {
                said.push(why);
            }
            if let There::Unknown(why) = &connection.there {
                said.push(why);
            }
        }
        said.extend(self.look.unknown.as_deref());
        let mut told: Vec<&str> = Vec::new();
        for why in said {
            if !told.contains(&why) {
                told.push(why);
            }
        }
        (!told.is_empty()).then(|| told.join("; "))
    }

    /// Every connection is gone on both sides, and nothing through which somebody gets back in was found: all of it was
    /// looked at.
    pub fn is_proved(&self) -> bool {
        self.left().is_none() && self.unknown().is_none()
    }
}

impl Process {
    /// For people.
    pub fn text(&self) -> String {
        let how = match self.how {
            WayIn::Terminal => "with a terminal",
            WayIn::Ssh => "an SSH client",
        };
        format!("process {} ({}, {how})", self.pid, self.name)
    }
}

impl Closing {
    /// For people.
    pub fn words(&self) -> &'static str {
        match self {
            Closing::Done => "its work was done",
            Closing::Idle => "it was idle, and room was needed",
            Closing::Lost => "it did not answer any more",
            Closing::ControllerGone => "its controller was gone",
        }
    }
}

// By reference, because serde asks for it so.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(here: Here, there: There) -> Connection {
        Connection { opened_ms: 1, closed_ms: Some(2), why: Closing::Done, here, there, identity: None }
    }

    #[test]
    fn what_is_left_is_told_apart_from_what_nobody_knows() {
        let mut close = SessionClose { connections: vec![connection(Here::Ended, There::Gone)], ..Default::default() };
        assert!(close.is_proved());
        close.look.others = 3;
        assert!(close.is_proved(), "a service that a step started is no session");
        close.connections.push(connection(Here::Ended, There::Unknown("no answer".into())));
        close.look.unknown = Some("no answer".into());
        assert_eq!((close.left(), close.unknown()), (None, Some("no answer".into())));
        close.look.ways_in.push(Process { pid: 7, name: "tmux: server".into(), how: WayIn::Terminal });
        assert_eq!(
            close.left().as_deref(),
            Some("steps left a way back in: process 7 (tmux: server, with a terminal)")
        );
        assert!(!close.is_proved());
    }
}
