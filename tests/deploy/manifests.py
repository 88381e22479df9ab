"""What the Kubernetes files say, by kubernetes-validate, Helm's own library, and what the agent needs."""

import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import yaml
from rendering import (
    CHART,
    LIBRARY,
    Manifest,
    agents,
    all_manifests,
    application_chart,
    ci_values,
    containers_of,
    pods,
    rendered,
)
from workshop import DEPLOY, HERE, ROOT, Subject, documents, expect, main, seconds_of_the_drain

# The oldest that the README names, and the newest that the schemas are there for.
KUBERNETES = ["1.30", "1.37"]
# Custom resources, whose schemas their operator has.
CUSTOM = {"PodMonitor", "PrometheusRule"}

# --- What is valid ---------------------------------------------------------------------------------------


def every_manifest_is_valid_in_the_oldest_and_the_newest_kubernetes(_: Subject) -> None:
    for source, manifests in all_manifests().items():
        expect(len(manifests) > 1, f"{source} is all but empty")
        valid(source, manifests)


def valid(source: str, manifests: list[Manifest]) -> None:
    for manifest in manifests:
        for version in KUBERNETES if manifest["kind"] not in CUSTOM else []:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.ValidationError as fault:
                expect(False, f"{source}: {manifest['kind']} in {version}: {fault.message}")


EVERYTHING = """
imagePullSecrets: [{name: pull}]
image: {repository: tallyman, tag: "1", pullPolicy: Always}
serviceAccount: {name: own}
podLabels: {team: billing}
podAnnotations: {note: text}
nodeSelector: {disk: fast}
tolerations: [{key: metering, operator: Exists}]
affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [
  {matchExpressions: [{key: zone, operator: In, values: [a]}]}]}}}
priorityClassName: high
networkPolicy: {egress: [{to: [{podSelector: {matchLabels: {app: collector}}}], ports: [{port: 4317}]}]}
"""
NOTHING = """
tls: {secretName: tls, clientCertificates: false}
token: {secretName: ""}
clients: {secretName: clients, operator: operator}
storage: {size: 10Gi, className: "", accessMode: ReadWriteOnce}
networkPolicy: {enabled: false}
podDisruptionBudget: {enabled: false}
podMonitor: {enabled: false}
prometheusRule: {enabled: false}
env: []
"""


def the_chart_is_valid_with_every_value_set_and_with_all_that_can_be_left_out(_: Subject) -> None:
    kinds = {}
    for name, values in (("everything", EVERYTHING), ("nothing", NOTHING)):
        manifests = rendered(CHART, ci_values() | yaml.safe_load(values))
        valid(name, manifests)
        kinds[name] = {manifest["kind"] for manifest in manifests}
        for policy in (it["spec"] for it in manifests if it["kind"] == "NetworkPolicy"):
            expect(policy["egress"][-1]["ports"] == [{"port": 4317}], f"{policy['egress']}")
    least = {"StatefulSet", "Service", "ConfigMap", "ServiceAccount"}
    expect(kinds["nothing"] == least, f"{kinds['nothing']}")
    more = {"NetworkPolicy", "PodDisruptionBudget", "PodMonitor", "PrometheusRule"}
    expect(kinds["everything"] == least - {"ServiceAccount"} | more, f"{kinds['everything']}")


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


# --- Who may run, and how many ---------------------------------------------------------------------------

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
            restricted(
                f"{name}/{container['name']}", pod.get("securityContext", {}), container["securityContext"]
            )


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
        expect("/var/lib/tallyman" in writable, f"{name}: what is not billed yet is not on the volume")
        for volume in pod["volumes"]:
            mode = volume.get("secret", {}).get("defaultMode", 0 if "secret" not in volume else 0o644)
            expect(mode & 0o007 == 0, f"{name}: {volume['name']} has keys that everyone may read ({mode:o})")


def every_agent_has_the_user_of_the_image(_: Subject) -> None:
    dockerfile = (DEPLOY / "docker/Dockerfile").read_text()
    found = re.findall(r"^USER (\d+):(\d+)$", dockerfile, re.MULTILINE)
    expect(len(found) == 1, f"the image's users: {found}")
    user, group = map(int, found[0])
    for name, _workload, pod, agent in agents():
        both = pod["securityContext"] | agent["securityContext"]
        expect((both["runAsUser"], both["runAsGroup"]) == (user, group), f"{name} is another user")
        expect(pod["securityContext"]["fsGroup"] == group, f"{name}: its volume is for another group")


