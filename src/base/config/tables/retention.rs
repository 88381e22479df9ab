//! `[retention]`: how long the past is kept.

use std::time::Duration;

use super::{About, Section};

#[derive(Clone, Copy, Debug)]
pub struct Retention {
    pub receipts: Duration,
}

const ABOUT: About = About {
    words: "How long the past is kept. Persons' decisions are kept for ever.",
    example: r#"
[retention]
receipts = "400d"
"#,
};

pub(super) fn read(root: &mut Section<'_>) -> Retention {
    let mut section = root.section("retention", &ABOUT);
    let retention = Retention {
        receipts: section
            .key("receipts", "How long settled records stay in the ledger")
            .duration("400d", "1d"..="36500d"),
    };
    root.put("retention", section);
    retention
}
