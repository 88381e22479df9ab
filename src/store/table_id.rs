//! The tables by their names on disk.

/// Where rows are kept. RocksDB has a column family for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableId {
    /// Rows of few kinds and number: the format, the watermark, manifests.
    Meta,
    /// Open buckets.
    Buckets,
    /// The parts of open buckets that have tags.
    Tagged,
    /// Dedup keys of the subjects that open buckets have counted, by hour.
    Subjects,
    /// The log of dedup keys of counted events: those of each commit in one row.
    DedupKeys,
    /// Dedup keys that were flushed from memory, sorted, in runs that are searched.
    DedupRuns,
    /// The last sequence of each stream's producer.
    Producers,
    /// Records that AWS has not accepted yet. Written once, at the seal.
    Records,
    /// The attempts for pending records.
    Deliveries,
    /// The ledger: records that are neither pending nor held.
    Receipts,
    /// Records that wait for a person or for a subscription.
    Held,
    /// Persons' decisions about held records. They are never dropped.
    Decisions,
    /// The history of records, line by line, each with the hash of the line before.
    Journal,
    /// Sealed usage that is neither accepted nor written off, by customer and dimension: the counterpart that the rest is
    /// held against.
    Outstanding,
    /// The known customers.
    Customers,
    /// Digests of the messages that streams' producers have sent.
    MessageDigests,
    /// The usual hours of customers and dimensions, where an unusual one is held.
    UsualHours,
}

impl TableId {
    /// The table whose rows change with nearly every commit: a store does well to write them late.
    pub(super) const CHANGES_MOST: Self = Self::Buckets;

    pub const ALL: [Self; 17] = [
        Self::Meta,
        Self::Buckets,
        Self::Tagged,
        Self::Subjects,
        Self::DedupKeys,
        Self::DedupRuns,
        Self::Producers,
        Self::Records,
        Self::Deliveries,
        Self::Receipts,
        Self::Held,
        Self::Decisions,
        Self::Journal,
        Self::Outstanding,
        Self::Customers,
        Self::MessageDigests,
        Self::UsualHours,
    ];

    /// The name on disk. Two are older than the words that the code has now.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Buckets => "buckets",
            Self::Tagged => "tagged",
            Self::Subjects => "subjects",
            Self::DedupKeys => "marks",
            Self::DedupRuns => "mark_runs",
            Self::Producers => "producers",
            Self::Records => "records",
            Self::Deliveries => "deliveries",
            Self::Receipts => "receipts",
            Self::Held => "held",
            Self::Decisions => "decisions",
            Self::Journal => "journal",
            Self::Outstanding => "outstanding",
            Self::Customers => "roster",
            Self::MessageDigests => "message_digests",
            Self::UsualHours => "usual_hours",
        }
    }
}
