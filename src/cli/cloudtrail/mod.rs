//! Reads CloudTrail's files for the records that AWS says it accepted.
//!
//! ```text
//!   mod         opens and unpacks files, and bounds what is read of them
//!   document    finds the events in a file, one at a time
//!   event       finds what AWS accepted in an event
//! ```
//!
//! Memory holds no more than one event and what AWS accepted in the hours in question, whatever the files hold.

mod document;
mod event;

use std::{
    cell::Cell,
    collections::HashSet,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use flate2::read::MultiGzDecoder;
use serde::Serialize;

use super::exit::Failure;
use crate::domain::{
    reconcile::{Sender, TrailLine},
    time::Hour,
};
use document::Event;

/// The most that is read of a file once it is unpacked. CloudTrail's own files have some 50 MB.
const MAX_FILE_BYTES: u64 = 4 << 30;
/// The most that is read of an event. CloudTrail's events have at most 256 KB, and `lookup-events` adds little.
const MAX_EVENT_BYTES: u64 = 4 << 20;
/// The most accepted records in all files together, some 300 bytes of memory each.
const MAX_LINES: usize = 1_000_000;
/// The most unreadable acceptances that are kept. More are only counted.
const MAX_UNREADABLE: usize = 100;

/// What the files say about the hours in question.
#[derive(Debug, Default)]
pub(super) struct Trail {
    pub(super) lines: Vec<TrailLine>,
    pub(super) unreadable: Vec<Unreadable>,
    pub(super) counts: Counts,
    names: HashSet<Arc<str>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// `BatchMeterUsage` events.
    pub(super) calls: u64,
    /// Calls that were refused as a whole.
    pub(super) failed_calls: u64,
    /// Calls whose results CloudTrail left out, as it does when they are large.
    pub(super) calls_without_results: u64,
    /// Results with status Success, repeated ones included, whatever their hour.
    pub(super) accepted: u64,
    /// Those of them whose hour is none of those in question.
    pub(super) outside_hours: u64,
    /// Results with another status.
    pub(super) refused: u64,
    pub(super) unprocessed: u64,
    /// Acceptances that make no sense.
    pub(super) unreadable: u64,
}

/// An acceptance that cannot be read.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Unreadable {
    pub(super) file: String,
    pub(super) event: String,
    pub(super) detail: String,
}

impl Trail {
    /// Reads all the files, and keeps the lines of the hours that `is_wanted`.
    pub(super) fn read(files: &[PathBuf], is_wanted: impl Fn(Hour) -> bool) -> Result<Self, Failure> {
        let mut trail = Self::default();
        for file in files {
            let name = file.display().to_string();
            let source =
                open(file).map_err(|error| Failure::Usage(format!("{name}: cannot be read: {error}")))?;
            trail
                .read_source(source, &name, &is_wanted)
                .map_err(|why| Failure::Wrong(format!("{name}: {why}")))?;
        }
        Ok(trail)
    }

    fn read_source(
        &mut self,
        source: Box<dyn Read>,
        name: &str,
        is_wanted: &impl Fn(Hour) -> bool,
    ) -> Result<(), String> {
        let budget = ByteBudget::default();
        let bounded = BoundedReader { source, budget: &budget, left: MAX_FILE_BYTES };
        document::events(BufReader::new(bounded), &budget, |event| self.take(event, name, is_wanted))
    }

    /// Keeps what AWS accepted in the event.
    fn take(&mut self, event: &Event, file: &str, is_wanted: &impl Fn(Hour) -> bool) -> Result<(), String> {
        if !event.is_metering() {
            return Ok(());
        }
        for accepted in event::accepted(event, &mut self.counts) {
            match accepted {
                Ok(line) if is_wanted(line.hour) => self.keep(line)?,
                Ok(_) => self.counts.outside_hours += 1,
                Err(detail) => self.note_unreadable(file, event, detail),
            }
        }
        Ok(())
    }

    fn keep(&mut self, mut line: TrailLine) -> Result<(), String> {
        if self.lines.len() == MAX_LINES {
            return Err(format!(
                "more than {MAX_LINES} accepted records: ask for fewer hours with --from and --to"
            ));
        }
        let TrailLine {
            product,
            account_id,
            license_arn,
            customer_identifier,
            dimension,
            region,
            sender,
            ..
        } = &mut line;
        let Sender { arn, address, user_agent } = sender;
        let of_record = [product, account_id, license_arn, customer_identifier, dimension, region];
        for name in of_record.into_iter().chain([arn, address, user_agent]) {
            *name = shared(&mut self.names, name.clone());
        }
        self.lines.push(line);
        Ok(())
    }

