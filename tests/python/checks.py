"""What the peer scripts share: a check is a function that raises `Wrong` when tallyman did not do as promised."""

import sys
import traceback
from collections.abc import Callable
from typing import TypeVar

Subject = TypeVar("Subject")


class Wrong(Exception):
    """tallyman did not do what it promises."""


def expect(holds: bool, message: str) -> None:
    if not holds:
        raise Wrong(message)


def run(checks: list[Callable[[Subject], None]], subject: Subject) -> int:
    """Runs the checks in order and prints each one's outcome. Returns the exit code."""
    failed = sum(not passes(check, subject) for check in checks)
    print(f"{len(checks) - failed} of {len(checks)} checks passed")
    return 1 if failed else 0


def passes(check: Callable[[Subject], None], subject: Subject) -> bool:
    name = check.__name__.replace("_", " ")
    try:
        check(subject)
    except Wrong as wrong:
        print(f"WRONG  {name}: {str(wrong)[:2000]}")
        return False
    except Exception as error:  # noqa: BLE001 - one broken answer must not hide the other checks
        print(f"BROKE  {name}:")
        # The outermost frames are the check's own; what libraries do below them says little.
        traceback.print_exception(error, limit=4, chain=False, file=sys.stdout)
        return False
    print(f"ok     {name}")
    return True
