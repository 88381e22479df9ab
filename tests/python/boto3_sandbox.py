"""Holds `tallyman sandbox` against AWS's own Python client: is it as strict as the real Marketplace?

    boto3_sandbox.py --endpoint URL [--clock SPEC]

Needs a sandbox without a configuration. --clock takes the SPEC that the sandbox got, if it got one. Prints each
check; exits 1 when one failed.
"""

import argparse
import json
import sys
import urllib.request
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from checks import Wrong, expect, run

HOUR = timedelta(hours=1)
ACCOUNT, OTHER_ACCOUNT = "123456789012", "210987654321"
LICENSE = "arn:aws:license-manager::123456789012:license:l-0123456789abcdef0123456789abcdef"


class Sandbox:
    """One sandbox, one product of this run's own, and what the sandbox must have billed so far."""

    def __init__(self, endpoint: str, now: Callable[[], datetime]):
        self.endpoint = endpoint
        self.now = now
        self.started = now()
        self.run = uuid.uuid4().hex[:10]
        self.product = f"prod-{self.run}"
        self.billed: dict[tuple, tuple[Decimal, str]] = {}
        self.client = boto3.client(
            "meteringmarketplace",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="AKIAEXAMPLE",
            aws_secret_access_key="example",
            # One attempt, so that each answer is seen; and no checks in the client, so that bad requests get out.
            config=Config(retries={"total_max_attempts": 1}, parameter_validation=False, proxies={}),
        )

    def hour(self, ago: int = 1) -> datetime:
        """A finished hour, counted from this run's start, so that a slot stays the same when the clock strikes.
        Up to 4 hours ago is inside both windows of AWS, whatever the day."""
        return start_of_hour(self.started) - ago * HOUR

    def dimension(self, name: str) -> str:
        """A dimension of this run's own, so that a sandbox that is not fresh does not matter."""
        return f"{name}-{self.run}"

    def record(self, name: str, quantity: int | str | None = None, ago: int = 1, **fields) -> dict:
        """A good record for the account identity; `fields` change it, and None takes a field away."""
        record = {
            "Timestamp": self.hour(ago),
            "Dimension": self.dimension(name),
            "CustomerAWSAccountId": ACCOUNT,
            "QuantityAsDecimal" if isinstance(quantity, str) else "Quantity": quantity,
        } | fields
        return {key: value for key, value in record.items() if value is not None}

    def license_record(self, name: str, quantity: int | str, **fields) -> dict:
        return self.record(name, quantity, **({"LicenseArn": LICENSE} | fields))

    def send(self, *records: dict, product: bool = True) -> dict:
        request = {"UsageRecords": list(records)}
        if product:
            request["ProductCode"] = self.product
        return self.client.batch_meter_usage(**request)

    def accept(self, *records: dict, product: bool = True) -> list[str]:
        """All of these must be billed now, or have been before. Returns their ids, in the records' order."""
        answer = self.send(*records, product=product)
        expect(not answer.get("UnprocessedRecords"), f"unprocessed: {answer.get('UnprocessedRecords')}")
        # AWS does not promise the order, so results are found by their echo.
        results = {slot(result["UsageRecord"]): result for result in answer["Results"]}
        expect(len(answer["Results"]) == len(results) == len(records), f"not one result per record: {answer['Results']}")
        return [self.accepted(record, results.get(slot(record))) for record in records]

    def accepted(self, record: dict, result: dict | None) -> str:
        expect(result is not None, f"no result echoes {record}")
        expect(result["Status"] == "Success", f"{result['Status']} for {record}")
        expect(bool(result.get("MeteringRecordId")), f"Success without MeteringRecordId for {record}")
        expect(quantity_of(result["UsageRecord"]) == quantity_of(record), f"another quantity echoed: {result}")
        receipt = result["MeteringRecordId"]
        first = self.billed.setdefault(slot(record), (quantity_of(record), receipt))
        expect(first == (quantity_of(record), receipt), f"billed before as {first}, now with id {receipt}: {record}")
        return receipt

    def duplicate(self, record: dict) -> None:
        statuses = [result["Status"] for result in self.send(record)["Results"]]
        expect(statuses == ["DuplicateRecord"], f"wanted DuplicateRecord, got {statuses} for {record}")

    def refuse(self, code: str | None, *records: dict, product: bool = True) -> None:
        """The call as a whole must fail, with this error code if one is known. Nothing of it may be billed, which
        the comparison at the end sees."""
        try:
            answer = self.send(*records, product=product)
        except ClientError as error:
            got = error.response["Error"]["Code"]
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            expect(400 <= status < 500, f"wanted {code or 'an error'} with a 4xx, got HTTP {status} {got}")
            expect(code in (None, got), f"wanted {code}, got {got}: {error.response['Error'].get('Message')}")
        else:
            statuses = [result["Status"] for result in answer.get("Results", [])]
            raise Wrong(f"wanted {code or 'an error'} for the whole call, got {statuses}")


