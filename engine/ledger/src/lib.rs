//! Records are sealed, heads are signed, and both are verified.
//!
//! The ledger is the engine's event log. Each record is one line of JSON ([`record`]); the lines are the leaves of an
//! RFC 6962 Merkle tree ([`tree`]); the tree's root is signed now and then ([`checkpoint`], [`note`], [`key`]), by keys
//! that take each other's place ([`chain`]). Whoever
//! has the lines, a signed head and the public key can check that nothing was changed, left out or put in: [`verify`]
//! does so as a stream and names the first line that is not as it was written.
//!
//! Pure: bytes in, bytes out. Signing is a function that the caller brings, so that a key may live in an agent.

pub mod chain;
pub mod checkpoint;
pub mod consistency;
pub mod cosignature;
pub mod dsse;
pub mod key;
pub mod note;
pub mod pem;
pub mod proof;
pub mod record;
pub mod redaction;
pub mod segments;
pub mod sshsig;
pub mod strict;
pub mod tile;
pub mod timestamp;
pub mod tlog_proof;
pub mod tree;
pub mod verify;
pub mod witness;

pub use chain::KeyChain;
pub use checkpoint::Checkpoint;
pub use cosignature::WitnessKey;
pub use key::FileKey;
pub use note::VerifierKey;
pub use record::Sealer;
pub use verify::Verifier;
