"""Talks to a running agent as an application written with grpcio would.

    grpcio_client.py --agent HOST:PORT --proto-dir DIR

Needs an agent with the product `prod-sandbox` (identity account, customers open) and its dimensions `requests`
(sum) and `calls` (count). Prints each check; exits 1 when one failed. Before it ends it prints what the agent has
acknowledged, for the caller to compare with the bill, as one line:

    accepted {"<customer>": {"<dimension>": <base units>}}
"""

import argparse
import importlib
import json
import queue
import sys
import tempfile
import uuid
from collections import defaultdict
from pathlib import Path

import grpc
import grpc_tools.protoc
from checks import Wrong, expect, run
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVICE = "tallyman.v1.UsageService"
ANN, BOB = "123456789012", "210987654321"
# Long enough for a crowded machine; a call that takes longer hangs.
TIMEOUT = 20
DAY_NANOS = 86_400 * 10**9


class Agent:
    """One agent, its stubs, and what it has acknowledged so far."""

    def __init__(self, address: str, proto_dir: Path):
        self.channel = grpc.insecure_channel(address)
        grpc.channel_ready_future(self.channel).result(timeout=TIMEOUT)
        self.pb, stubs = compile_proto(proto_dir)
        self.usage = stubs.UsageServiceStub(self.channel)
        self.ledger = stubs.LedgerServiceStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)
        self.accepted: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))

    def event(self, customer: str, dimension: str, quantity: int = 1, **fields):
        return self.pb.UsageEvent(customer=customer, dimension=dimension, quantity=quantity, **fields)

    def record(self, *events):
        return self.usage.Record(self.pb.RecordRequest(events=events), timeout=TIMEOUT)

    def acknowledged(self, *events) -> None:
        """Notes events that the agent has said it accepted."""
        for event in events:
            # `calls` counts events, whatever their quantity.
            amount = 1 if event.dimension == "calls" else event.quantity
            self.accepted[event.customer][event.dimension] += amount

    def now_nanos(self) -> int:
        """The agent's time, which a test may have set."""
        summary = self.ledger.GetSummary(self.pb.GetSummaryRequest(), timeout=TIMEOUT)
        return summary.now_unix_seconds * 10**9

    def stream(self) -> "Stream":
        return Stream(self)


class Stream:
    """One RecordStream call, on which messages can be sent one by one."""

    def __init__(self, agent: Agent):
        self.agent = agent
        self.outbox: queue.SimpleQueue = queue.SimpleQueue()
        self.answers = agent.usage.RecordStream(iter(self.outbox.get, None), timeout=TIMEOUT)

    def send(self, sequence: int, *events, producer: str = "") -> None:
        request = self.agent.pb.RecordStreamRequest(producer_id=producer, sequence=sequence, events=events)
        self.outbox.put(request)

    def hello(self, producer: str) -> int:
        """Asks where to resume."""
        self.send(0, producer=producer)
        return next(self.answers).durable_sequence

    def until(self, durable: int):
        """Reads answers up to this sequence. The agent may answer several messages at once, so only sums are told."""
        total = self.agent.pb.RecordStreamResponse()
        for answer in self.answers:
            total.accepted += answer.accepted
            total.duplicates += answer.duplicates
            total.repeats += answer.repeats
            total.rejected.extend(answer.rejected)
            expect(answer.durable_sequence >= total.durable_sequence, "durable_sequence went back")
            total.durable_sequence = answer.durable_sequence
            if answer.durable_sequence >= durable:
                return total
        raise Wrong(f"the stream ended at {total.durable_sequence}, before {durable} was durable")

    def failure(self) -> grpc.RpcError:
        """Reads until the agent ends the stream with an error."""
        try:
            for _ in self.answers:
                pass
        except grpc.RpcError as error:
            return error
        finally:
            self.outbox.put(None)
        raise Wrong("the stream ended without an error")

    def close(self) -> None:
        self.outbox.put(None)
        for answer in self.answers:
            raise Wrong(f"an answer to nothing: {answer}")


# --- Record ------------------------------------------------------------------------------------------------------


def events_are_accepted(a: Agent) -> None:
    events = [a.event(ANN, "requests", 40), a.event(BOB, "requests", 2), a.event(ANN, "calls", 7)]
    answer = a.record(*events)
    expect(tallies(answer) == (3, 0, 0), f"wanted 3 accepted, got {answer}")
    a.acknowledged(*events)


