"""A hostile client, which writes its HTTP/2 frames by hand. The standard library is all that it needs.

    hostile.py KIND ADDRESS [--connections N] [--calls N] [--seconds N] [--again] [--pid AGENT]
    hostile.py good ADDRESS --customer ACCOUNT [--token TOKEN] [--seconds N]

It opens its connections, sends what its kind sends, prints a line of JSON, and stays for some seconds, or until its
standard input ends; pings are answered meanwhile. Then it prints another line, with what became of the connections.
`--again` opens a connection anew that was closed. With the agent's process id the lines have its memory in MiB, and its
open files. The kind `good` is a client that means well: it sends an event every 20 ms, and prints how long the answers
took.

Kinds for the gRPC port, none of which has a token:

    reflection      calls of reflection with seven questions each, whose answers are not let in
    health          calls of health without a body
    headers         the same, each with 12 kB of headers
    answers         calls of health, of whose answers one byte is let in
    watch           watches of health
    refused         calls that are refused, whose answers are not read
    priority        PRIORITY frames without end; and so on for the other kinds of frames that belong to no call
    window
    settings
    ping
    reset
    unknown

Kinds for the admin port:

    admin-header    requests whose header does not end
    admin-h2        HTTP/2 with prior knowledge, calls whose answers are not let in
    admin-viewer    viewers of the status page that read nothing
    admin-unread    many requests at once, whose answers are not read
"""

import argparse
import asyncio
import contextlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 2, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE = 4
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
HEALTH, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
RECORD = "/tallyman.v1.UsageService/Record"
FLOODS = {
    "priority": (PRIORITY, 0, 1, bytes(5)),
    "window": (WINDOW_UPDATE, 0, 0, (1).to_bytes(4)),
    "settings": (SETTINGS, 0, 0, b""),
    "ping": (PING, 0, 0, bytes(8)),
    "reset": (RST_STREAM, 0, 1, bytes(4)),
    "unknown": (0x77, 0, 0, bytes(100)),
}
PAUSE = 0.02


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def hpack_text(text: str) -> bytes:
    """A text as a literal, its length with a prefix of seven bits."""
    content = text.encode()
    length, rest = bytearray([min(len(content), 127)]), len(content) - 127
    while rest >= 0:
        length.append(rest % 128 | (128 if rest >= 128 else 0))
        rest = rest // 128 if rest >= 128 else -1
    return bytes(length) + content


def headers(path: str, more: dict[str, str] | None = None, method: str = "POST") -> bytes:
    names = {":method": method, ":scheme": "http", ":path": path, ":authority": "localhost", "te": "trailers",
             "content-type": "application/grpc"}  # fmt: skip
    return b"".join(b"\0" + hpack_text(name) + hpack_text(value) for name, value in (names | (more or {})).items())


def message(payload: bytes) -> bytes:
    return b"\0" + len(payload).to_bytes(4) + payload


def field(number: int, payload: bytes) -> bytes:
    """A field of a protobuf message, shorter than 128 bytes."""
    return bytes([number << 3 | 2, len(payload)]) + payload


def streams(calls: int) -> Iterator[int]:
    return iter(range(1, 2 * calls, 2))


def beginning(window: int | None = None) -> bytes:
    settings = b"" if window is None else INITIAL_WINDOW_SIZE.to_bytes(2) + window.to_bytes(4)
    return PREFACE + frame(SETTINGS, 0, 0, settings)


def calls_of(
    path: str, calls: int, window: int | None, body: bytes | None = None, more: dict | None = None, end: int = 0
) -> bytes:
    """Calls whose body does not end, unless `end` says so; `None` has none at all."""
    sent = beginning(window)
    for stream in streams(calls):
        sent += frame(HEADERS, END_HEADERS, stream, headers(path, more))
        if body is not None:
            sent += frame(DATA, end, stream, body)
    return sent


def said(kind: str, calls: int) -> bytes:
    """What a connection of a kind sends at first."""
    question = message(field(4, b"tallyman.v1.UsageService"))
    match kind:
        case "reflection":
            return calls_of(REFLECTION, calls, 0, question * 7)
        case "health":
            return calls_of(HEALTH, calls, None)
        case "headers":
            return calls_of(HEALTH, calls, None, more={f"x-{index}": "y" * 4000 for index in range(3)})
        case "answers":
            return calls_of(HEALTH, calls, 1, message(b""), end=END_STREAM)
        case "watch":
            return calls_of(WATCH, calls, 0, message(b""))
        case "refused":
            return calls_of(RECORD, calls, 0, message(b""), end=END_STREAM)
        case "admin-header":
            return b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nmore: "
        case "admin-h2":
            sent = beginning(0)
            return sent + b"".join(
                frame(HEADERS, END_HEADERS | END_STREAM, stream, headers("/", method="GET")) for stream in streams(calls)
            )
        case "admin-viewer":
            return b"GET /api/events HTTP/1.1\r\nhost: localhost\r\n\r\n"
        case "admin-unread":
            return b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n" * calls
    return beginning()


