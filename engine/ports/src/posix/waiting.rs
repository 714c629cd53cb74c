//! The shells that carry steps out. Their programs are constants, so they are already there when the request comes: one
//! line of assignments, no longer than it must be, since `sh` reads it byte by byte with a system call each. The request
//! alone has what belongs to the step; nothing of it is on a command line.

use std::sync::LazyLock;

use super::BOOT;

/// Reads the request and takes its assignments in. A request without its end is not taken in.
const REQUEST: &str = r#"
IFS= read -r s || exit 125
eval "$s"
unset s
"#;

/// Sets `b`, the account's folder for claims.
pub(super) const BASE: &str = r#"
b=
if [ -d "${HOME:-}" ] && [ -w "${HOME:-}" ] && [ "$HOME" != / ]; then b=$HOME/.local/state/runbook
else b=/var/tmp/.runbook-$(id -u); fi
"#;

/// Makes the run's folder; a failure is told and ends the script.
pub(super) const RUN_FOLDER: &str = r#"
if [ ! -d "$b/$r" ]; then
  e=$( (umask 077; mkdir -p -- "$b/$r") 2>&1) || [ -d "$b/$r" ] || { fr "f $e"; exit 0; }
fi
if [ -h "$b" ] || [ ! -O "$b" ]; then fr "f $b belongs to somebody else"; exit 0; fi
"#;

/// `fr TEXT` says a frame on standard output; `fe TEXT` on standard error (kept as 4). The frame `s` on both says that
/// what comes before it is not ours (a login shell's greeting).
pub(super) const FRAMES: &str = r#"
printf "\036%s s\n" "$m"
printf "\036%s s\n" "$m" >&2
fr() { printf "\036%s %s\n" "$m" "$1"; }
fe() { printf "\036%s %s\n" "$m" "$1" >&4; }
"#;

/// Sets `g` (our process group, 0 when we do not lead it) and `st` (when we started).
const SELF: &str = r#"
g=0 st=-
if [ -r /proc/self/stat ]; then
  read -r q </proc/self/stat
  set -- $q
  st=${22}
  [ "$5" = "$$" ] && g=$$
else
  q=$(ps -o pgid= -p "$$")
  [ "${q:-0}" -eq "$$" ] && g=$$
fi
"#;