    fn note_unreadable(&mut self, file: &str, event: &Event, detail: String) {
        self.counts.unreadable += 1;
        if self.unreadable.len() < MAX_UNREADABLE {
            let event = event.id.clone();
            self.unreadable.push(Unreadable { file: file.to_owned(), event, detail });
        }
    }
}

/// Shares one copy of each name, since the same ones come again and again.
pub(super) fn shared(names: &mut HashSet<Arc<str>>, name: Arc<str>) -> Arc<str> {
    if let Some(known) = names.get(&name) {
        return known.clone();
    }
    names.insert(name.clone());
    name
}

/// Opens a file, and unpacks it if its first bytes say that it is packed. `-` is the standard input.
fn open(file: &Path) -> io::Result<Box<dyn Read>> {
    let raw: Box<dyn Read> =
        if file == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(file)?) };
    let mut raw = BufReader::new(raw);
    // A first read may give a single byte, but not from a file.
    let is_packed = raw.fill_buf()?.starts_with(&GZIP);
    Ok(if is_packed { Box::new(MultiGzDecoder::new(raw)) } else { Box::new(raw) })
}

const GZIP: [u8; 2] = [0x1f, 0x8b];

/// How many bytes may still be read before the event under way ends.
pub(super) struct ByteBudget(Cell<u64>);

impl Default for ByteBudget {
    fn default() -> Self {
        Self(Cell::new(MAX_EVENT_BYTES))
    }
}

impl ByteBudget {
    pub(super) fn renew(&self) {
        self.0.set(MAX_EVENT_BYTES);
    }
}

/// A reader that fails once a file or an event is larger than it may be, so that a small packed file cannot unpack to
/// more than memory holds.
struct BoundedReader<'f> {
    source: Box<dyn Read>,
    budget: &'f ByteBudget,
    left: u64,
}

