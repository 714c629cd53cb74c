//! Mail: a submission (RFC 6409) to a server that is named, in TLS that is never left out.
//!
//! | step | answer 4xx | answer 5xx |
//! | --- | --- | --- |
//! | greeting, EHLO, STARTTLS, AUTH | later | later: somebody has to mend the server or the settings |
//! | MAIL, DATA, the mail | later | never |
//! | RCPT | later, for all | not to this one; never when it was the only one |

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runbook_model::Sha256;
use runbook_ports::SecretBytes;
use runbook_ports::notifier::{Delivered, Message, Notifier, NotifyError};
use runbook_wire::{Tls, http};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};

use crate::line;
use crate::mail::mail;

/// The longest reply that is read, in bytes and in lines. A reply's line has at most 512 bytes.
const REPLY_BYTES_MAX: u64 = 16 << 10;
/// A server that offers more than that is none.
const REPLY_LINES_MAX: usize = 64;
/// Characters of a reply that are told.
const TOLD_MAX: usize = 200;
/// The mail is taken; whoever does not say goodbye within that is not waited for.
const GOODBYE: Duration = Duration::from_secs(2);

/// How the server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// STARTTLS. A server that does not offer it gets nothing.
    StartTls,
    /// TLS from the first byte on.
    Tls,
    /// Nothing: for a server on this machine.
    None,
}

/// A mail server.
pub struct Smtp {
    /// The channel's name.
    pub name: String,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is spoken to.
    pub security: Security,
    /// Whose certificates are believed.
    pub tls: Tls,
    /// Account and password.
    pub login: Option<(String, SecretBytes)>,
    /// From whom.
    pub from: String,
    /// To whom, at least one.
    pub to: Vec<String>,
}

#[async_trait]
impl Notifier for Smtp {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "smtp"
    }

    fn to(&self) -> String {
        self.to.join(", ")
    }

    async fn deliver(&self, message: Message<'_>, within: Duration) -> Result<Delivered, NotifyError> {
        let mail = mail(&message, &self.from, &self.to);
        let sha256 = Sha256::of(&mail);
        let answer = crate::by(within, &self.shown(), self.talk(Some(&mail))).await?;
        Ok(Delivered { answer, sha256 })
    }

    async fn reach(&self, within: Duration) -> Result<String, NotifyError> {
        crate::by(within, &self.shown(), self.talk(None)).await
    }
}

/// A way to send bytes there.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Smtp {
    fn shown(&self) -> String {
        format!("{} port {}", self.host, self.port)
    }

    /// Connects, and sends the mail when there is one.
    async fn talk(&self, mail: Option<&[u8]>) -> Result<String, NotifyError> {
        let tcp = http::tcp(&self.host, self.port).await.map_err(crate::wire)?;
        // A machine's own name may be no name there; its address always is one.
        let name = match tcp.local_addr().map(|address| address.ip()) {
            Ok(std::net::IpAddr::V4(ip)) => format!("[{ip}]"),
            Ok(std::net::IpAddr::V6(ip)) => format!("[IPv6:{ip}]"),
            Err(_) => "[127.0.0.1]".to_owned(),
        };
        let stream: Box<dyn Stream> = match self.security {
            Security::None => Box::new(tcp),
            Security::Tls => Box::new(self.tls.connect(&self.host, tcp).await.map_err(crate::wire)?),
            Security::StartTls => {
                let mut plain = Talk { server: self.shown(), stream: BufReader::new(tcp) };
                plain.greeting().await?;
                if !plain.hello(&name).await?.iter().any(|offer| offer.eq_ignore_ascii_case("STARTTLS")) {
                    return Err(NotifyError::later(format!(
                        "{} offers no STARTTLS; nothing is sent to it in clear text",
                        self.shown()
                    )));
                }
                plain.say("STARTTLS").await?;
                plain.reply().await?.must_be(220, "STARTTLS").map_err(Refusal::later)?;
                if !plain.stream.buffer().is_empty() {
                    // What was sent before TLS would be taken for the server's own words in it.
                    return Err(NotifyError::later(format!(
                        "{} says more before TLS than it should: somebody may stand in between",
                        self.shown()
                    )));
                }
                Box::new(self.tls.connect(&self.host, plain.stream.into_inner()).await.map_err(crate::wire)?)
            }
        };
        let mut talk = Talk { server: self.shown(), stream: BufReader::new(stream) };
        if self.security != Security::StartTls {
            talk.greeting().await?;
        }
        let offers = talk.hello(&name).await?;
        if let Some((user, password)) = &self.login {
            talk.log_in(&offers, user, password).await?;
        }
        let answer = match mail {
            Some(mail) => talk.submit(&self.from, &self.to, mail).await?,
            None => format!(
                "{} answers{}{}",
                self.shown(),
                if self.security == Security::None { "" } else { " (TLS)" },
                if self.login.is_some() { ", and takes the password" } else { "" }
            ),
        };
        let _ = tokio::time::timeout(GOODBYE, async {
            talk.say("QUIT").await?;
            talk.reply().await
        })
        .await;
        Ok(answer)
    }
}

