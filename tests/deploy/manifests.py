"""The Kubernetes files, by kubectl's kustomize, Helm's own library and kubernetes-validate."""

import contextlib
import datetime
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import yaml
from workshop import DEPLOY, HERE, ROOT, Subject, documents, expect, main, needed, output, refused, seconds_of_the_drain

Manifest = dict[str, Any]

OVERLAYS = ["statefulset", "shared-agent"]
# The oldest that the README names, and the newest that the schemas are there for.
KUBERNETES = ["1.30", "1.37"]
CHART = DEPLOY / "helm/tallyman"
LIBRARY = DEPLOY / "helm/tallyman-sidecar"
# Custom resources, whose schemas their operator has.
CUSTOM = {"PodMonitor", "PrometheusRule"}
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


def pods() -> Iterator[tuple[str, Manifest, Manifest]]:
    """Each workload, and the spec of its pods."""
    for source, manifests in all_manifests().items():
        for manifest in manifests:
            if manifest["kind"] in WORKLOADS:
                name = f"{source}: {manifest['kind']} {manifest['metadata']['name']}"
                yield name, manifest, manifest["spec"]["template"]["spec"]


def agents() -> Iterator[tuple[str, Manifest, Manifest, Manifest]]:
    """Each agent's container, with its workload and the spec of its pod."""
    for name, workload, pod in pods():
        for container in pod.get("initContainers", []) + pod["containers"]:
            if container["name"] == "tallyman":
                yield name, workload, pod, container


def containers_of(pod: Manifest) -> list[Manifest]:
    return pod.get("initContainers", []) + pod["containers"]


# --- What is valid ---------------------------------------------------------------------------------------------


def every_manifest_is_valid_in_the_oldest_and_the_newest_kubernetes(_: Subject) -> None:
    for source, manifests in all_manifests().items():
        expect(len(manifests) > 1, f"{source} is all but empty")
        for manifest in manifests:
            if manifest["kind"] in CUSTOM:
                continue
            for version in KUBERNETES:
                try:
                    kubernetes_validate.validate(manifest, version, strict=True)
                except kubernetes_validate.ValidationError as fault:
                    expect(False, f"{source}: {manifest['kind']} in {version}: {fault.message}")


def helm_finds_nothing_to_complain_of(_: Subject) -> None:
    with application_chart() as folder:
        for chart, values in ((CHART, ci_values()), (LIBRARY, {}), (folder, {})):
            report = helm.lint(str(chart), values)
            # 1 is advice, as to have an icon.
            complaints = [message for message in report["messages"] if message["severity"] > 1]
            expect(not complaints and not report["errors"], f"{chart.name}: {report}")


def the_chart_of_the_readme_finds_its_library_by_the_path_there(_: Subject) -> None:
    with tempfile.TemporaryDirectory() as parent:
        shutil.copytree(HERE / "application", Path(parent, "application"))
        shutil.copytree(LIBRARY, Path(parent, "tallyman-sidecar"))
        helm.dependency_update(str(Path(parent, "application")))
        expect(len(rendered(Path(parent, "application"), {})) == 2, "the application's chart is not whole")


# --- Who may run, and how many -----------------------------------------------------------------------------------

ALLOWED_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip


def every_pod_is_restricted_as_pod_security_asks(_: Subject) -> None:
    for name, _workload, pod in pods():
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            expect(not pod.get(key), f"{name}: {key}")
        for volume in pod.get("volumes", []):
            kinds = set(volume) - {"name"}
            expect(kinds <= ALLOWED_VOLUMES, f"{name}: volume {volume['name']} is a {kinds}")
        for container in containers_of(pod):
            restricted(f"{name}/{container['name']}", pod.get("securityContext", {}), container["securityContext"])


def restricted(name: str, pod: Manifest, container: Manifest) -> None:
    expect(not container.get("privileged"), f"{name} is privileged")
    expect(container.get("allowPrivilegeEscalation") is False, f"{name} may gain privileges")
    expect(container.get("capabilities") == {"drop": ["ALL"]}, f"{name} keeps capabilities")
    both = pod | container
    expect(both.get("runAsNonRoot") is True and both.get("runAsUser") != 0, f"{name} may run as root")
    expect(both.get("seccompProfile") == {"type": "RuntimeDefault"}, f"{name} has no seccomp profile")


