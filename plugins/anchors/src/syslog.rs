//! A collector of syslog: each head in a message (RFC 5424), over TLS with octet counts (RFC 5425).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runbook_model::Sha256;
use runbook_model::units::rfc3339_ms;
use runbook_ports::anchor::{Anchor, AnchorError, Receipt, Request, SignedHead};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixDatagram;

use runbook_wire::Tls;
use runbook_wire::http::tcp;

/// Log audit (13), notice (5).
const PRIORITY: u8 = 13 * 8 + 5;

/// How long is waited for a collector to close the connection after us. It shows a certificate of ours that is refused,
/// which TLS 1.3 tells only after the handshake; a collector that does not close has taken what it read.
const CLOSE: Duration = Duration::from_millis(1_500);

/// Where a collector is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// TLS; port 6514 unless another is named.
    Tls(String, u16),
    /// TCP without TLS; port 601.
    Tcp(String, u16),
    /// A datagram socket such as `/dev/log`.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    /// `tls://HOST[:PORT]` or `HOST[:PORT]`, `tcp://HOST[:PORT]`, `unix:PATH`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
            return if path.is_absolute() {
                Ok(Self::Unix(path))
            } else {
                Err(format!("`{text}` must name a whole path, such as unix:/dev/log"))
            };
        }
        let (tls, rest) = match text.split_once("://") {
            None => (true, text),
            Some(("tls", rest)) => (true, rest),
            Some(("tcp", rest)) => (false, rest),
            Some(_) => return Err(format!("`{text}` does not begin with tls://, tcp:// or unix:")),
        };
        let wrong = || format!("`{text}` does not name a host and a port");
        let (host, port) = match rest.strip_prefix('[') {
            // An IPv6 address.
            Some(inner) => inner.split_once(']').ok_or_else(wrong)?,
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        let strange = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '@' | '/' | '[' | ']');
        if host.is_empty() || host.contains(strange) {
            return Err(wrong());
        }
        let host = host.to_owned();
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            None => return Err(wrong()),
            Some(number) => Some(number.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong)?),
        };
        Ok(if tls { Self::Tls(host, port.unwrap_or(6514)) } else { Self::Tcp(host, port.unwrap_or(601)) })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tls(host, port) => write!(f, "tls://{host}:{port}"),
            Address::Tcp(host, port) => write!(f, "tcp://{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A collector. Syslog answers nothing, so a receipt ([`SyslogReceipt`]) is only what was sent and to whom; what proves
/// something is the collector's own copy.
#[derive(Debug, Clone)]
pub struct Syslog {
    /// The anchor's name.
    pub name: String,
    /// Where.
    pub address: Address,
    /// How, for TLS.
    pub tls: Tls,
    /// This machine's name.
    pub hostname: String,
}

/// What is kept of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyslogReceipt {
    /// `anchor-syslog/v1`.
    pub schema: String,
    /// To whom.
    pub address: String,
    /// SHA-256 of the certificate with which it proved its name; `None` without TLS.
    pub peer_certificate_sha256: Option<Sha256>,
    /// The message, without its length.
    pub message: String,
    /// The signed head.
    pub note: String,
    /// Always false: syslog acknowledges nothing.
    pub acknowledged: bool,
}

#[async_trait]
impl Anchor for Syslog {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "syslog"
    }

    async fn anchor(&self, request: Request<'_>) -> Result<Receipt, AnchorError> {
        let message = message(request.head, request.now_ms, &self.hostname);
        let peer_certificate_sha256 =
            crate::by(request.within, &self.address.to_string(), self.send(Some(&message))).await?;
        let receipt = SyslogReceipt {
            schema: "anchor-syslog/v1".into(),
            address: self.address.to_string(),
            peer_certificate_sha256,
            message,
            note: request.head.note.clone(),
            acknowledged: false,
        };
        let bytes = serde_json::to_vec(&receipt).map_err(|error| AnchorError::Refused(error.to_string()))?;
        Ok(Receipt { bytes, told: format!("sent to {}", self.address) })
    }

    async fn reach(&self, within: Duration) -> Result<String, AnchorError> {
        crate::by(within, &self.address.to_string(), self.send(None)).await?;
        Ok(format!("{} can be connected to", self.address))
    }
}