struct Talk<S> {
    server: String,
    stream: BufReader<S>,
}

/// A reply.
struct Reply {
    server: String,
    code: u16,
    lines: Vec<String>,
}

/// A reply that was not the one that was hoped for.
struct Refusal {
    code: u16,
    why: String,
}

impl Refusal {
    /// Somebody may mend it.
    fn later(self) -> NotifyError {
        NotifyError::later(self.why)
    }

    /// As its code says.
    fn by_code(self) -> NotifyError {
        if (500..600).contains(&self.code) { NotifyError::Never(self.why) } else { NotifyError::later(self.why) }
    }
}

impl Reply {
    fn told(&self) -> String {
        crate::cut(&format!("{} {}", self.code, line(&self.lines.join(" "))), TOLD_MAX)
    }

    fn must_be(self, code: u16, to: &str) -> Result<Self, Refusal> {
        if self.code == code {
            return Ok(self);
        }
        Err(Refusal { code: self.code, why: format!("{} answers to {to}: {}", self.server, self.told()) })
    }
}

impl<S: Stream> Talk<S> {
    fn broken(&self, error: &std::io::Error) -> NotifyError {
        NotifyError::later(format!("{}: {error}", self.server))
    }

    async fn say(&mut self, line: &str) -> Result<(), NotifyError> {
        self.send(format!("{line}\r\n").as_bytes()).await
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), NotifyError> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|error| self.broken(&error))
    }

    /// Reads a reply, of one line or more.
    async fn reply(&mut self) -> Result<Reply, NotifyError> {
        let mut lines = Vec::new();
        let mut left = REPLY_BYTES_MAX;
        loop {
            let mut bytes = Vec::new();
            let read = (&mut self.stream).take(left).read_until(b'\n', &mut bytes).await;
            read.map_err(|error| self.broken(&error))?;
            left = left.saturating_sub(bytes.len() as u64);
            let whole = bytes.last() == Some(&b'\n');
            if !whole && left > 0 {
                return Err(NotifyError::later(format!("{} hung up", self.server)));
            }
            let text = String::from_utf8_lossy(&bytes);
            let text = text.trim_end();
            let code = text.get(..3).and_then(|code| code.parse::<u16>().ok());
            let (Some(code), true, true) = (code, whole, lines.len() < REPLY_LINES_MAX) else {
                return Err(NotifyError::later(format!("{} does not speak SMTP", self.server)));
            };
            lines.push(text.get(4..).unwrap_or_default().to_owned());
            if text.as_bytes().get(3) != Some(&b'-') {
                return Ok(Reply { server: self.server.clone(), code, lines });
            }
        }
    }

    async fn greeting(&mut self) -> Result<(), NotifyError> {
        self.reply().await?.must_be(220, "a connection").map_err(Refusal::later)?;
        Ok(())
    }

    /// What the server offers.
    async fn hello(&mut self, name: &str) -> Result<Vec<String>, NotifyError> {
        self.say(&format!("EHLO {name}")).await?;
        let reply = self.reply().await?.must_be(250, "EHLO").map_err(Refusal::later)?;
        Ok(reply.lines.into_iter().skip(1).collect())
    }

    async fn log_in(&mut self, offers: &[String], user: &str, password: &SecretBytes) -> Result<(), NotifyError> {
        let ways: Vec<String> = offers
            .iter()
            .filter(|offer| offer.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("AUTH ")))
            .flat_map(|offer| offer.split_ascii_whitespace().skip(1))
            .map(str::to_ascii_uppercase)
            .collect();
        let encoded = |bytes: &[u8]| SecretBytes::new(STANDARD.encode(bytes).into_bytes());
        let refused = |refusal: Refusal| NotifyError::later(format!("{} (the login)", refusal.why));
        if ways.iter().any(|way| way == "PLAIN") {
            let mut words = Vec::with_capacity(user.len() + password.expose().len() + 2);
            words.push(0);
            words.extend_from_slice(user.as_bytes());
            words.push(0);
            words.extend_from_slice(password.expose());
            let words = SecretBytes::new(words);
            self.secretly(b"AUTH PLAIN ", &encoded(words.expose())).await?;
        } else if ways.iter().any(|way| way == "LOGIN") {
            self.say("AUTH LOGIN").await?;
            self.reply().await?.must_be(334, "AUTH").map_err(refused)?;
            self.secretly(b"", &encoded(user.as_bytes())).await?;
            self.reply().await?.must_be(334, "AUTH").map_err(refused)?;
            self.secretly(b"", &encoded(password.expose())).await?;
        } else {
            return Err(NotifyError::later(format!("{} offers no login with a password", self.server)));
        }
        self.reply().await?.must_be(235, "AUTH").map_err(refused)?;
        Ok(())
    }

    async fn secretly(&mut self, before: &[u8], secret: &SecretBytes) -> Result<(), NotifyError> {
        let bytes = SecretBytes::new([before, secret.expose(), b"\r\n"].concat());
        self.send(bytes.expose()).await
    }

    async fn submit(&mut self, from: &str, to: &[String], mail: &[u8]) -> Result<String, NotifyError> {
        self.say(&format!("MAIL FROM:<{from}>")).await?;
        self.reply().await?.must_be(250, "MAIL FROM").map_err(Refusal::by_code)?;
        let mut refused = Vec::new();
        for mailbox in to {
            self.say(&format!("RCPT TO:<{mailbox}>")).await?;
            let reply = self.reply().await?;
            if matches!(reply.code, 250 | 251) {
                continue;
            }
            let refusal = Refusal {
                code: reply.code,
                why: format!("{} does not take mail to {mailbox}: {}", self.server, reply.told()),
            };
            match refusal.by_code() {
                // It comes to everybody together, or later to everybody.
                later @ NotifyError::Later { .. } => return Err(later),
                NotifyError::Never(why) => refused.push(why),
            }
        }
        if refused.len() == to.len() {
            return Err(NotifyError::Never(refused.join("; ")));
        }
        self.say("DATA").await?;
        self.reply().await?.must_be(354, "DATA").map_err(Refusal::by_code)?;
        self.send(&stuffed(mail)).await?;
        let reply = self.reply().await?.must_be(250, "the mail").map_err(Refusal::by_code)?;
        let mut told = vec![reply.told()];
        told.extend(refused);
        Ok(told.join("; "))
    }
}

/// As it goes over the line: a dot at the beginning of a line is doubled, and one alone ends it.
fn stuffed(mail: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(mail.len() + 8);
    for line in mail.split_inclusive(|byte| *byte == b'\n') {
        if line.first() == Some(&b'.') {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    out.extend_from_slice(b".\r\n");
    out
}