def every_agent_has_a_read_only_root_limits_and_no_token_of_kubernetes(_: Subject) -> None:
    for name, _workload, pod, agent in agents():
        expect(agent["securityContext"].get("readOnlyRootFilesystem") is True, f"{name} may write its root")
        for kind in ("requests", "limits"):
            expect({"cpu", "memory"} <= set(agent["resources"][kind]), f"{name} has no {kind}")
        expect(pod.get("automountServiceAccountToken") is False, f"{name} is given a token")
        writable = [mount["mountPath"] for mount in agent["volumeMounts"] if not mount.get("readOnly")]
        expect(set(writable) <= {"/var/lib/tallyman", "/run/tallyman"}, f"{name} may write {writable}")


def no_manifest_starts_a_second_agent(_: Subject) -> None:
    found = list(agents())
    expect(len(found) == 4, f"{len(found)} agents")
    for name, workload, _pod, _agent in found:
        one_agent_one_volume(name, workload)


def one_agent_one_volume(name: str, workload: Manifest) -> None:
    spec = workload["spec"]
    expect(spec["replicas"] == 1, f"{name} has {spec['replicas']} replicas")
    if workload["kind"] == "Deployment":
        expect(spec.get("strategy") == {"type": "Recreate"}, f"{name} starts a second pod before it ends the first")
        return
    expect(spec.get("podManagementPolicy", "OrderedReady") == "OrderedReady", f"{name} starts pods side by side")
    claim = next(claim for claim in spec["volumeClaimTemplates"] if claim["metadata"]["name"] == "tallyman-data")
    expect(claim["spec"]["accessModes"] == ["ReadWriteOncePod"], f"{name}: its volume takes more than one pod")


def the_chart_refuses_a_second_replica_and_what_it_does_not_know(_: Subject) -> None:
    wrong: list[dict[str, Any]] = [
        {"replicas": 2},
        {"replicaCount": 2},
        {"autoscaling": {"enabled": True}},
        {"image": {"repository": ""}},
        {"config": ""},
        {"tls": {"secretName": ""}},
        {"tls": {"secretName": "tls", "clientCertificates": False}, "token": {"secretName": ""}},
        {"storage": {"accessMode": "ReadWriteMany"}},
        {"terminationGracePeriodSeconds": 30},
        {"networkPolicy": {"clients": []}},
    ]
    with helm.Chart.load(str(CHART)) as loaded:
        for change in wrong:
            try:
                loaded.validate_schema(ci_values() | change)
            except helm.HelmError:
                continue
            expect(False, f"{change} was not refused")
        for right in ({}, {"replicas": 0}, {"tls": {"secretName": "tls", "clientCertificates": False}}):
            loaded.validate_schema(ci_values() | right)


def volumes_stay_when_the_workload_goes(_: Subject) -> None:
    for source in ("overlays/statefulset", "overlays/shared-agent", "helm/tallyman"):
        for manifest in all_manifests()[source]:
            if manifest["kind"] == "StatefulSet":
                policy = manifest["spec"].get("persistentVolumeClaimRetentionPolicy")
                expect(policy == {"whenDeleted": "Retain", "whenScaled": "Retain"}, f"{source}: {policy}")


def operators_read_that_one_agent_owns_a_products_customers(_: Subject) -> None:
    readers = ["README.md", "helm/tallyman/templates/NOTES.txt", "helm/tallyman/values.yaml", "ecs/README.md"]
    readers += ["helm/tallyman-sidecar/templates/_sidecar.tpl", "kustomize/components/sidecar/kustomization.yaml"]
    for file in readers:
        words = " ".join((DEPLOY / file).read_text().replace("*", "").replace("#", "").lower().split())
        told = "one agent owns a product's customers" in words or "one agent must own a product's customers" in words
        expect(told, f"{file} does not say it")


