"""Sends usage to a tallyman agent, one event per quantity, in one batch. Needs: pip install grpcio grpcio-tools

    send_usage.py --customer 123456789012 --dimension requests --quantity 250 17
"""

import argparse
import random
import sys
import time
import uuid
from pathlib import Path

import grpc

# With these the batch may or may not have arrived; the event ids make it safe to send it again.
RETRY = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED}


def send(usage, batch, attempts=10):
    for attempt in range(1, attempts + 1):
        try:
            return usage.Record(batch, timeout=10)
        except grpc.RpcError as error:
            if error.code() not in RETRY or attempt == attempts:
                raise
        time.sleep(min(5.0, 0.1 * 2**attempt) * random.uniform(0.5, 1.0))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--agent", default="127.0.0.1:7450")
    parser.add_argument("--customer", required=True)
    parser.add_argument("--dimension", required=True)
    parser.add_argument("--quantity", required=True, type=int, nargs="+")
    parser.add_argument("--proto-dir", default=Path(__file__).resolve().parents[2] / "proto")
    args = parser.parse_args()

    # Stubs made on the fly; an application makes them once, with `python -m grpc_tools.protoc`.
    sys.path.insert(0, str(args.proto_dir))
    pb, services = grpc.protos_and_services("tallyman/v1/tallyman.proto")

    # The id is made once, when the usage happens, and is kept for every retry.
    batch = pb.RecordRequest()
    for quantity in args.quantity:
        batch.events.add(
            event_id=str(uuid.uuid4()), customer=args.customer, dimension=args.dimension, quantity=quantity
        )
    with grpc.insecure_channel(args.agent) as channel:
        answer = send(services.UsageServiceStub(channel), batch)

    print(f"accepted {answer.accepted}, duplicates {answer.duplicates}, rejected {len(answer.rejected)}")
    for rejection in answer.rejected:
        print(f"event {rejection.index}: {rejection.message}", file=sys.stderr)
    return 1 if answer.rejected else 0


if __name__ == "__main__":
    sys.exit(main())
