//! How an attempt is ended on its host, and how that is proved. Pure text.
//!
//! A step's processes are known by four signs: they are in its process group; they are in its session; they have its
//! [`Mark`] in their environment, which a process hands on to everything that it starts; or one that is known started
//! them. So a process that left the group (`setsid`, a double fork, `nohup` in a job of its own) is found as well, as long
//! as one sign is left on it. A process that wiped its environment (`env -i`, `sudo` within the step, servers that write
//! their title over it) *and* whose parent has ended *and* that has a session of its own bears none: nothing but a cgroup
//! of its own for each attempt would know it, and that would cost every step a process more than it has.
//!
//! Environments can be read of processes of the same account, and by root. So the login account looks, and, for a step
//! with `as`, that account as well. All of it is read from `/proc`; where there is none, `ps` tells the group and what
//! descends from it, and marks cannot be looked for.
//!
//! Never signalled are the processes through which we came in, nor an SSH server that bears the mark: ending it would
//! shut the host.

use super::frame::Marker;
use super::script::ClaimKey;
use runbook_model::Sha256;

/// The variable that every process of an attempt has in its environment.
pub const VARIABLE: &str = "RUNBOOK_ATTEMPT";

/// What the variable holds: `RUN/STEP@HOST.N` for a claimed attempt, as its files on the host are called. Where a step
/// runs this program itself, the marks of the steps around it follow, each after a colon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark(String);

impl Mark {
    /// The one of a claimed attempt.
    pub fn of(claim: &ClaimKey) -> Self {
        Self(format!("{}/{}", claim.run, claim.key))
    }

    /// The one of what runs attached: known to nobody else, and telling nothing of the marker.
    pub fn attached(marker: &Marker) -> Self {
        let digest = Sha256::of(format!("runbook processes of {}", marker.as_str()).as_bytes()).to_string();
        let hex: String = digest.chars().rev().take(32).collect();
        Self(format!("attached/{hex}"))
    }

    /// The text. It has no character that a shell would split or expand.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What sets the variable, for `sh`.
    pub(super) fn export(&self) -> String {
        format!("export {VARIABLE}={}${{{VARIABLE}:+:${VARIABLE}}};", self.0)
    }

    /// What `grep -x` finds the variable by.
    pub(super) fn pattern(&self) -> String {
        // The dot is the only character of a mark that means something in a pattern.
        format!("{VARIABLE}=\\(.*:\\)*{}\\(:.*\\)*", self.0.replace('.', "[.]"))
    }
}

