//! What ships inside the program.

include!(concat!(env!("OUT_DIR"), "/library.rs"));

/// The text of the shipped action of this name.
pub(crate) fn action(name: &str) -> Option<&'static str> {
    ACTIONS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}
