//! What is done on a host, as the script that a certificate is bound to. Pure text, and the reading of what it says.
//!
//! A script is for root's POSIX shell on a host with OpenSSH and sudo. It refuses before it changes anything, says what it
//! did in lines of a word and a text, and may be run again.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use runbook_model::access::{Opened, Revoke, Rule};
use runbook_model::shell::quote_posix;

/// The exit code of a script that refuses: it has changed nothing.
pub(super) const REFUSED: i32 = 20;

const HEAD: &str = r#"PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin
export PATH
LC_ALL=C
export LC_ALL
umask 077
say() { printf '%s %s\n' "$1" "$(printf '%s' "$2" | tr '\r\n\t' '   ' | cut -c1-300)"; }
refuse() { say refused "$1"; exit 20; }
say runbook-access 1
[ "$(id -u)" = 0 ] || refuse "the login that installs is $(id -un), and not root"
if command -v flock >/dev/null 2>&1 && [ -d /run ]; then
    exec 9>/run/runbook-access.lock
    flock -w 20 9 || refuse "another run has been changing access here for 20 s"
fi
listing() { sudo -n -l -U "$user" 2>&1; }
digest() { sha256sum | cut -d' ' -f1; }
# The configuration of the sshd that serves us may be another than the usual one.
revoked_keys() {
    config= p=$PPID n=0
    while [ "${p:-0}" -gt 1 ] && [ "$n" -lt 8 ] && [ -r "/proc/$p/cmdline" ]; do
        line=$(tr '\0' ' ' <"/proc/$p/cmdline")
        case $line in
        *'[listener]'*)
            case $line in *' -f '*) config=${line#* -f }; config=${config%% *} ;; esac
            break ;;
        esac
        p=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$p/status")
        n=$((n + 1))
    done
    set -- $SSH_CONNECTION
    sshd=$(command -v sshd) || sshd=/usr/sbin/sshd
    file=$("$sshd" ${config:+-f "$config"} -T -C "user=$user,host=$1,addr=$1,laddr=$3,lport=$4" 2>/dev/null |
        sed -n 's/^revokedkeys //p')
    case $file in /*) [ -f "$file" ] && printf '%s' "$file" ;; esac
}
"#;

/// What a script is about.
pub(super) struct Subject<'a> {
    /// The account that the run logs in to; empty when it needs none.
    pub(super) user: &'a str,
    /// Certificates, by their public keys, and whether they must be revocable.
    pub(super) keys: Vec<&'a str>,
    pub(super) revoke: Option<Revoke>,
    pub(super) rule: Option<&'a Rule>,
    pub(super) account: Option<&'a Opened>,
}

fn head(subject: &Subject<'_>) -> String {
    let mut text = HEAD.to_owned();
    let _ = writeln!(text, "user={}", quote_posix(subject.user));
    text
}

/// Installs.
pub(super) fn install(subject: &Subject<'_>) -> String {
    let mut text = head(subject);
    if let Some(revoke) = subject.revoke {
        text.push_str("revoked=$(revoked_keys)\n");
        if revoke == Revoke::Required {
            text.push_str(
                "[ -n \"$revoked\" ] || refuse 'its sshd has no file of RevokedKeys, so the certificate could not be revoked'\n",
            );
        }
        text.push_str("[ -z \"$revoked\" ] || say revoked-keys \"$revoked\"\n");
    }
    if let Some(account) = subject.account {
        let _ = writeln!(text, "account={}", quote_posix(&account.name));
        text.push_str("getent passwd \"$account\" >/dev/null || refuse \"there is no account $account\"\n");
    }
    if let Some(rule) = subject.rule {
        let _ = write!(
            text,
            r#"rule={path}
command -v sudo >/dev/null 2>&1 && command -v visudo >/dev/null 2>&1 || refuse 'sudo or visudo is not there'
id -- "$user" >/dev/null 2>&1 || refuse "there is no account $user"
before=
if [ ! -e "$rule" ]; then
    before=$(listing | digest)
    say sudo-before "$before"
fi
new=$(mktemp "${{rule%/*}}/.runbook-XXXXXX") || refuse "no file can be made in ${{rule%/*}}"
trap 'rm -f "$new"' EXIT
printf '%s' {text} >"$new" && chmod 0440 "$new" || refuse "no file can be written in ${{rule%/*}}"
checked=$(visudo -cf "$new" 2>&1) || refuse "visudo does not take the rule: $checked"
mv -f "$new" "$rule" || refuse "the rule cannot be put in its place"
if [ -n "$before" ] && [ "$(listing | digest)" = "$before" ]; then
    rm -f "$rule"
    refuse "sudo does not read ${{rule%/*}}"
fi
say rule-sha256 "$(digest <"$rule")"
"#,
            path = quote_posix(&rule.path),
            text = quote_posix(&rule.text),
        );
    }
    if let Some(account) = subject.account {
        let _ = write!(
            text,
            r#"usermod -e {day} "$account" || refuse "the account cannot be given an end"
case $(getent shadow "$account" | cut -d: -f2) in
'!'?*) usermod -U "$account" || refuse "the account cannot be unlocked" ;;
esac
say account "$(getent shadow "$account" | cut -d: -f8)"
"#,
            day = quote_posix(&account.expires_on),
        );
    }
    text.push_str("say done ok\n");
    text
}

/// Removes all of it.
pub(super) fn withdraw(subject: &Subject<'_>) -> String {
    let mut text = head(subject);
    if let Some(rule) = subject.rule {
        let _ = write!(
            text,
            r#"rule={path}
why=$(rm -f -- "$rule" 2>&1)
if [ -e "$rule" ] || [ -L "$rule" ]; then say rule-left "$why"; else say rule-gone "$rule"; fi
said=$(listing)
say sudo-after "$(printf '%s\n' "$said" | digest)"
say sudo-words "$(printf '%s\n' "$said" | tail -n 1)"
"#,
            path = quote_posix(&rule.path),
        );
    }
    if let Some(account) = subject.account {
        let _ = write!(
            text,
            r#"account={name}
usermod -L -e 1970-01-02 "$account" 2>&1 | while read -r line; do say account-said "$line"; done
ended=0
if number=$(id -u -- "$account" 2>/dev/null) && [ "$number" != 0 ]; then
    ended=$(pgrep -c -u "$number")
    pkill -KILL -u "$number"
fi
say account-ended "$ended"
entry=$(getent shadow "$account")
say account-expires "$(printf '%s' "$entry" | cut -d: -f8)"
case $(printf '%s' "$entry" | cut -d: -f2) in '!'* | '*'*) say account-password locked ;; *) say account-password open ;; esac
"#,
            name = quote_posix(&account.name),
        );
    }
    if !subject.keys.is_empty() {
        text.push_str(
            r#"revoked=$(revoked_keys)
is_list() { [ "$(head -c 6 "$revoked" | tr -d '\0')" != SSHKRL ]; }
# The files lie on no disk for longer than this takes.
revoke() {
    blob=$(printf '%s' "$1" | cut -d' ' -f2)
    if is_list; then
        grep -qF -- "$blob" "$revoked" && return 0
        [ ! -s "$revoked" ] || [ -z "$(tail -c 1 "$revoked")" ] || printf '\n' >>"$revoked"
        printf '%s\n' "$1" >>"$revoked"
        grep -qF -- "$blob" "$revoked"
    else
        key=$(mktemp) && printf '%s\n' "$1" >"$key" && next=$(mktemp "$revoked.XXXXXX") || return 1
        cp -p "$revoked" "$next" && ssh-keygen -q -k -u -f "$next" "$key" && mv -f "$next" "$revoked"
        now=$(ssh-keygen -Q -f "$revoked" "$key" 2>&1)
        rm -f "$key" "$next"
        case $now in *REVOKED*) return 0 ;; *) printf '%s' "$now"; return 1 ;; esac
    fi
}
if [ -z "$revoked" ]; then
    say revoked-none 'its sshd has no file of RevokedKeys'
else
    failed=
"#,
        );
        for key in &subject.keys {
            let _ =
                writeln!(text, "    why=$(revoke {} 2>&1) || failed=\"could not be changed: $why\"", quote_posix(key));
        }
        text.push_str(
            "    if [ -n \"$failed\" ]; then say revoked-failed \"$revoked $failed\"; else say revoked-keys \"$revoked\"; fi\nfi\n",
        );
    }
    text.push_str("say done ok\n");
    text
}

/// What a script said: the last text of each word.
pub(super) struct Said(BTreeMap<String, String>);

impl Said {
    /// Reads it.
    pub(super) fn read(text: &str) -> Self {
        let line = |line: &str| {
            let (word, rest) = line.split_once(' ')?;
            let rest: String = rest.chars().filter(|c| !c.is_control()).collect();
            Some((word.to_owned(), rest.trim().to_owned()))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// Text of `word`.
    pub(super) fn get(&self, word: &str) -> Option<&str> {
        self.0.get(word).map(String::as_str)
    }

    /// It went to its end.
    pub(super) fn is_done(&self) -> bool {
        self.get("done") == Some("ok")
    }

    /// It began.
    pub(super) fn has_begun(&self) -> bool {
        self.get("runbook-access").is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use runbook_model::Sha256;

    use super::*;

    #[test]
    fn the_scripts_are_good_shell_with_all_that_hostile_names_hold() {
        let text = "maint ALL=(root) NOPASSWD: /bin/echo '$(reboot)'\n";
        let rule = Rule {
            path: "/etc/sudoers.d/runbook-x".into(),
            user: "maint".into(),
            text: text.into(),
            sha256: Sha256::of(text.as_bytes()),
            valid_until_ms: 0,
        };
        let account = Opened { name: "acme".into(), window: "w".into(), until_ms: 0, expires_on: "2026-12-01".into() };
        let subject = Subject {
            user: "ma'int; reboot",
            keys: vec!["ssh-ed25519 AAAA run", "ssh-ed25519 BBBB '$(reboot)'"],
            revoke: Some(Revoke::Required),
            rule: Some(&rule),
            account: Some(&account),
        };
        for script in [install(&subject), withdraw(&subject)] {
            let output = Command::new("sh").args(["-n", "-c", &script]).output().expect("a shell is there");
            assert!(output.status.success(), "{script}\n{output:?}");
        }
    }

    #[test]
    fn the_last_text_of_a_word_counts_and_nothing_hostile_is_in_it() {
        let said = Said::read("runbook-access 1\nrefused a \u{1b}[31mb\nnoise\ndone ok\n");
        assert!(said.has_begun() && said.is_done());
        assert_eq!(said.get("refused"), Some("a [31mb"));
        assert!(!Said::read("").has_begun());
    }
}
