//! The traits that a transport, a store, a signer or a person's terminal implements.
//!
//! A port promises; its implementations keep the promise, and one conformance suite per port (in `tests/testkit`) checks
//! each of them. Ports never retry, never interpret exit codes, never log arguments, and never read the engine's
//! settings: what they need is in the call.

pub mod access;
pub mod anchor;
pub mod blob;
pub mod clock;
pub mod hosts;
pub mod leftover;
pub mod monitor;
pub mod notifier;
pub mod observe;
pub mod person;
pub mod posix;
pub mod secret;
pub mod signer;
pub mod store;
pub mod tickets;
pub mod transport;

pub use access::Access;
pub use anchor::Anchor;
pub use blob::{BlobStore, BlobWriter};
pub use clock::Clock;
pub use hosts::HostSource;
pub use leftover::{Leftover, LeftoverState};
pub use monitor::Monitor;
pub use notifier::Notifier;
pub use observe::Observer;
pub use person::Confirmer;
pub use secret::{SecretBytes, SecretSource};
pub use signer::Signer;
pub use store::Store;
pub use tickets::Tickets;
pub use transport::{Invocation, Session, Transport};
