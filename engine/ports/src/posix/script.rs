//! The host's side of the protocol, as text for `sh`. Pure.
//!
//! Where attempts are claimed. Each account has one private folder, `~/.local/state/runbook` (or, for accounts without
//! a home of their own, `/var/tmp/.runbook-UID`): it survives a reboot, and nobody else can write there. In it a folder
//! per run; in that, per attempt, a claim file made by an exclusive create (the shell's `set -C`: `O_EXCL`, atomic, and
//! one process less than `mkdir`), and beside it
//!
//! | file | what |
//! | --- | --- |
//! | `KEY` | the claim. First its state: `running`, overwritten in place by `exit N .` or `killed N .` (a full disk cannot prevent that). Then `v1 pid pgid start boot account`: its keeper, its process group, when the keeper started. Both lines are `void` when a probe made sure that it never begins |
//! | `KEY.out`, `KEY.err` | the outputs, byte for byte |
//! | `KEY.stop` | somebody stops it: `asked`, then `gone` once that is proved |
//!
//! A *keeper* (see [`runner`](super::runner)) starts the step's own shell, waits for it, and writes down how it ended. The
//! process group is the step's own; where the host has no `setsid`, the keeper is in it too.

use runbook_model::Sha256;
use runbook_model::id::AttemptId;

use super::ending::{KIN, Mark, STOP};
use super::frame::Marker;
use super::runner::{BASE, BOOT_ID, RUN_FOLDER, frames};
use super::{BOOT, push_assignment, push_word};
use crate::transport::UploadTarget;

/// `al`: is the keeper `p`, started at `st`, alive? (`pp` is then its parent, where that is known.) `gone`: is nothing left
/// of group `g`? (Zombies count as gone, where `ps` tells.)
pub(super) const ALIVE: &str = r#"
al() {
  if [ -r /proc/self/stat ]; then
    [ -r "/proc/$p/stat" ] || return 1
    q=
    { read -r q <"/proc/$p/stat"; } 2>/dev/null
    set -- $q
    pp=${4:-}
    [ "${22:-}" = "$st" ] && [ "$3" != Z ]
  else
    kill -s 0 "$p" 2>/dev/null
  fi
}
zombies() {
  ps -A -o pgid= -o stat= 2>/dev/null | {
    y=1
    while read -r q z; do
      y=0
      if [ "$q" = "$g" ]; then case $z in Z*) ;; *) exit 1 ;; esac; fi
    done
    exit "$y"
  }
}
gone() {
  [ "$g" -gt 1 ] || return 1
  if q=$(LC_ALL=C kill -s 0 -- "-$g" 2>&1); then zombies; return; fi
  case $q in *"o such process"*) return 0 ;; esac
  return 1
}
"#;

/// Reads a claim: `v` is empty without one. Between its making and its writing passes a moment, which is waited for.
/// `ex` reads its state again: `e1` is `exit`, `killed` or `running`.
pub(super) const READ_CLAIM: &str = r#"
k=$b/$r/$K
v= p=0 g=0 st=- bt=- u= e1= e2= e3= pp=
w=0
while [ -e "$k" ]; do
  { read -r e1 e2 e3; read -r v p g st bt u; } <"$k"
  [ -z "$v" ] && [ "$w" -lt 40 ] || break
  w=$((w + 1))
  sleep 0.05 || sleep 1
done
[ -z "$v" ] && [ -e "$k" ] && v=torn
[ "$u" = - ] && u=
ex() {
  e1= e2= e3=
  [ -e "$k" ] && read -r e1 e2 e3 <"$k"
  case $e1$e3 in exit. | killed.) ;; *) e1=running ;; esac
}
ex
"#;

