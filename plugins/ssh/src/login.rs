//! Who answered, how the way there is protected, and how each account got in. Pure text.
//!
//! Two sources. Our client's debug lines: they come from the `ssh` process that checked the key, so it is the key that was
//! really used, not one that a file says should have been. With jump hosts the lines of each part of the way come one after
//! the other, since none begins before the one before it stands. And, where the host's sshd has `ExposeAuthInfo yes`, its
//! own list of what it accepted.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use runbook_model::Sha256;
use runbook_model::host::{AuthMethod, Hop, PeerIdentity, Secured, ToldBy};

use crate::diagnosis::sha256_in;

/// One part of the way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Part {
    address: String,
    software: Option<String>,
    /// The fingerprint of the key that the host proved to have.
    host_key: String,
    /// The account that logged in.
    account: String,
    key_exchange: String,
    host_key_algorithm: String,
    /// From and to the host.
    ciphers: (String, String),
    macs: (String, String),
    /// What was accepted, in order.
    methods: Vec<AuthMethod>,
    /// The key that the host would take, until the method that uses it is done.
    accepted: Option<AuthMethod>,
}

/// What the client said of the connection that it made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Login {
    hops: Vec<Part>,
    last: Part,
}

/// Reads the debug lines of the client.
pub(crate) fn login(said: &str) -> Login {
    let mut parts: Vec<Part> = Vec::new();
    // It is told before the part's first line.
    let mut software = None;
    for line in said.lines().map(|line| line.trim_end().trim_start_matches("debug1: ")) {
        if let Some((_, version)) = line.split_once("remote software version ") {
            software = Some(version.to_owned());
        } else if let Some(to) = line.strip_prefix("Authenticating to ") {
            let (address, account) = to.rsplit_once(" as ").unwrap_or((to, ""));
            let (address, account) = (address.to_owned(), account.trim_matches('\'').to_owned());
            parts.push(Part { address, account, software: software.take(), ..Part::default() });
        } else if let Some(part) = parts.last_mut() {
            part.read(line);
        }
    }
    let last = parts.pop().unwrap_or_default();
    Login { hops: parts, last }
}

impl Part {
    fn read(&mut self, line: &str) {
        if let Some(key) =
            line.strip_prefix("Server host key: ").or_else(|| line.strip_prefix("Server host certificate: "))
        {
            self.host_key = sha256_in(key).unwrap_or_default();
        } else if let Some(name) = line.strip_prefix("kex: algorithm: ") {
            name.clone_into(&mut self.key_exchange);
        } else if let Some(name) = line.strip_prefix("kex: host key algorithm: ") {
            name.clone_into(&mut self.host_key_algorithm);
        } else if let Some(names) = line.strip_prefix("kex: server->client cipher: ") {
            (self.ciphers.0, self.macs.0) = cipher_and_mac(names);
        } else if let Some(names) = line.strip_prefix("kex: client->server cipher: ") {
            (self.ciphers.1, self.macs.1) = cipher_and_mac(names);
        } else if let Some(key) = line.strip_prefix("Server accepts key: ") {
            let certificate = key.contains("-CERT ");
            // The file's name comes first and may have blanks.
            let fingerprint = sha256_in(key).unwrap_or_default();
            let kind = key.split(&fingerprint).next().and_then(|before| before.split_whitespace().last()).unwrap_or("");
            let method = if certificate { "certificate" } else { "publickey" };
            self.accepted = Some(AuthMethod { method: method.into(), shown: format!("{kind} {fingerprint}") });
        } else if line.starts_with("Authenticated using \"") && line.contains("partial success") {
            let method = line.split('"').nth(1).unwrap_or_default();
            self.done(method);
        } else if line.starts_with("Authenticated to ")
            && let Some((_, method)) = line.rsplit_once(" using \"")
        {
            self.done(method.trim_end_matches(['.', '"']));
        }
    }

    fn done(&mut self, method: &str) {
        let shown = match (method, self.accepted.take()) {
            ("publickey", Some(accepted)) => accepted,
            _ => AuthMethod { method: method.into(), shown: String::new() },
        };
        self.methods.push(shown);
    }

    fn secured(&self) -> Option<Secured> {
        let both = |(from, to): &(String, String)| if from == to { to.clone() } else { format!("{to}/{from}") };
        (!self.key_exchange.is_empty()).then(|| Secured {
            key_exchange: self.key_exchange.clone(),
            host_key_algorithm: self.host_key_algorithm.clone(),
            cipher: both(&self.ciphers),
            mac: both(&self.macs),
        })
    }

    /// The method that let the account in, and the fingerprint of the key or certificate.
    fn authenticated_by(&self) -> String {
        self.methods.last().map_or_else(String::new, |last| match sha256_in(&last.shown) {
            Some(fingerprint) => format!("{} {fingerprint}", last.method),
            None => last.method.clone(),
        })
    }
}

/// `chacha20-poly1305@openssh.com MAC: <implicit> compression: none`.
fn cipher_and_mac(names: &str) -> (String, String) {
    let mut words = names.split_whitespace();
    let cipher = words.next().unwrap_or_default().to_owned();
    (cipher, words.nth(1).unwrap_or_default().to_owned())
}

impl Login {
    pub(crate) fn identity(&self) -> PeerIdentity {
        let last = &self.last;
        PeerIdentity {
            transport: "ssh".into(),
            peer_key: last.host_key.clone(),
            account: last.account.clone(),
            authenticated_by: last.authenticated_by(),
            software: last.software.clone(),
            secured: last.secured(),
            methods: last.methods.clone(),
            methods_told_by: (!last.methods.is_empty()).then_some(ToldBy::Client),
            hops: self.hops.iter().map(Part::hop).collect(),
            process: None,
        }
    }
}

