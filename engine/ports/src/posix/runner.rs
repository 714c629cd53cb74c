//! The shells that carry steps out. Their programs are constants, so they are already there when the request comes: one
//! line of assignments, no longer than it must be, since `sh` reads it byte by byte with a system call each. The request
//! alone has what belongs to the step; nothing of it is on a command line.
//!
//! A *runner* lives as long as the session and serves one request after another, so a step costs the host no channel and
//! no login shell. It reads requests and does nothing else: each is served by a child of its own, so that the end of the
//! connection is seen at once. Who serves a claimed step is its *keeper*: it makes the claim, starts the step's own shell
//! (in a session of its own, by `setsid`), waits for it and writes down how it ended, whether anybody listens or not.
//! Where there is no `setsid`, the step shares the process group of its runner, which then serves one step only.
//!
//! A shell in the background ignores `SIGINT` and `SIGQUIT` (POSIX, 2.11), and so does a step.

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

/// `fr TEXT` says a frame on standard output; `fe TEXT` on standard error (kept as 4).
const SAY: &str = r#"
fr() { printf "\036%s %s\n" "$m" "$1"; }
fe() { printf "\036%s %s\n" "$m" "$1" >&4; }
"#;

/// The frame `s` on both outputs says that what comes before it is not ours: a login shell's greeting, or the words of
/// what an earlier step left behind. `s 1`: this shell serves one step only.
const HELLO: &str = r#"
hi() {
  q=s
  [ -n "$sid" ] || q="s 1"
  fr "$q"
  fe "$q"
}
"#;

/// `me` sets `p`, the process that calls it, `st` (when it started) and `pg` (its process group).
const ME: &str = r#"
me() {
  if [ -r /proc/self/stat ]; then
    read -r q </proc/self/stat
    set -- $q
    p=$1 pg=$5 st=${22}
  else
    st=-
    p=$(exec sh -c "echo \$PPID")
    pg=$(($(ps -o pgid= -p "$p")))
  fi
}
"#;

/// Sets `nb`, the boot that the host is in now.
pub(super) const BOOT_ID: &str = r#"
nb=-
if [ -r /proc/sys/kernel/random/boot_id ]; then read -r nb </proc/sys/kernel/random/boot_id
else q=$(sysctl -n kern.boottime 2>/dev/null) && [ -n "$q" ] && { q=${q#*sec = }; nb=${q%%,*}; }; fi
"#;

/// `attached`: the step's shell begins (`w`), as account `u`, and gets the outputs that we have; how it ends is said on
/// both (`x`, with `+` when processes of it are left, which may still write there). On TERM its group is ended.
const ATTACHED: &str = r#"
begin() {
  me
  if [ -n "$sid" ]; then fe "w $p $st"; else fe "w $g $gst"; fi
  set -- sh -c "$B"
  [ -n "$u" ] && set -- sudo -n -H -u "$u" -- "$@"
  exec $sid "$@" 2>&4 4>&-
}
send() {
  kill -s "$1" -- "-$2"
  [ -n "$u" ] && sudo -n -H -u "$u" -- sh -c "kill -s $1 -- -$2"
}
give_up() {
  e=1
  trap : TERM
  q=$l
  [ -n "$sid" ] || q=$g
  send TERM "$q"
  sleep "$t"
  send KILL "$q"
}
attached() {
  exec 4>&2 2>/dev/null
  trap : HUP INT PIPE
  l=0 e=1 d=
  hi
  if [ "$i" = 1 ]; then { printf "%s\n" "$S"; printf %b "$I"; } | ( trap : TERM; begin ) &
  else ( trap : TERM; begin ) <<E &
$S
E
  fi
  l=$! d=
  trap give_up TERM
  while [ -n "$e" ]; do
    e=
    wait "$l"
    c=$?
  done
  if kill -s 0 -- "-$l"; then d=" +"
  elif [ -n "$u" ]; then
    q=$(LC_ALL=C kill -s 0 -- "-$l" 2>&1)
    case $q in *"o such process"*) ;; *) d=" +" ;; esac
  fi
  fr "x $c$d"
  fe "x $c$d"
}
"#;