/// Follows a claimed attempt from byte `o` of its standard output and `f` of its standard error.
///
/// The outputs are read until `h` has ended, which ends with the process group's first process. That one is still there
/// for `tail` when its exit is taken by nobody (its parent is stopped, or the host's first process takes none): so once a
/// second somebody looks whether the step has an end, and then ends `h`.
const FOLLOW: &str = r#"
exec 4>&2 2>/dev/null
case $v in
'') fr n; fe n; exit 0 ;;
void) fr v; fe v; exit 0 ;;
v1) ;;
*) fr 'l its claim was never completed'; fe l; exit 0 ;;
esac
if [ "$f" -gt 0 ]; then f=$((f + z)); elif [ -n "$u" ]; then fe "h $u"; fi
h= i= j=
trap 'kill -s KILL $i $j $h; exit 0' TERM
if [ "$e1" = running ] && [ "$bt" = "$nb" ] && al; then
  if [ "$pp" != "$g" ] && tail --pid="$$" -c 0 /dev/null; then
    tail -s 0.05 --pid="$g" -f /dev/null 4>&- >/dev/null &
    h=$!
    tail -c "+$((o + 1))" -s 0.05 --pid="$h" -f "$k.out" &
    i=$!
    tail -c "+$((f + 1))" -s 0.05 --pid="$h" -f "$k.err" >&4 &
    j=$!
    (
      trap - TERM
      while sleep 1 && kill -s 0 "$h"; do
        ex
        if [ "$e1" != running ] || ! al; then kill -s KILL "$h"; fi
      done
    ) 4>&- >/dev/null &
    wait "$i" "$j"
    ex
    while [ "$e1" = running ] && al; do
      sleep 0.05 || sleep 1
      ex
    done
  else
    exec 5<"$k.out" 6<"$k.err"
    dd bs=1 skip="$o" count=0 <&5
    dd bs=1 skip="$f" count=0 <&6
    while al; do
      cat <&5
      cat <&6 >&4
      sleep 0.1 || sleep 1
      ex
      [ "$e1" = running ] || break
    done
    cat <&5
    cat <&6 >&4
  fi
  ex
else
  ex
  tail -c "+$((o + 1))" "$k.out"
  tail -c "+$((f + 1))" "$k.err" >&4
fi
so=$(($(wc -c <"$k.out") - o))
se=$(($(wc -c <"$k.err") - f))
case $e1 in
exit) q="x $e2 $so $se" ;;
killed)
  q=
  read -r q <"$k.stop"
  if [ "$q" = gone ]; then q="k $e2 $so $se"; else q="p $e2 $so $se"; fi ;;
*) if [ "$bt" != "$nb" ]; then q='l the host was restarted while it ran'
  elif gone; then q='l it is gone, and nothing on the host says how it ended'
  else q='l its keeper is gone, and processes of it are left'; fi ;;
esac
fr "$q"
fe "$q"
exit 0
"#;

/// What is known of a claim. Without one, claims the id for good.
const PROBE: &str = r#"
exec 4>&2 2>/dev/null
set -C
c=0
{ c=1; printf '%-24s\nvoid\n' void && c=2; } >"$b/$r/$K"
set +C
case $c in
2) fr n; exit 0 ;;
1) fr 'f No space left on device (the claim could not be written)'; exit 0 ;;
esac
"#;

const PROBE_ANSWER: &str = r#"
case $v in
'') fr 'f the claim cannot be written or read' ;;
void) fr n ;;
v1)
  w=; al && w=1
  ex
  if [ "$e1" != running ]; then fr x
  elif [ "$bt" != "$nb" ]; then fr 'l the host was restarted while it ran'
  elif [ -n "$w" ]; then fr r
  elif gone; then fr 'l it is gone, and nothing on the host says how it ended'
  else fr 'l its keeper is gone, and processes of it are left'; fi ;;
*) fr 'l its claim was never completed' ;;
esac
exit 0
"#;

/// What the host says of itself, and how it let us in, one thing a line.
const FACTS: &str = r#"
uname -srm
printf 'boot %s\n' "$nb"
if [ -r /etc/os-release ]; then
  while IFS= read -r q || [ -n "$q" ]; do
    case $q in ID=* | VERSION_ID=*) printf 'os %s\n' "$q" ;; esac
  done </etc/os-release
fi
date '+now %s %N'
if [ -n "${SSH_USER_AUTH:-}" ] && [ -r "$SSH_USER_AUTH" ]; then
  while IFS= read -r q || [ -n "$q" ]; do printf 'auth %s\n' "$q"; done <"$SSH_USER_AUTH"
