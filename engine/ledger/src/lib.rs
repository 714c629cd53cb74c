//! Records are sealed, heads are signed, and both are verified.
