//! What can be set about RocksDB here: words such as `filter=ribbon,bits=10,buffer=32`.

use std::str::FromStr;

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DBCompactionStyle, DBCompressionType, DBRecoveryMode,
    MemtableFactory, Options, SliceTransform, UniversalCompactOptions,
};

use crate::lookup::Layout;

#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a word of its own")]
pub(crate) struct Tuning {
    /// `layout`: `hash`, `prefix` or `family`.
    pub(crate) layout: Layout,
    /// `batch`: how many ids are looked up at once; 0 for those of a whole commit.
    pub(crate) batch: usize,
    /// `set`: how many ids are kept in memory before they become a file, where a variant does so.
    pub(crate) set: usize,
    /// `filter`: `bloom`, `ribbon` or `none`; with `bits` for each key, as a Bloom filter would have.
    filter: Filter,
    bits: f64,
    /// `partitioned`: index and filters in blocks of 4 KiB, which need not all be in memory.
    partitioned: bool,
    /// `cached`: index and filters are in the block cache, and bounded by it.
    cached: bool,
    /// `cache`: MiB for blocks.
    cache: usize,
    /// `block`: KiB of a block.
    block: usize,
    /// `hits`: no filters in the last level.
    hits: bool,
    /// `direct`: reads go past the page cache, as if the machine had no memory to spare.
    direct: bool,
    /// `memtable`: `skiplist` or `linklist`, a hash table of lists.
    linklist: bool,
    /// `hint`: each key of a batch is put where the one before it went.
    pub(crate) hint: bool,
    /// `buffer`: MiB of a memtable; `memfilter`: the part of it that is a Bloom filter, in percent.
    buffer: usize,
    memfilter: u32,
    /// `style`: `universal`, `level` or `none`, without compaction.
    style: Style,
    /// `trigger`: sorted runs, or files of level 0, before there is a compaction.
    trigger: i32,
    /// `width`: the fewest runs that a compaction merges, where it is universal; `ratio`: how unlike they may be in size, in
    /// percent.
    width: i32,
    ratio: i32,
    /// `file`: MiB of a file of level 1 and below.
    file: u64,
    /// `jobs`: threads in the background.
    jobs: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    Bloom,
    Ribbon,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Universal,
    Level,
    None,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            layout: Layout::Prefix,
            batch: 0,
            set: 600_000,
            filter: Filter::Bloom,
            bits: 14.0,
            partitioned: false,
            cached: false,
            cache: 8,
            block: 4,
            hits: false,
            direct: false,
            linklist: false,
            hint: true,
            buffer: 32,
            memfilter: 10,
            style: Style::Universal,
            trigger: 8,
            width: 4,
            ratio: 50,
            file: 32,
            jobs: 2,
        }
    }
}

impl FromStr for Tuning {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut tuning = Self::default();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            let (name, value) = word.split_once('=').ok_or_else(|| format!("{word} sets nothing"))?;
            tuning.set(name, value).ok_or_else(|| format!("{word} makes no sense"))?;
        }
        Ok(tuning)
    }
}