fi
if [ -r "/proc/$PPID/stat" ] && read -r c <"/proc/$PPID/comm" && read -r q <"/proc/$PPID/stat"; then
  set -- ${q##*) }
  case $c in sshd | sshd-session | dropbear) printf 'from %s:%s\n' "$PPID" "${20}" ;; esac
fi
fr x
exit 0
"#;

/// Where and what an attempt's claim is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimKey {
    /// The run's folder.
    pub run: String,
    /// The claim's file name.
    pub key: String,
}

impl ClaimKey {
    /// The one of an attempt: readable, safe as a file name, at most 120 bytes.
    pub fn of(attempt: &AttemptId) -> Self {
        let key = format!("{}@{}.{}", safe(attempt.step.as_str()), safe(attempt.host.as_str()), attempt.attempt);
        Self { run: shortened(safe(attempt.run.as_str())), key: shortened(key) }
    }

    /// Which attempt it is the one of, unless its names were too long to be kept.
    pub fn attempt(&self) -> Option<AttemptId> {
        let (cell, attempt) = self.key.rsplit_once('.')?;
        let (step, host) = cell.split_once('@')?;
        let attempt = AttemptId {
            run: plain(&self.run)?.into(),
            host: plain(host)?.into(),
            step: plain(step)?.into(),
            attempt: attempt.parse().ok()?,
        };
        (Self::of(&attempt) == *self).then_some(attempt)
    }
}

/// The text of which [`safe`] made `name`.
fn plain(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let hex = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// `text` with every character that is special somewhere replaced by `%` and its code; different texts stay different.
fn safe(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || (byte == b'.' && !name.is_empty()) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02x}"));
        }
    }
    name
}

fn shortened(name: String) -> String {
    if name.len() <= 120 {
        return name;
    }
    let digest = Sha256::of(name.as_bytes()).to_string();
    let hex: String = digest.chars().rev().take(32).collect();
    format!("{}%{hex}", &name[..80])
}

/// A script: assignments, then texts, as one line for [`BOOT`].
#[derive(Debug, Default)]
pub struct Script {
    line: Vec<u8>,
    body: String,
}

impl Script {
    /// An empty one whose frames have this marker.
    pub fn new(marker: &Marker) -> Self {
        Self::default().with("m", marker.as_str().as_bytes()).then(&frames())
    }

    /// Sets a variable.
    pub fn with(mut self, name: &str, value: &[u8]) -> Self {
        push_assignment(&mut self.line, name, value);
        self
    }

    pub(super) fn then(mut self, text: &str) -> Self {
        self.body.push_str(text);
        self
    }

    fn claim(self, claim: &ClaimKey) -> Self {
        self.with("r", claim.run.as_bytes()).with("K", claim.key.as_bytes()).then(BASE)
    }

    /// What finds the processes that bear a mark.
    fn kin(self, mark: &Mark) -> Self {
        self.with("E", mark.pattern().as_bytes()).with("M", mark.as_str().as_bytes()).with("X", bare(KIN).as_bytes())
    }

    /// The line of assignments, with the name of what is asked for.
    fn request(self, name: &str) -> Vec<u8> {
        let mut line = self.line;
        line.extend_from_slice(name.as_bytes());
        line.push(b'\n');
        line
    }

    /// The line, with its end.
    pub fn line(self) -> Vec<u8> {
        let mut line = self.line;
        if self.body.is_empty() {
            line.push(b'\n');
            return line;
        }
        line.extend_from_slice(b"eval ");
        push_word(&mut line, bare(&self.body).as_bytes());
        line.push(b'\n');
        line
    }
}

/// A text without what is there for our eyes alone: the host's shell reads it byte by byte, a system call each.
fn bare(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_start).filter(|line| !line.is_empty()).collect();
    lines.join("\n")
}

/// What a keeper needs to start the step's own shell.
pub struct Start<'a> {
    /// The lines for that shell.
    pub lines: &'a [u8],
    /// Its standard input, escaped for `printf %b`.
    pub stdin: Option<&'a [u8]>,
    /// The account to become.
    pub account: Option<&'a str>,
}

