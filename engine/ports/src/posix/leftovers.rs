//! What attempts have left in the account's folder for claims: listed, and removed.

use std::collections::BTreeMap;
use std::time::Duration;

use runbook_model::id::AttemptId;
use runbook_model::outcome::{Obstacle, ObstacleKind};

use super::ending::Mark;
use super::frame::Marker;
use super::runner::{BASE, BOOT_ID};
use super::script::{ALIVE, AtTheEnd, ClaimKey, READ_CLAIM, Script};
use super::session::{PosixSession, exit_of};
use super::wire::Wire;
use crate::leftover::{Leftover, LeftoverState};

/// As many are removed by one question.
const REMOVED_AT_ONCE: usize = 200;

/// `state` says in a few words what became of claim `K` of run `r`.
const STATE: &str = r#"
state() {
  case $v in
  '' | torn) z='lost its claim was never completed' ;;
  void) z=void ;;
  v1)
    if [ "$e1" != running ]; then z="$e1 $e2"
    elif [ "$bt" != "$nb" ]; then z='lost the host was restarted while it ran'
    elif al; then z="running $g"
    else
      ex
      if [ "$e1" != running ]; then z="$e1 $e2"
      elif gone; then z='lost it is gone, and nothing on the host says how it ended'
      else z='left its keeper is gone, and processes of it are left'; fi
    fi ;;
  *) z='lost a newer version of runbook wrote it' ;;
  esac
}
"#;

/// Prints `now SECONDS`; then, for each run, `run NAME`, `f SECONDS BYTES FILE` for each file and `c KEY ACCOUNT STATE` for
/// each claim; says how many claims there were (`x`).
const LIST: &str = r#"
exec 2>/dev/null
printf 'now %s\n' "$(date +%s)"
x=0
for D in "$b"/*; do
  [ -d "$D" ] || continue
  r=${D##*/}
  printf 'run %s\n' "$r"
  (cd "$D" && { stat -c 'f %Y %s %n' -- * || stat -f 'f %m %z %N' -- *; })
  for E in "$D"/*; do
    K=${E##*/}
    [ -f "$E" ] || continue
    case $K in *.out | *.err | *.stop | *.x) continue ;; esac
    claim
    [ -e "$E" ] || continue
    state
    x=$((x + 1))
    printf 'c %s %s %s\n' "$K" "${u:--}" "$z"
  done
done
fr "x $x"
exit 0
"#;

/// Removes those of `L` of which nothing runs, and prints the names of those that are not there any more.
const REMOVE: &str = r#"
exec 2>/dev/null
for E in $L; do
  r=${E%%/*} K=${E#*/}
  claim
  if [ -e "$k" ]; then
    state
    case $z in running* | left*) continue ;; esac
    rm -f -- "$k.out" "$k.err" "$k.stop" "$k.x" "$k" || continue
  fi
  printf '%s\n' "$E"
  rmdir -- "$b/$r"
done
fr x
exit 0
"#;

/// What both begin with.
fn script(marker: &Marker) -> Script {
    let claim = format!("claim() {{\n{READ_CLAIM}\n}}\n");
    Script::new(marker).then(BASE).then(BOOT_ID).then(ALIVE).then(&claim).then(STATE)
}

pub(super) async fn list<W: Wire>(session: &PosixSession<W>) -> Result<Vec<Leftover>, Obstacle> {
    let marker = Marker::fresh();
    let line = script(&marker).then(LIST).line();
    let answer = session.ask(&line, &marker, AtTheEnd::GiveUp).await.map_err(super::session::Silence::obstacle)?;
    let found = parse(&String::from_utf8_lossy(&answer.stdout));
    let count: Option<usize> = answer.frame.strip_prefix("x ").and_then(|count| count.parse().ok());
    if count != Some(found.len()) {
        return Err(Obstacle {
            kind: ObstacleKind::Session,
            message: format!("{}: the list of what attempts left there did not arrive whole", session.place()),
        });
    }
    Ok(found)
}

pub(super) async fn remove<W: Wire>(session: &PosixSession<W>, names: &[String]) -> Result<Vec<String>, Obstacle> {
    let mut removed = Vec::new();
    for names in names.chunks(REMOVED_AT_ONCE) {
        let marker = Marker::fresh();
        let safe = names.iter().filter(|name| is_name(name)).map(String::as_str).collect::<Vec<_>>().join(" ");
        let line = script(&marker).with("L", safe.as_bytes()).then(REMOVE).line();
        let answer = session.ask(&line, &marker, AtTheEnd::GoOn).await.map_err(super::session::Silence::obstacle)?;
        removed.extend(String::from_utf8_lossy(&answer.stdout).lines().map(str::to_owned));
    }
    Ok(removed)
}