impl Tuning {
    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        match name {
            "layout" => self.layout = Layout::named(value)?,
            "batch" => self.batch = value.parse().ok()?,
            "set" => self.set = value.parse().ok()?,
            "filter" => self.filter = filter(value)?,
            "bits" => self.bits = value.parse().ok()?,
            "partitioned" => self.partitioned = value.parse().ok()?,
            "cached" => self.cached = value.parse().ok()?,
            "cache" => self.cache = value.parse().ok()?,
            "block" => self.block = value.parse().ok()?,
            "hits" => self.hits = value.parse().ok()?,
            "direct" => self.direct = value.parse().ok()?,
            "memtable" => self.linklist = value == "linklist",
            "hint" => self.hint = value.parse().ok()?,
            "buffer" => self.buffer = value.parse().ok()?,
            "memfilter" => self.memfilter = value.parse().ok()?,
            "style" => self.style = style(value)?,
            "trigger" => self.trigger = value.parse().ok()?,
            "width" => self.width = value.parse().ok()?,
            "ratio" => self.ratio = value.parse().ok()?,
            "file" => self.file = value.parse().ok()?,
            "jobs" => self.jobs = value.parse().ok()?,
            _ => return None,
        }
        Some(())
    }

    /// What the agent's store has, but for what is for other tables there.
    pub(crate) fn database(&self) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_max_total_wal_size(64 << 20);
        options.set_bytes_per_sync(512 << 10);
        options.set_max_background_jobs(self.jobs);
        // All files stay open, so that no look-up has to find one.
        options.set_max_open_files(-1);
        options.set_keep_log_file_num(2);
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_track_and_verify_wals_in_manifest(true);
        options.set_allow_concurrent_memtable_write(false);
        options.set_use_direct_reads(self.direct);
        options
    }

    /// RocksDB's options for the table of ids.
    pub(crate) fn table(&self) -> Options {
        let mut options = Options::default();
        options.set_block_based_table_factory(&self.blocks());
        // Hashes are random.
        options.set_compression_type(DBCompressionType::None);
        options.set_optimize_filters_for_hits(self.hits);
        options.set_write_buffer_size(self.buffer << 20);
        options.set_max_write_buffer_number(3);
        options.set_memtable_prefix_bloom_ratio(f64::from(self.memfilter) / 100.0);
        options.set_memtable_whole_key_filtering(true);
        options.set_target_file_size_base(self.file << 20);
        options.set_allow_concurrent_memtable_write(false);
        if self.linklist {
            options.set_prefix_extractor(SliceTransform::create_fixed_prefix(self.layout.key_bytes()));
            options.set_memtable_factory(MemtableFactory::HashLinkList { bucket_count: 1 << 20 });
        }
        self.compaction(&mut options);
        options
    }

    fn blocks(&self) -> BlockBasedOptions {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&Cache::new_lru_cache(self.cache << 20));
        blocks.set_block_size(self.block << 10);
        blocks.set_format_version(6);
        blocks.set_whole_key_filtering(true);
        blocks.set_index_block_restart_interval(16);
        blocks.set_optimize_filters_for_memory(true);
        match self.filter {
            Filter::Bloom => blocks.set_bloom_filter(self.bits, false),
            Filter::Ribbon => blocks.set_ribbon_filter(self.bits),
            Filter::None => {}
        }
        if self.partitioned {
            blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
            blocks.set_partition_filters(true);
            blocks.set_metadata_block_size(4096);
        }
        if self.cached {
            blocks.set_cache_index_and_filter_blocks(true);
            blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
            blocks.set_pin_top_level_index_and_filter(true);
        }
        blocks
    }

    fn compaction(&self, options: &mut Options) {
        options.set_level_zero_file_num_compaction_trigger(self.trigger);
        options.set_level_zero_slowdown_writes_trigger(self.trigger * 4);
        options.set_level_zero_stop_writes_trigger(self.trigger * 8);
        match self.style {
            Style::None => options.set_disable_auto_compactions(true),
            Style::Level => options.set_max_bytes_for_level_base(256 << 20),
            Style::Universal => {
                options.set_compaction_style(DBCompactionStyle::Universal);
                let mut universal = UniversalCompactOptions::default();
                universal.set_min_merge_width(self.width);
                universal.set_size_ratio(self.ratio);
                // No key is ever overwritten: to merge everything gains no space.
                universal.set_max_size_amplification_percent(1_000_000);
                options.set_universal_compaction_options(&universal);
            }
        }
        if self.style == Style::None {
            options.set_level_zero_slowdown_writes_trigger(i32::MAX);
            options.set_level_zero_stop_writes_trigger(i32::MAX);
        }
    }
}

fn filter(name: &str) -> Option<Filter> {
    match name {
        "bloom" => Some(Filter::Bloom),
        "ribbon" => Some(Filter::Ribbon),
        "none" => Some(Filter::None),
        _ => None,
    }
}

fn style(name: &str) -> Option<Style> {
    match name {
        "universal" => Some(Style::Universal),
        "level" => Some(Style::Level),
        "none" => Some(Style::None),
        _ => None,
    }
}
