"""A trace collector, made of OpenTelemetry's own definitions.

    collector.py [--stuck] [--tls FOLDER]

Prints the port that it listens on, and then a line of JSON for each span. With --stuck it takes calls and answers none,
with --tls it shows FOLDER/server.crt. It ends with its standard input.
"""

import argparse
import json
import os
import sys
import threading
from concurrent import futures
from pathlib import Path

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as services


def attributes(of) -> dict:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in of}


class Collector(services.TraceServiceServicer):
    def __init__(self, is_stuck: bool):
        self.is_stuck = is_stuck

    def Export(self, request, context):
        if self.is_stuck:
            threading.Event().wait()
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.tell(span, attributes(resource.resource.attributes))
        return pb.ExportTraceServiceResponse()

    def tell(self, span, resource: dict) -> None:
        told = {
            "name": span.name,
            "trace": span.trace_id.hex(),
            "span": span.span_id.hex(),
            "parent": span.parent_span_id.hex(),
            "links": [link.span_id.hex() for link in span.links],
            "kind": span.kind,
            "nanos": span.end_time_unix_nano - span.start_time_unix_nano,
            "error": span.status.code == span.status.STATUS_CODE_ERROR,
            "attributes": attributes(span.attributes),
            "resource": resource,
        }
        print(json.dumps(told), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stuck", action="store_true")
    parser.add_argument("--tls", type=Path)
    args = parser.parse_args()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    services.add_TraceServiceServicer_to_server(Collector(args.stuck), server)
    if args.tls:
        pair = ((args.tls / "server.key").read_bytes(), (args.tls / "server.crt").read_bytes())
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    # Not sys.exit, which waits for calls that are stuck.
    os._exit(0)


if __name__ == "__main__":
    main()
