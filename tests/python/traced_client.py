"""An application that is traced with OpenTelemetry's SDK, and sends usage.

    traced_client.py --agent HOST:PORT --proto-dir DIR --customer KEY

Sends a request whose trace is sampled, one whose trace is not, one with a header that is broken, and a stream of two
messages. Prints the ids of the spans that they were sent in, as JSON: {"sampled": [trace, span], ...}.
"""

import argparse
import json
import sys
from pathlib import Path

import grpc
from grpcio_client import TIMEOUT, compile_proto
from opentelemetry.sdk.trace import TracerProvider, sampling
from opentelemetry.trace import format_span_id, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator


def headers_of_current_span() -> list:
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return list(carrier.items())


def ids(span) -> list:
    context = span.get_span_context()
    return [format_trace_id(context.trace_id), format_span_id(context.span_id)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--agent", required=True)
    parser.add_argument("--proto-dir", required=True, type=Path)
    parser.add_argument("--customer", required=True)
    args = parser.parse_args()
    pb, stubs = compile_proto(args.proto_dir)
    usage = stubs.UsageServiceStub(grpc.insecure_channel(args.agent))
    event = pb.UsageEvent(customer=args.customer, dimension="requests", quantity=3)
    request = pb.RecordRequest(events=[event, event])
    told = {}

    for name, sampler in [("sampled", sampling.ALWAYS_ON), ("unsampled", sampling.ALWAYS_OFF)]:
        tracer = TracerProvider(sampler=sampler).get_tracer("application")
        with tracer.start_as_current_span("checkout") as span:
            told[name] = ids(span)
            usage.Record(request, metadata=headers_of_current_span(), timeout=TIMEOUT)
    usage.Record(request, metadata=[("traceparent", "00-nonsense-01")], timeout=TIMEOUT)

    tracer = TracerProvider(sampler=sampling.ALWAYS_ON).get_tracer("application")
    with tracer.start_as_current_span("export") as span:
        told["stream"] = ids(span)
        messages = [pb.RecordStreamRequest(producer_id="p", sequence=n, events=[event]) for n in (1, 2)]
        answers = list(usage.RecordStream(iter(messages), metadata=headers_of_current_span(), timeout=TIMEOUT))
    if [answer.accepted for answer in answers] != [1, 1]:
        sys.exit(f"the stream answered {answers}")
    print(json.dumps(told))


if __name__ == "__main__":
    main()
