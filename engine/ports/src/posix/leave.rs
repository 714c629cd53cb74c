//! The last question over a session: what is left of the run is removed, and what of it would outlive the session is looked
//! for. Pure text, but for the asking.
//!
//! Three things are looked for. *Connections of before* that should be gone by now (a link that was lost, a controller that
//! died): the server's process of each is known by its number and its start, so it is never taken for another one. One that
//! does not end by itself is ended. *Ways back in*: processes that a step left and that have a terminal (tmux, screen), or
//! that are SSH clients (a tunnel). *Others* that bear the run's mark are only counted: a service that a step started is
//! none of ours to end, and no session.
//!
//! What cannot be seen: processes of accounts whose environments the login account may not read, and without `/proc` none.

use runbook_model::id::AttemptId;
use runbook_model::outcome::{Obstacle, ObstacleKind};
use runbook_model::session::{PROCESSES_MAX, Process, There, WayIn};

use super::ending::VARIABLE;
use super::frame::Marker;
use super::runner::{BASE, CLEAR};
use super::script::{AtTheEnd, ClaimKey, Script};
use super::session::{PosixSession, Silence};
use super::wire::Wire;
use crate::transport::{LookFor, Seen};

/// A program's name is shown so far.
const NAME_CHARS_MAX: usize = 60;

/// Says, one a line: `p gone|ended|left PID:START` for each of `P`; `w terminal|ssh PID NAME` for each way in; `o COUNT`; `b WHY`
/// when it cannot look. Then how many lines there were (`x`). `t` twentieths of a second are given to `P` to end.
const LEAVE: &str = r#"
exec 2>/dev/null
if [ -n "$K" ]; then
  clear
  case $z in f*) fr "$z"; exit 0 ;; esac
fi
x=0
say() {
  x=$((x + 1))
  printf '%s\n' "$1"
}
lives() {
  y=$1 q=
  { read -r q <"/proc/${y%:*}/stat"; }
  set -- ${q##*) }
  case ${1:-Z} in Z | X | x) return 1 ;; esac
  [ "${20}" = "${y#*:}" ]
}
rest() { if sleep 0.05; then w=$((w + 1)); else sleep 1; w=$((w + 20)); fi; }
way() {
  h=
  { read -r c <"/proc/$1/comm" && read -r l <"/proc/$1/stat"; } || return 1
  i=$1
  set -- ${l##*) }
  case $1:$5:$c in
  Z:* | X:* | x:*) return 0 ;;
  *:0:ssh) h=ssh ;;
  *:0:*) return 1 ;;
  *) h=terminal ;;
  esac
  case $V in *" $i "*) return 0 ;; esac
  V="$V$i "
  say "w $h $i $c"
}
if [ ! -r /proc/self/stat ]; then say 'b the host has no /proc, so nothing could be looked for'
else
  w=0
  for p in $P; do
    while lives "$p" && [ "$w" -lt "$t" ]; do rest; done
  done
  for p in $P; do
    if ! lives "$p"; then say "p gone $p"; continue; fi
    read -r c <"/proc/${p%:*}/comm"
    case $c in
    sshd | sshd-session | dropbear)
      for g in TERM KILL; do
        kill -s "$g" "${p%:*}"
        w=0
        while lives "$p" && [ "$w" -lt 20 ]; do rest; done
        lives "$p" || break
      done ;;
    esac
    if lives "$p"; then say "p left $p"; else say "p ended $p"; fi
  done
  V=' ' o=0
  if printf 'a\0b\0' | grep -q -z -e '^b'; then
    # All of them are read once. Of what came over this connection, what bears the mark as well is the step's.
    for q in $(LC_ALL=C grep -l -s -z -e "$E" -e "^SSH_CONNECTION=${SSH_CONNECTION:-.^}\$" /proc/[0-9]*/environ); do
      q=${q%/environ}
      way "${q##*/}" || { LC_ALL=C grep -q -s -z -e "$E" "$q/environ" && o=$((o + 1)); }
    done
    say "o $o"
  else say 'b its grep knows no -z, so what steps left could not be looked for'; fi
fi
fr "x $x"
exit 0
"#;

pub(super) async fn leave<W: Wire>(
    session: &PosixSession<W>,
    attempts: &[AttemptId],
    look: &LookFor,
) -> Result<Seen, Obstacle> {
    let marker = Marker::fresh();
    let claims: Vec<ClaimKey> = attempts.iter().map(ClaimKey::of).collect();
    let run = claims.first().map(|claim| claim.run.clone()).unwrap_or_default();
    if claims.iter().any(|claim| claim.run != run) {
        return Err(Obstacle {
            kind: ObstacleKind::Local,
            message: "attempts of two runs are not left in one go".into(),
        });
    }
    // A key has no character that a shell would split or expand.
    let keys = claims.iter().map(|claim| claim.key.as_str()).collect::<Vec<_>>().join(" ");
    let line = script(&marker, &run, &keys, look);
    let answer = session.ask(&line, &marker, AtTheEnd::GiveUp).await.map_err(Silence::obstacle)?;
    if let Some(text) = answer.frame.strip_prefix("f ") {
        return Err(session.host_obstacle(text));
    }
    let text = String::from_utf8_lossy(&answer.stdout);
    let count: Option<usize> = answer.frame.strip_prefix("x ").and_then(|count| count.parse().ok());
    if count != Some(text.lines().count()) {
        let message = format!("{}: what is left there did not arrive whole", session.place());
        return Err(Obstacle { kind: ObstacleKind::Session, message });
    }
    Ok(parse(&text))
}