def no_manifest_starts_a_second_agent(_: Subject) -> None:
    found = list(agents())
    expect(len(found) == 4, f"{len(found)} agents")
    for name, workload, _pod, _agent in found:
        one_agent_one_volume(name, workload)


def one_agent_one_volume(name: str, workload: Manifest) -> None:
    spec = workload["spec"]
    expect(spec["replicas"] == 1, f"{name} has {spec['replicas']} replicas")
    if workload["kind"] == "Deployment":
        expect(
            spec.get("strategy") == {"type": "Recreate"},
            f"{name} starts a second pod before it ends the first",
        )
        return
    expect(
        spec.get("podManagementPolicy", "OrderedReady") == "OrderedReady", f"{name} starts pods side by side"
    )
    claim = next(
        claim for claim in spec["volumeClaimTemplates"] if claim["metadata"]["name"] == "tallyman-data"
    )
    expect(
        claim["spec"]["accessModes"] == ["ReadWriteOncePod"], f"{name}: its volume takes more than one pod"
    )


def the_chart_refuses_a_second_replica_and_what_it_does_not_know(_: Subject) -> None:
    without_certificates = {"tls": {"secretName": "tls", "clientCertificates": False}}
    clients = {"token": {"secretName": ""}, "clients": {"secretName": "clients"}}
    wrong: list[dict[str, Any]] = [
        {"replicas": 2},
        {"replicaCount": 2},
        {"autoscaling": {"enabled": True}},
        {"image": {"repository": ""}},
        {"config": ""},
        {"tls": {"secretName": ""}},
        without_certificates | {"token": {"secretName": ""}},
        {"clients": {"secretName": "clients"}},  # beside the token that may do everything
        {"token": {"secretName": ""}, "clients": {"operator": "operator"}},
        {"token": {"secretName": ""}, "clients": {"secretName": "clients", "operator": "../key"}},
        {"storage": {"accessMode": "ReadWriteMany"}},
        {"terminationGracePeriodSeconds": 30},
        {"networkPolicy": {"clients": []}},
        {"networkPolicy": {"egress": [{"ports": [{"port": 443}]}]}},
    ]
    with helm.Chart.load(str(CHART)) as loaded:
        for change in wrong:
            try:
                loaded.validate_schema(ci_values() | change)
            except helm.HelmError:
                continue
            expect(False, f"{change} was not refused")
        for right in ({}, {"replicas": 0}, without_certificates, without_certificates | clients):
            loaded.validate_schema(ci_values() | right)


def volumes_stay_when_the_workload_goes(_: Subject) -> None:
    for name, workload, _pod in pods():
        if workload["kind"] == "StatefulSet":
            policy = workload["spec"].get("persistentVolumeClaimRetentionPolicy")
            expect(policy == {"whenDeleted": "Retain", "whenScaled": "Retain"}, f"{name}: {policy}")


def operators_read_that_one_agent_owns_a_products_customers(_: Subject) -> None:
    readers = ["README.md", "helm/tallyman/templates/NOTES.txt", "helm/tallyman/values.yaml", "ecs/README.md"]
    readers += [
        "helm/tallyman-sidecar/templates/_sidecar.tpl",
        "kustomize/components/sidecar/kustomization.yaml",
    ]
    for file in readers:
        words = " ".join((DEPLOY / file).read_text().replace("*", "").replace("#", "").lower().split())
        told = (
            "one agent owns a product's customers" in words
            or "one agent must own a product's customers" in words
        )
        expect(told, f"{file} does not say it")


# Names are looked up, and AWS is called.
WAYS_OUT = {("UDP", 53), ("TCP", 53), ("TCP", 443)}


