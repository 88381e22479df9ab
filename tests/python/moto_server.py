"""moto as the marketplace: an AWS that this project did not write, for the agent's tests.

    moto_server.py --port-file FILE [--customers a,b] [--product CODE]

Serves moto on a free loopback port, and next to it a spy that tells what moto was asked:

    GET /billed         every record of every BatchMeterUsage call, in the order of arrival:
                        [{region, account, product, customer_identifier, dimension, timestamp, quantity, status}]
                        (a record that was resent is here twice; what was billed is one of each slot)
    GET /assumed_roles  every AssumeRole call: [{role_arn, external_id, session_name}]

FILE gets {"moto": port, "spy": port} once both answer. Ends on SIGTERM, or when standard input closes, so that
it never outlives the test that started it.

moto knows only the legacy identity: a record must have CustomerIdentifier, Quantity and ProductCode, or moto
answers 500. It checks no window, no limit of 25 and no dimension.
"""

import argparse
import json
import logging
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from moto.meteringmarketplace.models import MeteringMarketplaceBackend, Result
from moto.server import ThreadedMotoServer
from moto.sts.models import sts_backends

BILLED: list[dict] = []
LOCK = threading.Lock()


def main() -> None:
    args = parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # no line per request
    teach_moto(args.product, [c for c in args.customers.split(",") if c])

    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    spy = ThreadingHTTPServer(("127.0.0.1", 0), Spy)
    threading.Thread(target=spy.serve_forever, daemon=True).start()

    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    threading.Thread(target=wait_for_end_of_input, args=(done,), daemon=True).start()

    write_whole(args.port_file, {"moto": moto.get_host_and_port()[1], "spy": spy.server_port})
    done.wait()
    moto.stop()
    spy.shutdown()


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port-file", type=Path, required=True)
    parser.add_argument("--customers", default="", help="subscribed customer identifiers, with commas between")
    parser.add_argument("--product", default="prod-moto", help="the product they are subscribed to")
    return parser.parse_args()


def teach_moto(product: str, customers: list[str]) -> None:
    """Subscribes the customers, and makes moto remember what it accepted.

    moto keeps one backend per account and region, and an assumed role may bring another account, so the customers
    are subscribed in whichever backend is asked. moto can tell a DuplicateRecord, but never stores what it would
    compare with.
    """
    judge = MeteringMarketplaceBackend.batch_meter_usage

    def batch_meter_usage(self, product_code: str, usage_records: list[dict]) -> list[Result]:
        with LOCK:
            subscribed = self.customers_by_product[product]
            subscribed.extend(c for c in customers if c not in subscribed)
            results = judge(self, product_code, usage_records)
            accepted = [r for r in results if r.status == Result.SUCCESS]
            self.records_by_product[product_code].extend(accepted)
            BILLED.extend(entry(self, product_code, r) for r in results)
            return results

    MeteringMarketplaceBackend.batch_meter_usage = batch_meter_usage


def entry(backend: MeteringMarketplaceBackend, product: str, result: Result) -> dict:
    record = result.usage_record
    return {
        "region": backend.region_name,
        "account": backend.account_id,
        "product": product,
        "customer_identifier": record.customer_identifier,
        "dimension": record.dimension,
        "timestamp": record.timestamp,
        "quantity": record.quantity,
        "status": result.status,
    }


def assumed_roles() -> list[dict]:
    return [
        {"role_arn": role.role_arn, "external_id": role.external_id, "session_name": role.session_name}
        for account in list(sts_backends.values())
        for backend in list(account.values())
        for role in list(backend.assumed_roles)
    ]


class Spy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/billed":
            with LOCK:
                answer = list(BILLED)
        elif self.path == "/assumed_roles":
            answer = assumed_roles()
        else:
            self.send_error(404, "there are /billed and /assumed_roles")
            return
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args) -> None:
        """Nothing: the test reads the answers, and a log would bury its own output."""


def wait_for_end_of_input(done: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    done.set()


def write_whole(path: Path, content: dict) -> None:
    """A reader that polls for the file must never see half of it."""
    half = path.with_name(path.name + ".tmp")
    half.write_text(json.dumps(content))
    half.replace(path)


if __name__ == "__main__":
    main()