/// The keeper's parts: `step` becomes the step's shell, `tell` says a file of about so many bytes.
///
/// The claim is written by the process that becomes the step's shell, since it alone knows its number (the process group
/// of the attempt): file descriptor 5 is the claim, made by an exclusive create, 6 and 7 are the outputs. The outputs are
/// shared with the step, so their positions are their lengths. Nobody may listen any more when it says that it begins: it
/// begins all the same (a signal that is caught has its usual meaning again for the program that is then started). Its
/// number is that of its only thread: a line of `/proc/self/stat` costs a system call a byte.
const STEP: &str = r#"
step() {
  trap : PIPE
  if [ -n "$sid" ]; then
    if [ -r /proc/self/stat ]; then
      set -- /proc/self/task/*
      g=${1##*/}
    else g=$(exec sh -c "echo \$PPID"); fi
  fi
  printf "%-24s\nv1 %s %s %s %s %s\n" running "$p" "$g" "$st" "$nb" "${u:--}" >&5 || exit 1
  fe "w $g $st"
  set -- sh -c "$B"
  [ -n "$u" ] && set -- sudo -n -H -u "$u" -- "$@"
  exec $sid "$@" >&6 2>&7 4>&- 5>&- 6>&- 7>&-
}
tell() {
  [ -s "$1" ] || return 0
  if [ "${2:-0}" -gt 0 ] && [ "$2" -le 1024 ]; then
    o=
    {
      while IFS= read -r l <&8; do o=$o$l$n; done
      o=$o$l z=
      read -r q z </proc/self/fdinfo/8
    } 8<"$1"
    if [ "${#o}" = "$z" ]; then
      printf %s "$o"
      return
    fi
  fi
  cat "$1"
}
"#;

/// Claims, starts, waits, records; after [`RUN_FOLDER`].
///
/// Another session of the run may leave, and so remove the empty folder, between its making and the claim: then it is made
/// again.
const KEEPER: &str = r#"
k=$b/$r/$K
set -C
y=0 tr=0 so= se=
while :; do
  {
    y=1
    {
      y=2
      if [ "$i" = 1 ]; then { printf "%s\n" "$S"; printf %b "$I"; } | ( step )
      else ( step ) <<E
$S
E
      fi
      c=$?
      [ -r /proc/self/fdinfo/6 ] && read -r q so </proc/self/fdinfo/6 && read -r q se </proc/self/fdinfo/7
    } 6>>"$k.out" 7>>"$k.err"
  } 5>"$k"
  [ "$y" = 0 ] && [ "$tr" -lt 9 ] && [ ! -d "$b/$r" ] || break
  tr=$((tr + 1))
  (umask 077; mkdir -p -- "$b/$r")
done
set +C
if [ "$y" = 0 ]; then
  if [ -e "$k" ]; then fr t; exit 0; fi
  e=$(touch -- "$k.x" 2>&1)
  rm -f -- "$k.x"
  fr "f ${e:-the claim cannot be written}"
  exit 0
fi
if [ "$y" = 1 ] || [ ! -s "$k" ]; then
  rm -f -- "$k" "$k.out" "$k.err"
  fr "f No space left on device (the claim could not be written)"
  exit 0
fi
q="exit $c ."
[ -e "$k.stop" ] && q="killed $c ."
printf "%-24s\n" "$q" 1<>"$k"
tell "$k.out" "$so"
tell "$k.err" "$se" >&4
fr "x $c"
fe "x $c"
"#;

/// `clear`: removes the claims `K` of run `r` and what is beside them, and the run's folder with the last of them: with
/// one process where `rm` takes empty folders too, and nothing else is left in it. `z` is what is to be said of it.
pub(super) const CLEAR: &str = r#"
clear() {
  set --
  for q in $K; do
    k=$b/$r/$q
    set -- "$@" "$k.out" "$k.err" "$k.stop" "$k"
  done
  if rm -f -d -- "$@" "$b/$r" || e=$(rm -f -- "$@" 2>&1); then
    [ ! -d "$b/$r" ] || rmdir -- "$b/$r"
    z=x
  else z="f $e"; fi
}
"#;

/// The runner serves `A`, an attached step, `C`, a claimed one, and `D`, the end of claims; other requests bring their own
/// text. Who serves the last one is `w`; with `a` it ends with the connection. `TMOUT`, which hardened hosts set, would
/// limit bash's `read`.
const RUNNER: &str = r#"
trap "" TERM HUP INT PIPE
unset TMOUT
sid=$(command -v setsid 2>/dev/null)
a=0 w= g=0 gst=-
if [ -z "$sid" ]; then
  me 2>/dev/null
  gst=$st
  [ "$pg" = "$$" ] && g=$$
fi
A() {
  wait
  a=1
  ( attached ) </dev/null &
  w=$! s= S= I=
}
C() {
  wait
  a=0
  ( exec 4>&2 2>/dev/null
  trap : TERM HUP INT PIPE
  hi
  me
  keeper
  ) </dev/null &
  w=$! s= S= I=
}
D() {
  wait
  a=0 w= s=
  fr s
  clear </dev/null 2>/dev/null
  fr "$z"
}
while IFS= read -r s; do eval "$s"; done
[ "$a" = 1 ] && kill -s TERM "$w" 2>/dev/null
exit 0
"#;

