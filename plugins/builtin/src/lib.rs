//! The list of transports inside the program.
