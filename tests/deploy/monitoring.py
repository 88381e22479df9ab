"""Alerts, dashboard and runbook: by promtool, Grafana's own library, and the names in src/base/metrics."""

import contextlib
import json
import os
import re
import shlex
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import helm_python as helm
import rendering
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from workshop import (
    DEPLOY,
    HERE,
    ROOT,
    Subject,
    clean_environment,
    documents,
    expect,
    main,
    needed,
    output,
    promtool,
)

ALERTS = DEPLOY / "prometheus/alerts.yaml"
DASHBOARD = DEPLOY / "grafana/tallyman.json"
RUNBOOK = ROOT / "docs/runbook.md"
TESTS = [HERE / "alerts_test.yaml", HERE / "alerts_week_test.yaml"]


@cache
def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    return group["rules"]


@cache
def dashboard() -> dict[str, Any]:
    return json.loads(DASHBOARD.read_text())


def panels() -> list[dict[str, Any]]:
    return dashboard()["panels"]


def queries() -> Iterator[tuple[str, str]]:
    """Each query of the dashboard, with the title of its panel; and those that fill its variables."""
    for panel in panels():
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            yield (
                f"variable {variable['name']}",
                re.sub(r"label_values\((.*), \w+\)", r"\1", variable["query"]["query"]),
            )


# --- Prometheus ------------------------------------------------------------------------------------------


def rules_and_scrape_configuration_are_valid(_: Subject) -> None:
    output(promtool(), "check", "rules", ALERTS)
    output(promtool(), "check", "config", DEPLOY / "prometheus/scrape.yaml")
    (scrape,) = yaml.safe_load((DEPLOY / "prometheus/scrape.yaml").read_text())["scrape_configs"]
    expect(scrape["job_name"] == "tallyman", "the alerts look for the job tallyman")
    reference = (ROOT / "docs/configuration.md").read_text()
    (admin,) = re.findall(r"ADMIN__LISTEN`[^|]*\|[^|]*\| `([\d.:]+)`", reference)
    asked = [target for group in scrape["static_configs"] for target in group["targets"]]
    expect(asked == [admin], f"{asked} is asked, and the agent tells at {admin}")
    expect(scrape.get("metrics_path", "/metrics") == "/metrics", f"{scrape}")


def alerts_fire_when_they_must_and_only_then(_: Subject) -> None:
    output(promtool(), "test", "rules", *TESTS)


def every_alert_is_tested_to_fire_and_to_be_silent(_: Subject) -> None:
    tests = [test for file in TESTS for test in yaml.safe_load(file.read_text())["tests"]]
    seen: dict[str, set[bool]] = {}
    for check in (check for test in tests for check in test["promql_expr_test"]):
        name = re.search(r'alertname="(\w+)"', check["expr"])
        if name:
            seen.setdefault(name[1], set()).add(check["exp_samples"][0]["value"] > 0)
    for rule in alerts():
        expect(seen.get(rule["alert"]) == {True, False}, f"{rule['alert']}: {seen.get(rule['alert'])}")


# Money is at risk within hours, or nothing is counted.
CRITICAL = {
    "TallymanDown",
    "TallymanStoreFailed",
    "TallymanDeadlineImminent",
    "TallymanNoSuccess",
    "TallymanConflict",
    "TallymanClock",
    "TallymanClockUnconfirmed",
    "TallymanSealedAhead",
    "TallymanDiskFull",
}


def someone_is_woken_for_what_cannot_wait_and_for_nothing_else(_: Subject) -> None:
    wakes = {rule["alert"] for rule in alerts() if rule["labels"]["severity"] == "critical"}
    expect(wakes == CRITICAL, f"{sorted(wakes ^ CRITICAL)}")