/// What a runner does when the connection ends while it serves a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtTheEnd {
    /// The question is given up.
    GiveUp,
    /// It is carried on.
    GoOn,
}

/// A script's line as a question to a runner.
pub fn question(script: &[u8], at_the_end: AtTheEnd) -> Vec<u8> {
    let mut line: Vec<u8> = match at_the_end {
        AtTheEnd::GiveUp => b"wait;a=1;(trap : TERM HUP INT PIPE;".to_vec(),
        AtTheEnd::GoOn => b"wait;a=0;(trap : TERM HUP INT PIPE;".to_vec(),
    };
    line.extend_from_slice(script.strip_suffix(b"\n").unwrap_or(script));
    line.extend_from_slice(b")</dev/null&w=$! s=\n");
    line
}

/// The request of a run to a shell of [`runner`](super::runner).
fn start(marker: &Marker, start: &Start<'_>) -> Script {
    let lines = start.lines.strip_suffix(b"\n").unwrap_or(start.lines);
    let script = Script::default()
        .with("m", marker.as_str().as_bytes())
        .with("u", start.account.unwrap_or_default().as_bytes())
        .with("i", if start.stdin.is_some() { b"1" } else { b"0" })
        .with("S", lines);
    match start.stdin {
        Some(stdin) => script.with("I", stdin),
        None => script,
    }
}

/// Asks a runner for an attached run; when the connection ends, its group gets TERM and `grace_s` later KILL.
pub fn attached(marker: &Marker, how: &Start<'_>, grace_s: u64) -> Vec<u8> {
    start(marker, how).with("t", grace_s.to_string().as_bytes()).request("A")
}

/// Asks a runner, or a keeper that waits for its request, for a claimed run.
pub fn claimed(marker: &Marker, claim: &ClaimKey, how: &Start<'_>, runner: bool) -> Vec<u8> {
    let script = start(marker, how).with("r", claim.run.as_bytes()).with("K", claim.key.as_bytes());
    if runner { script.request("C") } else { script.line() }
}

/// Follows a claimed attempt from these bytes of its outputs on.
pub fn follow(marker: &Marker, claim: &ClaimKey, stdout: u64, stderr: u64) -> Vec<u8> {
    // The frame `b` or `c` that a step's shell may have printed is in the file, and was not counted as output.
    let announced = marker.frame_bytes("b");
    Script::new(marker)
        .with("o", stdout.to_string().as_bytes())
        .with("f", stderr.to_string().as_bytes())
        .with("z", announced.to_string().as_bytes())
        .claim(claim)
        .then(BOOT_ID)
        .then(ALIVE)
        .then(READ_CLAIM)
        .then(ANNOUNCED)
        .then(FOLLOW)
        .line()
}

/// Sets `z` to 0 unless the stored standard error holds a frame.
const ANNOUNCED: &str = r#"
[ "$f" -gt 0 ] && { LC_ALL=C grep -q -a -F "$m b" "$k.err" 2>/dev/null || z=0; }
"#;

/// Asks for what the host knows of an attempt.
pub fn probe(marker: &Marker, claim: &ClaimKey) -> Vec<u8> {
    let script = Script::new(marker).claim(claim).then(RUN_FOLDER).then(PROBE);
    script.then(BOOT_ID).then(ALIVE).then(READ_CLAIM).then(PROBE_ANSWER).line()
}

/// Ends a claimed attempt.
pub fn stop_claimed(marker: &Marker, claim: &ClaimKey, grace_ms: u64) -> Vec<u8> {
    let script = Script::new(marker)
        .with("t", twentieths(grace_ms).as_bytes())
        .kin(&Mark::of(claim))
        .with("j", b"0")
        .claim(claim);
    script.then(BOOT_ID).then(ALIVE).then(READ_CLAIM).then(STOP).line()
}

