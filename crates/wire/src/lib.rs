//! Everything that Minka's programs say to each other: frames, messages, and what is said on one node.

pub mod frame;
pub mod local;
pub mod message;
pub mod preamble;

/// An error with all its causes, on one line for people: `A: B: C`.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}