impl Read for BoundedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        let bytes = read as u64;
        let too_much = |what: &str| Err(io::Error::other(what.to_owned()));
        let Some(left) = self.left.checked_sub(bytes) else {
            return too_much(&format!("more than {} GiB of text: split the file", MAX_FILE_BYTES >> 30));
        };
        let Some(budget) = self.budget.0.get().checked_sub(bytes) else {
            return too_much(&format!("more than {} MiB in one event", MAX_EVENT_BYTES >> 20));
        };
        self.left = left;
        self.budget.0.set(budget);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    pub(super) fn event(quantity: u32) -> Value {
        let record = json!({
            "dimension": "requests", "timestamp": "Nov 22, 2026 10:00:00 AM", "quantity": quantity,
            "customerAWSAccountId": "012345678901",
        });
        json!({
            "eventVersion": "1.11", "userIdentity": {"type": "AssumedRole"}, "eventTime": "2026-11-22T11:06:00Z",
            "eventSource": "metering-marketplace.amazonaws.com", "eventName": "BatchMeterUsage",
            "awsRegion": "us-east-1", "eventID": "e-1",
            "requestParameters": {"productCode": "prod", "usageRecords": [record]},
            "responseElements": {
                "results": [{"usageRecord": record, "meteringRecordId": "r-1", "status": "Success"}],
                "unprocessedRecords": [],
            },
        })
    }

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn read(content: &[u8]) -> Result<Trail, Failure> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        Trail::read(&[file.path().to_path_buf()], |_| true)
    }

    fn quantities(content: &[u8]) -> Vec<String> {
        let trail = read(content).unwrap();
        assert_eq!(trail.unreadable, []);
        trail.lines.iter().map(|line| line.quantity.to_string()).collect()
    }

    fn refusal(content: &[u8]) -> String {
        let failure = read(content).unwrap_err();
        assert_eq!(failure.exit().code(), 1, "{failure}");
        failure.to_string()
    }

    #[test]
    fn events_come_in_every_wrapping_that_people_have() {
        let (one, two) = (event(1), event(2));
        let looked_up =
            |event: &Value| json!({"EventId": "e", "EventTime": 1.5, "CloudTrailEvent": event.to_string()});
        let forms = [
            json!({"Records": [one, two]}).to_string(),
            format!("{one}\n{two}\n"),
            format!("{one}{two}"),
            json!([one, two]).to_string(),
            json!({"Events": [looked_up(&one), looked_up(&two)], "NextToken": "n"}).to_string(),
            format!("{}\n{}", json!({"Events": [looked_up(&one)]}), json!({"Records": [two]})),
            json!([one.to_string(), two.to_string()]).to_string(),
        ];
        for form in forms {
            assert_eq!(quantities(form.as_bytes()), ["1", "2"], "{form}");
            assert_eq!(quantities(&packed(form.as_bytes())), ["1", "2"], "packed: {form}");
        }
        let halves = [packed(format!("{one}\n").as_bytes()), packed(two.to_string().as_bytes())].concat();
        assert_eq!(quantities(&halves), ["1", "2"], "two packed files in one");
        assert_eq!(quantities(br#"{"Records": []}"#), Vec::<String>::new());
    }

    #[test]
    fn other_events_are_passed_over() {
        let other = json!({
            "eventSource": "ec2.amazonaws.com", "eventName": "BatchMeterUsage", "requestParameters": "odd",
            "responseElements": [1, 2],
        });
        let register =
            json!({"eventSource": "metering-marketplace.amazonaws.com", "eventName": "RegisterUsage"});
        let text = json!({"Records": [other, event(5), register]}).to_string();
        let trail = read(text.as_bytes()).unwrap();
        assert_eq!((trail.lines.len(), trail.counts.calls), (1, 1));
        assert_eq!(trail.lines[0].at.to_string(), "2026-11-22T11:06:00Z");
    }

    #[test]
    fn what_is_no_cloudtrail_file_is_refused_by_name_and_reason() {
        let whole = json!({"Records": [event(1)]}).to_string();
        let cases: [(&[u8], &str); 9] = [
            (b"", "is empty"),
            (b" \n ", "is empty"),
            (b"hello", "expected"),
            (b"{\"a\": 1}", "neither a CloudTrail event nor a list of them"),
            (b"[17]", "a CloudTrail event"),
            (&whole.as_bytes()[..whole.len() - 2], "EOF"),
            (&packed(whole.as_bytes())[..60], "incomplete deflate stream"),
            (b"\x1f\x8b nonsense", "gzip"),
            (b"{\"Events\": [{\"CloudTrailEvent\": \"{\"}]}", "EOF"),
        ];
        for (content, reason) in cases {
            let refusal = refusal(content);
            assert!(refusal.starts_with('/') && refusal.contains(reason), "{reason}: {refusal}");
        }
        let missing = Trail::read(&["/nonexistent.json".into()], |_| true).unwrap_err();
        assert_eq!(missing.exit().code(), 64);
        assert!(missing.to_string().starts_with("/nonexistent.json: cannot be read"), "{missing}");
    }

    #[test]
    fn a_bomb_is_put_out_before_it_fills_the_memory() {
        let long = format!(r#"{{"eventSource": "{}"}}"#, "x".repeat(6 << 20));
        for bomb in [long, format!(r#"{{"Records": [{}]}}"#, " ".repeat(6 << 20))] {
            assert!(refusal(&packed(bomb.as_bytes())).contains("more than 4 MiB in one event"));
        }
        let mut bounded =
            BoundedReader { source: Box::new(Cursor::new([0; 10])), budget: &ByteBudget::default(), left: 9 };
        let fault = bounded.read(&mut [0; 10]).unwrap_err();
        assert!(fault.to_string().contains("GiB of text"), "{fault}");
        let deep = "[".repeat(1000);
        assert!(refusal(deep.as_bytes()).contains("recursion"), "{}", refusal(deep.as_bytes()));
    }

    #[test]
    fn many_small_events_are_no_bomb() {
        let text = format!("[{}]", vec![event(3).to_string(); 12_000].join(",\n"));
        assert!(text.len() > 6 << 20);
        assert_eq!(read(text.as_bytes()).unwrap().lines.len(), 12_000);
    }

    proptest! {
        #[test]
        fn no_content_makes_it_panic(content: Vec<u8>) {
            read(&content).ok();
            read(&packed(&content)).ok();
        }

        #[test]
        fn no_damage_makes_it_panic(cut: prop::sample::Index, at: prop::sample::Index, byte: u8, pack: bool) {
            let mut content = json!({"Records": [event(1), event(2)]}).to_string().into_bytes();
            if pack {
                content = packed(&content);
            }
            let at = at.index(content.len());
            content[at] = byte;
            content.truncate(cut.index(content.len()) + 1);
            read(&content).ok();
        }
    }
}
