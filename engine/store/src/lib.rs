//! The log and the blobs of an installation, in SQLite and on disk.
