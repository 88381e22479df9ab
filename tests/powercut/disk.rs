//! A disk with a cache that a power cut empties, served to the machine as a network block device (NBD).
//!
//! What the machine writes is read back at once, and is durable once it has flushed the disk, as with a real one. A cut
//! keeps some of the sectors that were not flushed and loses the others, one by one: nothing is known of their order.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Write},
    os::unix::{
        fs::FileExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};

pub(crate) const SECTOR: usize = 512;

pub(crate) struct Disk {
    pub(crate) socket: PathBuf,
    cached: Arc<Mutex<Cached>>,
}

struct Cached {
    image: File,
    /// Sectors that were written and not flushed.
    unflushed: HashMap<u64, [u8; SECTOR]>,
    flushes: u64,
    /// Machines that hold the disk.
    connections: u32,
}

/// What a cut did to the cache.
pub(crate) struct Lost {
    pub(crate) sectors: usize,
    pub(crate) kept: usize,
    pub(crate) flushes: u64,
}

impl Disk {
    /// Serves an image to one machine at a time.
    pub(crate) fn serve(image: &Path, socket: PathBuf) -> Self {
        let image = File::options().read(true).write(true).open(image).unwrap();
        let cached = Cached { image, unflushed: HashMap::new(), flushes: 0, connections: 0 };
        let cached = Arc::new(Mutex::new(cached));
        let listener = UnixListener::bind(&socket).unwrap();
        let shared = cached.clone();
        thread::spawn(move || {
            for connection in listener.incoming() {
                lock(&shared).connections += 1;
                // A machine that loses its power says no goodbye.
                drop(serve(connection.unwrap(), &shared));
                lock(&shared).connections -= 1;
            }
        });
        Self { socket, cached }
    }

    /// The power of the disk is cut, once its machine is gone. `keeps` is the part of the cache that reaches the disk.
    pub(crate) fn cut(&self, keeps: f64) -> Lost {
        while lock(&self.cached).connections > 0 {
            thread::sleep(Duration::from_millis(5));
        }
        let mut cached = lock(&self.cached);
        let unflushed = std::mem::take(&mut cached.unflushed);
        let sectors = unflushed.len();
        let mut kept = 0;
        for (sector, bytes) in unflushed {
            if fastrand::f64() < keeps {
                cached.image.write_all_at(&bytes, sector * SECTOR as u64).unwrap();
                kept += 1;
            }
        }
        Lost { sectors, kept, flushes: std::mem::take(&mut cached.flushes) }
    }
}

impl Cached {
    fn size(&self) -> u64 {
        self.image.metadata().unwrap().len()
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.image.read_exact_at(bytes, offset)?;
        for (sector, bytes) in sectors(offset).zip(bytes.chunks_exact_mut(SECTOR)) {
            if let Some(unflushed) = self.unflushed.get(&sector) {
                bytes.copy_from_slice(unflushed);
            }
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], offset: u64) {
        for (sector, bytes) in sectors(offset).zip(bytes.as_chunks().0) {
            self.unflushed.insert(sector, *bytes);
        }
    }

    /// As a write with "force unit access" is: these bytes are durable, and others that wait are not.
    fn write_through(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        for sector in sectors(offset).take(bytes.len() / SECTOR) {
            self.unflushed.remove(&sector);
        }
        self.image.write_all_at(bytes, offset)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flushes += 1;
        for (sector, bytes) in std::mem::take(&mut self.unflushed) {
            self.image.write_all_at(&bytes, sector * SECTOR as u64)?;
        }
        Ok(())
    }
}

fn lock(cached: &Mutex<Cached>) -> MutexGuard<'_, Cached> {
    cached.lock().unwrap()
}

fn sectors(offset: u64) -> impl Iterator<Item = u64> {
    assert_eq!(offset % SECTOR as u64, 0, "the machine writes sectors");
    offset / SECTOR as u64..
}

// The protocol: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md

const FIXED_NEWSTYLE: u16 = 1;
const OPTION: &[u8; 8] = b"IHAVEOPT";
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const GO: u32 = 7;
const ACK: u32 = 1;
const INFO: u32 = 3;
const UNSUPPORTED: u32 = (1 << 31) + 1;
const HAS_FLAGS: u16 = 1;
const TAKES_FLUSH: u16 = 1 << 2;
const TAKES_FUA: u16 = 1 << 3;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;
const FUA: u16 = 1;

/// Serves a machine until it has gone.
fn serve(mut machine: UnixStream, cached: &Mutex<Cached>) -> io::Result<()> {
    agree(&mut machine, lock(cached).size())?;
    loop {
        let header: [u8; 28] = read(&mut machine)?;
        let field = |from: usize, to: usize| {
            header[from..to].iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        };
        assert_eq!(field(0, 4), u64::from(REQUEST));
        let (flags, command, offset, length) = (field(4, 6), field(6, 8), field(16, 24), field(24, 28));
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        let mut answer = Vec::new();
        match command {
            0 => {
                lock(cached).read(&mut bytes, offset)?;
                answer = bytes;
            }
            1 => {
                machine.read_exact(&mut bytes)?;
                if flags & u64::from(FUA) == 0 {
                    lock(cached).write(&bytes, offset);
                } else {
                    lock(cached).write_through(&bytes, offset)?;
                }
            }
            2 => return Ok(()),
            3 => lock(cached).flush()?,
            other => panic!("a disk has no command {other}"),
        }
        let handle = &header[8..16];
        machine.write_all(&[&REPLY.to_be_bytes()[..], &[0; 4], handle, &answer].concat())?;
    }
}

/// The handshake: there is one disk, and the only thing to ask for is to go on.
fn agree(machine: &mut UnixStream, size: u64) -> io::Result<()> {
    machine.write_all(&[&b"NBDMAGIC"[..], OPTION, &FIXED_NEWSTYLE.to_be_bytes()].concat())?;
    let _flags: [u8; 4] = read(machine)?;
    loop {
        let magic: [u8; 8] = read(machine)?;
        assert_eq!(&magic, OPTION);
        let option = u32::from_be_bytes(read(machine)?);
        let length = u32::from_be_bytes(read(machine)?);
        machine.read_exact(&mut vec![0; length as usize])?;
        let mut reply = |kind: u32, data: &[u8]| {
            let length = u32::try_from(data.len()).unwrap();
            let head = [&OPTION_REPLY.to_be_bytes()[..], &option.to_be_bytes(), &kind.to_be_bytes()].concat();
            machine.write_all(&[&head, &length.to_be_bytes()[..], data].concat())
        };
        if option == GO {
            let flags = HAS_FLAGS | TAKES_FLUSH | TAKES_FUA;
            reply(INFO, &[&[0; 2][..], &size.to_be_bytes(), &flags.to_be_bytes()].concat())?;
            return reply(ACK, &[]);
        }
        reply(UNSUPPORTED, &[])?;
    }
}

fn read<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes).map(|()| bytes)
}
