//! Names and ids, one type each, so that none is taken for another.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(from = "String")]
        pub struct $name(Arc<str>);

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name_type! {
    /// A run: a UUID version 7 in lower-case hyphenated form. Made outside the core; ids of later runs sort after
    /// those of earlier ones.
    RunId
}

impl RunId {
    /// Under which records stand that belong to no run. Not a UUID, so no run can have it.
    pub fn installation() -> Self {
        "installation".into()
    }

    /// Whether it stands for no run.
    pub fn is_installation(&self) -> bool {
        self.as_str() == "installation"
    }
}

name_type! {
    /// A host's name in the inventory.
    HostName
}
name_type! {
    /// A step's id within its plan: `[a-z0-9_-]` for steps that people write. Steps that the planner derives have a dot
    /// in theirs (`upgrade.undo`, `data.restore`), so the two can never collide.
    StepId
}

/// One step on one host: a cell of the run's matrix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cell {
    /// The host on whose behalf the step runs (for `on: controller` it is still this host's cell).
    pub host: HostName,
    /// The step.
    pub step: StepId,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.step)
    }
}

/// One attempt of one cell: the idempotency key of every effect (claim folder on a host, tag of a snapshot).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptId {
    /// The run.
    pub run: RunId,
    /// The host of the cell.
    pub host: HostName,
    /// The step of the cell.
    pub step: StepId,
    /// Counts from 1 within the cell.
    pub attempt: u32,
}

impl AttemptId {
    /// The cell that this attempt belongs to.
    pub fn cell(&self) -> Cell {
        Cell { host: self.host.clone(), step: self.step.clone() }
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.run, self.step, self.host, self.attempt)
    }
}