def network_policies_and_disruption_budgets_are_for_the_agents_pods(_: Subject) -> None:
    for source in ("overlays/statefulset", "overlays/shared-agent", "helm/tallyman"):
        manifests = all_manifests()[source]
        for name, workload, _pod, _agent in agents():
            if not name.startswith(f"{source}: "):
                continue
            labels = workload["spec"]["template"]["metadata"]["labels"].items()
            policy = next(manifest for manifest in manifests if manifest["kind"] == "NetworkPolicy")["spec"]
            budget = next(manifest for manifest in manifests if manifest["kind"] == "PodDisruptionBudget")["spec"]
            for what, selector in (("policy", policy["podSelector"]), ("budget", budget["selector"])):
                expect(selector["matchLabels"].items() <= labels, f"{name}: the {what} is for other pods")
            expect(policy["policyTypes"] == ["Ingress", "Egress"], f"{name}: {policy['policyTypes']}")
            open_to_all = [rule for rule in policy["ingress"] if not rule.get("from")]
            ports = [port["port"] for rule in open_to_all for port in rule["ports"]]
            expect(not {"grpc", "tallyman-admin"} & set(ports), f"{name}: everyone reaches {ports}")
            expect(budget["maxUnavailable"] == 1, f"{name}: a node could not be drained")


# --- How it starts and stops -------------------------------------------------------------------------------------


def grace_periods_leave_the_agent_its_drain(_: Subject) -> None:
    for name, _workload, pod, agent in agents():
        before = agent.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        if "restartPolicy" in agent:
            before = 30  # for the application, which ends first
        left = pod["terminationGracePeriodSeconds"] - before - seconds_of_the_drain()
        expect(left >= 5, f"{name}: {left} seconds are left of the grace period")
    schema = CHART / "values.schema.json"
    least = yaml.safe_load(schema.read_text())["properties"]["terminationGracePeriodSeconds"]["minimum"]
    expect(least >= 5 + seconds_of_the_drain(), f"the chart's schema allows {least} seconds")


def probes_ask_for_paths_that_the_admin_port_has(_: Subject) -> None:
    served = (ROOT / "src/faces/admin.rs").read_text()
    for name, _workload, _pod, agent in agents():
        ports = {port["name"]: port["containerPort"] for port in agent["ports"]}
        listens = {entry["name"]: entry.get("value") for entry in agent["env"]}["TALLYMAN__ADMIN__LISTEN"]
        probes = {key: agent[key]["httpGet"] for key in agent if key.endswith("Probe")}
        expect({"startupProbe", "livenessProbe"} <= set(probes), f"{name} has only {sorted(probes)}")
        for key, probe in probes.items():
            expect(f'route("{probe["path"]}"' in served, f"{name}: {key} asks for {probe['path']}")
            expect(listens == f"0.0.0.0:{ports[probe['port']]}", f"{name}: {key} asks at a port without a listener")
        expect(probes["livenessProbe"]["path"] == "/livez", f"{name}: a failed disk would make it restart for ever")


def sidecars_are_native_ones(_: Subject) -> None:
    sidecars = [(name, pod) for name, _workload, pod, agent in agents() if agent["image"] and "initContainers" in pod]
    expect(len(sidecars) == 2, f"{len(sidecars)} sidecars")
    for name, pod in sidecars:
        first = pod["initContainers"][0]
        expect(first["name"] == "tallyman", f"{name}: {first['name']} starts before the agent")
        expect(first["restartPolicy"] == "Always", f"{name}: it would have to end before the application starts")
        expect("lifecycle" not in first, f"{name}: a preStop would run while the application still sends")


def helms_sidecar_is_that_of_kustomize(_: Subject) -> None:
    def sidecar(source: str) -> Manifest:
        agent = next(agent for name, _workload, _pod, agent in agents() if name.startswith(f"{source}: "))
        sort = {"env": "name", "volumeMounts": "name"}
        rest = {key: value for key, value in agent.items() if key != "image"}
        return {key: sorted(value, key=lambda item: item[sort[key]]) if key in sort else value for key, value in rest.items()}

    ours, theirs = sidecar("overlays/statefulset"), sidecar("helm/tallyman-sidecar")
    for key in sorted(set(ours) | set(theirs)):
        expect(ours.get(key) == theirs.get(key), f"{key}: {ours.get(key)} and {theirs.get(key)}")


