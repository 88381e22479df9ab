//! Vendor-metered tagging: usage split by sets of tags, which the buyer sees on the bill.
//!
//! Limits by AWS (`BatchMeterUsage` model and seller guide): 1 to 5 tags a set, keys of 1 to 100 and values of 1 to 256
//! characters of `a-zA-Z0-9+ -=._:/@`, 2500 allocations a record, one of them untagged.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::shortened::shortened;

const MAX_TAGS: usize = 5;
const MAX_KEY: usize = 100;
const MAX_VALUE: usize = 256;
/// AWS's 2500 allocations, less the untagged one.
const MAX_SETS: usize = 2499;
/// A record and its allocations must fit into one request of less than 1 MB.
const MAX_WIRE_BYTES: usize = 900_000;
/// `{"Key":"","Value":""},` and, around a set's tags, `{"AllocatedUsageQuantityAsDecimal":"2147483647.000000","Tags":[]},`
const BYTES_PER_TAG: usize = 24;
const BYTES_PER_ALLOCATION: usize = 72;

/// One to five tags, sorted by key, each key once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagSet(Arc<[(Box<str>, Box<str>)]>);

impl TagSet {
    /// An upper bound of the size of an allocation without tags in the request's JSON.
    pub const UNTAGGED_WIRE_SIZE: usize = BYTES_PER_ALLOCATION;

    /// `None` without tags. The error says which rule of AWS's is broken.
    pub fn new<'a>(tags: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Option<Self>, String> {
        let tags: BTreeMap<Box<str>, Box<str>> =
            tags.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        if tags.len() > MAX_TAGS {
            return Err(format!("{} tags, and AWS takes at most {MAX_TAGS}", tags.len()));
        }
        for (key, value) in &tags {
            check("key", key, MAX_KEY)?;
            check("value", value, MAX_VALUE)?;
        }
        Ok((!tags.is_empty()).then(|| Self(tags.into_iter().collect())))
    }

    /// The tags, in the order of their keys.
    pub fn tags(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// An upper bound of an allocation's size in the request's JSON. No character that is allowed needs an escape.
    pub fn wire_size(&self) -> usize {
        let tag =
            |(key, value): (&str, &str)| key.len().saturating_add(value.len()).saturating_add(BYTES_PER_TAG);
        self.tags().map(tag).fold(BYTES_PER_ALLOCATION, usize::saturating_add)
    }
}

fn check(what: &str, text: &str, longest: usize) -> Result<(), String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+ -=._:/@".contains(&byte);
    if (1..=longest).contains(&text.len()) && text.bytes().all(is_allowed) {
        Ok(())
    } else {
        let text = shortened(text);
        Err(format!("tag {what} `{text}` is not 1 to {longest} of a-z A-Z 0-9 + - = . _ : / @ and space"))
    }
}

/// Parts of an amount by tag set; what is in none of them is untagged.
///
/// Bounded by what one record may hold (I9). Whether AWS counts its five tags by allocation or by record is not
/// documented, so the sets of a record share five keys: then it is accepted either way. A million buckets have one each,
/// and most of them no tags: those take one word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tagged(Option<Box<Sets>>);

/// A set of at least one tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sets {
    amounts: BTreeMap<TagSet, u128>,
    keys: BTreeSet<Box<str>>,
    wire_bytes: usize,
}

impl Tagged {
    /// Adds to a set's part. `false` if there is no room for the set: then the amount stays untagged.
    pub fn add(&mut self, tags: &TagSet, amount: u128) -> bool {
        if let Some(sets) = &mut self.0 {
            return sets.add(tags, amount);
        }
        let mut sets = Sets::default();
        let is_kept = sets.add(tags, amount);
        self.0 = is_kept.then(|| Box::new(sets));
        is_kept
    }

    pub fn get(&self, tags: &TagSet) -> Option<u128> {
        self.0.as_ref()?.amounts.get(tags).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&TagSet, u128)> {
        self.0.iter().flat_map(|sets| &sets.amounts).map(|(tags, amount)| (tags, *amount))
    }

    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |sets| sets.amounts.len())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub fn total(&self) -> u128 {
        self.iter().fold(0, |sum, (_, amount)| sum.saturating_add(amount))
    }

    /// What is left when `other`, a part of this, is taken out. A set of which nothing is left leaves its room.
    #[must_use]
    pub(crate) fn without(&self, other: &Self) -> Self {
        let mut rest = Self::default();
        for (tags, amount) in self.iter() {
            let left = amount.saturating_sub(other.get(tags).unwrap_or_default());
            // There is room, since these tag sets had room in `self`.
            if left > 0 {
                rest.add(tags, left);
            }
        }
        rest
    }
}

