//! Everything that Minka's programs say to each other: frames, messages, and what is said on one node.

pub mod frame;
pub mod local;
pub mod message;
pub mod preamble;
pub mod start;

/// Longest text of a peer's that is shown or passed on, in characters.
const TEXT_MAX: usize = 400;

/// What a peer says for people, fit to be shown to them: not too long, and nothing that a terminal would obey.
pub fn tidy(text: &str) -> String {
    let fit = |character: char| if character.is_control() { '\u{fffd}' } else { character };
    let mut tidy: String = text.chars().take(TEXT_MAX).map(fit).collect();
    if text.chars().nth(TEXT_MAX).is_some() {
        tidy.push('…');
    }
    tidy
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_peers_say_is_short_and_harmless() {
        assert_eq!(tidy("its processor lacks avx2: naïve"), "its processor lacks avx2: naïve");
        assert_eq!(tidy("a\u{1b}[2Jb\nc\0"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}");
        assert_eq!(tidy(&"x".repeat(400)).len(), 400);
        let long = tidy(&"ü".repeat(1 << 20));
        assert_eq!((long.chars().count(), long.ends_with('…')), (401, true));
    }
}