fn script(marker: &Marker, run: &str, keys: &str, look: &LookFor) -> Vec<u8> {
    let of_run = ClaimKey::of(&AttemptId { run: look.run.clone(), host: "".into(), step: "".into(), attempt: 1 }).run;
    let pattern = format!("^{VARIABLE}=\\(.*:\\)*{}/", of_run.replace('.', "[.]"));
    let processes: Vec<&str> = look.processes.iter().map(String::as_str).filter(|text| is_process(text)).collect();
    let twentieths = look.patience.as_millis().div_ceil(50);
    Script::new(marker)
        .with("r", run.as_bytes())
        .with("K", keys.as_bytes())
        .with("P", processes.join(" ").as_bytes())
        .with("t", twentieths.to_string().as_bytes())
        .with("E", pattern.as_bytes())
        .then(BASE)
        .then(CLEAR)
        .then(LEAVE)
        .line()
}

/// `NUMBER:START`, and nothing that a shell would take for anything else.
pub(super) fn is_process(text: &str) -> bool {
    let number = |part: &str| !part.is_empty() && part.len() < 24 && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once(':').is_some_and(|(pid, start)| number(pid) && number(start))
}

/// What [`LEAVE`] said. A line that makes no sense is told as such: nothing is taken for gone that was not said to be.
fn parse(text: &str) -> Seen {
    let mut seen = Seen::default();
    for line in text.lines() {
        let (tag, rest) = line.split_once(' ').unwrap_or((line, ""));
        let understood = match tag {
            "p" => rest.split_once(' ').and_then(|(word, process)| {
                let there = match word {
                    "gone" => There::Gone,
                    "ended" => There::Ended,
                    "left" => There::Left(process.to_owned()),
                    _ => return None,
                };
                seen.processes.push((process.to_owned(), there));
                Some(())
            }),
            "w" => way(rest).map(|process| {
                if seen.ways_in.len() < PROCESSES_MAX {
                    seen.ways_in.push(process);
                } else {
                    seen.others += 1;
                }
            }),
            "o" => rest.parse::<u64>().ok().map(|others| seen.others += others),
            "b" => {
                seen.unknown = Some(rest.to_owned());
                Some(())
            }
            _ => None,
        };
        if understood.is_none() {
            seen.unknown.get_or_insert_with(|| "the host's answer made no sense".to_owned());
        }
    }
    seen
}

fn way(text: &str) -> Option<Process> {
    let mut words = text.splitn(3, ' ');
    let how = match words.next()? {
        "terminal" => WayIn::Terminal,
        "ssh" => WayIn::Ssh,
        _ => return None,
    };
    let pid = words.next()?.parse().ok()?;
    Some(Process { pid, how, name: words.next().unwrap_or_default().chars().take(NAME_CHARS_MAX).collect() })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_a_host_says_is_left_is_read_and_nothing_is_taken_for_gone_that_was_not_said_to_be() {
        let seen = parse("p gone 12:340\np left 13:341\nw terminal 70 tmux: server\nw ssh 71 ssh\no 2\n");
        let expected = Seen {
            processes: vec![("12:340".into(), There::Gone), ("13:341".into(), There::Left("13:341".into()))],
            ways_in: vec![
                Process { pid: 70, name: "tmux: server".into(), how: WayIn::Terminal },
                Process { pid: 71, name: "ssh".into(), how: WayIn::Ssh },
            ],
            others: 2,
            unknown: None,
        };
        assert_eq!(seen, expected);
        assert_eq!(parse("p vanished 12:340\n").unknown.as_deref(), Some("the host's answer made no sense"));
        assert_eq!(parse("b no /proc\n").unknown.as_deref(), Some("no /proc"));
    }

    #[test]
    fn only_what_is_a_process_is_sent() {
        assert!(is_process("12:340"));
        for text in ["", "12", "12:", ":3", "12:3 4", "1;2:3", "$(x):1", "12:3\n"] {
            assert!(!is_process(text), "{text:?}");
        }
        let look = LookFor {
            run: "0199.a".into(),
            processes: vec!["12:340".into(), "$(rm):1".into()],
            patience: Duration::from_millis(120),
        };
        let line = String::from_utf8(script(&Marker::fresh(), "0199.a", "", &look)).unwrap();
        assert!(line.contains("P='12:340';") && line.contains("t='3';") && !line.contains("$(rm)"));
        assert!(line.contains("0199[.]a/"));
        assert_eq!(line.matches('\n').count(), 1);
    }
}