/// An attached run that is to be ended: it said `w group start`.
#[derive(Debug, Clone, Copy)]
pub struct Attached<'a> {
    /// What its processes bear.
    pub mark: &'a Mark,
    /// Its process group, and who leads it.
    pub group: &'a str,
    /// When the leader began, as `/proc/PID/stat` says, or `-`.
    pub start: &'a str,
    /// The account that the step became.
    pub account: Option<&'a str>,
    /// Its channel was closed, so its group has been ended already, or is about to be.
    pub given_up: bool,
}

/// Ends an attached run.
pub fn stop_attached(marker: &Marker, what: &Attached<'_>, grace_ms: u64) -> Vec<u8> {
    Script::new(marker)
        .with("t", twentieths(grace_ms).as_bytes())
        .kin(what.mark)
        .with("j", if what.given_up { b"0" } else { b"1" })
        .with("K", b"")
        .with("g", what.group.as_bytes())
        .with("p", what.group.as_bytes())
        .with("st", what.start.as_bytes())
        .with("u", what.account.unwrap_or_default().as_bytes())
        .then(ALIVE)
        .then(STOP)
        .line()
}

/// Asks a runner to remove claims of one run.
pub fn clear(marker: &Marker, claims: &[ClaimKey]) -> Vec<u8> {
    let run = claims.first().map(|claim| claim.run.clone()).unwrap_or_default();
    // A key has no character that a shell would split or expand.
    let key = claims.iter().map(|claim| claim.key.as_str()).collect::<Vec<_>>().join(" ");
    let script = Script::default().with("m", marker.as_str().as_bytes());
    script.with("r", run.as_bytes()).with("K", key.as_bytes()).request("D")
}

/// Asks whether anybody is there.
pub fn check(marker: &Marker) -> Vec<u8> {
    Script::new(marker).then("fr x\nexit 0\n").line()
}

/// Puts what follows on standard input into a file beside `to`, checks it, renames it over `to`.
pub(super) fn upload(marker: &Marker, target: &UploadTarget) -> Vec<u8> {
    let (folder, name) = match target.to.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((folder, name)) => (folder, name),
        None => (".", target.to.as_str()),
    };
    let short: String = name.chars().take(40).collect();
    let temporary = format!("{}/.{short}.{}", folder.trim_end_matches('/'), marker.as_str());
    let digest = target.sha256.to_string();
    Script::new(marker)
        .with("T", target.to.as_bytes())
        .with("D", folder.as_bytes())
        .with("P", temporary.as_bytes())
        .with("H", digest.rsplit(':').next().unwrap_or_default().as_bytes())
        .with("mo", format!("{:04o}", target.mode).as_bytes())
        .with("ow", target.owner.as_deref().unwrap_or_default().as_bytes())
        .with("gr", target.group.as_deref().unwrap_or_default().as_bytes())
        .then(DIGEST)
        .then(UPLOAD)
        .line()
}

/// Prints a file, its length and digest before it.
pub(super) fn download(marker: &Marker, from: &str, bytes_max: u64) -> Vec<u8> {
    let script = Script::new(marker).with("T", from.as_bytes()).with("x", bytes_max.to_string().as_bytes());
    script.then(DIGEST).then(DOWNLOAD).line()
}

/// Goes on as another account: the next line is for the shell that `sudo` starts.
pub(super) fn become_account(account: &str) -> Vec<u8> {
    let script = Script::default().with("u", account.as_bytes()).with("B", BOOT.as_bytes());
    script.then("exec sudo -n -H -u \"$u\" -- sh -c \"$B\"").line()
}

/// `sum FILE` sets `h`, its SHA-256 in hexadecimal digits, or fails.
const DIGEST: &str = r#"
sum() {
  if command -v sha256sum >/dev/null 2>&1; then h=$(sha256sum <"$1")
  elif command -v shasum >/dev/null 2>&1; then h=$(shasum -a 256 <"$1")
  elif command -v openssl >/dev/null 2>&1; then h=$(openssl dgst -sha256 -r <"$1")
  elif command -v sha256 >/dev/null 2>&1; then h=$(sha256 -q <"$1")
  else h=; return 1; fi
  h=${h%% *}
}
"#;

