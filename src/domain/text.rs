//! Texts of others, made safe to look at: nothing in them moves a cursor, turns the direction of what follows, or is not
//! seen.

use std::borrow::Cow;

/// What stands in a shown text for a character that is not seen.
const MARK: char = '\u{fffd}';

/// Characters of Unicode's categories Format, Line Separator and Paragraph Separator, and those that it calls ignorable.
const UNSEEN: [(char, char); 26] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
    ('\u{fffe}', '\u{ffff}'),
];

/// Whether the character controls something, or is not seen, or turns what is around it.
pub(crate) fn is_unseen(letter: char) -> bool {
    letter.is_control()
        || (!letter.is_ascii() && UNSEEN.iter().any(|(first, last)| (*first..=*last).contains(&letter)))
}

pub(crate) fn has_unseen(text: &str) -> bool {
    text.contains(is_unseen)
}

/// The text with a mark in place of each character that is not seen.
pub(crate) fn printable(text: &str) -> String {
    text.replace(is_unseen, &MARK.to_string())
}

/// The text with each character that is not seen as `\u....`, the escape of JSON. What is below U+0080 stays: the encoder
/// of JSON has escaped it, and a log may hold colours.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    let is_escaped = |letter: char| !letter.is_ascii() && is_unseen(letter);
    if !text.contains(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_escaped(letter) {
            escaped.extend(letter.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            escaped.push(letter);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_turns_hides_or_controls_text_is_marked() {
        for unseen in [
            '\n',
            '\t',
            '\u{1b}',
            '\u{7f}',
            '\u{9b}',
            '\u{ad}',
            '\u{200b}',
            '\u{200e}',
            '\u{2028}',
            '\u{202e}',
            '\u{2066}',
            '\u{feff}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{e0041}',
            '\u{e0100}',
        ] {
            assert!(has_unseen(&format!("ab{unseen}c")), "{unseen:?}");
            assert_eq!(printable(&format!("ab{unseen}c")), "ab\u{fffd}c");
        }
        for seen in ["acme", "Ærø GmbH & Co. «KG»", "客户-7", "عميل", "\u{fffd}", "e\u{301}", "😀"]
        {
            assert!(!has_unseen(seen), "{seen}");
            assert_eq!(printable(seen), seen);
        }
    }

    #[test]
    fn what_is_not_seen_is_escaped_as_json_has_it_and_reads_back() {
        let text = "a\u{202e}b\u{e0041}é\u{9b}";
        let json = format!("{{\"key\":\"{text}\"}}");
        assert_eq!(escaped(&json), "{\"key\":\"a\\u202eb\\udb40\\udc41é\\u009b\"}");
        let read: serde_json::Value = serde_json::from_str(&escaped(&json)).unwrap();
        assert_eq!(read["key"], text);
        assert!(matches!(escaped("\u{1b}[31mred\n"), Cow::Borrowed(_)), "colours stay");
    }

    proptest! {
        /// Unicode's tables, as the crate that makes these texts has them.
        #[test]
        fn the_table_is_unicodes(
            unseen in "[\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}\\p{Default_Ignorable_Code_Point}]",
            seen in "[^\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}\\p{Default_Ignorable_Code_Point}\\u{fff0}-\\u{ffff}]",
        ) {
            prop_assert!(unseen.chars().all(is_unseen), "{:?}", unseen);
            prop_assert!(!seen.chars().any(is_unseen), "{:?}", seen);
        }
    }
}