def an_event_id_counts_once(a: Agent) -> None:
    events = [a.event(ANN, "requests", 5, event_id=new_id()), a.event(ANN, "calls", event_id=new_id())]
    expect(tallies(a.record(*events)) == (2, 0, 0), "wanted both accepted at first")
    a.acknowledged(*events)
    for _ in range(2):
        answer = a.record(*events)
        expect(tallies(answer) == (0, 2, 0), f"wanted 2 duplicates, got {answer}")
    fresh = a.event(BOB, "requests", 1, event_id=new_id())
    answer = a.record(events[0], fresh, events[1])
    expect(tallies(answer) == (1, 2, 0), f"wanted 1 accepted and 2 duplicates, got {answer}")
    a.acknowledged(fresh)


def an_event_id_counts_once_within_a_request(a: Agent) -> None:
    event = a.event(BOB, "requests", 6, event_id=new_id())
    answer = a.record(event, event)
    expect(tallies(answer) == (1, 1, 0), f"wanted 1 accepted and 1 duplicate, got {answer}")
    a.acknowledged(event)


def one_id_in_two_slots_counts_twice(a: Agent) -> None:
    shared = new_id()
    events = [
        a.event(ANN, "requests", 3, event_id=shared),
        a.event(BOB, "requests", 3, event_id=shared),
        a.event(ANN, "calls", event_id=shared),
    ]
    answer = a.record(*events)
    expect(tallies(answer) == (3, 0, 0), f"an id belongs to its customer and dimension; got {answer}")
    a.acknowledged(*events)


def bad_events_are_rejected_by_index(a: Agent) -> None:
    bad = {
        1: (a.event(ANN, "no-such-dimension"), "UNKNOWN_DIMENSION"),
        2: (a.event("", "requests"), "INVALID_CUSTOMER"),
        4: (a.event(ANN, "requests", event_id="x" * 129), "INVALID_EVENT_ID"),
        5: (a.event(ANN, "requests", product="no-such-product"), "UNKNOWN_PRODUCT"),
        7: (a.event("c" * 300, "requests"), "INVALID_CUSTOMER"),
    }
    good = {place: a.event(ANN, "requests", 10 + place, product="prod-sandbox") for place in (0, 3, 6)}
    events = [good[i] if i in good else bad[i][0] for i in range(8)]
    answer = a.record(*events)
    expect(tallies(answer) == (3, 0, 5), f"wanted 3 accepted and 5 rejected, got {answer}")
    a.acknowledged(*good.values())
    expect_rejections(a, answer, {place: reason for place, (_, reason) in bad.items()})


def times_out_of_bounds_are_rejected(a: Agent) -> None:
    now = a.now_nanos()
    events = [
        a.event(ANN, "calls", time_unix_nano=now - 30 * DAY_NANOS),
        a.event(ANN, "calls", time_unix_nano=now),
        a.event(ANN, "calls", time_unix_nano=now + 30 * DAY_NANOS),
    ]
    answer = a.record(*events)
    expect(tallies(answer) == (1, 0, 2), f"wanted 1 accepted and 2 rejected, got {answer}")
    a.acknowledged(events[1])
    expect_rejections(a, answer, {0: "TIME_TOO_OLD", 2: "TIME_IN_FUTURE"})


def an_empty_request_is_fine(a: Agent) -> None:
    expect(tallies(a.record()) == (0, 0, 0), "something from nothing")


# --- RecordStream ------------------------------------------------------------------------------------------------


def a_stream_counts_repeats_nothing_and_resumes(a: Agent) -> None:
    producer = f"python-{new_id()}"
    first = a.stream()
    expect(first.hello(producer) == 0, "a new producer starts at 0")
    sent = {n: a.event(ANN, "requests", n) for n in range(1, 21)}
    for n, event in sent.items():
        first.send(n, event)
    answer = first.until(20)
    expect(tallies(answer) == (20, 0, 0), f"wanted 20 accepted, got {answer}")
    a.acknowledged(*sent.values())

    # A repeat within the stream, told apart by the new message behind it.
    twenty_first = a.event(ANN, "requests", 100)
    first.send(20, sent[20])
    first.send(21, twenty_first)
    answer = first.until(21)
    expect((answer.accepted, answer.repeats) == (1, 1), f"the repeat counted, or was not told: {answer}")
    a.acknowledged(twenty_first)
    first.close()

    second = a.stream()
    expect(second.hello(producer) == 21, "the agent does not know where its producer was")
    for n, event in sent.items():  # as after a lost acknowledgement
        second.send(n, event)
    twenty_second = a.event(BOB, "calls")
    second.send(21, twenty_first)
    second.send(22, twenty_second)
    answer = second.until(22)
    expect((answer.accepted, answer.repeats) == (1, 21), f"repeats on a new stream counted: {answer}")
    a.acknowledged(twenty_second)
    second.close()


