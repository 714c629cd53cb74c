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

    /// `value` as one literal word of this shell, to stand by itself: white space (or an end) on both sides. Plainly
    /// safe values stay as they are in sh and bash, so that commands read well. For a place that touches other text
    /// use [`ShellKind::quote_part`].
    ///
    /// # Errors
    /// A NUL anywhere; for cmd everything that no quoting of cmd.exe makes literal in every context.
    pub fn quote(self, value: &str) -> Result<String, Unquotable> {
        match self {
            ShellKind::Sh | ShellKind::Bash if is_plain_posix_word(value) => Ok(value.to_owned()),
            _ => self.quote_part(value),
        }
    }

    /// `value` as one literal word of this shell, always in quotes, so that it stays literal next to other text too:
    /// `el{{x}}` never becomes `else`, `{{x}}>file` never redirects another descriptor. In sh and bash it may stand
    /// anywhere outside quotes; in PowerShell and cmd the text after it must begin a new word (`'a''b'` is one string
    /// with a quote in it there).
    ///
    /// # Errors
    /// As [`ShellKind::quote`].
    pub fn quote_part(self, value: &str) -> Result<String, Unquotable> {
        if value.contains('\0') {
            return Err(Unquotable(format!("a value with a NUL character cannot be passed to {}", self.name())));
        }
        match self {
            ShellKind::Sh | ShellKind::Bash => Ok(format!("'{}'", value.replace('\'', r"'\''"))),
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
            ShellKind::Cmd => quote_cmd(value),
        }
    }

    /// How this shell's text refers to the environment variable `name` as one word, which may touch other text in sh
    /// and bash, and must not in PowerShell. `name` must be `[A-Za-z_][A-Za-z0-9_]*`.
    ///
    /// # Errors
    /// cmd expands variables before it parses, so a value could become syntax: refused.
    pub fn environment_word(self, name: &str) -> Result<String, Unquotable> {
        match self {
            ShellKind::Sh | ShellKind::Bash => Ok(format!("\"${{{name}}}\"")),
            ShellKind::Powershell => Ok(format!("${{env:{name}}}")),
            ShellKind::Cmd => Err(Unquotable("cmd would parse the secret's value as syntax; use powershell".into())),
        }
    }
}

/// `value` as one literal word of POSIX sh: unchanged when it is plainly safe, else in single quotes.
pub fn quote_posix(value: &str) -> String {
    ShellKind::Sh.quote(value).unwrap_or_else(|_| {
        // A NUL cannot be in any argument; it is dropped here rather than cutting the text off.
        ShellKind::Sh.quote_part(&value.replace('\0', "")).expect("no NUL is left")
    })
}

/// Words that sh or bash read as syntax where a command may begin. A value that is one of them is always quoted.
const RESERVED: [&str; 17] = [
    "if", "then", "else", "elif", "fi", "for", "in", "do", "done", "case", "esac", "while", "until", "function",
    "select", "time", "coproc",
];

/// Safe by itself between white space: no expansion, no assignment (`=`), no reserved word.
fn is_plain_posix_word(value: &str) -> bool {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"_-./:@%+,".contains(&b);
    !value.is_empty() && value.bytes().all(safe) && !RESERVED.contains(&value)
}

/// In double quotes, if cmd.exe takes all of `value` literally there. Refused are: `"` (ends the quoting), `%` and `!`
/// (expanded inside quotes too), `^` (doubled by `call`), control characters (a line end or Ctrl-Z ends the command), a
/// `\` at the end (programs read `\"` as a quote that does not end), and characters other than ASCII that are not
/// letters or digits, or are full-width forms: conversion to the console's code page can turn them into the former.
fn quote_cmd(value: &str) -> Result<String, Unquotable> {
    let literal = |c: char| match c {
        '"' | '%' | '!' | '^' => false,
        ' '..='~' | '\t' => true,
        '\u{FF00}'..='\u{FFEF}' => false,
        c => !c.is_ascii() && c.is_alphanumeric(),
    };
    if let Some(c) = value.chars().find(|c| !literal(*c)) {
        return Err(Unquotable(format!("a value with {c:?} cannot be quoted safely for cmd; use powershell")));
    }
    if value.ends_with('\\') {
        return Err(Unquotable(
            "a value that ends in \\ cannot be quoted safely for cmd (it would hide the closing quote from programs); \
             leave the last \\ away or use powershell"
                .into(),
        ));
    }
    Ok(format!("\"{value}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plainly_safe_values_stay_readable_in_sh() {
        for word in ["samba", "/srv/data", "a.b-c_d", "1:2,3", "user@host", "-rf", "50%", "2"] {
            assert_eq!(ShellKind::Sh.quote(word).unwrap(), word);
            assert_eq!(ShellKind::Bash.quote(word).unwrap(), word);
            assert_eq!(ShellKind::Sh.quote_part(word).unwrap(), format!("'{word}'"));
        }
    }

    #[test]
    fn all_else_is_in_single_quotes_in_sh() {
        for (value, word) in [
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("PATH=x", "'PATH=x'"),
            ("if", "'if'"),
            ("$(id)", "'$(id)'"),
            ("~root", "'~root'"),
            ("a\nb", "'a\nb'"),
            ("ä", "'ä'"),
        ] {
            assert_eq!(ShellKind::Sh.quote(value).unwrap(), word);
        }
    }

    #[test]
    fn powershell_doubles_every_kind_of_single_quote() {
        assert_eq!(ShellKind::Powershell.quote("it's").unwrap(), "'it''s'");
        assert_eq!(ShellKind::Powershell.quote("a\u{2018}b\u{201B}").unwrap(), "'a\u{2018}\u{2018}b\u{201B}\u{201B}'");
        assert_eq!(ShellKind::Powershell.quote("$(x) `n \"").unwrap(), "'$(x) `n \"'");
    }

    #[test]
    fn cmd_refuses_what_it_cannot_take_literally() {
        assert_eq!(ShellKind::Cmd.quote(r"C:\Program Files (x86)\a&b").unwrap(), "\"C:\\Program Files (x86)\\a&b\"");
        assert_eq!(ShellKind::Cmd.quote("Müller").unwrap(), "\"Müller\"");
        for bad in ["a\"b", "%PATH%", "a!b", "a^b", "a\nb", "a\rb", "a\u{1A}", r"C:\", "a\u{FF02}b", "\u{201C}", "a\0"]
        {
            assert!(ShellKind::Cmd.quote(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn nul_is_refused_everywhere() {
        for shell in [ShellKind::Sh, ShellKind::Bash, ShellKind::Powershell, ShellKind::Cmd] {
            assert!(shell.quote("a\0b").is_err());
        }
    }
}