# --- The component, on workloads that it does not know -----------------------------------------------------------

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
        shop, other = sorted(kustomization(Path(folder), STRANGER, ["sidecar"]), key=lambda it: it["metadata"]["name"], reverse=True)
    one_agent_one_volume("shop", shop)
    pod = shop["spec"]["template"]["spec"]
    expect([container["name"] for container in pod["initContainers"]] == ["tallyman", "migrate"], "init containers")
    expect([container["name"] for container in pod["containers"]] == ["shop", "cache"], "containers")
    names = {volume["name"] for volume in pod["volumes"]}
    expect(names == {"own", "tallyman-config", "tallyman-data"}, f"volumes {names}")
    expect(other == documents(STRANGER)[1], "a workload without the label was changed")


# --- The agent itself, as the manifests start it ------------------------------------------------------------------


def environment_of(agent: Manifest) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "pod-0") for entry in agent["env"]}


def configuration_of(source: str, pod: Manifest) -> str:
    name = next(volume for volume in pod["volumes"] if volume["name"] == "tallyman-config")["configMap"]["name"]
    manifests = all_manifests()[source]
    found = [it for it in manifests if it["kind"] == "ConfigMap" and it["metadata"]["name"] == name]
    expect(len(found) == 1, f"{source}: there is no ConfigMap {name}")
    return found[0]["data"]["tallyman.toml"]


def clean_environment() -> dict[str, str]:
    """Ours, without what would reach the agent."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("TALLYMAN", "AWS"))}
    return ours | {"AWS_EC2_METADATA_DISABLED": "true"}


def the_agent_takes_every_configuration_here(subject: Subject) -> None:
    for name, _workload, pod, agent in agents():
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write(configuration_of(name.split(": ")[0], pod))
            file.flush()
            environment = clean_environment() | environment_of(agent)
            shown = output(subject.tallyman, "check", "--config", file.name, "--print", env=environment)
        for key, value in environment_of(agent).items():
            expect(not key.startswith("TALLYMAN__") or value in shown, f"{name}: {key} has no effect:\n{shown}")
        expect('data_dir = "/var/lib/tallyman"' in shown, f"{name}: the data is not on the volume:\n{shown}")
    without = clean_environment() | environment_of(agent) | {"TALLYMAN__GRPC__LISTEN": "nowhere"}
    refused(subject.tallyman, "check", env=without)


@contextlib.contextmanager
def running(subject: Subject, source: str, folder: Path) -> Iterator[dict[str, str]]:
    """Starts the agent as its manifest says, with the container's folders below `folder` and other ports."""
    _name, _workload, pod, agent = next(it for it in agents() if it[0].startswith(f"{source}: "))
    for mount in agent["volumeMounts"]:
        (folder / mount["mountPath"].strip("/")).mkdir(parents=True, exist_ok=True)
    (folder / "etc/tallyman/tallyman.toml").write_text(configuration_of(source, pod))
    environment = {"TALLYMAN__AGENT__DATA_DIR": "/var/lib/tallyman"} | environment_of(agent)
    for key, value in environment.items():
        for top in ("/etc/", "/run/", "/var/"):
            value = value.replace(top, f"{folder}{top}")
        environment[key] = value.replace("0.0.0.0:7450", f"127.0.0.1:{free_port()}").replace("0.0.0.0:7451", f"127.0.0.1:{free_port()}")
    environment["TALLYMAN__PRODUCT__0__ENDPOINT_URL"] = "http://127.0.0.1:9"
    arguments = [argument.replace("/etc/", f"{folder}/etc/") for argument in agent["args"]]
    process = subprocess.Popen([subject.tallyman, *arguments], env=clean_environment() | environment, stderr=subprocess.PIPE, text=True)
    try:
        wait_until_ready(process, environment["TALLYMAN__ADMIN__LISTEN"])
        yield environment
    finally:
        process.terminate()
        process.wait(timeout=60)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def wait_until_ready(process: subprocess.Popen[str], admin: str) -> None:
    import urllib.error
    import urllib.request

    until = time.monotonic() + 60
    while True:
        expect(process.poll() is None, f"the agent ended: {process.stderr.read() if process.poll() is not None else ''}")
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            with urllib.request.urlopen(f"http://{admin}/readyz", timeout=5) as answer:
                if answer.status == 200:
                    return
        expect(time.monotonic() < until, "the agent does not get ready")
        time.sleep(0.05)


