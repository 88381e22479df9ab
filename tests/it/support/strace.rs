//! The system calls of a real agent, as strace writes them down.

use std::{
    collections::HashMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::agent::{Agent, Home};

/// What the calls of interest are, and their text whole.
const OPTIONS: [&str; 6] = [
    "-f",
    "-yy",
    "-x",
    "--string-limit=1000000",
    "--trace=write,pwrite64,writev,pwritev,sendto,sendmsg,fsync,fdatasync",
    // The agent stays the child of whoever starts it, and its tracer ends with it.
    "--daemonize",
];

/// A system call that has ended.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// The file or connection that it is about.
    pub(crate) about: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) result: i64,
    /// The lines of the trace at which it began and ended: what ended before another call began happened before it.
    pub(crate) lines: Range<usize>,
}

/// Why no process may be traced here, as in a container without the right to.
pub(crate) fn obstacle() -> Option<String> {
    let traced = Command::new("strace").args(["-o", "/dev/null", "true"]).stdin(Stdio::null()).output();
    match traced {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => panic!("strace cannot be started ({error}): run `make setup`"),
    }
}

/// Starts the agent under strace; returns the trace's file.
pub(crate) fn spawn(home: &Home) -> (Agent, PathBuf) {
    let run = home.command();
    let trace = home.path().join("trace");
    let log = fs::File::options().create(true).append(true).open(home.path().join("log")).unwrap();
    let mut command = Command::new("strace");
    command.args(OPTIONS).arg("-o").arg(&trace).arg(run.get_program()).args(run.get_args());
    for (name, value) in run.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    (Agent { child }, trace)
}

/// The calls of a trace, in the order in which they began.
pub(crate) fn calls(trace: &Path) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut unfinished: HashMap<String, (usize, String)> = HashMap::new();
    for (number, line) in fs::read_to_string(trace).unwrap().lines().enumerate() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if let Some(begun) = call.strip_suffix(" <unfinished ...>") {
            unfinished.insert(thread.to_owned(), (number, begun.to_owned()));
        } else if call.starts_with("<... ") {
            let Some((start, begun)) = unfinished.remove(thread) else { continue };
            let rest = call.split_once(" resumed>").map_or("", |(_, rest)| rest);
            calls.extend(parsed(&format!("{begun}{rest}"), start..number));
        } else {
            calls.extend(parsed(call, number..number));
        }
    }
    calls.sort_by_key(|call| call.lines.start);
    calls
}

/// `name(7<about>, "bytes", ...) = result`
fn parsed(call: &str, lines: Range<usize>) -> Option<Call> {
    let (name, arguments) = call.split_once('(')?;
    let (arguments, result) = arguments.rsplit_once(" = ")?;
    let (_, labelled) = arguments.split_once('<')?;
    // The label of a socket has an arrow in it.
    let about = labelled.split(">,").next()?.split(">)").next()?;
    let result = result.split_whitespace().next()?.parse().ok()?;
    let bytes = texts(labelled);
    Some(Call { name: name.to_owned(), about: about.to_owned(), bytes, result, lines })
}

/// What stands between quotes, one after the other.
fn texts(arguments: &str) -> Vec<u8> {
    let (mut bytes, mut is_within) = (Vec::new(), false);
    let mut letters = arguments.bytes();
    while let Some(letter) = letters.next() {
        match letter {
            b'"' => is_within = !is_within,
            b'\\' if is_within => bytes.extend(escape(&mut letters)),
            _ if is_within => bytes.push(letter),
            _ => {}
        }
    }
    bytes
}

fn escape(letters: &mut impl Iterator<Item = u8>) -> Option<u8> {
    Some(match letters.next()? {
        b'x' => {
            let digits = [letters.next()?, letters.next()?];
            u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
        }
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'v' => 0x0b,
        b'f' => 0x0c,
        letter => letter,
    })
}

#[test]
fn a_trace_is_read_as_strace_writes_it() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let lines = [
        r#"17 sendto(5<TCP:[127.0.0.1:5->127.0.0.1:6]>, "\x00\x01\x61", 3, MSG_NOSIGNAL, NULL, 0) = 3"#,
        r#"17 writev(5<TCP:[127.0.0.1:5->127.0.0.1:6]>, [{iov_base="\x00", iov_len=1}, {iov_base="PO\"\n", iov_len=4}], 2) = 5"#,
        "18 fdatasync(6</data/db/000004.log> <unfinished ...>",
        r#"17 write(6</data/db/000004.log>, "a, b>) \\", 8) = 8"#,
        "18 <... fdatasync resumed>)          = 0",
        "17 fdatasync(6</data/db/000004.log>)  = -1 EIO (Input/output error)",
        "17 +++ exited with 0 +++",
    ];
    fs::write(&trace, lines.join("\n")).unwrap();
    let calls = calls(&trace);
    let read: Vec<_> = calls.iter().map(|it| (&*it.name, &*it.bytes, it.result, it.lines.clone())).collect();
    assert_eq!(
        read,
        [
            ("sendto", &b"\x00\x01a"[..], 3, 0..0),
            ("writev", b"\x00PO\"\n", 5, 1..1),
            ("fdatasync", b"", 0, 2..4),
            ("write", b"a, b>) \\", 8, 3..3),
            ("fdatasync", b"", -1, 5..5),
        ]
    );
    assert_eq!(calls[0].about, "TCP:[127.0.0.1:5->127.0.0.1:6]");
    assert!(calls[2..].iter().all(|call| call.about == "/data/db/000004.log"), "{calls:?}");
}
