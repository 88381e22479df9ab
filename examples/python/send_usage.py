"""Sends usage to a tallyman agent: one event for each quantity, in one request.

    pip install grpcio grpcio-tools
    python send_usage.py 127.0.0.1:7450 CUSTOMER DIMENSION WORK QUANTITY...

WORK names what was done, as an order's number does. The event ids are made of it, so that whoever sends the same work
again, after a crash for instance, bills it once.
"""

import random
import sys
import time
from pathlib import Path

import grpc

# Stubs made on the fly; an application makes them once, with `python -m grpc_tools.protoc`.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "proto"))
pb, services = grpc.protos_and_services("tallyman/v1/tallyman.proto")

# With these the request may or may not have arrived. Any other says that to send it again is of no use.
RETRY = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED}


def send(usage, request, patience=60.0):
    give_up = time.monotonic() + patience
    pause = 0.1
    while True:
        try:
            return usage.Record(request, timeout=max(0.1, min(10.0, give_up - time.monotonic())))
        except grpc.RpcError as error:
            wait = pause * random.uniform(0.5, 1.0)
            if error.code() not in RETRY or time.monotonic() + wait >= give_up:
                raise
            print(f"{error.code().name}, again in {wait:.1f} s", file=sys.stderr)
        time.sleep(wait)
        pause = min(5.0, pause * 2)


def main(address, customer, dimension, work, *quantities):
    request = pb.RecordRequest()
    for number, quantity in enumerate(quantities):
        request.events.add(
            customer=customer, dimension=dimension, quantity=int(quantity), event_id=f"{work}-{number}"
        )
    with grpc.insecure_channel(address) as channel:
        try:
            answer = send(services.UsageServiceStub(channel), request)
        except grpc.RpcError as error:
            sys.exit(f"not sent: {error.code().name}: {error.details()}")
    print(f"accepted {answer.accepted}, duplicates {answer.duplicates}, rejected {len(answer.rejected)}")
    for rejection in answer.rejected:  # These did not count; the others did.
        print(f"event {rejection.index}: {rejection.message}", file=sys.stderr)
    sys.exit(1 if answer.rejected else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
