//! One request over HTTP/1.1, plain or in TLS: no redirects, no proxies, no cookies, and never more of an answer than asked
//! for.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::Uri;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, RETRY_AFTER, USER_AGENT};
pub use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::{Tls, WireError};

/// Characters of an answer that refuses which are told.
const TOLD_MAX: usize = 200;

/// Where to ask: `http://` or `https://`, without user and password.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    tls: bool,
    host: String,
    port: u16,
    /// As it stands in the text, for the `Host` header.
    authority: String,
    path: String,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|error| format!("`{text}` is no URL: {error}"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(format!("`{text}` does not begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| format!("`{text}` names no host"))?;
        if authority.as_str().contains('@') {
            return Err("a URL must not hold a user or password: they would be on record".into());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(format!("`{text}` names no host"));
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { tls, host, port, authority: authority.as_str().to_owned(), path })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.tls { "https" } else { "http" }, self.authority, self.path)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Url {
    /// Where it leads to, without the rest, which may be a secret.
    pub fn site(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.authority)
    }

    /// Path and query, as they are asked for.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The name or address of the host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether it is spoken to in TLS.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Whether nobody on the way can read what is said: in TLS, or on this machine alone.
    pub fn is_private(&self) -> bool {
        self.tls || is_here(&self.host)
    }

    /// This with one more part at its end, as it is: the caller sees to it that it may stand in a path ([`escaped`]).
    pub fn join(&self, part: &str) -> Self {
        let path = format!("{}/{part}", self.path.trim_end_matches('/'));
        Self { path, ..self.clone() }
    }

    /// This with names and values after its path. They may hold anything.
    pub fn query(&self, pairs: &[(&str, &str)]) -> Self {
        let mut path = self.path.clone();
        for (name, value) in pairs {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(&format!("{}={}", escaped(name), escaped(value)));
        }
        Self { path, ..self.clone() }
    }

    /// What an answer that came from here names as the place to go on, when that is on the same site: nobody is followed to
    /// another one.
    pub fn same_site(&self, next: &str) -> Option<Self> {
        if next.starts_with('/') && !next.starts_with("//") {
            return Some(Self { path: next.to_owned(), ..self.clone() });
        }
        next.parse::<Self>().ok().filter(|next| (next.tls, &next.host, next.port) == (self.tls, &self.host, self.port))
    }
}

/// Whether a host is this machine, by its name or address alone.
pub fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A text as it may stand in a part of a path, or in a query (RFC 3986, section 2.3: all but the unreserved is escaped).
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    /// Of the answer.
    pub status: StatusCode,
    /// All of them.
    pub headers: HeaderMap,
    /// In small letters, without parameters.
    pub content_type: String,
    /// Seconds that it asks to be left alone (`Retry-After`), when it gives them as a number.
    pub retry_after_s: Option<u64>,
    /// All of it.
    pub body: Bytes,
}

impl Answer {
    /// The answer's own words, in one line, when it refuses.
    pub fn told(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TOLD_MAX).collect();
        match line.trim() {
            "" => self.status.to_string(),
            line => format!("{}: {line}", self.status),
        }
    }
}

/// A way to send bytes there.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn connect(url: &Url, tls: &Tls) -> Result<Box<dyn Stream>, WireError> {
    let stream = tcp(&url.host, url.port).await?;
    Ok(if url.tls { Box::new(tls.connect(&url.host, stream).await?) } else { Box::new(stream) })
}

/// A connection.
///
/// # Errors
/// When there is none.
pub async fn tcp(host: &str, port: u16) -> Result<TcpStream, WireError> {
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|error| WireError::Unreachable(format!("{host} port {port}: {error}")))?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Whether a connection can be made.
///
/// # Errors
/// When it cannot.
pub async fn reach(url: &Url, tls: &Tls) -> Result<String, WireError> {
    connect(url, tls).await?;
    Ok(format!("{}{} answers", url.authority, if url.tls { " (TLS)" } else { "" }))
}

