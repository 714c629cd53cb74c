//! What a step's own shell is told: environment, working folder, then its program. Pure text.

use runbook_model::outcome::{Obstacle, ObstacleKind};
use runbook_model::shell::ShellKind;
use zeroize::Zeroizing;

use super::ending::Mark;
use super::frame::Marker;
use super::{BOOT, escape_for_printf, push_word};
use crate::transport::{Invocation, Program};

/// Lines for [`BOOT`] that carry an invocation out.
pub struct StepLines {
    /// One or two lines, each with its end. They may hold secrets.
    pub lines: Zeroizing<Vec<u8>>,
    /// The lines print the frame `b` (it began) or `c` (no such working folder) on standard error before the program.
    pub announces: bool,
}

/// The lines for `invocation`, whose processes bear `mark`.
///
/// # Errors
/// Kind `Local`: a shell that such hosts do not have, a NUL in a text, a name that is no environment variable's, an
/// empty argument vector.
pub fn step_lines(invocation: &Invocation, marker: &Marker, mark: &Mark) -> Result<StepLines, Obstacle> {
    let announces = invocation.account.is_some() || invocation.cwd.is_some();
    let mut line = Zeroizing::new(Vec::with_capacity(512));
    for (name, value) in &invocation.env {
        if !is_variable(name) {
            return Err(local(format!("`{name}` cannot be the name of an environment variable")));
        }
        no_nul(value.expose(), "the value of an environment variable")?;
        line.extend_from_slice(b"export ");
        line.extend_from_slice(name.as_bytes());
        line.push(b'=');
        push_word(&mut line, value.expose());
        line.push(b';');
    }
    line.extend_from_slice(mark.export().as_bytes());
    match &invocation.cwd {
        Some(cwd) => {
            no_nul(cwd.as_bytes(), "the working folder")?;
            line.extend_from_slice(b"CDPATH= cd -- ");
            push_word(&mut line, cwd.as_bytes());
            line.extend_from_slice(b" >/dev/null 2>&1||{ ");
            push_frame(&mut line, marker, "c");
            line.extend_from_slice(b";exit 126;};");
        }
        None => line.extend_from_slice(b"cd >/dev/null 2>&1;"),
    }
    if announces {
        push_frame(&mut line, marker, "b");
        line.push(b';');
    }
    let empty_stdin: &[u8] = if invocation.stdin.is_none() { b"exec </dev/null;" } else { b"" };
    match &invocation.program {
        Program::Shell { shell, text, strict } => {
            no_nul(text.as_bytes(), "the step's text")?;
            match shell {
                ShellKind::Sh => {}
                ShellKind::Bash => {
                    line.extend_from_slice(b"exec bash -c ");
                    push_word(&mut line, BOOT.as_bytes());
                    line.push(b'\n');
                }
                ShellKind::Powershell | ShellKind::Cmd => {
                    return Err(local(format!(
                        "this host is driven through POSIX sh and has no {}; say `shell: sh` or `shell: bash`, or give \
                         the host `os: windows` and a transport that reaches Windows",
                        shell.name()
                    )));
                }
            }
            line.extend_from_slice(empty_stdin);
            let prelude: &[u8] = if *strict { b"unset n s\nset -eu\n" } else { b"unset n s\n" };
            line.extend_from_slice(b"eval ");
            let mut whole = Zeroizing::new(prelude.to_vec());
            whole.extend_from_slice(text.as_bytes());
            push_word(&mut line, &whole);
        }
        Program::Argv(argv) => {
            if argv.is_empty() {
                return Err(local("an empty argument vector names no program".into()));
            }
            line.extend_from_slice(empty_stdin);
            line.extend_from_slice(b"exec");
            push_arguments(&mut line, argv)?;
        }
        Program::Script { content, interpreter, args } => {
            line.extend_from_slice(empty_stdin);
            let folder = format!(".{}.script", marker.as_str());
            line.extend_from_slice(b"d=${TMPDIR:-/tmp}/");
            line.extend_from_slice(folder.as_bytes());
            line.extend_from_slice(b";(umask 077;mkdir -- \"$d\"&&printf %b ");
            push_word(&mut line, &escape_for_printf(content));
            line.extend_from_slice(b" >\"$d/script\")||{ rm -rf -- \"$d\";exit 126;};unset n s;");
            let words = match interpreter {
                Some(program) => vec![program.clone()],
                None => shebang(content),
            };
            line.extend_from_slice(b"set --");
            push_arguments(&mut line, &words)?;
            line.extend_from_slice(b" \"$d/script\"");
            push_arguments(&mut line, args)?;
            line.extend_from_slice(b";\"$@\";c=$?;rm -rf -- \"$d\";exit \"$c\"");
        }
    }
    line.push(b'\n');
    Ok(StepLines { lines: line, announces })
}

/// The words before a script's own path, from its `#!` line (the interpreter and at most one argument, as kernels do),
/// else sh. The interpreter is started by us, because folders for temporary files are often mounted `noexec`.
fn shebang(content: &[u8]) -> Vec<String> {
    let first = content.split(|b| *b == b'\n').next().unwrap_or_default();
    let words = first.strip_prefix(b"#!").and_then(|line| std::str::from_utf8(line).ok()).map(str::trim);
    match words {
        Some(line) if !line.is_empty() => match line.split_once([' ', '\t']) {
            Some((program, argument)) => vec![program.to_owned(), argument.trim().to_owned()],
            None => vec![line.to_owned()],
        },
        _ => vec!["sh".to_owned()],
    }
}

fn push_arguments(line: &mut Vec<u8>, arguments: &[String]) -> Result<(), Obstacle> {
    for argument in arguments {
        no_nul(argument.as_bytes(), "an argument")?;
        line.push(b' ');
        push_word(line, argument.as_bytes());
    }
    Ok(())
}

fn push_frame(line: &mut Vec<u8>, marker: &Marker, text: &str) {
    line.extend_from_slice(format!("printf '\\036%s {text}\\n' {} >&2", marker.as_str()).as_bytes());
}

fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn no_nul(bytes: &[u8], what: &str) -> Result<(), Obstacle> {
    if bytes.contains(&0) {
        return Err(local(format!("{what} has a NUL byte, which no POSIX shell can take")));
    }
    Ok(())
}

fn local(message: String) -> Obstacle {
    Obstacle { kind: ObstacleKind::Local, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_name_their_interpreter() {
        assert_eq!(shebang(b"#!/usr/bin/env python3\nprint()"), ["/usr/bin/env", "python3"]);
        assert_eq!(shebang(b"#! /bin/sh -eu \n"), ["/bin/sh", "-eu"]);
        assert_eq!(shebang(b"#!\n"), ["sh"]);
        assert_eq!(shebang(b"echo hi"), ["sh"]);
    }

    #[test]
    fn names_that_are_syntax_are_refused() {
        for name in ["", "1A", "A B", "A=B", "A;reboot", "é"] {
            assert!(!is_variable(name), "{name}");
        }
        assert!(is_variable("RUNBOOK_SECRET_x1"));
    }
}
