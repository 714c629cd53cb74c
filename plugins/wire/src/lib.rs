//! TLS, and one request over HTTP: what the plugins that speak to somebody outside have in common.
//!
//! Nothing here waits by itself: the caller bounds the time. TLS is rustls over aws-lc-rs.

mod address;
pub mod http;
mod login;
pub mod tls;

pub use address::Address;
pub use http::Url;
pub use login::Login;
pub use tls::Tls;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Nobody answers there, or what was under way broke off.
    #[error("{0}")]
    Unreachable(String),
    /// It is not spoken to like this: a certificate that is not believed, a file that does not read. For somebody to mend.
    #[error("{0}")]
    Refused(String),
    /// It answers with more than is read.
    #[error("{0}")]
    TooLong(String),
}
