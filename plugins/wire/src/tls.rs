//! Whose certificates are believed, and who we are.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::WireError;

/// How TLS is spoken to somebody. Files are read anew for each connection: certificates are renewed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates (PEM) of the authorities that are believed; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// Our own certificate (PEM, with its chain) and its key, for those who ask for one.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// Speaks TLS on a connection to `host`, and believes it only with a certificate for that name or address.
    ///
    /// # Errors
    /// When it is not believed, or the connection breaks.
    pub async fn connect(&self, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, WireError> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| WireError::Refused(format!("{host} is no name that a certificate can be for")))?;
        let connector = TlsConnector::from(Arc::new(self.config().map_err(WireError::Refused)?));
        connector.connect(name, stream).await.map_err(|error| {
            // A certificate that is not believed is for somebody to mend; a connection that breaks is not.
            let certificate = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some();
            let text = format!("TLS with {host}: {error}");
            if certificate { WireError::Refused(text) } else { WireError::Unreachable(text) }
        })
    }

    fn config(&self) -> Result<ClientConfig, String> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(self.roots()?);
        match &self.client {
            None => Ok(builder.with_no_client_auth()),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{}: {error}", key.display()))?;
                builder.with_client_auth_cert(certificates(certificate)?, key).map_err(|error| error.to_string())
            }
        }
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(path) => {
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
                }
            }
            None => {
                // One that does not read is passed over, as every program does with the system's store.
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
                if roots.is_empty() {
                    return Err("this system has no store of certificates; name one with `ca`".into());
                }
            }
        }
        Ok(roots)
    }
}

/// The cryptography.
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The certificates in a file, at least one.
///
/// # Errors
/// When there is none, or it does not read.
pub fn certificates(path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let fault = |error: String| format!("{}: {error}", path.display());
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| fault(error.to_string()))?.collect();
    match found {
        Ok(found) if found.is_empty() => Err(fault("there is no certificate in it".into())),
        Ok(found) => Ok(found),
        Err(error) => Err(fault(error.to_string())),
    }
}
