//! Secrets: resolved at the moment of use, never stored, wiped when dropped.

use async_trait::async_trait;
use runbook_model::outcome::Obstacle;
use runbook_model::plan::SecretRef;
use zeroize::Zeroizing;

/// A secret's value, or bytes that may hold one. Wiped when dropped; has no `Debug`.
#[derive(Clone, Default)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes the bytes over.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes. Do not log them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for SecretBytes {
    fn as_ref(&self) -> &[u8] {
        self.expose()
    }
}

impl From<&str> for SecretBytes {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes().to_vec())
    }
}

/// Where secrets come from.
#[async_trait]
pub trait SecretSource: Send + Sync {
    /// The value now.
    ///
    /// # Errors
    /// An obstacle of kind `Local` that names the source (never a value).
    async fn resolve(&self, secret: &SecretRef) -> Result<SecretBytes, Obstacle>;
}
