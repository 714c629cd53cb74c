//! The codes of the problems that this crate finds. Each has a page `docs/errors/RBxxxx.md`.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A kind of problem. Codes are never reused for something else.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[$doc])* $variant,)*
        }

        impl Code {
            /// All, in order.
            pub const ALL: &[Code] = &[$(Code::$variant),*];

            /// The code as it is shown.
            pub fn name(self) -> &'static str {
                match self {
                    $(Code::$variant => $name,)*
                }
            }
        }
    };
}

codes! {
    /// A file cannot be read.
    Unreadable = "RB0001",
    /// A file is larger than the limit.
    TooLarge = "RB0002",
    /// A file is not UTF-8.
    NotUtf8 = "RB0003",
    /// A file is not YAML.
    Syntax = "RB0004",
    /// A tab where only spaces may indent.
    Tab = "RB0005",
    /// A key is there twice.
    DuplicateKey = "RB0006",
    /// More than one document in a file, or none.
    Documents = "RB0007",
    /// Too deep, too many nodes, too many aliases.
    TooComplex = "RB0008",
    /// The wrong `schema`.
    Schema = "RB0009",
    /// A key that nobody knows.
    UnknownKey = "RB0010",
    /// A key that must be there is not.
    MissingKey = "RB0011",
    /// A value of the wrong type.
    WrongType = "RB0012",
    /// A value of the right type that is not allowed.
    InvalidValue = "RB0013",
    /// A plain word that some YAML readers take for something else.
    AmbiguousWord = "RB0014",
    /// A key or form that only a later version supports.
    NotSupportedYet = "RB0015",
    /// Two keys that exclude each other, or one without another that it needs.
    Conflict = "RB0016",
    /// A name that breaks the rules for names.
    InvalidName = "RB0017",
    /// No action key in a step, or more than one.
    OneAction = "RB0020",
    /// Two steps with the same id.
    DuplicateId = "RB0021",
    /// `needs` names a step that is not there.
    UnknownStep = "RB0022",
    /// `needs` names a step of a later phase.
    LaterPhase = "RB0023",
    /// Steps that wait for each other.
    Cycle = "RB0024",
    /// A key that means nothing in this phase or for this action.
    NotHere = "RB0025",
    /// A change without a way back.
    NoWayBack = "RB0026",
    /// A parameter whose keys contradict each other.
    ParameterRules = "RB0030",
    /// A name of a parameter that is not there.
    UnknownParameter = "RB0031",
    /// A parameter without a value.
    MissingParameter = "RB0032",
    /// A value that its parameter does not allow.
    ParameterValue = "RB0033",
    /// A packaged action that is not there.
    UnknownAction = "RB0034",
    /// A packaged action that cannot be used here.
    ActionMisused = "RB0035",
    /// A step that may run while its host reboots.
    BesideReboot = "RB0036",
    /// A template that is wrong.
    Template = "RB0040",
    /// An expression that is wrong.
    Expression = "RB0041",
    /// A verbatim value in a command.
    Verbatim = "RB0042",
    /// A regular expression that is wrong.
    Pattern = "RB0043",
    /// A glob that is wrong.
    Glob = "RB0044",
    /// A secret where it would be seen.
    SecretExposed = "RB0045",
    /// A selection that cannot be read.
    SelectorSyntax = "RB0050",
    /// A selection names a host, group or label that is not there.
    UnknownHost = "RB0051",
    /// A selection that matches no host.
    NoHost = "RB0052",
    /// A host without an address.
    NoAddress = "RB0060",
    /// A host or group that is named but not there.
    UnknownMember = "RB0061",
    /// Hosts or groups that lead back to themselves.
    InventoryCycle = "RB0062",
    /// Two groups give a host different values.
    GroupConflict = "RB0063",
    /// A host is there twice.
    DuplicateHost = "RB0064",
    /// An inventory source that cannot be read.
    Include = "RB0065",
    /// A line of a CSV or INI inventory that is wrong.
    ForeignInventory = "RB0066",
    /// Somebody who was asked for hosts gave no answer.
    NoAnswer = "RB0067",
    /// What was answered cannot be used.
    UnusableAnswer = "RB0068",
    /// A packaged action has no form for a host's system.
    NoVariant = "RB0201",
    /// A local file or folder that a step sends cannot be read.
    LocalFile = "RB0202",
    /// A local file is not the one whose digest the step gives.
    FileDigest = "RB0203",
    /// An id that the planner makes is already taken.
    DerivedId = "RB0204",
    /// A text that cannot be rendered for a host.
    Unrenderable = "RB0205",
    /// More steps than a plan may have.
    TooManySteps = "RB0206",
    /// Access that a host cannot be given.
    AccessImpossible = "RB0775",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