/// `kin` sets `l` to the live processes of the attempt, each as `pid:start`, and `o` to those outside of the group, by the
/// group `own` (empty: none is ours for sure), the pattern `E` and those seen before (`D`).
///
/// A host is not read in one moment: a program that forks away from itself may be missed. So those that are new since are
/// read again, until all of them outlive their reading: then, and only then, `all` says that none was missed, since who
/// bears the mark at the moment of the list is new in it or was read before. `met` says that something was seen that could
/// have done so. With `now`, each is killed as soon as it is found, before it can fork away.
pub(super) const KIN: &str = r#"
bears() {
  i=${1##*/} c=
  e="$e$i "
  [ -n "$now" ] || return
  { read -r c <"$1/comm"; } 2>/dev/null
  case "$a:$c:" in *" $i "* | *:sshd:* | *:sshd-session:* | *:sshd-auth:* | *:dropbear:*) ;; *) kill -s KILL "$i" 2>/dev/null ;; esac
}
kin() {
  l=' ' o= e=' ' W=' ' P= all= y=0
  if [ -r /proc/self/stat ]; then
    if [ -z "$a" ]; then
      a=' ' i=$$
      while [ "${i:-0}" -gt 1 ] && { read -r q <"/proc/$i/stat"; } 2>/dev/null; do
        a="$a$i " q=${q##*) }
        q=${q#* } i=${q%% *}
      done
    fi
    while [ "$y" -lt "${met:+1}3" ] && [ -z "$all" ]; do
      z= y=$((y + 1))
      set -- /proc/[0-9]*
      for q do
        case $P in *" $q "*) ;; *) z="$z $q" ;; esac
      done
      P=" $* " all=1
      if [ "$y" = 1 ]; then
        for q in $(LC_ALL=C grep -l -s -z -x -e "$E" /proc/[0-9]*/environ); do bears "${q%/*}"; done
      else
        for q in $z; do
          {
            while IFS= read -r c || [ -n "$c" ]; do
              case $c in *[=:]"$M" | *[=:]"$M"[!0-9]*) bears "$q"; break ;; esac
            done <"$q/environ"
          } 2>/dev/null
        done
      fi
      for q in $z; do
        [ -e "$q" ] || all=
      done
    done
    q=$(LC_ALL=C grep -s '' /proc/[0-9]*/stat)
    set -f
    IFS=$n
    set -- $q
    IFS=' '
    for q do
      i=${q#/proc/} z=${q#*) }
      i=${i%%/*} c=
      case $z in *") "*) z=${q##*) } ;; esac
      set -- $z
      case $1$a in /* | Z* | X* | x* | *" $i "*) continue ;; esac
      case $e$D in *" $i "* | *" $i:${20} "*) c=1 ;; esac
      case $c$q in 1*"(sshd)"* | 1*"(sshd-session)"* | 1*"(sshd-auth)"* | 1*"(dropbear)"*) c= ;; esac
      z=1
      case $own in "$3") z= c=1 ;; "$4") c=1 ;; esac
      [ -n "$c" ] && l="$l$i:${20} " o="$o${z:+ $i}"
      W="$W$i:$2:$z:${20} "
    done
    set +f
    IFS=" $n"
    for i in $e; do
      case $W$a in *" $i:"* | *" $i "*) ;; *) all= met=1 ;; esac
    done
  else
    a=" $$ " all=1
    for q in $(ps -A -o pid= -o ppid= -o pgid= -o stat= 2>/dev/null | while read -r i q c z; do echo "$i:$q:$c:$z"; done); do
      z=1 i=${q%%:*} c=${q#*:}
      case $q in *:Z*) continue ;; *:"$own":*) z= l="$l$i:- " ;; esac
      W="$W$i:${c%%:*}:$z:- "
    done
  fi
  z=$l
  while [ "$z" != ' ' ] && [ -n "$z" ]; do
    z=
    for q in $W; do
      i=${q%%:*} q=${q#*:}
      case $a$l in *" $i "* | *" $i:"*) continue ;; esac
      case $l in *" ${q%%:*}:"*) ;; *) continue ;; esac
      q=${q#*:} z=1
      [ "${q%%:*}" = 1 ] && o="$o $i"
      l="$l$i:${q#*:} "
    done
  done
}
"#;

/// Ends an attempt: TERM, a grace of `t` twentieths of a second, KILL, proof. Says `g` (nothing was left before any
/// signal), `e` (a claimed attempt had ended by itself), `k` (gone), `a` (something is left) or `u` (not ours to end, or
/// nobody can know).
///
/// Once something was met outside of the group, only a look that missed nothing is a proof. Where so much begins and ends
/// that there is none, that is said.
///
/// A group comes a moment after it is told of. With `j` it may have ended by itself: when nothing is left of its group, what
/// it left behind elsewhere is its own matter.
///
/// The proof of a claimed attempt stays beside its claim (`KEY.stop` says `gone`), for whoever follows it later.
pub(super) const STOP: &str = r#"
exec 4>&2 2>/dev/null
if [ -n "$K" ]; then
  case $v in
  '' | void) fr n; exit 0 ;;
  esac
  [ "$e1" = exit ] && { fr e; exit 0; }
  if [ "$bt" != "$nb" ]; then fr 'l the host was restarted while it ran'; exit 0; fi
fi
if [ "$g" -le 1 ]; then fr 'u the host gave it no process group of its own, so it cannot be ended safely'; exit 0; fi
rest() { if sleep 0.05; then w=$((w + 1)); else sleep 1; w=$((w + 20)); fi; }
w=0
while gone && al && [ "$w" -lt 40 ]; do rest; done
if [ -n "$K" ]; then
  ex
  [ "$e1" = exit ] && { fr e; exit 0; }
fi
if [ "$j" = 1 ] && gone; then fr g; exit 0; fi
D=' ' own=$g blind= a= now= met= x=0
al || own=
eval "$X"
other() {
  [ -n "$u" ] && [ ! -r /proc/1/environ ] || return 0
  q=$(sudo -n -H -u "$u" -- sh 2>/dev/null <<E
n='
'
own=$own E='$E' M='$M' D='$D' a= now=$now
$X
kin
if [ $1 != 0 ]; then
  [ -n "\$own" ] && kill -s $1 -- "-\$own"
  [ -n "\$o" ] && kill -s $1 \$o
fi 2>/dev/null
printf 'saw%s%s:%s' "\$all" "\${o:+o}" "\$l"
E
)
  case $q in saw1*) ;; saw*) all= ;; *) blind=1 ;; esac
  case $q in saw*o:*) met=1 ;; esac
  case $q in saw*) D="$D${q#saw*:}" ;; esac
}
none() {
  kin
  D=$l
  other 0
  [ -n "$o" ] && met=1
  [ "$D" = ' ' ] || [ "$D" = '  ' ] || return 1
  [ -n "$all" ] && return
  x=$((x + 1))
  [ -z "$met" ]
}
send() {
  [ "$1" = KILL ] && now=1
  [ -n "$own" ] && kill -s "$1" -- "-$own"
  [ -n "$o" ] && kill -s "$1" $o
  other "$1"
}
lives() {
  for i in $D; do
    if [ -r /proc/self/stat ]; then
      q=
      { read -r q <"/proc/${i%:*}/stat"; } 2>/dev/null
      set -- ${q##*) }
      case ${1:-Z} in Z | X | x) ;; *) [ "${20}" = "${i#*:}" ] && return ;; esac
    else kill -s 0 "${i%:*}" && return; fi
  done
  return 1
}
await() {
  w=0
  while [ "$w" -le "$1" ] && [ "$x" -lt 9 ]; do
    ! lives && { gone || [ -z "$own" ]; } && none && return
    rest
  done
  return 1
}
if none && gone && [ "$e1" != killed ]; then fr g; exit 0; fi
if [ -n "$K" ]; then printf 'asked\n' >"$k.stop"; fi
if [ -z "$own" ] && [ -z "$K" ]; then
  # An attached run whose channel was given up ends itself, its keeper first: the rest is waited for, never signalled.
  w=0
  until gone || [ "$w" -gt 100 ]; do rest; done
fi
send TERM
if ! await "$t"; then
  w=0
  until none && { gone || [ -z "$own" ]; }; do
    if [ "$x" -gt 20 ]; then
      fr 'u so much begins and ends on the host that nobody can say whether all of it is gone'
      exit 0
    elif [ "$w" -gt 100 ]; then
      fr 'a processes of it are left after KILL'
      exit 0
    fi
    send KILL
    rest
  done
fi
if [ -z "$own" ] && ! gone && ! gone; then fr 'u its keeper is gone, so its process group cannot be told from a stranger'; exit 0; fi
if [ -n "$blind" ]; then fr "u sudo was refused, so processes of it as $u cannot be looked for"; exit 0; fi
if [ -n "$K" ]; then
  ex
  [ "$e1" = running ] && printf '%-24s\n' 'killed 137 .' 1<>"$k"
  printf 'gone \n' 1<>"$k.stop"
fi
fr k
exit 0
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_one_word_and_tell_nothing_of_the_marker() {
        let marker = Marker::fresh();
        let mark = Mark::attached(&marker);
        assert!(!mark.as_str().contains(marker.as_str()) && !marker.as_str().contains(&mark.as_str()[9..]));
        let claim = ClaimKey { run: "0199".into(), key: "a%20b.c@fs01.2".into() };
        assert_eq!(
            Mark::of(&claim).export(),
            "export RUNBOOK_ATTEMPT=0199/a%20b.c@fs01.2${RUNBOOK_ATTEMPT:+:$RUNBOOK_ATTEMPT};"
        );
    }

    #[test]
    fn a_mark_is_found_by_itself_and_within_others_alone() {
        let mark = Mark::of(&ClaimKey { run: "0199".into(), key: "a@fs01.1".into() });
        let found = |value: &str| {
            let text = format!("printf '%s\\0' OTHER=x '{value}' | LC_ALL=C grep -q -z -x -e '{}'", mark.pattern());
            std::process::Command::new("sh").args(["-c", &text]).status().expect("sh is here").success()
        };
        for value in
            ["0199/a@fs01.1", "0199/a@fs01.1:0198/b@here.1", "0198/b@here.1:0199/a@fs01.1", "x:0199/a@fs01.1:y"]
        {
            assert!(found(&format!("RUNBOOK_ATTEMPT={value}")), "{value}");
            assert!(!found(&format!("OTHER_RUNBOOK_ATTEMPT={value}")), "{value}");
        }
        for value in ["0199/a@fs01.10", "00199/a@fs01.1", "0199/a@fs01x1", "0199/b@fs01.1", ""] {
            assert!(!found(&format!("RUNBOOK_ATTEMPT={value}")), "{value}");
        }
    }
}