# --- The checks, in the order of the API's rules -----------------------------------------------------------------


def account_identity(s: Sandbox) -> None:
    s.accept(s.record("requests", 5), s.record("requests", 7, CustomerAWSAccountId=OTHER_ACCOUNT))


def license_identity_needs_no_product(s: Sandbox) -> None:
    s.accept(s.license_record("requests", 9), product=False)


def two_licenses_of_one_account_are_two_slots(s: Sandbox) -> None:
    other = LICENSE.replace("l-0", "l-f")
    first, second = s.accept(
        s.license_record("two", 1), s.license_record("two", 2, LicenseArn=other), product=False
    )
    expect(first != second, "one id for two licenses")


def legacy_customer_identifier(s: Sandbox) -> None:
    s.accept(s.record("requests", 3, CustomerIdentifier="ABC123legacy", CustomerAWSAccountId=None))


def two_identifiers_or_none(s: Sandbox) -> None:
    s.refuse(None, s.record("identity", 1, CustomerIdentifier="ABC123legacy"))
    s.refuse(None, s.record("identity", 1, CustomerAWSAccountId=None))


def neither_product_nor_license(s: Sandbox) -> None:
    s.refuse(None, s.record("identity", 1), product=False)


def equal_quantity_again_has_the_same_id(s: Sandbox) -> None:
    first = s.accept(s.record("again", 17))
    expect(s.accept(s.record("again", 17)) == first, "another id for the same record")
    expect(s.accept(s.record("again", "17.00")) == first, "17 and 17.00 are the same quantity")
    expect(s.accept(s.record("again", "17.0")) == first, "17 and 17.0 are the same quantity")


def another_quantity_is_a_duplicate(s: Sandbox) -> None:
    s.accept(s.record("first-wins", 10))
    s.duplicate(s.record("first-wins", 11))
    s.duplicate(s.record("first-wins", "10.000001"))
    s.accept(s.record("first-wins", 10))


def a_slot_is_a_utc_hour(s: Sandbox) -> None:
    whole = s.record("slot", 4, ago=2)
    within = whole | {"Timestamp": whole["Timestamp"] + timedelta(minutes=59, seconds=59)}
    first = s.accept(whole)
    expect(s.accept(within) == first, "another id within the same hour")
    s.duplicate(within | {"Quantity": 5})
    later, = s.accept(s.record("slot", 4, ago=1))
    expect([later] != first, "the next hour is another slot")


def each_dimension_is_a_slot(s: Sandbox) -> None:
    s.accept(s.record("one", 1), s.record("One", 2))


def decimals(s: Sandbox) -> None:
    s.accept(s.record("decimal", "0.000001"), s.record("decimal-most", "2147483647"), s.record("decimal-zero", "0"))


def malformed_decimals(s: Sandbox) -> None:
    for text in ("1.1234567", "01", "-1", "1e3", ".5", "1.", "12345678901", ""):
        s.refuse("ValidationException", s.record("malformed", text))


def quantities_out_of_range(s: Sandbox) -> None:
    s.refuse("ValidationException", s.record("range", -1))
    s.refuse("ValidationException", s.record("range", 2**31))


def zero_is_a_record(s: Sandbox) -> None:
    s.accept(s.record("zero", 0))
    s.duplicate(s.record("zero", 1))


def no_quantity_is_zero(s: Sandbox) -> None:
    without, = s.accept(s.record("none", None))
    expect(s.accept(s.record("none", 0)) == [without], "no quantity and 0 are the same quantity")


def both_quantities(s: Sandbox) -> None:
    s.refuse("ValidationException", s.record("both", 1, QuantityAsDecimal="1"))