impl Part {
    fn hop(&self) -> Hop {
        Hop {
            address: self.address.clone(),
            account: self.account.clone(),
            peer_key: self.host_key.clone(),
            authenticated_by: self.authenticated_by(),
            secured: self.secured(),
        }
    }
}

/// Reads a line of the host's own list: a method, and what was shown (`publickey ssh-ed25519 AAAA…`).
pub(crate) fn proved(line: &str) -> Option<AuthMethod> {
    let (method, rest) = line.split_once(' ').unwrap_or((line, ""));
    let plain = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-@.".contains(&byte));
    if !plain {
        return None;
    }
    let shown = match rest.split_once(' ') {
        Some((kind, key)) => match fingerprint(kind, key.trim()) {
            Some(fingerprint) => format!("{kind} {fingerprint}"),
            None => rest.to_owned(),
        },
        None => rest.to_owned(),
    };
    let method = match method {
        "publickey" if shown.contains("-cert-v01@") => "certificate",
        method => method,
    };
    Some(AuthMethod { method: method.into(), shown })
}

/// The fingerprint that `ssh-keygen -l` shows: of a certificate, that of the key in it.
fn fingerprint(kind: &str, key: &str) -> Option<String> {
    let blob = STANDARD.decode(key).ok()?;
    let plain = crate::certificate::plain_key(kind, &blob)?;
    Some(format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::of(&plain).0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECT: &str = "debug1: Remote protocol version 2.0, remote software version OpenSSH_9.2p1 Debian-2+deb12u10\r\n\
        debug1: Authenticating to 127.0.0.1:2222 as 'maint'\r\n\
        debug1: kex: algorithm: curve25519-sha256\r\n\
        debug1: kex: host key algorithm: ssh-ed25519\r\n\
        debug1: kex: server->client cipher: aes256-ctr MAC: hmac-sha2-256-etm@openssh.com compression: none\r\n\
        debug1: kex: client->server cipher: aes256-ctr MAC: hmac-sha2-256-etm@openssh.com compression: none\r\n\
        debug1: Server host key: ssh-ed25519 SHA256:abc\r\n\
        debug1: Server accepts key: /k/my id ED25519 SHA256:first explicit\r\n\
        debug1: Authenticated using \"publickey\" with partial success.\r\n\
        debug1: Server accepts key: /k/id-cert.pub ED25519-CERT SHA256:def explicit\r\n\
        Authenticated to 127.0.0.1 ([127.0.0.1]:2222) using \"publickey\".\r\n";

    #[test]
    fn who_answered_and_every_method_is_read_from_the_handshake() {
        let identity = login(DIRECT).identity();
        assert_eq!((identity.peer_key.as_str(), identity.account.as_str()), ("SHA256:abc", "maint"));
        assert_eq!(identity.authenticated_by, "certificate SHA256:def");
        let methods: Vec<String> = identity.methods.iter().map(AuthMethod::text).collect();
        assert_eq!(methods, ["publickey ED25519 SHA256:first", "certificate ED25519-CERT SHA256:def"]);
        assert_eq!(identity.methods_told_by, Some(ToldBy::Client));
        assert_eq!(identity.software.as_deref(), Some("OpenSSH_9.2p1 Debian-2+deb12u10"));
        let secured = identity.secured.unwrap();
        assert_eq!(
            secured.text(),
            "curve25519-sha256, aes256-ctr with hmac-sha2-256-etm@openssh.com, host key ssh-ed25519"
        );
        assert!(identity.hops.is_empty());
    }

    #[test]
    fn each_part_of_the_way_has_its_own_key_account_and_cipher() {
        let jump = DIRECT.replace("SHA256:abc", "SHA256:jump").replace("'maint'", "'hop'").replace("2222", "22");
        let identity = login(&format!("{jump}{DIRECT}")).identity();
        assert_eq!((identity.peer_key.as_str(), identity.account.as_str()), ("SHA256:abc", "maint"));
        let hops: Vec<_> = identity.hops.iter().map(|hop| (&*hop.address, &*hop.account, &*hop.peer_key)).collect();
        assert_eq!(hops, [("127.0.0.1:22", "hop", "SHA256:jump")]);
        assert!(identity.hops[0].secured.is_some());
    }

    #[test]
    fn a_client_that_says_nothing_leaves_nothing_to_tell() {
        let identity = login("").identity();
        assert_eq!(identity, PeerIdentity { transport: "ssh".into(), ..PeerIdentity::default() });
    }

    #[test]
    fn the_hosts_own_list_is_read_and_keys_are_told_by_fingerprint() {
        let key = "AAAAC3NzaC1lZDI1NTE5AAAAID2uEAca7jqSc7f9uZCtbBwYQAgS/M8p0koiysqRH1oF";
        let read = |line: &str| proved(line).map(|method| method.text());
        let print = read(&format!("publickey ssh-ed25519 {key}")).unwrap();
        assert!(print.starts_with("publickey ssh-ed25519 SHA256:"), "{print}");
        assert_eq!(print.len(), "publickey ssh-ed25519 SHA256:".len() + 43);
        assert_eq!(read("keyboard-interactive").as_deref(), Some("keyboard-interactive"));
        assert_eq!(read("gssapi-with-mic ada@EXAMPLE.ORG").as_deref(), Some("gssapi-with-mic ada@EXAMPLE.ORG"));
        assert_eq!(read("publickey ssh-ed25519 nonsense").as_deref(), Some("publickey ssh-ed25519 nonsense"));
        for line in ["", " x", "$(x) y", "a;b"] {
            assert_eq!(read(line), None, "{line:?}");
        }
    }
}
