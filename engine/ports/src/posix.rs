//! How an attempt is carried out on a POSIX host: the text that is sent to `sh`, and how its answers are read. Pure text,
//! shared by every transport that reaches such hosts.
