//! The private `ssh_config` of a connection. Pure text.
//!
//! OpenSSH takes the first value that it finds, so the file goes from what is fixed to what is free:
//!
//! 1. what no configuration may change: host keys are checked strictly, nobody is asked anything, no password is sent;
//! 2. the host and its jump hosts, with those keys that the inventory gives and no others;
//! 3. the user's own configuration (or the file that the settings name instead of it).

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use runbook_model::host::{Host, Jump};
use runbook_model::outcome::{Obstacle, ObstacleKind};

/// What holds for every host that this connection touches, jump hosts included.
const FIXED: &str = "\
Host *
    BatchMode yes
    StrictHostKeyChecking yes
    UpdateHostKeys no
    VerifyHostKeyDNS no
    NoHostAuthenticationForLocalhost no
    PreferredAuthentications gssapi-with-mic,hostbased,publickey
    PasswordAuthentication no
    KbdInteractiveAuthentication no
    NumberOfPasswordPrompts 0
    AddKeysToAgent no
    ForwardAgent no
    ForwardX11 no
    ClearAllForwardings yes
    PermitLocalCommand no
    RequestTTY no
    RemoteCommand none
    EscapeChar none
    LogLevel INFO
    TCPKeepAlive yes
    ServerAliveCountMax 3
";

/// The key of a host's options that says: log in with its certificate and with nothing else. No inventory can have it.
pub(crate) const ONLY_CERTIFICATE: &str = "only certificate";

/// For such a host. Keys that the user's own configuration adds are of other kinds, and are not offered.
const CERTIFICATE_ALONE: &str = "    IdentityAgent none\n    PubkeyAcceptedKeyTypes ssh-ed25519-cert-v01@openssh.com\n    \
                                 GSSAPIAuthentication no\n    HostbasedAuthentication no\n";

/// The file's text, and the name by which `ssh` is to be asked for the host.
///
/// # Errors
/// Kind `Local`: a value that ssh_config cannot hold.
pub fn write(
    host: &Host,
    connect: Duration,
    alive: Duration,
    includes: &[&Path],
) -> Result<(String, String), Obstacle> {
    let mut text = FIXED.to_owned();
    let push = |text: &mut String, key: &str, value: &str| -> Result<(), Obstacle> {
        writeln!(text, "    {key} {}", quoted(key, value)?).map_err(|_| local("out of memory".into()))
    };
    push(&mut text, "ConnectTimeout", &connect.as_secs().max(1).to_string())?;
    push(&mut text, "ServerAliveInterval", &alive.as_secs().max(1).to_string())?;

    let target = alias(host.name.as_str(), "runbook-host");
    let _ = writeln!(text, "Host {target}");
    let keys = Jump {
        name: host.name.clone(),
        address: host.address.clone(),
        port: host.port,
        user: host.user.clone(),
        identity: host.identity.clone(),
        certificate: host.certificate.clone(),
    };
    let mut jumps = Vec::new();
    for (at, jump) in host.jumps.iter().enumerate() {
        let name = alias(jump.name.as_str(), &format!("runbook-jump-{at}"));
        // ProxyJump would split a name with these.
        jumps.push(if name.contains([':', '/', '@']) { format!("runbook-jump-{at}") } else { name });
    }
    if !jumps.is_empty() {
        push(&mut text, "ProxyJump", &jumps.join(","))?;
    }
    push_keys(&mut text, &keys, &target)?;
    if host.options.contains_key(ONLY_CERTIFICATE) {
        text.push_str(CERTIFICATE_ALONE);
    }
    for (jump, name) in host.jumps.iter().zip(&jumps) {
        let _ = writeln!(text, "Host {name}");
        text.push_str("    ControlMaster no\n    ControlPath none\n");
        push_keys(&mut text, jump, name)?;
    }
    text.push_str("Host *\n");
    for include in includes {
        push(&mut text, "Include", &include.to_string_lossy())?;
    }
    Ok((text, target))
}