/// Sets `nb`, the boot that the host is in now.
pub(super) const BOOT_ID: &str = r#"
nb=-
if [ -r /proc/sys/kernel/random/boot_id ]; then read -r nb </proc/sys/kernel/random/boot_id
else q=$(sysctl -n kern.boottime 2>/dev/null) && [ -n "$q" ] && { q=${q#*sec = }; nb=${q%%,*}; }; fi
"#;

/// An attached run: says who it is (`w`), kills its group when standard input ends, and says how the program ended (`x`)
/// on both outputs.
const ATTACHED: &str = r#"
trap : TERM HUP INT PIPE
exec 3<&0 4>&2 2>/dev/null
fe "w $g $st"
d=
if [ "$g" != 0 ]; then
  ( exec >/dev/null 4>&-
    IFS= read -r q <&3
    trap : TERM
    kill -s TERM -- "-$g"
    sleep "$t"
    kill -s KILL -- "-$g" ) &
  d=$! q=
fi
"#;

/// Starts the step's own shell with its lines (`S`) and standard input (`I`, when `i` is 1) as account `u`.
const START_ATTACHED: &str = r#"
if [ "$i" = 1 ]; then
  if [ -n "$u" ]; then { printf "%s\n" "$S"; printf %b "$I"; } | sudo -n -H -u "$u" -- sh -c "$B" 2>&4 3<&- 4>&-
  else { printf "%s\n" "$S"; printf %b "$I"; } | sh -c "$B" 2>&4 3<&- 4>&-; fi
elif [ -n "$u" ]; then sudo -n -H -u "$u" -- sh -c "$B" 2>&4 3<&- 4>&- <<E
$S
E
else sh -c "$B" 2>&4 3<&- 4>&- <<E
$S
E
fi
c=$?
[ -n "$d" ] && kill -s KILL "$d"
fr "x $c"
fe "x $c"
exit 0
"#;

/// A claimed run, where the shell that the connection started only waits for the end of its standard input (so that
/// giving up the channel frees it); its child, the keeper, does the rest.
const KEEPER_APART: &str = r#"
trap : TERM HUP INT PIPE
exec 3<&0 4>&2 2>/dev/null
( exec 3<&-
trap : TERM HUP INT PIPE
g=0 st=-
if [ -r /proc/self/stat ]; then
  read -r q </proc/self/stat
  set -- $q
  p=$1 st=${22}
  [ "$5" = "$$" ] && g=$$
else
  p=$(exec sh -c "echo \$PPID")
  q=$(ps -o pgid= -p "$$")
  [ "${q:-0}" -eq "$$" ] && g=$$
fi
"#;

const KEEPER_APART_END: &str = r#"
) </dev/null &
IFS= read -r q <&3
exit 0
"#;

/// A claimed run, where the shell that was started is the keeper itself. Its request begins with its start (`st`) and,
/// where that can be known, the boot (`nb`): what it is spared to find out byte by byte.
const KEEPER_ITSELF: &str = r#"
trap : TERM HUP INT PIPE
exec 4>&2 2>/dev/null </dev/null
p=$$ g=$$
"#;

/// The keeper claims, starts, waits, records.
///
/// Another session of the run may leave, and so remove the empty folder, between its making and the claim: then it is made
/// again.
const KEEPER: &str = r#"
k=$b/$r/$K
set -C
c=0 tr=0
while :; do
  { c=1; printf "v1 %s %s %s %s %s\n" "$p" "$g" "$st" "$nb" "${u:--}" && c=2; } >"$k"
  [ "$c" = 0 ] && [ "$tr" -lt 9 ] && [ ! -d "$b/$r" ] || break
  tr=$((tr + 1))
  (umask 077; mkdir -p -- "$b/$r")
done
set +C
if [ "$c" = 0 ]; then
  if [ -e "$k" ]; then fr t; exit 0; fi
  e=$(touch -- "$k.x" 2>&1)
  rm -f -- "$k.x"
  fr "f ${e:-the claim cannot be written}"
  exit 0
fi
if [ "$c" = 1 ] || ! printf "%-24s\n" running >"$k.exit" || ! printf "" >"$k.out" || ! printf "" >"$k.err"; then
  rm -f -- "$k" "$k.exit" "$k.out" "$k.err"
  fr "f No space left on device (the claim could not be written)"
  exit 0
fi
fe "w $g $st"
if [ "$i" = 1 ]; then
  if [ -n "$u" ]; then { printf "%s\n" "$S"; printf %b "$I"; } | sudo -n -H -u "$u" -- sh -c "$B" >>"$k.out" 2>>"$k.err" 4>&-
  else { printf "%s\n" "$S"; printf %b "$I"; } | sh -c "$B" >>"$k.out" 2>>"$k.err" 4>&-; fi
elif [ -n "$u" ]; then sudo -n -H -u "$u" -- sh -c "$B" >>"$k.out" 2>>"$k.err" 4>&- <<E
$S
E
else sh -c "$B" >>"$k.out" 2>>"$k.err" 4>&- <<E
$S
E
fi
c=$?
q="exit $c ."
[ -e "$k.stop" ] && q="killed $c ."
printf "%-24s\n" "$q" 1<>"$k.exit"
[ -e "$k.f" ] && exit 0
[ -s "$k.out" ] && cat "$k.out"
[ -s "$k.err" ] && cat "$k.err" >&4
fr "x $c"
fe "x $c"
exit 0
"#;

/// The program that runs a step attached, as a command for a remote login shell.
pub static ATTACHED_COMMAND: LazyLock<String> =
    LazyLock::new(|| command(&[SELF, REQUEST, FRAMES, ATTACHED, START_ATTACHED]));

/// The program that runs a step claimed, as a command for a remote login shell.
pub static CLAIMED_COMMAND: LazyLock<String> =
    LazyLock::new(|| command(&[BOOT_ID, REQUEST, FRAMES, BASE, RUN_FOLDER, KEEPER_APART, KEEPER, KEEPER_APART_END]));

/// The same for `sh -c`, where the shell leads a process group of its own and nothing waits for its end.
pub static CLAIMED_PROGRAM: LazyLock<String> = LazyLock::new(|| {
    let boot = ["nb=", REQUEST, "if [ -z \"$nb\" ]; then", BOOT_ID, "fi"];
    lines(&[&boot[..], &[FRAMES, BASE, RUN_FOLDER, KEEPER_ITSELF, KEEPER]].concat()).join("\n")
});

/// The lines of a program, without what is there for our eyes alone; first those that every one of them needs.
fn lines(texts: &[&str]) -> Vec<String> {
    let boot = BOOT.replace('$', "\\$").replace('"', "\\\"");
    let mut lines = vec!["n=${IFS#??}".to_owned(), format!("B=\"{boot}\"")];
    let texts = texts.iter().flat_map(|text| text.lines());
    lines.extend(texts.map(str::trim_start).filter(|line| !line.is_empty()).map(str::to_owned));
    lines
}

/// A program as a command: each of its lines is a word, put together on the host. In single quotes, no login shell finds
/// anything in them that it would change (csh takes no line ends there, and short words only).
fn command(texts: &[&str]) -> String {
    let mut command = "exec sh -c 'n=${IFS#??};c=;for l in \"$@\";do c=$c$l$n;done;eval \"$c\"' sh".to_owned();
    for line in lines(texts) {
        command.push_str(" '");
        command.push_str(&line);
        command.push('\'');
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_login_shell_changes_a_command() {
        for command in [&*ATTACHED_COMMAND, &*CLAIMED_COMMAND] {
            assert!(command.is_ascii() && !command.contains('\n'));
        }
        let all = [SELF, BOOT_ID, REQUEST, FRAMES, BASE, RUN_FOLDER, ATTACHED, START_ATTACHED, KEEPER_APART, KEEPER];
        for line in lines(&all).iter().chain(&lines(&[KEEPER_APART_END])) {
            assert!(!line.contains('\''), "it ends the word: {line}");
            assert!(!line.contains("\\\\") && !line.ends_with('\\'), "fish takes one away: {line}");
            assert!(!line.replace("! ", "").replace("!=", "").contains('!'), "csh looks it up: {line}");
            assert!(line.len() < 1000, "too long a word for csh: {line}");
        }
    }

    #[test]
    fn programs_hold_boot_unchanged() {
        let text = format!("{}\nprintf %s \"$B\"", lines(&[])[1]);
        let shell = std::process::Command::new("sh").args(["-c", &text]).output().expect("sh is here");
        assert_eq!(String::from_utf8_lossy(&shell.stdout), BOOT);
    }
}