def the_prometheus_rule_and_the_charts_copy_are_the_same_alerts(_: Subject) -> None:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    (rule,) = documents((DEPLOY / "prometheus/prometheusrule.yaml").read_text())
    expect(rule["kind"] == "PrometheusRule", rule["kind"])
    expect(rule["spec"]["groups"] == groups, "prometheusrule.yaml is another: run scripts/alerts")
    copy = DEPLOY / "helm/tallyman/files/alerts.yaml"
    expect(copy.read_text() == ALERTS.read_text(), "the chart's copy is another: run scripts/alerts")

    chart = DEPLOY / "helm/tallyman"
    with helm.Chart.load(str(chart)) as loaded:
        files = loaded.render(
            yaml.safe_load((chart / "ci/values.yaml").read_text()), name="it", namespace="it"
        )
    (rendered,) = documents(files["tallyman/templates/prometheusrule.yaml"])
    moved = json.loads(
        json.dumps(groups).replace('"docs/runbook.md', '"https://wiki.example.com/tallyman/runbook.md')
    )
    expect(rendered["spec"]["groups"] == moved, "what the chart makes of its copy is another")


def every_query_of_the_dashboard_is_promql(_: Subject) -> None:
    rules = []
    for number, (_title, query) in enumerate(queries()):
        query = query.replace("$__rate_interval", "5m").replace("$instance", ".*").replace("$product", ".*")
        rules.append({"record": f"query:{number}", "expr": query})
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)
        file.flush()
        output(promtool(), "check", "rules", file.name)


# --- Names -----------------------------------------------------------------------------------------------


@cache
def source_of_metrics() -> str:
    return "\n".join(file.read_text() for file in sorted((ROOT / "src/base/metrics").glob("*.rs")))


@cache
def metrics() -> dict[str, str]:
    """The names in the source, each with its kind."""
    source = source_of_metrics()
    kinds = {
        name: kind for kind, name in re.findall(r"describe_(gauge|counter|histogram)!\(\s*([A-Z_]+)", source)
    }
    names = dict(re.findall(r'^const ([A-Z_]+): &str = "(tallyman_\w+)";', source, re.MULTILINE))
    expect(len(names) >= 20, f"only {len(names)} metrics were found in the source")
    return {metric: kinds.get(constant, "gauge") for constant, metric in names.items()}


def series() -> set[str]:
    """What a query may name: of a histogram only its buckets, sum and count."""
    names = {name for name, kind in metrics().items() if kind != "histogram"}
    histograms = [name for name, kind in metrics().items() if kind == "histogram"]
    return names | {f"{name}_{part}" for name in histograms for part in ("bucket", "sum", "count")}


def named_in(query: str) -> set[str]:
    return set(re.findall(r"\btallyman_\w+", query))


def every_query_names_only_metrics_that_exist(_: Subject) -> None:
    asked = [(rule["alert"], rule["expr"]) for rule in alerts()] + list(queries())
    for where, query in asked:
        unknown = named_in(query) - series() - needed("metric")
        expect(not unknown, f"{where} names {sorted(unknown)}, and src/base/metrics does not")
    come = needed("metric") & series()
    expect(not come, f"{sorted(come)} are there now: take them out of needed.txt")


def every_metric_is_shown_on_the_dashboard(_: Subject) -> None:
    shown = set().union(*(named_in(query) for _title, query in queries()))
    for name in [*metrics(), *sorted(needed("metric"))]:
        variants = {name, f"{name}_bucket", f"{name}_sum", f"{name}_count"}
        expect(bool(variants & shown), f"{name} is on no panel")


def alerts_ask_for_reasons_and_results_that_exist(_: Subject) -> None:
    source = source_of_metrics() + (ROOT / "src/domain/billing/record.rs").read_text()
    for where, query in [(rule["alert"], rule["expr"]) for rule in alerts()] + list(queries()):
        for label, value in re.findall(r'(\w+)!?="(\w+)"', query):
            known = f'"{value}"' in source or (label, value) == ("job", "tallyman")
            expect(known, f"{where} asks for {label} {value}")


@cache
def labels() -> dict[str, set[str]]:
    """The labels of each metric, by its name in the source."""
    source = source_of_metrics()
    names = dict(re.findall(r'^const ([A-Z_]+): &str = "(tallyman_\w+)";', source, re.MULTILINE))
    found: dict[str, set[str]] = {name: set() for name in names.values()}
    for constant, rest in re.findall(r"(?:gauge|counter|histogram)!\(\s*([A-Z_]+)(?=((?:(?!\w!\()[^;])*))", source):
        found[names[constant]] |= set(re.findall(r'"(\w+)" =>', rest))
    return found