/// A keeper that leads a process group of its own, which the step shares. Its request begins with its start (`st`) and,
/// where that can be known, the boot (`nb`): what it is spared to find out byte by byte.
const KEEPER_ALONE: &str = r#"
trap : TERM HUP INT PIPE
exec 4>&2 2>/dev/null </dev/null
sid= p=$$ g=$$
hi
keeper
exit 0
"#;

/// The runner's program.
fn runner() -> String {
    [BOOT_ID, BASE, SAY, HELLO, ME, ATTACHED, STEP, "keeper() {", RUN_FOLDER, KEEPER, "}", CLEAR, RUNNER].concat()
}

/// The runner, as a command for a remote login shell.
pub static RUNNER_COMMAND: LazyLock<String> = LazyLock::new(|| command(&runner()));

/// The runner, for `sh -c`.
pub static RUNNER_PROGRAM: LazyLock<String> = LazyLock::new(|| lines(&runner()).join("\n"));

/// A keeper for one claimed step, for `sh -c` in a process group of its own.
pub static KEEPER_PROGRAM: LazyLock<String> = LazyLock::new(|| {
    let boot = ["nb=", REQUEST, "if [ -z \"$nb\" ]; then", BOOT_ID, "fi\n"].concat();
    let keeper = ["keeper() {", RUN_FOLDER, KEEPER, "}"].concat();
    lines(&[&boot, BASE, SAY, HELLO, STEP, &keeper, KEEPER_ALONE].concat()).join("\n")
});

/// Says the frame `s`, and has [`SAY`]'s `fr` and `fe`: what a script begins with.
pub(super) fn frames() -> String {
    format!("exec 4>&2{SAY}fr s\nfe s\n")
}

/// The lines of a program, without what is there for our eyes alone; first those that every one of them needs.
fn lines(text: &str) -> Vec<String> {
    let boot = BOOT.replace('$', "\\$").replace('"', "\\\"");
    let mut lines = vec!["n=${IFS#??}".to_owned(), format!("B=\"{boot}\"")];
    lines.extend(text.lines().map(str::trim_start).filter(|line| !line.is_empty()).map(str::to_owned));
    lines
}

/// A program as a command: each of its lines is a word, put together on the host. In single quotes, no login shell finds
/// anything in them that it would change (csh takes no line ends there, and short words only).
fn command(text: &str) -> String {
    let mut command = "exec sh -c 'n=${IFS#??};c=;for l in \"$@\";do c=$c$l$n;done;eval \"$c\"' sh".to_owned();
    for line in lines(text) {
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
        assert!(RUNNER_COMMAND.is_ascii() && !RUNNER_COMMAND.contains('\n'));
        for line in lines(&runner()) {
            assert!(!line.contains('\''), "it ends the word: {line}");
            assert!(!line.contains("\\\\") && !line.ends_with('\\'), "fish takes one away: {line}");
            assert!(!line.replace("! ", "").replace("!=", "").contains('!'), "csh looks it up: {line}");
            assert!(line.len() < 1000, "too long a word for csh: {line}");
        }
    }

    #[test]
    fn programs_hold_boot_unchanged() {
        let text = format!("{}\nprintf %s \"$B\"", lines("")[1]);
        let shell = std::process::Command::new("sh").args(["-c", &text]).output().expect("sh is here");
        assert_eq!(String::from_utf8_lossy(&shell.stdout), BOOT);
    }

    #[test]
    fn a_claimed_step_begins_when_nobody_listens_any_more() {
        let text = format!(
            "{SAY}{STEP}\nexec 4>&2 2>/dev/null\ntrap : PIPE\nm=m p=1 g=2 st=1 nb=- u= sid=\n\
             B='echo began; kill -s PIPE $$; echo and goes on'\n( step ) 5>/dev/null 6>&1 7>&1\necho $?"
        );
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let shell = std::process::Command::new("sh").args(["-c", &text]).stderr(writer).output().expect("sh is here");
        // 128 and 13: for the step itself the signal means what it always means.
        assert_eq!(String::from_utf8_lossy(&shell.stdout), "began\n141\n");
    }

    #[test]
    fn programs_are_programs() {
        for program in [&*RUNNER_PROGRAM, &*KEEPER_PROGRAM] {
            let shell = std::process::Command::new("sh").args(["-n", "-c", program]).output().expect("sh is here");
            assert!(shell.status.success(), "{}", String::from_utf8_lossy(&shell.stderr));
        }
    }
}