impl Syslog {
    /// Connects and sends, unless there is nothing to send. Gives the digest of the peer's certificate.
    async fn send(&self, message: Option<&str>) -> Result<Option<Sha256>, AnchorError> {
        let fault = |error: std::io::Error| AnchorError::Unreachable(format!("{}: {error}", self.address));
        match &self.address {
            Address::Unix(path) => {
                let socket = UnixDatagram::unbound().map_err(fault)?;
                socket.connect(path).map_err(fault)?;
                if let Some(message) = message {
                    socket.send(message.as_bytes()).await.map_err(fault)?;
                }
                Ok(None)
            }
            Address::Tcp(host, port) => {
                let stream = tcp(host, *port).await.map_err(crate::wire)?;
                put(stream, message).await.map_err(fault)?;
                Ok(None)
            }
            Address::Tls(host, port) => {
                let stream =
                    self.tls.connect(host, tcp(host, *port).await.map_err(crate::wire)?).await.map_err(crate::wire)?;
                let peer = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                let peer = peer.map(|certificate| Sha256::of(certificate));
                put(stream, message).await.map_err(fault)?;
                Ok(peer)
            }
        }
    }
}

async fn put(mut stream: impl AsyncRead + AsyncWrite + Unpin, message: Option<&str>) -> std::io::Result<()> {
    let Some(message) = message else { return stream.shutdown().await };
    stream.write_all(format!("{} {message}", message.len()).as_bytes()).await?;
    stream.flush().await?;
    stream.shutdown().await?;
    let mut unread = [0; 256];
    match tokio::time::timeout(CLOSE, stream.read(&mut unread)).await {
        // A peer that just drops the connection after ours was closed has had all of it.
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(()),
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

/// The message. The enterprise number is the one that is kept free for documentation (RFC 5612), as we have none.
fn message(head: &SignedHead, now_ms: u64, hostname: &str) -> String {
    let name: String = hostname.chars().filter(char::is_ascii_graphic).take(255).collect();
    let name = if name.is_empty() { "-" } else { name.as_str() };
    format!(
        "<{PRIORITY}>1 {} {name} runbook {} head [head@32473 origin=\"{}\" size=\"{}\" root=\"{}\" note=\"{}\"] \
         ledger head of {} records",
        rfc3339_ms(now_ms),
        std::process::id(),
        escaped(&head.origin),
        head.size,
        head.root,
        STANDARD.encode(&head.note),
        head.size,
    )
}

/// A parameter's value (RFC 5424, 6.3.3).
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if matches!(c, '"' | '\\' | ']') {
            out.push('\\');
        }
        out.push(if c.is_control() { '?' } else { c });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_the_ledger_is_called() {
        let head = SignedHead { origin: "a\"]\\b".into(), size: 7, root: Sha256([0xab; 32]), note: "n\n".into() };
        let text = message(&head, 1_700_000_000_123, "fs 01\n");
        let root = "ab".repeat(32);
        let expected = format!(
            "<109>1 2023-11-14T22:13:20.123Z fs01 runbook {} head [head@32473 origin=\"a\\\"\\]\\\\b\" size=\"7\" \
             root=\"{root}\" note=\"bgo=\"] ledger head of 7 records",
            std::process::id()
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn tls_is_what_is_meant_unless_something_else_is_asked_for() {
        let read = |text: &str| text.parse::<Address>();
        assert_eq!(read("siem.example"), Ok(Address::Tls("siem.example".into(), 6514)));
        assert_eq!(read("tls://siem.example:7000"), Ok(Address::Tls("siem.example".into(), 7000)));
        assert_eq!(read("tcp://[::1]:601"), Ok(Address::Tcp("::1".into(), 601)));
        assert_eq!(read("unix:/dev/log"), Ok(Address::Unix("/dev/log".into())));
        for wrong in ["udp://siem.example", "unix:log", "", "tls://", "siem.example:port", "me@siem.example", "a b"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