def named(name: str, peers: list[Manifest]) -> None:
    """Those who are let in are picked by labels: neither everyone nor an address."""
    expect(bool(peers), f"{name}: everyone is let in")
    for peer in peers:
        expect(set(peer) <= {"podSelector", "namespaceSelector"}, f"{name}: {peer} is let in")
        for selector in peer.values():
            expect(bool(selector.get("matchLabels") or selector.get("matchExpressions")), f"{name}: {peer} is let in")


def network_policies_and_disruption_budgets_are_for_the_agents_pods(_: Subject) -> None:
    for source in ("overlays/statefulset", "overlays/shared-agent", "helm/tallyman"):
        manifests = all_manifests()[source]
        for name, workload, _pod, _agent in agents():
            if not name.startswith(f"{source}: "):
                continue
            labels = workload["spec"]["template"]["metadata"]["labels"].items()
            policy = next(manifest for manifest in manifests if manifest["kind"] == "NetworkPolicy")["spec"]
            budget = next(manifest for manifest in manifests if manifest["kind"] == "PodDisruptionBudget")[
                "spec"
            ]
            for what, selector in (("policy", policy["podSelector"]), ("budget", budget["selector"])):
                expect(selector["matchLabels"].items() <= labels, f"{name}: the {what} is for other pods")
            expect(policy["policyTypes"] == ["Ingress", "Egress"], f"{name}: {policy['policyTypes']}")
            agents_ports = {"grpc", "tallyman-admin"}
            for rule in policy["ingress"]:
                ports = {port["port"] for port in rule.get("ports", [])}
                expect(bool(ports), f"{name}: {rule} opens every port")
                if ports & agents_ports:
                    expect(len(ports) == 1, f"{name}: who reaches one of {sorted(ports)} reaches the others")
                    named(name, rule.get("from", []))
            if source == "overlays/shared-agent":
                sends = next(pod for it, pod, _ in pods() if it.endswith("Deployment application"))
                labels_of_the_application = sends["spec"]["template"]["metadata"]["labels"].items()
                (rule,) = (rule for rule in policy["ingress"] if rule["ports"] == [{"port": "grpc"}])
                expect(
                    any(
                        peer.get("podSelector", {}).get("matchLabels", {}).items() <= labels_of_the_application
                        for peer in rule["from"]
                    ),
                    "the example's application is not let in",
                )
            for rule in policy["egress"]:
                ports = {(port["protocol"], port["port"]) for port in rule.get("ports", [])}
                local = [{"ipBlock": {"cidr": "169.254.170.23/32"}}]
                expect(bool(ports), f"{name}: {rule} lets the agent reach every port")
                expect(ports <= WAYS_OUT or rule.get("to") == local, f"{name}: the agent may reach {rule}")
            out = {(port["protocol"], port["port"]) for rule in policy["egress"] for port in rule["ports"]}
            expect(WAYS_OUT <= out, f"{name}: the agent does not reach AWS: {sorted(out)}")
            expect(budget["maxUnavailable"] == 1, f"{name}: a node could not be drained")


# --- How it starts and stops -----------------------------------------------------------------------------


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
    served = (ROOT / "src/admin/mod.rs").read_text()
    for name, _workload, _pod, agent in agents():
        ports = {port["name"]: port["containerPort"] for port in agent["ports"]}
        listens = {entry["name"]: entry.get("value") for entry in agent["env"]}["TALLYMAN__ADMIN__LISTEN"]
        probes = {key: agent[key]["httpGet"] for key in agent if key.endswith("Probe")}
        expect({"startupProbe", "livenessProbe"} <= set(probes), f"{name} has only {sorted(probes)}")
        for key, probe in probes.items():
            expect(f'route("{probe["path"]}"' in served, f"{name}: {key} asks for {probe['path']}")
            expect(
                listens == f"0.0.0.0:{ports[probe['port']]}",
                f"{name}: {key} asks at a port without a listener",
            )
        for key in {"startupProbe", "readinessProbe"} & set(probes):
            expect(probes[key]["path"] == "/readyz", f"{name}: {key} passes before usage is taken")
        expect(
            "restartPolicy" in agent or "readinessProbe" in probes, f"{name}: the Service leads to it too soon"
        )
        expect(
            probes["livenessProbe"]["path"] == "/livez",
            f"{name}: a failed disk would make it restart for ever",
        )