def a_gap_ends_the_stream(a: Agent) -> None:
    producer = f"python-{new_id()}"
    stream = a.stream()
    expect(stream.hello(producer) == 0, "a new producer starts at 0")
    event = a.event(ANN, "requests", 8)
    stream.send(1, event)
    expect(stream.until(1).accepted == 1, "the first message did not count")
    a.acknowledged(event)

    stream.send(3, a.event(ANN, "requests", 1_000_000))
    error = stream.failure()
    expect(error.code() == grpc.StatusCode.FAILED_PRECONDITION, f"wanted FAILED_PRECONDITION, got {error}")
    expect("2" in error.details(), f"does not name the number expected, 2: {error.details()}")

    again = a.stream()
    expect(again.hello(producer) == 1, "a message after a gap became durable")
    again.close()


def other_events_under_a_number_that_counted_are_refused(a: Agent) -> None:
    producer = f"python-{new_id()}"
    stream = a.stream()
    stream.hello(producer)
    event = a.event(ANN, "requests", 8)
    stream.send(1, event)
    expect(stream.until(1).accepted == 1, "the first message did not count")
    a.acknowledged(event)
    stream.send(1, a.event(ANN, "requests", 1_000_000))
    error = stream.failure()
    expect(error.code() == grpc.StatusCode.FAILED_PRECONDITION, f"wanted FAILED_PRECONDITION, got {error}")
    expect(has_reason(error, b"DIVERGED"), f"no reason for programs: {error.trailing_metadata()}")


def a_later_stream_of_a_producer_takes_over(a: Agent) -> None:
    producer = f"python-{new_id()}"
    first, second = a.stream(), a.stream()
    first.hello(producer)
    second.hello(producer)
    error = first.failure()
    expect(error.code() == grpc.StatusCode.ABORTED, f"wanted ABORTED, got {error}")
    expect(has_reason(error, b"TAKEN_OVER"), f"no reason for programs: {error.trailing_metadata()}")
    event = a.event(ANN, "requests", 9)
    second.send(1, event)
    expect(second.until(1).accepted == 1, "the later stream does not count")
    a.acknowledged(event)
    second.close()


def has_reason(error: grpc.RpcError, reason: bytes) -> bool:
    """Whether the status has details (a google.rpc.Status) with this reason."""
    return any(key == "grpc-status-details-bin" and reason in value for key, value in error.trailing_metadata())


def a_first_message_may_carry_events(a: Agent) -> None:
    stream = a.stream()
    event = a.event(BOB, "requests", 11)
    stream.send(1, event, producer=f"python-{new_id()}")
    expect(tallies(stream.until(1)) == (1, 0, 0), "the first message's events did not count")
    a.acknowledged(event)
    stream.close()


def a_stream_rejects_bad_events_and_goes_on(a: Agent) -> None:
    stream = a.stream()
    stream.hello(f"python-{new_id()}")
    good = [a.event(BOB, "calls"), a.event(BOB, "requests", 12)]
    stream.send(1, good[0], a.event(BOB, "no-such-dimension"))
    answer = stream.until(1)
    expect(tallies(answer) == (1, 0, 1), f"wanted 1 accepted and 1 rejected, got {answer}")
    expect_rejections(a, answer, {1: "UNKNOWN_DIMENSION"})
    stream.send(2, good[1])
    expect(tallies(stream.until(2)) == (1, 0, 0), "the next message did not count")
    a.acknowledged(*good)
    stream.close()


def a_stream_must_name_its_producer(a: Agent) -> None:
    stream = a.stream()
    stream.send(1, a.event(ANN, "requests", 1_000_000))
    error = stream.failure()
    expect(error.code() == grpc.StatusCode.INVALID_ARGUMENT, f"wanted INVALID_ARGUMENT, got {error}")


