//! Shells: which there are, and how a value is quoted so that it can never become syntax. Pure text.

use serde::{Deserialize, Serialize};

/// A shell that a step's text is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShellKind {
    /// POSIX sh.
    Sh,
    /// bash.
    Bash,
    /// Windows PowerShell 5.1 or PowerShell 7.
    Powershell,
    /// cmd.exe.
    Cmd,
}

/// A value that a shell cannot take as one literal word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unquotable(pub String);

impl ShellKind {
    /// The word that people write.
    pub fn name(self) -> &'static str {
        match self {
            ShellKind::Sh => "sh",
            ShellKind::Bash => "bash",
            ShellKind::Powershell => "powershell",
            ShellKind::Cmd => "cmd",
        }
    }

    /// `value` as one literal word of this shell.
    ///
    /// # Errors
    /// A NUL anywhere; for cmd also line ends, `"` and `%`, which no quoting of cmd.exe makes literal in every context.
    pub fn quote(self, value: &str) -> Result<String, Unquotable> {
        if value.contains('\0') {
            return Err(Unquotable(format!("a value with a NUL character cannot be passed to {}", self.name())));
        }
        match self {
            ShellKind::Sh | ShellKind::Bash => Ok(quote_posix(value)),
            // PowerShell takes typographic single quotes (U+2018 to U+201B) for `'` too; each is doubled.
            ShellKind::Powershell => {
                let mut word = String::with_capacity(value.len() + 2);
                word.push('\'');
                for c in value.chars() {
                    word.push(c);
                    if matches!(c, '\'' | '\u{2018}'..='\u{201B}') {
                        word.push(c);
                    }
                }
                word.push('\'');
                Ok(word)
            }
            ShellKind::Cmd => match value.chars().find(|c| matches!(c, '"' | '%' | '!' | '\r' | '\n')) {
                Some(c) => {
                    Err(Unquotable(format!("a value with {c:?} cannot be quoted safely for cmd; use powershell")))
                }
                None => Ok(format!("\"{value}\"")),
            },
        }
    }

    /// How this shell's text refers to the environment variable `name` as one word.
    ///
    /// # Errors
    /// cmd expands variables before it parses, so a value could become syntax: refused.
    pub fn environment_word(self, name: &str) -> Result<String, Unquotable> {
        match self {
            ShellKind::Sh | ShellKind::Bash => Ok(format!("\"${{{name}}}\"")),
            ShellKind::Powershell => Ok(format!("$env:{name}")),
            ShellKind::Cmd => Err(Unquotable("cmd would parse the secret's value as syntax; use powershell".into())),
        }
    }
}

/// `value` as one literal word of POSIX sh: unchanged when it is plainly safe, else in single quotes.
pub fn quote_posix(value: &str) -> String {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"_-./:=@%+,".contains(&b);
    if !value.is_empty() && value.bytes().all(safe) && !value.starts_with('=') {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', r"'\''"))
}
