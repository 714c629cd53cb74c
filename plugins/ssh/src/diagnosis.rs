//! What `ssh` said when it did not connect, as an obstacle. Pure text.
//!
//! OpenSSH has one exit status (255) for every failure; only its words tell them apart. They are stable (in the C locale
//! they are not translated), and what is not recognised is shown as it is, as unreachable: nothing began in any case.

use runbook_model::outcome::{Obstacle, ObstacleKind};

/// Reads what the master said before it failed. `place` names the host and its address.
pub fn obstacle(place: &str, said: &str) -> Obstacle {
    let lines: Vec<&str> = words(said);
    let has = |sign: &str| lines.iter().any(|line| line.contains(sign));
    let line = |sign: &str| lines.iter().find(|line| line.contains(sign)).copied().unwrap_or_default();
    let all = || {
        let text: Vec<&str> = lines.iter().copied().filter(|line| !line.starts_with('@')).collect();
        text.join("; ")
    };
    let say = |kind, message: String| Obstacle { kind, message: format!("{place}: {message}") };

    if has("REMOTE HOST IDENTIFICATION HAS CHANGED") || has("has changed and you have requested strict checking") {
        let offered = fingerprint_in(&lines);
        let entry = lines.iter().find(|line| line.starts_with("Offending")).copied().unwrap_or_default();
        return say(
            ObstacleKind::HostKey,
            format!(
                "the host key has changed{offered}. Either the host was installed anew, or somebody answers in its place. \
                 Compare the fingerprint on the host's own console (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`); \
                 only when it is right, replace the old entry. {entry}"
            ),
        );
    }
    if has("marked as revoked") {
        return say(ObstacleKind::HostKey, format!("the host key is revoked: {}", line("marked as revoked")));
    }
    if has("host key is known for") || has("Host key verification failed") {
        let which = line("host key is known for");
        return say(
            ObstacleKind::HostKey,
            format!(
                "the host's key is not on file{}. Read its fingerprint on the host's own console (`ssh-keygen -lf \
                 /etc/ssh/ssh_host_ed25519_key.pub`), then add the key to known_hosts, or trust the authority that signed \
                 it there (`@cert-authority`). {which}",
                fingerprint_in(&lines)
            ),
        );
    }
    if has("Too many authentication failures") {
        return say(
            ObstacleKind::Login,
            "the login was refused: too many keys were offered. Name the right one as `identity` in the inventory, or as \
             IdentityFile with IdentitiesOnly in your ssh_config"
                .into(),
        );
    }
    if has("Permission denied (") {
        return say(
            ObstacleKind::Login,
            format!(
                "the login was refused: {}. Keys, certificates, GSSAPI and host-based login are tried; passwords never. \
                 Check `user`, `identity` and the agent (`ssh-add -l`), and authorized_keys on the host. {}",
                line("Permission denied (").trim_end_matches('.'),
                lines
                    .iter()
                    .filter(|l| l.starts_with("Load key") || l.contains("UNPROTECTED") || l.contains("bad permissions"))
                    .copied()
                    .collect::<Vec<_>>()
                    .join("; ")
            ),
        );
    }
    for (sign, what) in [
        ("Could not resolve hostname", "the name is not known"),
        ("Connection refused", "nothing listens there"),
        ("timed out", "no answer in time"),
        ("No route to host", "there is no way to it"),
        ("Network is unreachable", "there is no way to it"),
    ] {
        if has(sign) {
            return say(ObstacleKind::Unreachable, format!("{what} ({})", line(sign)));
        }
    }
    for sign in
        ["Bad configuration option", "bad configuration option", "Bad owner or permissions", "too long for Unix domain"]
    {
        if has(sign) {
            return say(ObstacleKind::Local, format!("ssh does not accept its configuration: {}", all()));
        }
    }
    let all = all();
    say(ObstacleKind::Unreachable, if all.is_empty() { "ssh gave no reason".into() } else { all })
}

pub(crate) fn sha256_in(text: &str) -> Option<String> {
    text.split_whitespace().find(|word| word.starts_with("SHA256:")).map(|word| word.trim_end_matches(',').to_owned())
}

fn fingerprint_in(lines: &[&str]) -> String {
    let found = lines.iter().find_map(|line| sha256_in(line)).map(|print| print.trim_end_matches('.').to_owned());
    found.map_or_else(String::new, |print| format!(" (it offers {print})"))
}

/// The lines that are meant for people.
fn words(said: &str) -> Vec<&str> {
    said.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("debug")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(said: &str) -> ObstacleKind {
        obstacle("fs01 (10.0.1.11:22)", said).kind
    }

    #[test]
    fn each_failure_has_its_own_kind() {
        let jumped = "maint@192.0.2.1: Permission denied (publickey).\r\nConnection closed by UNKNOWN port 65535\r\n";
        for (said, expected) in [
            ("ssh: connect to host 10.0.1.11 port 22: Connection refused\r\n", ObstacleKind::Unreachable),
            ("ssh: Could not resolve hostname nowhere: Name or service not known\r\n", ObstacleKind::Unreachable),
            ("ssh: connect to host 10.0.1.11 port 22: Connection timed out\r\n", ObstacleKind::Unreachable),
            ("Connection timed out during banner exchange\r\n", ObstacleKind::Unreachable),
            ("kex_exchange_identification: Connection closed by remote host\r\n", ObstacleKind::Unreachable),
            (
                "No ED25519 host key is known for fs01 and you have requested strict checking.\r\nHost key verification failed.\r\n",
                ObstacleKind::HostKey,
            ),
            (
                "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\nHost key verification failed.\r\n",
                ObstacleKind::HostKey,
            ),
            ("root@10.0.1.11: Permission denied (publickey).\r\n", ObstacleKind::Login),
            ("Received disconnect from 10.0.1.11 port 22:2: Too many authentication failures\r\n", ObstacleKind::Login),
            (jumped, ObstacleKind::Login),
            ("/tmp/x: line 3: Bad configuration option: frob\r\n", ObstacleKind::Local),
            ("", ObstacleKind::Unreachable),
        ] {
            assert_eq!(kind(said), expected, "{said}");
        }
    }

    #[test]
    fn nobody_is_told_to_switch_a_check_off() {
        for said in ["REMOTE HOST IDENTIFICATION HAS CHANGED", "No ED25519 host key is known for fs01"] {
            let message = obstacle("fs01", said).message;
            assert!(!message.contains("StrictHostKeyChecking") && message.contains("console"), "{message}");
        }
    }

    #[test]
    fn debug_lines_are_not_taken_for_the_reason() {
        let said = "debug1: Next authentication method: publickey\r\ndebug1: connect: Permission denied (x\r\nssh: connect to host h port 22: Connection refused\r\n";
        let obstacle = obstacle("h", said);
        assert_eq!(obstacle.kind, ObstacleKind::Unreachable);
        assert!(!obstacle.message.contains("debug1"));
    }
}