def services_lead_to_the_agent(_: Subject) -> None:
    for source in ("overlays/shared-agent", "helm/tallyman"):
        (workload, agent) = next((it[1], it[3]) for it in agents() if it[0].startswith(f"{source}: "))
        service = next(it for it in all_manifests()[source] if it["kind"] == "Service")
        expect(service["metadata"]["name"] == workload["spec"]["serviceName"], f"{source}: another name")
        labels = workload["spec"]["template"]["metadata"]["labels"].items()
        expect(service["spec"]["selector"].items() <= labels, f"{source}: the Service is for other pods")
        (port,) = service["spec"]["ports"]
        listens = {entry["name"]: entry.get("value") for entry in agent["env"]}["TALLYMAN__GRPC__LISTEN"]
        ports = {it["name"]: it["containerPort"] for it in agent["ports"]}
        expect(
            listens == f"0.0.0.0:{ports.get(port['targetPort'])}", f"{source}: the Service leads to {port['targetPort']}"
        )


def pod_monitors_scrape_the_admin_port_for_the_job_of_the_alerts(_: Subject) -> None:
    own = documents((DEPLOY / "prometheus/podmonitor.yaml").read_text())[0]["spec"]
    charts = next(it for it in all_manifests()["helm/tallyman"] if it["kind"] == "PodMonitor")["spec"]
    for name, workload, _pod, agent in agents():
        labels = workload["spec"]["template"]["metadata"]["labels"]
        for monitor in [own, charts] if name.startswith("helm/tallyman: ") else [own]:
            (endpoint,) = monitor["podMetricsEndpoints"]
            ports = {port["name"]: port["containerPort"] for port in agent["ports"]}
            expect(ports.get(endpoint["port"]) == 7451, f"{name}: {endpoint['port']} is not the admin port")
            expect(endpoint["path"] == "/metrics", f"{name}: {endpoint['path']}")
            expect({"targetLabel": "job", "replacement": "tallyman"} in endpoint["relabelings"], f"{name}: another job")
            selector = monitor["selector"]
            keys = {it["key"] for it in selector.get("matchExpressions", []) if it["operator"] == "Exists"}
            expect(
                selector.get("matchLabels", {}).items() <= labels.items() and keys <= set(labels),
                f"{name}: its pods are not scraped",
            )


def the_role_of_aws_is_that_of_the_agents_service_account(_: Subject) -> None:
    for source in ("overlays/shared-agent", "helm/tallyman"):
        pod = next(it[2] for it in agents() if it[0].startswith(f"{source}: "))
        account = next(it for it in all_manifests()[source] if it["kind"] == "ServiceAccount")
        expect(pod.get("serviceAccountName") == account["metadata"]["name"], f"{source}: another service account")
        role = account["metadata"]["annotations"].get("eks.amazonaws.com/role-arn", "")
        expect(role.startswith("arn:aws:iam::"), f"{source}: no role")
        expect(account.get("automountServiceAccountToken") is False, f"{source}: its pods are given a token")


CHECKS = [
    every_manifest_is_valid_in_the_oldest_and_the_newest_kubernetes,
    the_chart_is_valid_with_every_value_set_and_with_all_that_can_be_left_out,
    helm_finds_nothing_to_complain_of,
    the_chart_of_the_readme_finds_its_library_by_the_path_there,
    every_pod_is_restricted_as_pod_security_asks,
    every_agent_has_a_read_only_root_limits_and_no_token_of_kubernetes,
    every_agent_has_the_user_of_the_image,
    no_manifest_starts_a_second_agent,
    the_chart_refuses_a_second_replica_and_what_it_does_not_know,
    volumes_stay_when_the_workload_goes,
    operators_read_that_one_agent_owns_a_products_customers,
    network_policies_and_disruption_budgets_are_for_the_agents_pods,
    grace_periods_leave_the_agent_its_drain,
    probes_ask_for_paths_that_the_admin_port_has,
    services_lead_to_the_agent,
    pod_monitors_scrape_the_admin_port_for_the_job_of_the_alerts,
    the_role_of_aws_is_that_of_the_agents_service_account,
]

if __name__ == "__main__":
    sys.exit(main(CHECKS))
