//! The ids that are sent: each is a function of its position, so that nobody has to remember them.

/// How many ids, in which commits.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) ids: u64,
    pub(crate) per_commit: u64,
    /// How many generations the ids are spread over, one after the other.
    pub(crate) generations: u64,
}

/// One of so many ids was sent before.
const REPEAT: u64 = 100;
/// Every other repeat is of so many ids before it: an application that resends its last requests.
const RECENT: u64 = 100_000;
/// The time at which the first generation starts, and how many seconds later the next one does: the sixth part of two hours.
const FIRST_GENERATION: u64 = 1_793_620_800;
const GENERATION_SECONDS: u64 = 1200;

impl Plan {
    pub(crate) fn commits(self) -> u64 {
        self.ids.div_ceil(self.per_commit)
    }

    /// The ids of a commit.
    pub(crate) fn commit(self, number: u64) -> Vec<u128> {
        (number * self.per_commit..(number + 1) * self.per_commit).map(id).collect()
    }

    /// When a commit takes place, in seconds.
    pub(crate) fn time_of(self, commit: u64) -> u32 {
        let generation = commit * self.generations / self.commits();
        u32::try_from(FIRST_GENERATION + generation * GENERATION_SECONDS).unwrap()
    }

    /// How many of the ids of the first commits are repeats.
    pub(crate) fn repeats(self, commits: u64) -> u64 {
        commits * self.per_commit / REPEAT
    }
}

/// The id at a position of the stream, which may be a repeat of one before.
pub(crate) fn id(position: u64) -> u128 {
    if !is_repeat(position) {
        return hash(position);
    }
    let choice = mix(position ^ 0x5eed);
    let span = if choice & 1 == 0 { RECENT.min(position) } else { position };
    let earlier = position - 1 - (choice >> 1) % span;
    hash(if is_repeat(earlier) { earlier - 1 } else { earlier })
}

fn is_repeat(position: u64) -> bool {
    position % REPEAT == REPEAT - 1
}

fn hash(position: u64) -> u128 {
    u128::from(mix(2 * position)) << 64 | u128::from(mix(2 * position + 1))
}

/// The finalizer of splitmix64: as good as random for consecutive numbers.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
