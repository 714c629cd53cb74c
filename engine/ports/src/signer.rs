//! Signing of ledger heads.

/// A key that signs. Ed25519 (RFC 8032).
pub trait Signer: Send + Sync {
    /// The signature over exactly these bytes.
    ///
    /// # Errors
    /// When the key cannot be used; the text says why.
    fn sign(&self, bytes: &[u8]) -> Result<[u8; 64], String>;

    /// The public key.
    fn public_key(&self) -> [u8; 32];
}