/// `RUN/KEY`, with nothing in it that a shell would split or expand, and no way out of the folder.
fn is_name(name: &str) -> bool {
    let fine = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.%@".contains(&byte))
    };
    name.split_once('/').is_some_and(|(run, key)| fine(run) && fine(key))
}

/// What [`LIST`] printed. Lines that make no sense are left out; the count tells.
fn parse(text: &str) -> Vec<Leftover> {
    let mut found = Vec::new();
    let (mut now, mut run) = (None, "");
    let mut files: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for line in text.lines() {
        let (tag, rest) = line.split_once(' ').unwrap_or((line, ""));
        match tag {
            "now" => now = rest.parse::<u64>().ok(),
            "run" => {
                run = rest;
                files.clear();
            }
            "f" => {
                let mut words = rest.splitn(3, ' ');
                if let (Some(Ok(time)), Some(Ok(bytes)), Some(name)) =
                    (words.next().map(str::parse), words.next().map(str::parse), words.next())
                {
                    files.insert(name, (time, bytes));
                }
            }
            "c" => {
                let mut words = rest.splitn(3, ' ');
                let (Some(key), Some(account), Some(state)) = (words.next(), words.next(), words.next()) else {
                    continue;
                };
                let Some(state) = state_of(state) else { continue };
                let claim = ClaimKey { run: run.to_owned(), key: key.to_owned() };
                let own = ["", ".out", ".err", ".stop"].map(|end| files.get(format!("{key}{end}").as_str()));
                let newest = own.iter().flatten().map(|(time, _)| *time).max();
                let attempt = claim.attempt();
                found.push(Leftover {
                    name: Mark::of(&claim).as_str().to_owned(),
                    run: attempt.as_ref().map_or_else(|| run.into(), |attempt: &AttemptId| attempt.run.clone()),
                    attempt,
                    state,
                    account: (account != "-").then(|| account.to_owned()),
                    age: now.zip(newest).map(|(now, then)| Duration::from_secs(now.saturating_sub(then))),
                    bytes: own.iter().flatten().map(|(_, bytes)| *bytes).sum(),
                });
            }
            _ => {}
        }
    }
    found
}

fn state_of(text: &str) -> Option<LeftoverState> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    Some(match word {
        "running" => LeftoverState::Running { group: rest.to_owned() },
        "exit" => LeftoverState::Exited(exit_of(rest.parse().ok()?)),
        "killed" => LeftoverState::Killed,
        "void" => LeftoverState::NeverBegan,
        "lost" => LeftoverState::Lost(rest.to_owned()),
        "left" => LeftoverState::Left(rest.to_owned()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use runbook_model::outcome::Exit;

    use super::*;

    #[test]
    fn leftovers_are_read_from_what_hosts_print() {
        let text = "now 1000\nrun 0199\nf 900 50 a.undo@fs01.2\nf 940 3000 a.undo@fs01.2.out\nf 1 7 b@fs01.1\n\
                    c a.undo@fs01.2 root exit 3\nc b@fs01.1 - running 71\nrun 0200\nc b@fs01.1 - void\n\
                    c c@fs01.1 - lost the host was restarted while it ran\n";
        let found = parse(text);
        let attempt = AttemptId { run: "0199".into(), host: "fs01".into(), step: "a.undo".into(), attempt: 2 };
        assert_eq!(
            found[0],
            Leftover {
                name: "0199/a.undo@fs01.2".into(),
                run: "0199".into(),
                attempt: Some(attempt),
                state: LeftoverState::Exited(Exit::Code(3)),
                account: Some("root".into()),
                age: Some(Duration::from_secs(60)),
                bytes: 3050,
            }
        );
        assert_eq!((found[1].age, found[1].bytes), (Some(Duration::from_secs(999)), 7));
        assert_eq!(found[1].state, LeftoverState::Running { group: "71".into() });
        assert_eq!((found[2].run.as_str(), found[2].age, &found[2].state), ("0200", None, &LeftoverState::NeverBegan));
        assert!(matches!(&found[3].state, LeftoverState::Lost(why) if why.contains("restarted")));
    }

    #[test]
    fn names_that_are_syntax_or_lead_elsewhere_are_never_sent() {
        for name in ["", "a", "/a", "a/", "../a", "a/..", "a/b c", "a/$(b)", "a/b\n", "a/b/c", "a/*"] {
            assert!(!is_name(name), "{name:?}");
        }
        assert!(is_name("0199-aa/a.undo%20x@fs01.2"));
    }
}
