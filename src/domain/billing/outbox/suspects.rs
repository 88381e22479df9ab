//! Halves of batches that AWS refused for some of their records, until what it was is found.

use std::collections::{BTreeMap, VecDeque};

use crate::domain::{
    billing::{
        culprit::Culprit,
        record::{Record, RecordId},
    },
    customer::standing::Standing,
};

/// Part of a refused batch. Its other half waits for the answer: if this half is good, the other is known to hold the
/// culprit, which saves asking.
#[derive(Debug)]
pub(super) struct Suspect {
    pub(super) half: Vec<RecordId>,
    pub(super) other_half: Vec<RecordId>,
    pub(super) culprit: Culprit,
}

impl Suspect {
    /// Takes the records of a refused batch apart. What cannot be taken apart goes out as it is.
    pub(super) fn halved(mut records: Vec<&Record>, culprit: Culprit) -> Self {
        culprit.sort(&mut records);
        let at = culprit.cut(&records).unwrap_or(records.len());
        let mut half: Vec<RecordId> = records.into_iter().map(|record| record.id).collect();
        let other_half = half.split_off(at);
        Self { half, other_half, culprit }
    }

    /// Takes out those that are not to stay.
    fn release(&mut self, stays: &impl Fn(&RecordId) -> bool) -> Vec<RecordId> {
        let released = self.half.extract_if(.., |id| !stays(id)).collect::<Vec<_>>();
        let others = self.other_half.extract_if(.., |id| !stays(id)).collect::<Vec<_>>();
        if self.half.is_empty() {
            self.half = std::mem::take(&mut self.other_half);
        }
        [released, others].concat()
    }
}

#[derive(Debug, Default)]
pub(super) struct Suspects(BTreeMap<Standing, VecDeque<Suspect>>);

impl Suspects {
    pub(super) fn push(&mut self, standing: Standing, suspect: Suspect) {
        if !suspect.half.is_empty() {
            self.0.entry(standing).or_default().push_back(suspect);
        }
    }

    pub(super) fn pop(&mut self, standing: Standing) -> Option<Suspect> {
        self.0.get_mut(&standing)?.pop_front()
    }

    pub(super) fn has(&self, standing: Standing) -> bool {
        self.0.get(&standing).is_some_and(|suspects| !suspects.is_empty())
    }

    /// Those that go out next.
    pub(super) fn ids(&self, standing: Standing) -> impl Iterator<Item = RecordId> {
        let first = self.0.get(&standing).and_then(VecDeque::front);
        first.into_iter().flat_map(|suspect| &suspect.half).copied()
    }

    /// Takes out the records of the next halves that are not to stay among them, until there is a half to go out.
    pub(super) fn release(&mut self, standing: Standing, stays: impl Fn(&RecordId) -> bool) -> Vec<RecordId> {
        let mut released = Vec::new();
        let Some(suspects) = self.0.get_mut(&standing) else { return released };
        while let Some(first) = suspects.front_mut() {
            released.extend(first.release(&stays));
            if !first.half.is_empty() {
                break;
            }
            suspects.pop_front();
        }
        released
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let halves = self.0.values().flatten().flat_map(|suspect| [&suspect.half, &suspect.other_half]);
        halves.map(Vec::len).sum()
    }
}
