//! Views of the event log: terminal, text, JSON.
