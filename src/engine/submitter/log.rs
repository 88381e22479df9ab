//! What a submitter logs. A customer is named at the level of debug only, also where AWS's words name one.

use tracing::{debug, error, info, warn};

use crate::{
    base::metrics,
    domain::billing::{
        answer::Reply,
        outbox::QueuedRecord,
        record::{Outcome, Record, Settled},
    },
};

pub(super) fn log_reply(product: &str, reply: &Reply, entries: &[QueuedRecord]) {
    let records = entries.len();
    let discreet = |words: &str| discreet(words, entries.iter().map(|entry| &*entry.record));
    match reply {
        Reply::Answered(_) => info!(product, records, "AWS answered"),
        Reply::Throttled => info!(product, records, "AWS throttled the call: it is tried again"),
        Reply::NotDelivered(error) | Reply::Lost(error) => {
            warn!(product, records, error = discreet(error), "the call failed: it is tried again");
        }
        Reply::BadRecord(_) | Reply::TooOld(_) | Reply::UnknownIdentity(..) if records == 1 => {}
        Reply::BadRecord(error) | Reply::TooOld(error) | Reply::UnknownIdentity(_, error) => {
            warn!(product, records, error = discreet(error), "AWS refused the batch: it is taken apart");
        }
        Reply::Setup(error) => {
            let error = discreet(error);
            error!(product, records, error, "AWS refuses the set-up: usage waits until it is mended");
        }
    }
}

pub(super) fn note_settled(settled: &Settled) {
    let record = &settled.record;
    metrics::settled(&record.product, &settled.outcome);
    match &settled.outcome {
        Outcome::Held { reason, detail } => {
            error!(
                record = %record.id, product = %record.product, dimension = %record.dimension, hour = %record.hour,
                quantity = %record.quantity, reason = reason.name(), detail = discreet(detail, [record]),
                "a record is held: decide about it"
            );
            debug!(record = %record.id, customer = %record.customer, %detail, "the record that is held");
        }
        Outcome::RolledForward { into } => {
            warn!(
                record = %record.id, product = %record.product, dimension = %record.dimension, hour = %record.hour,
                quantity = %record.quantity, %into, "a record missed its deadline: its usage rolls forward"
            );
        }
        Outcome::Accepted { .. } | Outcome::Expired | Outcome::Carried { .. } | Outcome::WrittenOff => {}
    }
}

const NAMELESS: &str = "[customer]";

/// AWS's words, without what names the customers of these records.
fn discreet<'a>(words: &str, records: impl IntoIterator<Item = &'a Record>) -> String {
    let mut names: Vec<&str> = Vec::new();
    for record in records {
        let fields = record.identity.fields();
        names.extend([&*record.customer, fields.account_id, fields.license_arn, fields.customer_identifier]);
    }
    names.retain(|name| !name.is_empty());
    // A license has an account in its name.
    names.sort_unstable_by_key(|name| std::cmp::Reverse(name.len()));
    names.dedup();
    names.into_iter().fold(words.to_owned(), |words, name| without(&words, name))
}

/// Without a name, wherever it is a word of its own: a key may be as short as `a`.
fn without(words: &str, name: &str) -> String {
    let (mut kept, mut rest) = (String::new(), words);
    while let Some(at) = rest.find(name) {
        let (before, after) = (&rest[..at], &rest[at + name.len()..]);
        let touches = |end: Option<char>| end.is_some_and(char::is_alphanumeric);
        let is_part = touches(before.chars().next_back().or_else(|| kept.chars().next_back()))
            || touches(after.chars().next());
        kept.push_str(before);
        kept.push_str(if is_part { name } else { NAMELESS });
        rest = after;
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_left_out_where_it_is_a_word() {
        for (words, expected) in [
            ("customer acme is not subscribed", "customer [customer] is not subscribed"),
            ("acme", "[customer]"),
            ("(acme), 'acme': acme.", "([customer]), '[customer]': [customer]."),
            ("acmes pacme acme2 éacme", "acmes pacme acme2 éacme"),
            ("acmeacme acme", "acmeacme [customer]"),
            ("", ""),
        ] {
            assert_eq!(without(words, "acme"), expected, "{words}");
        }
    }
}
