//! What a host prints: secrets masked, hashed, counted and kept within bounds, before anybody else sees it.
//!
//! Nothing here knows what the bytes mean. [`mask`] replaces secrets' values wherever a read splits them; [`capture`]
//! is the sink that a transport writes into; [`keep`] keeps head and tail of a stream in bounded memory;
//! [`times`] notes when it came.

pub mod capture;
pub mod keep;
pub mod mask;
pub mod times;

pub use capture::{Capture, Captured, Keeping, StreamResult, Tail};
pub use mask::{Mask, Masker};
