//! Whether everything is billed, in a sentence.

use maud::{Markup, html};

use super::super::{
    format::{clock_time, count},
    snapshot::Snapshot,
    wording,
};
use crate::engine::health::{Health, Level};

pub(super) fn answer(snapshot: &Snapshot) -> Markup {
    let health = Health::of(&snapshot.facts());
    let mark = match health.level {
        Level::Good => "M7 12.5l3.5 3.5L17 8.5",
        Level::Busy => "M12 7v5.5l3.5 2",
        Level::Warning | Level::Bad => "M12 6.5v7M12 17v.2",
    };
    html! {
        p.question { "Is everything billed?" }
        h1 class=(health.level.name()) aria-live="polite" {
            svg.mark viewBox="0 0 24 24" aria-hidden="true" {
                circle cx="12" cy="12" r="10.5" {}
                path d=(mark) {}
            }
            span {
                strong { (wording::answer(health.answer)) }
                " "
                (wording::sentence(&health, snapshot.now))
            }
        }
        p.aside { (under_way(snapshot)) }
    }
}

/// How far hours are sealed, and what is counted in later ones.
fn under_way(snapshot: &Snapshot) -> String {
    let sealed = clock_time(snapshot.sealed_through.end(), snapshot.now);
    let open = match snapshot.summary.open_buckets {
        0 => "nothing is counted in later hours yet".to_owned(),
        1 => "1 bucket of later hours is open".to_owned(),
        open => format!("{} of later hours are open", count(open, "bucket")),
    };
    format!("Hours are sealed up to {sealed}; {open}.")
}