class Hostile:
    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.counts = Counter()
        self.is_over = asyncio.Event()
        self.reads = options.kind not in ("refused", "admin-viewer", "admin-unread")
        self.speaks_http2 = not options.kind.startswith("admin-") or options.kind == "admin-h2"

    async def attack(self) -> None:
        """One connection, and those after it."""
        while not self.is_over.is_set():
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
                await self.connection()
            self.counts["ended"] += 1
            if not self.options.again:
                return
            await asyncio.sleep(0.1)

    async def connection(self) -> None:
        reader, writer = await asyncio.open_connection(*self.options.address.rsplit(":", 1), limit=1 << 16)
        self.counts["opened"] += 1
        try:
            first = said(self.options.kind, self.options.calls)
            writer.write(first)
            self.counts["bytes"] += len(first)
            async with asyncio.TaskGroup() as group:
                group.create_task(self.listen(reader, writer))
                if self.options.kind in FLOODS:
                    group.create_task(self.flood(writer))
        except* (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def flood(self, writer: asyncio.StreamWriter) -> None:
        piece = frame(*FLOODS[self.options.kind]) * 500
        while not self.is_over.is_set():
            writer.write(piece)
            self.counts["bytes"] += len(piece)
            await writer.drain()

    async def listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.reads:
            # What is not read stays with the system, and then with the agent.
            writer.transport.pause_reading()
            while not writer.transport.is_closing():
                await asyncio.sleep(0.1)
            raise ConnectionError
        while self.speaks_http2:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3]))
            kind, flags = head[3], head[4]
            if kind in (PING, SETTINGS) and not flags & ACK:
                writer.write(frame(kind, ACK, 0, payload if kind == PING else b""))
            elif kind == GOAWAY:
                self.counts[f"goaway_{int.from_bytes(payload[4:8])}"] += 1
            elif kind == HEADERS:
                self.counts["answers"] += 1
        while await reader.read(1 << 16):
            pass
        raise ConnectionError

    def tell(self, moment: str) -> None:
        counts = dict(self.counts)
        counts["open"] = self.counts["opened"] - self.counts["ended"]
        print(json.dumps({"moment": moment, **counts, **of_agent(self.options.pid)}), flush=True)

    async def run(self) -> None:
        self.tell("before")
        async with asyncio.TaskGroup() as group:
            for _ in range(self.options.connections):
                group.create_task(self.attack())
            while self.counts["opened"] < self.options.connections:
                await asyncio.sleep(0.05)
            await asyncio.sleep(1)
            self.tell("sent")
            await self.stay()
            self.tell("after")
            self.is_over.set()
            # Connections that are quiet do not notice it.
            os._exit(0)

    async def stay(self) -> None:
        until, most = time.monotonic() + self.options.seconds, 0
        ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        while time.monotonic() < until and not (ended.done() and self.options.stdin):
            most = max(most, of_agent(self.options.pid).get("mib", 0))
            await asyncio.sleep(0.2)
        self.counts["most_mib"] = most


def of_agent(pid: int | None) -> dict:
    if pid is None:
        return {}
    with open(f"/proc/{pid}/status") as status:
        resident = next(line for line in status if line.startswith("VmRSS"))
    return {"mib": int(resident.split()[1]) // 1024, "files": len(os.listdir(f"/proc/{pid}/fd"))}


async def mean_well(options: argparse.Namespace) -> None:
    reader, writer = await asyncio.open_connection(*options.address.rsplit(":", 1))
    writer.write(beginning())
    more = {"authorization": f"Bearer {options.token}"} if options.token else {}
    event = field(1, options.customer.encode()) + field(2, options.dimension.encode()) + bytes([3 << 3, 1])
    took, until, stream = [], time.monotonic() + options.seconds, 1
    while time.monotonic() < until:
        began = time.monotonic()
        writer.write(frame(HEADERS, END_HEADERS, stream, headers(RECORD, more)))
        writer.write(frame(DATA, END_STREAM, stream, message(field(1, event))))
        await answered(reader, writer, stream)
        took.append((time.monotonic() - began) * 1000)
        stream += 2
        await asyncio.sleep(PAUSE)
    took.sort()
    at = lambda share: round(took[int(len(took) * share)], 1)  # noqa: E731
    print(json.dumps({"calls": len(took), "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "most": at(0.9999)}))


async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stream: int) -> None:
    has_data = False
    while True:
        head = await reader.readexactly(9)
        payload = await reader.readexactly(int.from_bytes(head[:3]))
        kind, flags = head[3], head[4]
        if kind in (PING, SETTINGS) and not flags & ACK:
            writer.write(frame(kind, ACK, 0, payload if kind == PING else b""))
        if kind == DATA and payload:
            has_data = True
            writer.write(frame(WINDOW_UPDATE, 0, 0, len(payload).to_bytes(4)))
        if int.from_bytes(head[5:9]) == stream and (kind == RST_STREAM or flags & END_STREAM):
            if not has_data:
                sys.exit(f"the call was refused: {payload!r}")
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind")
    parser.add_argument("address")
    parser.add_argument("--connections", type=int, default=40)
    parser.add_argument("--calls", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--again", action="store_true", help="opens a connection anew that was closed")
    parser.add_argument("--stdin", action="store_true", help="ends with the standard input, at the latest")
    parser.add_argument("--pid", type=int, help="the agent's process id")
    parser.add_argument("--token")
    parser.add_argument("--customer", default="123456789012")
    parser.add_argument("--dimension", default="requests")
    options = parser.parse_args()
    asyncio.run(mean_well(options) if options.kind == "good" else Hostile(options).run())


if __name__ == "__main__":
    main()