fn push_keys(text: &mut String, keys: &Jump, alias: &str) -> Result<(), Obstacle> {
    let mut push = |key: &str, value: &str| -> Result<(), Obstacle> {
        writeln!(text, "    {key} {}", quoted(key, value)?).map_err(|_| local("out of memory".into()))
    };
    if keys.address != alias {
        push("HostName", &keys.address.replace('%', "%%"))?;
    }
    if let Some(port) = keys.port {
        push("Port", &port.to_string())?;
    }
    if let Some(user) = &keys.user {
        push("User", user)?;
    }
    if let Some(identity) = &keys.identity {
        push("IdentityFile", &path("identity", identity)?)?;
        // Else an agent with many keys spends all the tries that sshd allows on the others.
        push("IdentitiesOnly", "yes")?;
    }
    if let Some(certificate) = &keys.certificate {
        push("CertificateFile", &path("certificate", certificate)?)?;
    }
    Ok(())
}

/// The inventory's name where OpenSSH can take it, so that the user's `Host` blocks apply; else `instead`.
fn alias(name: &str, instead: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
    if !name.is_empty() && !name.starts_with('-') && name.chars().all(plain) {
        name.to_owned()
    } else {
        instead.to_owned()
    }
}

/// A file name as ssh_config takes it literally.
fn path(what: &str, path: &str) -> Result<String, Obstacle> {
    if path.contains("${") {
        return Err(local(format!("the {what} `{path}` has `${{` in its name, which ssh_config would expand")));
    }
    Ok(path.replace('%', "%%"))
}

fn quoted(key: &str, value: &str) -> Result<String, Obstacle> {
    if value.is_empty() || value.chars().any(|c| c == '"' || c == '\\' || c.is_control()) {
        return Err(local(format!("`{value}` cannot be written into an ssh_config as {key}")));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "._:-/,@%+*".contains(c);
    Ok(if value.chars().all(plain) { value.to_owned() } else { format!("\"{value}\"") })
}

fn local(message: String) -> Obstacle {
    Obstacle { kind: ObstacleKind::Local, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(json: serde_json::Value) -> Host {
        let mut whole = serde_json::json!({"name": "fs01", "transport": "ssh", "address": "fs01", "os": "linux"});
        if let (Some(whole), Some(more)) = (whole.as_object_mut(), json.as_object()) {
            whole.extend(more.clone());
        }
        serde_json::from_value(whole).expect("a host")
    }

    fn text(host: &Host) -> String {
        let write =
            write(host, Duration::from_secs(10), Duration::from_secs(15), &[Path::new("/home/a b/.ssh/config")]);
        write.expect("a config").0
    }

    #[test]
    fn only_what_the_inventory_gives_is_set() {
        let text = text(&host(serde_json::json!({})));
        let block = text.split("Host fs01\n").nth(1).expect("a block");
        assert_eq!(block, "Host *\n    Include \"/home/a b/.ssh/config\"\n");
    }

    #[test]
    fn jump_hosts_have_blocks_of_their_own() {
        let text = text(&host(serde_json::json!({
            "address": "10.0.1.12", "port": 2222, "user": "maint", "identity": "/keys/a b%c", "certificate": "/keys/c",
            "jumps": [{"name": "bastion", "address": "192.0.2.1", "user": "jump"}, {"name": "in ner", "address": "10.0.0.1"}],
        })));
        let blocks = text.split("Host fs01\n").nth(1).expect("a block");
        assert_eq!(
            blocks,
            "    ProxyJump bastion,runbook-jump-1\n    HostName 10.0.1.12\n    Port 2222\n    User maint\n    \
             IdentityFile \"/keys/a b%%c\"\n    IdentitiesOnly yes\n    CertificateFile /keys/c\nHost bastion\n    \
             ControlMaster no\n    ControlPath none\n    HostName 192.0.2.1\n    User jump\nHost runbook-jump-1\n    \
             ControlMaster no\n    ControlPath none\n    HostName 10.0.0.1\nHost *\n    Include \
             \"/home/a b/.ssh/config\"\n"
        );
    }

    #[test]
    fn what_is_fixed_comes_before_what_the_user_wrote() {
        let text = text(&host(serde_json::json!({})));
        let include = text.find("Include").expect("an include");
        for fixed in ["StrictHostKeyChecking yes", "BatchMode yes", "PasswordAuthentication no"] {
            assert!(text.find(fixed).is_some_and(|at| at < include), "{fixed}");
        }
    }

    #[test]
    fn values_that_would_be_syntax_are_refused() {
        for user in ["a\nProxyCommand reboot", "a\"b", ""] {
            let host = host(serde_json::json!({"user": user}));
            assert!(write(&host, Duration::ZERO, Duration::ZERO, &[]).is_err(), "{user:?}");
        }
    }
}