impl Sets {
    fn add(&mut self, tags: &TagSet, amount: u128) -> bool {
        if let Some(part) = self.amounts.get_mut(tags) {
            *part = part.saturating_add(amount);
            return true;
        }
        let wire_bytes = self.wire_bytes.saturating_add(tags.wire_size());
        let new_keys = tags.tags().filter(|(key, _)| !self.keys.contains(*key)).count();
        if self.amounts.len() >= MAX_SETS
            || wire_bytes > MAX_WIRE_BYTES
            || self.keys.len().saturating_add(new_keys) > MAX_TAGS
        {
            return false;
        }
        self.wire_bytes = wire_bytes;
        self.keys.extend(tags.tags().map(|(key, _)| key.into()));
        self.amounts.insert(tags.clone(), amount);
        true
    }
}

/// Sets that find no room are left out, and their amounts thus untagged.
impl<'a> FromIterator<(&'a TagSet, u128)> for Tagged {
    fn from_iter<I: IntoIterator<Item = (&'a TagSet, u128)>>(parts: I) -> Self {
        let mut tagged = Self::default();
        for (tags, amount) in parts {
            tagged.add(tags, amount);
        }
        tagged
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn tag_set(tags: &[(&str, &str)]) -> TagSet {
        TagSet::new(tags.iter().copied()).unwrap().unwrap()
    }

    #[test]
    fn a_set_keeps_to_the_rules_of_aws() {
        assert_eq!(TagSet::new([]), Ok(None));
        assert!(TagSet::new([("team name", "a+b-c=d._:/@9")]).is_ok());
        let (long_key, long_value) = ("k".repeat(101), "v".repeat(257));
        for bad in [("", "v"), ("k", ""), (&*long_key, "v"), ("k", &*long_value), ("k", "a,b"), ("k", "é")] {
            assert!(TagSet::new([bad]).is_err(), "{bad:?}");
        }
        assert!(TagSet::new([(&long_key[1..], &long_value[1..])]).is_ok());
        let six = [("a", "1"), ("b", "1"), ("c", "1"), ("d", "1"), ("e", "1"), ("f", "1")];
        assert!(TagSet::new(six).is_err());
        assert!(TagSet::new(six[1..].iter().copied()).is_ok());
        assert_eq!(tag_set(&[("a", "1"), ("b", "2")]), tag_set(&[("b", "2"), ("a", "1")]));
    }

    #[test]
    fn no_more_sets_are_kept_than_a_record_takes() {
        let mut tagged = Tagged::default();
        let set = |number: usize| tag_set(&[("team", &number.to_string())]);
        assert!((0..MAX_SETS).all(|number| tagged.add(&set(number), 1)));
        assert!(!tagged.add(&set(MAX_SETS), 1), "a set too many");
        assert!(tagged.add(&set(0), 1), "a known one has its place");
        assert_eq!((tagged.len(), tagged.total()), (MAX_SETS, MAX_SETS as u128 + 1));
        assert_eq!([0, 1, MAX_SETS].map(|number| tagged.get(&set(number))), [Some(2), Some(1), None]);
    }

    #[test]
    fn large_sets_stay_under_the_size_of_a_request() {
        let mut tagged = Tagged::default();
        let set =
            |number: usize| tag_set(&[("team", &format!("{number:0>256}")), ("unit", &"x".repeat(256))]);
        let kept = (0..MAX_SETS).take_while(|number| tagged.add(&set(*number), 1)).count();
        assert!(kept > 1000 && kept < MAX_SETS, "{kept}");
        assert!(tagged.iter().map(|(tags, _)| tags.wire_size()).sum::<usize>() <= MAX_WIRE_BYTES);
    }

    #[test]
    fn the_sets_of_a_record_share_five_keys() {
        let mut tagged = Tagged::default();
        assert!(tagged.is_empty());
        assert!(tagged.add(&tag_set(&[("a", "1"), ("b", "1"), ("c", "1")]), 1));
        assert!(!tagged.is_empty());
        assert!(tagged.add(&tag_set(&[("d", "1"), ("e", "1")]), 1));
        assert!(!tagged.add(&tag_set(&[("f", "1")]), 1));
        assert!(tagged.add(&tag_set(&[("a", "2"), ("e", "7")]), 1));
    }
}
