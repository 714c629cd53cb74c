//! A host as the plan froze it, and what is learned of it once connected.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::HostName;

/// What kind of system a host runs: decides shells and which variant of a packaged action applies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Os {
    /// Windows: PowerShell and cmd.
    Windows,
    /// Everything else is driven through POSIX sh; the name is kept (`linux`, `freebsd`, …).
    Posix(String),
}

impl From<String> for Os {
    fn from(name: String) -> Self {
        if name == "windows" { Os::Windows } else { Os::Posix(name) }
    }
}

impl From<Os> for String {
    fn from(os: Os) -> Self {
        os.to_string()
    }
}

impl fmt::Display for Os {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Os::Windows => f.pad("windows"),
            Os::Posix(name) => f.pad(name),
        }
    }
}

/// A host with every key resolved (its own, its groups', the inventory's defaults). `vars` hold plain JSON without
/// floating-point numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Its name in the inventory.
    pub name: HostName,
    /// `local`, `ssh`, or a plugin's.
    pub transport: String,
    /// Host name or IP address to connect to; the name itself when the inventory gives none.
    pub address: String,
    /// TCP port; `None` leaves it to the transport (and to ssh_config).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The kind of system.
    pub os: Os,
    /// Login account; `None` leaves it to the transport (and to ssh_config).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Hosts to go through, nearest to us first, resolved to what is needed to connect to each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jumps: Vec<Jump>,
    /// Path of the private key file on the controller, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Path of the user certificate on the controller, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The default account for steps (`as` in a group's or the inventory's defaults).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Keys that only some transports read (`auth`, `tls`, `instance`, `region`, `profile`, `endpoint`, `password`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, Value>,
    /// Labels, for selecting.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Values for templates (`host.vars.*`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, Value>,
    /// Every group it is in, directly or through other groups, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Holds Controlled Unclassified Information.
    #[serde(default)]
    pub cui: bool,
    /// Who answers for the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Who answers for the CUI on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cui_owner: Option<String>,
    /// `low`, `moderate`, `high`, or the firm's own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<String>,
}

impl Host {
    /// A host of which nothing is known but its name, which is its address too, and how it is reached.
    pub fn named(name: impl Into<HostName>, transport: &str) -> Self {
        let name = name.into();
        Self {
            transport: transport.to_owned(),
            address: name.to_string(),
            name,
            port: None,
            os: Os::Posix("linux".into()),
            user: None,
            jumps: Vec::new(),
            identity: None,
            certificate: None,
            account: None,
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            vars: BTreeMap::new(),
            groups: Vec::new(),
            cui: false,
            owner: None,
            cui_owner: None,
            risk: None,
        }
    }

    /// The machine that the program runs on, as a host called `here`.
    pub fn here() -> Self {
        Self::named("here", "local")
    }
}

/// A host on the way to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jump {
    /// Its name in the inventory.
    pub name: HostName,
    /// Where to connect.
    pub address: String,
    /// TCP port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Login account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Private key file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// User certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

/// What a host says of itself once connected: `host.facts.*` in templates.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// `debian`, `rhel`, … (`ID` of os-release), or `uname -s` in lower case.
    pub os: String,
    /// `VERSION_ID` of os-release, or empty.
    pub os_version: String,
    /// `uname -r`.
    pub kernel: String,
    /// `uname -m`.
    pub arch: String,
    /// Changes with every boot (`/proc/sys/kernel/random/boot_id`, else the boot time), or empty when the host does
    /// not tell.
    pub boot_id: String,
    /// The host's clock minus ours in milliseconds, when measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset_ms: Option<i64>,
}

/// Who answered, and how we got in: evidence.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerIdentity {
    /// The transport's name.
    pub transport: String,
    /// The host key's fingerprint (`SHA256:…`) or certificate pin; empty for `local`.
    pub peer_key: String,
    /// The account that logged in.
    pub account: String,
    /// How it authenticated (`publickey SHA256:…`, `certificate …`), as our side of the connection says; empty when it does
    /// not.
    pub authenticated_by: String,
    /// What the host's side is called by itself (`SSH-2.0-OpenSSH_9.2p1`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software: Option<String>,
    /// How the connection is protected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secured: Option<Secured>,
    /// Every method that took part in the login, in order; told by `methods_told_by`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<AuthMethod>,
    /// Who says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods_told_by: Option<ToldBy>,
    /// Hosts on the way, nearest to us first, as far as our side of the connection tells of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<Hop>,
    /// The process that serves the connection on the host, `NUMBER:START` as its `/proc` has them: by it the host can be
    /// asked later whether the connection is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
}

/// How a connection is protected: names as the protocol has them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secured {
    /// Key exchange (`curve25519-sha256`).
    pub key_exchange: String,
    /// The kind of host key that signed it (`ssh-ed25519`).
    pub host_key_algorithm: String,
    /// Cipher towards the host; with the one from the host after a slash, when they differ.
    pub cipher: String,
    /// Message authentication, likewise; `<implicit>` where the cipher has its own.
    pub mac: String,
}

impl Secured {
    /// In a line, for people.
    pub fn text(&self) -> String {
        let mac = match self.mac.as_str() {
            "" | "<implicit>" => String::new(),
            mac => format!(" with {mac}"),
        };
        format!("{}, {}{mac}, host key {}", self.key_exchange, self.cipher, self.host_key_algorithm)
    }
}

/// A method that took part in a login.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthMethod {
    /// `publickey`, `keyboard-interactive`, `gssapi-with-mic`, …
    pub method: String,
    /// What was shown: the kind and fingerprint of a key or certificate, or a principal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub shown: String,
}

impl AuthMethod {
    /// In a line, for people.
    pub fn text(&self) -> String {
        if self.shown.is_empty() { self.method.clone() } else { format!("{} {}", self.method, self.shown) }
    }
}

/// Who says how an account authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToldBy {
    /// The host: what its server accepted (sshd with `ExposeAuthInfo yes`).
    Host,
    /// Our own client's log.
    Client,
}

/// A host on the way to another, as our side of the connection tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hop {
    /// Address and port.
    pub address: String,
    /// The account that logged in there.
    pub account: String,
    /// The fingerprint of its host key.
    pub peer_key: String,
    /// How the account authenticated there.
    pub authenticated_by: String,
    /// How that part of the way is protected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secured: Option<Secured>,
}