def the_sidecar_runs_as_its_manifest_says(subject: Subject) -> None:
    # A socket's path is short, and that of a temporary folder need not be.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        with running(subject, "overlays/statefulset", Path(folder)) as environment:
            status = output(subject.tallyman, "status", env=clean_environment() | environment)
            expect("takes usage" in status and "pod-0" in status, status)
        expect(Path(folder, "var/lib/tallyman/db").is_dir(), "the data is not on the volume")


def the_socket_is_open_to_the_group_of_the_pod(subject: Subject) -> None:
    """The application has another user than the agent, and the volume's group (fsGroup)."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        with running(subject, "overlays/statefulset", Path(folder)):
            mode = stat.S_IMODE(Path(folder, "run/tallyman/tallyman.sock").stat().st_mode)
    if "socket-mode-0660" in needed("code"):
        expect(mode != 0o660, "the socket's mode is right now: take it out of needed.txt")
    else:
        expect(mode == 0o660, f"the socket's mode is {mode:o}")


def the_shared_agent_answers_only_clients_with_a_certificate(subject: Subject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = folder / "etc/tallyman-tls"
        keys.mkdir(parents=True)
        authority = Authority(keys / "ca.crt")
        authority.issue(keys / "tls.crt", keys / "tls.key", "localhost")
        with running(subject, "overlays/shared-agent", folder) as environment:
            port = environment["TALLYMAN__GRPC__LISTEN"].split(":")[1]
            ask = [subject.tallyman, "status", "--address", f"https://localhost:{port}", "--ca-file", keys / "ca.crt"]
            certificate = ["--cert-file", keys / "tls.crt", "--key-file", keys / "tls.key"]
            expect("takes usage" in output(*ask, *certificate, env=clean_environment()), "no answer")
            refused(*ask, env=clean_environment())


class Authority:
    """Signs certificates for a test."""

    def __init__(self, file: Path) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec

        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
        self.certificate = self._sign(self.name, self.key.public_key(), x509.BasicConstraints(ca=True, path_length=None))
        self._write(file, self.certificate)

    def issue(self, certificate: Path, key: Path, host: str) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        own = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
        self._write(certificate, self._sign(name, own.public_key(), x509.SubjectAlternativeName([x509.DNSName(host)])))
        pem, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        key.write_bytes(own.private_bytes(serialization.Encoding.PEM, pem, plain))

    def _sign(self, name: Any, key: Any, extension: Any) -> Any:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder(self.name, name, key, x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
        return builder.add_extension(extension, critical=True).sign(self.key, hashes.SHA256())

    def _write(self, file: Path, certificate: Any) -> None:
        from cryptography.hazmat.primitives import serialization

        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


CHECKS = [
    every_manifest_is_valid_in_the_oldest_and_the_newest_kubernetes,
    helm_finds_nothing_to_complain_of,
    the_chart_of_the_readme_finds_its_library_by_the_path_there,
    every_pod_is_restricted_as_pod_security_asks,
    every_agent_has_a_read_only_root_limits_and_no_token_of_kubernetes,
    no_manifest_starts_a_second_agent,
    the_chart_refuses_a_second_replica_and_what_it_does_not_know,
    volumes_stay_when_the_workload_goes,
    operators_read_that_one_agent_owns_a_products_customers,
    network_policies_and_disruption_budgets_are_for_the_agents_pods,
    grace_periods_leave_the_agent_its_drain,
    probes_ask_for_paths_that_the_admin_port_has,
    sidecars_are_native_ones,
    helms_sidecar_is_that_of_kustomize,
    the_component_gives_any_deployment_an_agent_and_leaves_others_alone,
    the_agent_takes_every_configuration_here,
    the_sidecar_runs_as_its_manifest_says,
    the_socket_is_open_to_the_group_of_the_pod,
    the_shared_agent_answers_only_clients_with_a_certificate,
]

if __name__ == "__main__":
    sys.exit(main(CHECKS))