def twenty_five_records(s: Sandbox) -> None:
    s.accept(*[s.record(f"batch-{i}", i) for i in range(25)])


def twenty_six_records(s: Sandbox) -> None:
    s.refuse("ValidationException", *[s.record(f"too-many-{i}", i) for i in range(26)])


def nearly_a_day_old(s: Sandbox) -> None:
    now = s.now()
    # A minute ahead, so that the clock cannot pass an hour between here and the sandbox.
    timestamp = start_of_hour(now + timedelta(minutes=1)) - 23 * HOUR
    if timestamp.month == now.month:  # else `the_month_before_closes_at_six` has the word
        s.accept(s.record("old", 1, Timestamp=timestamp))


def a_day_old_fails_the_whole_call(s: Sandbox) -> None:
    for timestamp in (s.now() - 24 * HOUR, s.hour(ago=24), s.hour(ago=100)):
        good, old = s.record("beside-old", 1), s.record("old", 1, Timestamp=timestamp)
        s.refuse("TimestampOutOfBoundsException", good, old)
        s.refuse("TimestampOutOfBoundsException", old, good)


def the_month_before_closes_at_six(s: Sandbox) -> None:
    """Runs in full on the first of a month, which a test brings about with --clock."""
    now = s.now()
    first_of_month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    last_hour = s.record("month-end", 1, Timestamp=first_of_month - HOUR)
    if now >= first_of_month + 6 * HOUR:
        s.refuse("TimestampOutOfBoundsException", last_hour)
    elif now < first_of_month + 6 * HOUR - timedelta(minutes=1):
        s.accept(last_hour)


def the_future_fails_the_whole_call(s: Sandbox) -> None:
    for ahead in (timedelta(minutes=10), HOUR, 30 * 24 * HOUR):
        future = s.record("future", 1, Timestamp=s.now() + ahead)
        s.refuse("TimestampOutOfBoundsException", s.record("beside-future", 1), future)


def allocations(s: Sandbox) -> None:
    s.accept(
        s.record("tagged", 10, UsageAllocations=[share(6, team="a"), share(4)]),
        s.record("tagged-decimal", "1.5", UsageAllocations=[share("1.25", team="a", env="x"), share("0.25", team="b")]),
    )


def allocations_that_do_not_add_up(s: Sandbox) -> None:
    wrong = "InvalidUsageAllocationsException"
    s.refuse(wrong, s.record("beside-sum", 1), s.record("sum", 10, UsageAllocations=[share(6, team="a"), share(3)]))
    s.refuse(wrong, s.record("sum", "1.5", UsageAllocations=[share("1.500001", team="a")]))


def allocations_of_another_kind(s: Sandbox) -> None:
    wrong = "InvalidUsageAllocationsException"
    s.refuse(wrong, s.record("kind", 10, UsageAllocations=[share("10", team="a")]))
    s.refuse(wrong, s.record("kind", "10", UsageAllocations=[share(10, team="a")]))


def too_many_tags(s: Sandbox) -> None:
    tags = {f"key{i}": "value" for i in range(6)}
    s.refuse(None, s.record("tags", 1, UsageAllocations=[share(1, **tags)]))


def just_under_a_megabyte(s: Sandbox) -> None:
    s.accept(*[heavy(s, f"heavy-{i}") for i in range(3)])


def over_a_megabyte(s: Sandbox) -> None:
    s.refuse(None, *[heavy(s, f"too-heavy-{i}") for i in range(5)])


def the_call_fails_as_a_whole(s: Sandbox) -> None:
    good = [s.record(f"whole-{i}", 1) for i in range(24)]
    bad = s.record("whole-bad", 1, Timestamp=s.hour(ago=48))
    for place in (0, 12, 24):
        s.refuse("TimestampOutOfBoundsException", *good[:place], bad, *good[place:])
    s.accept(*good)


def an_empty_call(s: Sandbox) -> None:
    answer = s.send()
    expect(answer["Results"] == [] and answer["UnprocessedRecords"] == [], f"something from nothing: {answer}")