def every_query_asks_for_labels_that_its_metrics_have(_: Subject) -> None:
    expect(labels()["tallyman_records_held"] == {"product", "reason"}, f"{labels()}")
    of_prometheus = {"job", "instance", "le"}
    for where, query in [(rule["alert"], rule["expr"]) for rule in alerts()] + list(queries()):
        for name, inside in re.findall(r"\b(tallyman_\w+|up)\{([^}]*)\}", query):
            has = labels().get(re.sub(r"_(bucket|sum|count)$", "", name)) or labels().get(name, set())
            asked = set(re.findall(r"(\w+)\s*[!=]~?=?\s*\"", inside))
            expect(asked <= has | of_prometheus, f"{where}: {name} has no {sorted(asked - has - of_prometheus)}")
        known = set().union(of_prometheus, *(labels()[name] for name in labels() if name in query))
        grouped = set(re.findall(r"\w+", " ".join(re.findall(r"\b(?:by|on|without|ignoring) ?\(([^)]*)\)", query))))
        expect(grouped <= known, f"{where} groups by {sorted(grouped - known)}")
    for rule in alerts():
        known = set().union(of_prometheus, *(labels()[name] for name in labels() if name in rule["expr"]))
        shown = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
        expect(shown <= known, f"{rule['alert']} shows {sorted(shown - known)}")


# --- The dashboard ---------------------------------------------------------------------------------------


def grafanas_own_model_knows_everything_in_the_dashboard(_: Subject) -> None:
    register_default_plugins()
    model = json.loads(json.dumps(Dashboard.from_json(dashboard()), cls=JSONEncoder))
    lost = list(missing(dashboard(), model, "dashboard"))
    expect(not lost, f"Grafana's model does not know {lost}")


def missing(ours: Any, theirs: Any, path: str) -> Iterator[str]:
    """Where `theirs` lacks something of `ours`, or has another value."""
    if isinstance(ours, dict):
        for key, value in ours.items():
            if not isinstance(theirs, dict) or (key not in theirs and value not in (None, [], {}, "", False)):
                yield f"{path}.{key}"
            elif key in theirs:
                yield from missing(value, theirs[key], f"{path}.{key}")
    elif isinstance(ours, list):
        if not isinstance(theirs, list) or len(ours) != len(theirs):
            yield path
            return
        for place, (one, other) in enumerate(zip(ours, theirs)):
            yield from missing(one, other, f"{path}.{place}")
    elif ours != theirs:
        yield f"{path} ({ours} is {theirs})"


def panels_have_numbers_of_their_own_and_do_not_overlap(_: Subject) -> None:
    numbers = [panel["id"] for panel in panels()]
    expect(len(set(numbers)) == len(numbers), f"{numbers}")
    covered: dict[tuple[int, int], str] = {}
    for panel in panels():
        at = panel["gridPos"]
        expect(at["x"] + at["w"] <= 24, f"{panel['title']} sticks out")
        for cell in (
            (x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
        ):
            expect(cell not in covered, f"{panel['title']} covers {covered.get(cell)}")
            covered[cell] = panel["title"]


# --- The runbook -----------------------------------------------------------------------------------------


def sections() -> dict[str, str]:
    parts = re.split(r"^## (.+)$", RUNBOOK.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2]))


def every_alert_has_its_section_in_the_runbook(_: Subject) -> None:
    expect(
        set(sections()) == {rule["alert"] for rule in alerts()},
        f"{set(sections()) ^ {r['alert'] for r in alerts()}}",
    )
    for rule in alerts():
        name, annotations = rule["alert"], rule["annotations"]
        expect(
            annotations["runbook_url"] == f"docs/runbook.md#{name.lower()}",
            f"{name}: {annotations['runbook_url']}",
        )
        expect(
            bool(annotations["summary"] and annotations["description"]), f"{name} does not say what is wrong"
        )
        expect(rule["labels"]["severity"] in ("critical", "warning"), f"{name}: {rule['labels']}")
        for part in ("**Means.**", "**At stake.**", "**Type.**", "```\n$ "):
            expect(part in sections()[name], f"the section of {name} lacks {part!r}")