const UPLOAD: &str = r#"
exec 2>/dev/null
no() { rm -f -- "$P"; fr "f $1"; exit 0; }
[ -d "$T" ] && { fr 'f it is a folder there'; exit 0; }
if [ ! -d "$D" ]; then e=$(mkdir -p -- "$D" 2>&1) || { fr "f $e"; exit 0; }; fi
e=$( { umask 077; cat >"$P"; } 2>&1) || no "$e"
sum "$P" || no 'the host has none of sha256sum, shasum and openssl'
[ "$h" = "$H" ] || no "what arrived has the digest $h, not $H"
if [ -n "$ow" ]; then e=$(chown -- "$ow${gr:+:$gr}" "$P" 2>&1) || no "$e"
elif [ -n "$gr" ]; then e=$(chgrp -- "$gr" "$P" 2>&1) || no "$e"; fi
e=$(chmod "$mo" "$P" 2>&1) || no "$e"
e=$(mv -f -- "$P" "$T" 2>&1) || no "$e"
fr x
exit 0
"#;

const DOWNLOAD: &str = r#"
exec 4>&2 2>/dev/null
[ -d "$T" ] && { fr 'f it is a folder'; exit 0; }
[ -e "$T" ] || { fr 'f there is no such file'; exit 0; }
[ -r "$T" ] || { fr 'f it may not be read'; exit 0; }
q=$(($(wc -c <"$T")))
[ "$q" -le "$x" ] || { fr "f it has $q bytes, and at most $x are allowed"; exit 0; }
sum "$T" || { fr 'f the host has none of sha256sum, shasum and openssl'; exit 0; }
fr "d $q $h"
head -c "$q" "$T" || { fr 'f it could not be read to its end'; exit 0; }
fr x
exit 0
"#;

/// Asks what the host is.
pub fn facts(marker: &Marker) -> Vec<u8> {
    Script::new(marker).then(BOOT_ID).then(FACTS).line()
}

fn twentieths(ms: u64) -> String {
    ms.div_ceil(50).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(host: &str) -> AttemptId {
        AttemptId { run: "0199".into(), host: host.into(), step: "data.restore".into(), attempt: 2 }
    }

    #[test]
    fn claims_are_readable_and_never_leave_their_folder() {
        assert_eq!(ClaimKey::of(&attempt("fs01")).key, "data.restore@fs01.2");
        let odd = ClaimKey::of(&attempt("../../etc/passwd $(x)"));
        assert!(!odd.key.contains('/') && !odd.key.contains(' ') && !odd.key.contains('$'), "{odd:?}");
        assert_ne!(ClaimKey::of(&attempt("a/b")).key, ClaimKey::of(&attempt("a%2fb")).key);
        for host in ["fs01", "../../etc/passwd $(x)", "a%2fb", "é@b.3"] {
            assert_eq!(ClaimKey::of(&attempt(host)).attempt(), Some(attempt(host)));
        }
        let long = "x".repeat(300);
        assert_eq!(ClaimKey::of(&attempt(&long)).attempt(), None);
        assert!(ClaimKey::of(&attempt(&long)).key.len() <= 120);
        assert_ne!(ClaimKey::of(&attempt(&long)), ClaimKey::of(&attempt(&format!("{long}y"))));
    }

    #[test]
    fn every_script_is_one_line() {
        let marker = Marker::fresh();
        let claim = ClaimKey::of(&attempt("h"));
        let how = Start { lines: b"echo 'a\nb'\n", stdin: Some(b"x\n"), account: Some("o'brien") };
        let mark = Mark::attached(&marker);
        let leaving = Attached { mark: &mark, group: "12", start: "34", account: None, given_up: false };
        for line in [
            attached(&marker, &how, 5),
            claimed(&marker, &claim, &how, true),
            question(&check(&marker), AtTheEnd::GoOn),
            follow(&marker, &claim, 1, 2),
            probe(&marker, &claim),
            stop_claimed(&marker, &claim, 10),
            stop_attached(&marker, &leaving, 10),
            clear(&marker, std::slice::from_ref(&claim)),
            facts(&marker),
        ] {
            assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
            assert!(line.ends_with(b"\n") && !line.contains(&0));
        }
    }
}
