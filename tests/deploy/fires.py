"""Whether the alerts fire on the metrics that an agent really told.

    python fires.py --metrics FILE --now SECONDS ALERT...

FILE is what /metrics answered; an empty one stands for an agent that does not answer. Every value is taken to
stay as it was then, and every counter to grow by as much each minute, for two hours. Then exactly the alerts
that are named must fire.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from workshop import DEPLOY, Wrong, expect, output, promtool

MINUTES = 120
COUNTERS = ("_total", "_bucket", "_sum", "_count")


def series(line: str, now: float) -> dict[str, str]:
    name, labels, value = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line).groups()
    number = {"inf": 1e15, "+Inf": 1e15}.get(value) or float(value)
    if name.endswith("_timestamp_seconds"):
        # promtool's time begins at 0.
        number -= now
    text = f"{number:.3f}"
    labels = ",".join([*([labels] if labels else []), 'job="tallyman"', 'instance="a"'])
    return {
        "series": f"{name}{{{labels}}}",
        "values": f"0+{text}x{MINUTES}" if name.endswith(COUNTERS) else f"{text}x{MINUTES}",
    }


def firing(alert: str, fires: bool) -> dict[str, Any]:
    count = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}} > 0)'
    return {
        "expr": f"clamp_max({count} or vector(0), 1)",
        "eval_time": f"{MINUTES - 1}m",
        "exp_samples": [{"labels": "{}", "value": int(fires)}],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--now", type=float, required=True)
    parser.add_argument("alerts", nargs="*")
    arguments = parser.parse_args()
    rules = DEPLOY / "prometheus/alerts.yaml"
    names = [rule["alert"] for rule in yaml.safe_load(rules.read_text())["groups"][0]["rules"]]
    lines = [line for line in arguments.metrics.read_text().splitlines() if line and not line.startswith("#")]
    known = [series(line, arguments.now) for line in lines]
    if known:
        known.append({"series": 'up{job="tallyman",instance="a"}', "values": f"1x{MINUTES}"})
    test = {
        "interval": "1m",
        "input_series": known,
        "promql_expr_test": [firing(name, name in arguments.alerts) for name in names],
    }
    try:
        expect(set(arguments.alerts) <= set(names), f"there is no alert {set(arguments.alerts) - set(names)}")
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": [test]}, file)
            file.flush()
            output(promtool(), "test", "rules", file.name)
    except Wrong as wrong:
        print(wrong)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
