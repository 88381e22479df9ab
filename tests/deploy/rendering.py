"""What the Kubernetes files come to, by kubectl's kustomize and Helm's own library."""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import helm_python as helm
import yaml
from workshop import DEPLOY, HERE, documents, output

Manifest = dict[str, Any]

OVERLAYS = ["statefulset", "shared-agent"]
CHART = DEPLOY / "helm/tallyman"
LIBRARY = DEPLOY / "helm/tallyman-sidecar"
WORKLOADS = {"Deployment", "StatefulSet"}


def kustomize(folder: Path) -> list[Manifest]:
    return documents(output(Path(sys.executable).parent / "kubectl", "kustomize", folder))


@cache
def overlays() -> dict[str, list[Manifest]]:
    return {f"overlays/{name}": kustomize(DEPLOY / "kustomize/overlays" / name) for name in OVERLAYS}


def ci_values() -> dict[str, Any]:
    return yaml.safe_load((CHART / "ci/values.yaml").read_text())


def rendered(chart: Path, values: dict[str, Any]) -> list[Manifest]:
    with helm.Chart.load(str(chart)) as loaded:
        files = loaded.render(values, name="tallyman", namespace="metering")
    texts = [text for name, text in files.items() if not name.endswith("NOTES.txt")]
    return [document for text in texts for document in documents(text)]


@cache
def chart() -> list[Manifest]:
    return rendered(CHART, ci_values())


@contextlib.contextmanager
def application_chart() -> Iterator[Path]:
    """An application's chart with the library in its charts folder."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "application")
        shutil.copytree(HERE / "application", copy)
        shutil.copytree(LIBRARY, copy / "charts/tallyman-sidecar")
        yield copy


@cache
def application() -> list[Manifest]:
    with application_chart() as folder:
        return rendered(folder, {})


def all_manifests() -> dict[str, list[Manifest]]:
    return overlays() | {"helm/tallyman": chart(), "helm/tallyman-sidecar": application()}


def pods(sources: dict[str, list[Manifest]] | None = None) -> Iterator[tuple[str, Manifest, Manifest]]:
    """Each workload, and the spec of its pods."""
    for source, manifests in (sources or all_manifests()).items():
        for manifest in manifests:
            if manifest["kind"] in WORKLOADS:
                name = f"{source}: {manifest['kind']} {manifest['metadata']['name']}"
                yield name, manifest, manifest["spec"]["template"]["spec"]


def agents(
    sources: dict[str, list[Manifest]] | None = None,
) -> Iterator[tuple[str, Manifest, Manifest, Manifest]]:
    """Each agent's container, with its workload and the spec of its pod."""
    for name, workload, pod in pods(sources):
        for container in containers_of(pod):
            if container["name"] == "tallyman":
                yield name, workload, pod, container


def containers_of(pod: Manifest) -> list[Manifest]:
    return pod.get("initContainers", []) + pod["containers"]
