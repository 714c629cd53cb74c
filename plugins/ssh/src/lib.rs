//! Steps over the system's OpenSSH, one connection per host.