def the_books_agree(s: Sandbox) -> None:
    """What /_sandbox/records shows is what was accepted: nothing missing, nothing from a call that failed."""
    with urllib.request.urlopen(f"{s.endpoint}/_sandbox/records", timeout=10) as response:
        shown = [r for r in json.load(response)["records"] if r["dimension"].endswith(s.run)]
    books: dict[tuple, tuple[Decimal, str]] = {}
    for row in shown:
        key = slot_of_row(row)
        expect(key not in books, f"two rows for one slot: {row}")
        expect(bool(row["license_arn"]) or row["product"] == s.product, f"another product: {row}")
        books[key] = (Decimal(row["quantity"]), row["metering_record_id"])
    lost = [f"{key}: {value}" for key, value in s.billed.items() if books.get(key) != value]
    extra = [f"{key}: {value}" for key, value in books.items() if key not in s.billed]
    expect(not lost, "accepted, but not so in the books: " + "; ".join(lost))
    expect(not extra, "in the books, but never accepted: " + "; ".join(extra))
    expect(len(books) > 50, f"only {len(books)} records: most checks did not run")


CHECKS = [
    account_identity,
    license_identity_needs_no_product,
    two_licenses_of_one_account_are_two_slots,
    legacy_customer_identifier,
    two_identifiers_or_none,
    neither_product_nor_license,
    equal_quantity_again_has_the_same_id,
    another_quantity_is_a_duplicate,
    a_slot_is_a_utc_hour,
    each_dimension_is_a_slot,
    decimals,
    malformed_decimals,
    quantities_out_of_range,
    zero_is_a_record,
    no_quantity_is_zero,
    both_quantities,
    twenty_five_records,
    twenty_six_records,
    nearly_a_day_old,
    a_day_old_fails_the_whole_call,
    the_month_before_closes_at_six,
    the_future_fails_the_whole_call,
    allocations,
    allocations_that_do_not_add_up,
    allocations_of_another_kind,
    too_many_tags,
    just_under_a_megabyte,
    over_a_megabyte,
    the_call_fails_as_a_whole,
    an_empty_call,
    the_books_agree,  # last: it compares with all of the above
]


# --- Helpers -----------------------------------------------------------------------------------------------------


def start_of_hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def slot(record: dict) -> tuple:
    """AWS bills each of these once."""
    return (
        record.get("CustomerAWSAccountId") or "",
        record.get("LicenseArn") or "",
        record.get("CustomerIdentifier") or "",
        record["Dimension"],
        start_of_hour(record["Timestamp"].astimezone(UTC)),
    )


def slot_of_row(row: dict) -> tuple:
    hour = datetime.fromisoformat(row["hour"]).astimezone(UTC)
    expect(hour == start_of_hour(hour), f"not the start of an hour: {row}")
    who = (row["account_id"] or "", row["license_arn"] or "", row["customer_identifier"] or "")
    return (*who, row["dimension"], hour)


def quantity_of(record: dict) -> Decimal:
    return Decimal(record.get("QuantityAsDecimal") or record.get("Quantity") or 0)


def share(quantity: int | str, **tags: str) -> dict:
    field = "AllocatedUsageQuantityAsDecimal" if isinstance(quantity, str) else "AllocatedUsageQuantity"
    allocation: dict = {field: quantity}
    if tags:
        allocation["Tags"] = [{"Key": key, "Value": value} for key, value in tags.items()]
    return allocation


def heavy(s: Sandbox, name: str) -> dict:
    """A record of about 300 kB in which nothing but its size could be wrong."""
    shares = [share(1, team=f"{i:04}-" + "x" * 220) for i in range(1000)]
    return s.record(name, 1000, UsageAllocations=shares)


def clock(spec: str | None) -> Callable[[], datetime]:
    """tallyman's time: start + (real time - anchor) * speed."""
    if spec is None:
        return lambda: datetime.now(UTC)
    part = dict(field.strip().split("=", 1) for field in spec.split(","))
    anchor = datetime.fromtimestamp(float(part["anchor"]), UTC)
    start = datetime.fromisoformat(part["start"])
    return lambda: start + (datetime.now(UTC) - anchor) * float(part["speed"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--clock", help="the SPEC that the sandbox runs by")
    args = parser.parse_args()

    sandbox = Sandbox(args.endpoint.rstrip("/"), clock(args.clock))
    return run(CHECKS, sandbox)


if __name__ == "__main__":
    sys.exit(main())
