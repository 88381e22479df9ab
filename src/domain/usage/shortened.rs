//! Texts from outside, cut for messages.

/// Enough of a text to recognise it.
pub(super) fn shortened(text: &str) -> String {
    const MOST: usize = 64;
    if text.chars().count() <= MOST {
        text.to_owned()
    } else {
        text.chars().take(MOST).chain("...".chars()).collect()
    }
}
