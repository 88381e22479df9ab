"""The forms in which Kubernetes gets an agent: those of Kustomize and those of Helm, held against each other."""

import difflib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from manifests import one_agent_one_volume
from rendering import CHART, Manifest, agents, all_manifests, application_chart, ci_values, kustomize, rendered
from workshop import DEPLOY, Subject, documents, expect, main


def sidecars_are_native_ones(_: Subject) -> None:
    sidecars = [
        (name, pod) for name, _workload, pod, agent in agents() if agent["image"] and "initContainers" in pod
    ]
    expect(len(sidecars) == 2, f"{len(sidecars)} sidecars")
    for name, pod in sidecars:
        first = pod["initContainers"][0]
        expect(first["name"] == "tallyman", f"{name}: {first['name']} starts before the agent")
        expect(
            first["restartPolicy"] == "Always", f"{name}: it would have to end before the application starts"
        )
        expect("lifecycle" not in first, f"{name}: a preStop would run while the application still sends")


def helms_sidecar_is_that_of_kustomize(_: Subject) -> None:
    application = (DEPLOY / "kustomize/overlays/statefulset/application.yaml").read_text()
    for listens, components in ((False, []), (True, ["unix-socket"])):
        values = {"image": "tallyman", "configMap": "tallyman-config", "socket": listens}
        with tempfile.TemporaryDirectory() as folder, application_chart() as its_chart:
            ours = kustomization(Path(folder), application, ["sidecar", "claim-template", *components])
            theirs = rendered(its_chart, {"tallyman": values})
        alike(of_the_sidecar(ours), of_the_sidecar(theirs))


def of_the_sidecar(manifests: list[Manifest]) -> Manifest:
    ((_name, workload, pod, agent),) = agents({"one": manifests})
    of_the_pod = {key: pod[key] for key in ("terminationGracePeriodSeconds", "securityContext", "volumes")}
    of_the_workload = {"replicas", "persistentVolumeClaimRetentionPolicy", "volumeClaimTemplates"}
    return {"agent": agent} | of_the_pod | {key: workload["spec"][key] for key in of_the_workload}


def the_chart_is_the_shared_agent_of_kustomize(_: Subject) -> None:
    values = ci_values() | {"token": {"secretName": ""}, "storage": {"className": ""}, "env": []}
    ours, theirs = all_manifests()["overlays/shared-agent"], rendered(CHART, values)
    for kind in ("StatefulSet", "Service", "NetworkPolicy", "PodDisruptionBudget", "ServiceAccount"):
        alike(*(next(it for it in manifests if it["kind"] == kind) for manifests in (ours, theirs)))


def alike(ours: Manifest, theirs: Manifest) -> None:
    one, other = (yaml.safe_dump(essence(manifest)).splitlines() for manifest in (ours, theirs))
    difference = "\n".join(difflib.unified_diff(one, other, "kustomize", "helm", lineterm=""))
    expect(not difference, difference)


# Helm's own, and what a chart writes out though Kubernetes has the same default.
OF_HELM = {
    "annotations", "app.kubernetes.io/instance", "configMap", "image", "imagePullPolicy", "labels", "updateStrategy",
}  # fmt: skip


def essence(value: Any) -> Any:
    """Without what a chart has to say in its own way, and where order means nothing, in one order."""
    if isinstance(value, dict):
        return {key: essence(of) for key, of in value.items() if key not in OF_HELM}
    if isinstance(value, list):
        items = [essence(item) for item in value]
        named = all(isinstance(item, dict) and "name" in item for item in items)
        return sorted(items, key=lambda item: item["name"]) if named else items
    return value


# --- The component, on workloads that it does not know ---------------------------------------------------

STRANGER = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop, labels: {tallyman: sidecar}}
spec:
  replicas: 5
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1}}
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      initContainers: [{name: migrate, image: shop}]
      containers: [{name: shop, image: shop}, {name: cache, image: cache}]
      volumes: [{name: own, emptyDir: {}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: other}
spec:
  replicas: 5
  selector: {matchLabels: {app: other}}
  template:
    metadata: {labels: {app: other}}
    spec:
      containers: [{name: other, image: other}]
"""


def kustomization(folder: Path, manifests: str, components: list[str]) -> list[Manifest]:
    shutil.copytree(DEPLOY / "kustomize/components", folder / "components")
    (folder / "all.yaml").write_text(manifests)
    text = {"resources": ["all.yaml"], "components": [f"components/{name}" for name in components]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(text))
    return kustomize(folder)


def the_component_gives_any_deployment_an_agent_and_leaves_others_alone(_: Subject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shop, other = sorted(
            kustomization(Path(folder), STRANGER, ["sidecar"]),
            key=lambda it: it["metadata"]["name"],
            reverse=True,
        )
    one_agent_one_volume("shop", shop)
    pod = shop["spec"]["template"]["spec"]
    expect(
        [container["name"] for container in pod["initContainers"]] == ["tallyman", "migrate"],
        "init containers",
    )
    expect([container["name"] for container in pod["containers"]] == ["shop", "cache"], "containers")
    names = {volume["name"] for volume in pod["volumes"]}
    expect(names == {"own", "tallyman-config", "tallyman-data"}, f"volumes {names}")
    expect(other == documents(STRANGER)[1], "a workload without the label was changed")


CHECKS = [
    sidecars_are_native_ones,
    helms_sidecar_is_that_of_kustomize,
    the_chart_is_the_shared_agent_of_kustomize,
    the_component_gives_any_deployment_an_agent_and_leaves_others_alone,
]

if __name__ == "__main__":
    sys.exit(main(CHECKS))