def two_producers_do_not_mix(a: Agent) -> None:
    streams = {f"python-{new_id()}": a.stream() for _ in range(2)}
    event = a.event(ANN, "requests", 13)
    for producer, stream in streams.items():
        expect(stream.hello(producer) == 0, "one producer has another's sequence")
        stream.send(1, event)
    for stream in streams.values():
        expect(stream.until(1).accepted == 1, "one producer's message hid the other's")
        a.acknowledged(event)
        stream.close()


# --- What a platform asks of every gRPC service ------------------------------------------------------------------


def the_health_service_says_serving(a: Agent) -> None:
    for service in ("", SERVICE):
        answer = a.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT)
        status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        expect(status == "SERVING", f"{service or 'the whole server'} is {status}")


def the_health_service_does_not_know_others(a: Agent) -> None:
    try:
        a.health.Check(health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=TIMEOUT)
    except grpc.RpcError as error:
        expect(error.code() == grpc.StatusCode.NOT_FOUND, f"wanted NOT_FOUND, got {error}")
    else:
        raise Wrong("an unknown service is healthy")


def reflection_describes_the_service(a: Agent) -> None:
    database = ProtoReflectionDescriptorDatabase(a.channel)
    services = list(database.get_services())
    expect(SERVICE in services, f"not listed: {services}")
    # A pool of its own, so that the description really comes from the agent.
    pool = DescriptorPool(database)
    expect("Check" in pool.FindServiceByName("grpc.health.v1.Health").methods_by_name, "health is not described")
    described = pool.FindServiceByName(SERVICE)
    expect({"Record", "RecordStream"} <= set(described.methods_by_name), f"methods: {described.methods_by_name}")


def reflection_v1_lists_the_service(a: Agent) -> None:
    """grpcio's own client still asks v1alpha only; newer tools ask v1, whose messages are the same on the wire."""
    ask = a.channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    answer = next(ask(iter([request]), timeout=TIMEOUT))
    services = [service.name for service in answer.list_services_response.service]
    expect(SERVICE in services, f"not listed: {services}")


CHECKS = [
    the_health_service_says_serving,
    the_health_service_does_not_know_others,
    reflection_describes_the_service,
    reflection_v1_lists_the_service,
    events_are_accepted,
    an_event_id_counts_once,
    an_event_id_counts_once_within_a_request,
    one_id_in_two_slots_counts_twice,
    bad_events_are_rejected_by_index,
    times_out_of_bounds_are_rejected,
    an_empty_request_is_fine,
    a_stream_counts_repeats_nothing_and_resumes,
    a_gap_ends_the_stream,
    a_first_message_may_carry_events,
    a_stream_rejects_bad_events_and_goes_on,
    other_events_under_a_number_that_counted_are_refused,
    a_later_stream_of_a_producer_takes_over,
    a_stream_must_name_its_producer,
    two_producers_do_not_mix,
]


# --- Helpers -----------------------------------------------------------------------------------------------------


def compile_proto(proto_dir: Path) -> tuple:
    """The messages and the stubs, made from the .proto by protoc as an application's build would."""
    with tempfile.TemporaryDirectory() as out:
        command = ["protoc", f"-I{proto_dir}", f"--python_out={out}", f"--grpc_python_out={out}"]
        if grpc_tools.protoc.main([*command, "tallyman/v1/tallyman.proto"]) != 0:
            sys.exit(f"protoc could not compile {proto_dir}/tallyman/v1/tallyman.proto")
        sys.path.insert(0, out)
        messages = importlib.import_module("tallyman.v1.tallyman_pb2")
        stubs = importlib.import_module("tallyman.v1.tallyman_pb2_grpc")
        sys.path.remove(out)
    return messages, stubs


def new_id() -> str:
    return str(uuid.uuid4())


def tallies(answer) -> tuple[int, int, int]:
    return answer.accepted, answer.duplicates, len(answer.rejected)


def expect_rejections(a: Agent, answer, wanted: dict[int, str]) -> None:
    got = {r.index: a.pb.Rejection.Reason.Name(r.reason) for r in answer.rejected}
    expect(got == wanted, f"wanted rejections {wanted}, got {got}")
    expect(all(r.message for r in answer.rejected), f"a rejection without a message: {answer.rejected}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agent", required=True)
    parser.add_argument("--proto-dir", type=Path, required=True)
    args = parser.parse_args()

    agent = Agent(args.agent, args.proto_dir)
    code = run(CHECKS, agent)
    print("accepted", json.dumps(agent.accepted))
    return code


if __name__ == "__main__":
    sys.exit(main())