/// What is asked.
pub struct Request<'a> {
    /// How.
    pub method: Method,
    /// Where.
    pub url: &'a Url,
    /// How, for https.
    pub tls: &'a Tls,
    /// What is told of the address when something goes wrong: an address may be a secret.
    pub shown: &'a str,
    /// Further headers. A value that cannot be one is an error before anything is sent.
    pub headers: &'a [(&'static str, String)],
    /// The body with its type.
    pub body: Option<(&'a str, Vec<u8>)>,
    /// So many bytes of what is answered are read, at most.
    pub bytes_max: usize,
}

/// Asks once, over a connection of its own.
///
/// # Errors
/// When there is no whole answer. What was sent may have been taken all the same.
pub async fn send(request: Request<'_>) -> Result<Answer, WireError> {
    let Request { method, url, tls, shown, headers, body, bytes_max } = request;
    let fault = |error: &dyn fmt::Display| WireError::Unreachable(format!("{shown}: {error}"));
    let mut request = hyper::Request::builder()
        .method(method)
        .uri(&url.path)
        .header(HOST, &url.authority)
        .header(USER_AGENT, concat!("runbook/", env!("CARGO_PKG_VERSION")));
    let mut content = Vec::new();
    if let Some((content_type, body)) = body {
        request = request.header(CONTENT_TYPE, content_type);
        content = body;
    }
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    // What cannot be said is found before anybody is spoken to.
    let request = request
        .body(Full::new(Bytes::from(content)))
        .map_err(|error| WireError::Refused(format!("{shown}: {error}")))?;
    let stream = connect(url, tls).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| fault(&error))?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|error| fault(&error))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, bytes_max).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                WireError::TooLong(format!("{shown} answers with more than {bytes_max} bytes"))
            } else {
                fault(&error)
            }
        })?;
        let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let content_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let retry_after_s = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        Ok(Answer { status: head.status, headers: head.headers, content_type, retry_after_s, body: body.to_bytes() })
    };
    // The connection is driven here, not in a task of its own: nothing of it is left when this returns.
    tokio::pin!(exchange, connection);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = &mut connection => match ended {
            // The answer may be there already, and the connection closed after it.
            Ok(()) => exchange.await,
            Err(error) => Err(fault(&error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_http_alone_and_hold_no_password() {
        let url: Url = "https://tsa.example:8443/tsr?a=b".parse().unwrap();
        assert_eq!((url.tls, url.host.as_str(), url.port, url.path.as_str()), (true, "tsa.example", 8443, "/tsr?a=b"));
        assert_eq!(url.to_string(), "https://tsa.example:8443/tsr?a=b");
        let url: Url = "http://[::1]".parse().unwrap();
        assert_eq!((url.tls, url.host.as_str(), url.port, url.path.as_str()), (false, "::1", 80, "/"));
        assert_eq!("http://w.example/a/".parse::<Url>().unwrap().join("b").to_string(), "http://w.example/a/b");
        let url: Url = "http://w.example/a?x=1".parse().unwrap();
        assert_eq!(url.query(&[("q", "a&b ü"), ("n", "2")]).path(), "/a?x=1&q=a%26b%20%C3%BC&n=2");
        assert_eq!(url.same_site("/b?c").unwrap().to_string(), "http://w.example/b?c");
        assert_eq!(url.same_site("http://w.example/b").unwrap().path(), "/b");
        for elsewhere in
            ["http://other.example/b", "https://w.example/b", "//other.example/b", "http://w.example:8080/"]
        {
            assert!(url.same_site(elsewhere).is_none(), "{elsewhere}");
        }
        for wrong in
            ["tsa.example", "ftp://tsa.example/", "https://", "https://me:secret@tsa.example/", "http:///x", ""]
        {
            assert!(wrong.parse::<Url>().is_err(), "{wrong}");
        }
    }
}
