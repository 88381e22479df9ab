"""What the checks of deploy/ share: where things are, the tools, and how one check or all are run."""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tests/python"))

from checks import Wrong, expect, run  # noqa: E402 - found only now
from ports import free_port  # noqa: E402 - found only now

__all__ = [
    "DEPLOY",
    "HERE",
    "ROOT",
    "Subject",
    "Wrong",
    "documents",
    "clean_environment",
    "expect",
    "free_port",
    "main",
    "needed",
    "output",
    "promtool",
    "refused",
    "seconds_of_the_drain",
]


@dataclass
class Subject:
    """What the checks look at."""

    tallyman: Path
    arguments: argparse.Namespace


def main(checks: list[Callable[[Subject], None]], *options: str) -> int:
    """Runs the checks that the command line names, or all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tallyman", type=Path, required=True, help="the binary")
    parser.add_argument("--list", action="store_true", help="print the checks' names")
    for option in options:
        parser.add_argument(option)
    parser.add_argument("checks", nargs="*")
    arguments = parser.parse_args()
    names = [check.__name__ for check in checks]
    if arguments.list:
        print("\n".join(names))
        return 0
    unknown = set(arguments.checks) - set(names)
    if unknown:
        parser.error(f"no such check: {', '.join(sorted(unknown))}")
    wanted = [check for check in checks if not arguments.checks or check.__name__ in arguments.checks]
    return run(wanted, Subject(arguments.tallyman, arguments))


def output(*command: object, **options: Any) -> str:
    """What a command prints; it must succeed."""
    done = _run(command, options)
    expect(
        done.returncode == 0, f"{_shown(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    )
    return done.stdout


def refused(*command: object, **options: Any) -> str:
    """What a command says that must fail."""
    done = _run(command, options)
    expect(done.returncode != 0, f"{_shown(command)} was not refused:\n{done.stdout}")
    return done.stdout + done.stderr


def _run(command: tuple[object, ...], options: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(
        words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, **options
    )


def _shown(command: tuple[object, ...]) -> str:
    return " ".join(str(word) for word in command)


def documents(text: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(text) if document]


def clean_environment(**more: str) -> dict[str, str]:
    """Ours, without what would reach the agent."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("TALLYMAN", "AWS"))}
    return ours | {"AWS_EC2_METADATA_DISABLED": "true"} | more


def promtool() -> Path:
    """scripts/setup unpacks it into the cache, unless there is one on the PATH."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    unpacked = cache / "tallyman/tools/bin/promtool"
    found = os.environ.get("TALLYMAN_PROMTOOL") or shutil.which("promtool") or unpacked
    expect(Path(found).exists(), f"{found} is missing: run `make setup`")
    return Path(found)


def needed(kind: str) -> set[str]:
    """What deploy/ counts on and the code does not have yet."""
    lines = [
        line.split() for line in (HERE / "needed.txt").read_text().splitlines() if not line.startswith("#")
    ]
    return {name for its_kind, name in lines if its_kind == kind}


def seconds_of_the_drain() -> int:
    """How long the agent takes to stop at most: the bounds in src/app/mod.rs, added up."""
    source = (ROOT / "src/app/mod.rs").read_text()
    bounds = re.findall(r"^const (\w+): Duration = Duration::from_secs\((\d+)\);", source, re.MULTILINE)
    expect(len(bounds) == 4, f"src/app/mod.rs does not have four bounds of the shutdown any more: {bounds}")
    return sum(int(seconds) for _, seconds in bounds)