def links_of_the_runbook_lead_somewhere(_: Subject) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", RUNBOOK.read_text()):
        file, _, anchor = target.partition("#")
        expect(not file or (RUNBOOK.parent / file).exists(), f"{target}: there is no such file")
        anchors = {name.lower() for name in sections()}
        expect(bool(file) or anchor in anchors, f"{target}: there is no such section")


def every_command_of_the_runbook_is_one_that_tallyman_has(subject: Subject) -> None:
    text = RUNBOOK.read_text()
    commands = re.findall(r"^\$ tallyman (.+)$", text, re.MULTILINE) + re.findall(r"`tallyman ([^`]+)`", text)
    expect(len(commands) > 20, f"only {len(commands)} commands were found")
    for command in commands:
        output(subject.tallyman, *shlex.split(command), "--help")


def the_runbook_finds_every_agent_by_its_image(_: Subject) -> None:
    (command,) = re.findall(r"^\$ (kubectl get pods .*)$", RUNBOOK.read_text(), re.MULTILINE)
    pods = [
        {"metadata": {"namespace": "shop", "name": f"pod-{number}"}, "spec": spec}
        for number, (_name, _workload, spec) in enumerate(rendering.pods())
    ]
    stranger = {"containers": [{"name": "tallyman", "image": "registry.example.com/web:1"}]}
    pods.append({"metadata": {"namespace": "tallyman", "name": "dashboard"}, "spec": stranger})
    with_agent = {
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        for pod in pods
        if any("tallyman" in container["image"] for container in rendering.containers_of(pod["spec"]))
    }
    expect(len(with_agent) >= 4, f"{with_agent}: the sidecars and the shared agents are to be here")
    with cluster(pods) as server:
        tools = Path(sys.executable).parent
        environment = clean_environment(PATH=f"{tools}:{os.environ['PATH']}", KUBECONFIG="/nonexistent")
        command = command.replace("kubectl", f"kubectl --server={server}", 1)
        found = output("bash", "-c", command, env=environment)
    names = {line.split()[0] for line in found.splitlines() if not line.startswith("tallyman/")}
    expect(names == with_agent, f"{names ^ with_agent} differ:\n{found}")


@contextlib.contextmanager
def cluster(pods: list[dict[str, Any]]) -> Iterator[str]:
    """As much of a Kubernetes API as a list of pods takes."""
    resource = {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["get", "list"]}
    answers = {
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
        "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [resource]},
        "/api/v1/pods": {"kind": "PodList", "apiVersion": "v1", "items": pods},
    }

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path.partition("?")[0])
            self.send_response(404 if answer is None else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(answer or {"kind": "Status", "code": 404}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


CHECKS = [
    rules_and_scrape_configuration_are_valid,
    alerts_fire_when_they_must_and_only_then,
    every_alert_is_tested_to_fire_and_to_be_silent,
    someone_is_woken_for_what_cannot_wait_and_for_nothing_else,
    the_prometheus_rule_and_the_charts_copy_are_the_same_alerts,
    every_query_of_the_dashboard_is_promql,
    every_query_names_only_metrics_that_exist,
    every_metric_is_shown_on_the_dashboard,
    alerts_ask_for_reasons_and_results_that_exist,
    every_query_asks_for_labels_that_its_metrics_have,
    grafanas_own_model_knows_everything_in_the_dashboard,
    panels_have_numbers_of_their_own_and_do_not_overlap,
    every_alert_has_its_section_in_the_runbook,
    links_of_the_runbook_lead_somewhere,
    every_command_of_the_runbook_is_one_that_tallyman_has,
    the_runbook_finds_every_agent_by_its_image,
]

if __name__ == "__main__":
    sys.exit(main(CHECKS))
