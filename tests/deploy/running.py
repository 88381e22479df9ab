"""The agent itself, started as the Kubernetes files say."""

import contextlib
import datetime
import re
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from rendering import CHART, Manifest, agents, all_manifests, ci_values, rendered
from workshop import Subject, clean_environment, expect, free_port, main, output, refused


def environment_of(agent: Manifest) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "pod-0") for entry in agent["env"]}


def configuration_of(manifests: list[Manifest], pod: Manifest) -> str:
    volume = next(volume for volume in pod["volumes"] if volume["name"] == "tallyman-config")
    name = volume["configMap"]["name"]
    found = [it for it in manifests if it["kind"] == "ConfigMap" and it["metadata"]["name"] == name]
    expect(len(found) == 1, f"there is no ConfigMap {name}")
    return found[0]["data"]["tallyman.toml"]


def the_agent_takes_every_configuration_here(subject: Subject) -> None:
    for name, _workload, pod, agent in agents():
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write(configuration_of(all_manifests()[name.split(": ")[0]], pod))
            file.flush()
            environment = clean_environment() | environment_of(agent)
            shown = output(subject.tallyman, "check", "--config", file.name, "--print", env=environment)
        for key, value in environment_of(agent).items():
            expect(
                not key.startswith("TALLYMAN__") or value in shown, f"{name}: {key} has no effect:\n{shown}"
            )
        expect('data_dir = "/var/lib/tallyman"' in shown, f"{name}: the data is not on the volume:\n{shown}")
    without = clean_environment() | environment_of(agent) | {"TALLYMAN__GRPC__LISTEN": "nowhere"}
    refused(subject.tallyman, "check", env=without)


@contextlib.contextmanager
def running(subject: Subject, manifests: list[Manifest], folder: Path) -> Iterator[dict[str, str]]:
    """Starts the agent as its manifest says, with the container's folders below `folder` and other ports."""
    ((_name, _workload, pod, agent),) = agents({"one": manifests})
    for mount in agent["volumeMounts"]:
        (folder / mount["mountPath"].strip("/")).mkdir(parents=True, exist_ok=True)
    configuration = configuration_of(manifests, pod).replace('"/etc/', f'"{folder}/etc/')
    (folder / "etc/tallyman/tallyman.toml").write_text(configuration)
    environment = {"TALLYMAN__AGENT__DATA_DIR": "/var/lib/tallyman"} | environment_of(agent)
    for key, value in environment.items():
        for top in ("/etc/", "/run/", "/var/"):
            value = value.replace(top, f"{folder}{top}")
        environment[key] = value.replace("0.0.0.0:7450", f"127.0.0.1:{free_port()}").replace(
            "0.0.0.0:7451", f"127.0.0.1:{free_port()}"
        )
    environment["TALLYMAN__PRODUCT__0__ENDPOINT_URL"] = "http://127.0.0.1:9"
    arguments = [argument.replace("/etc/", f"{folder}/etc/") for argument in agent["args"]]
    process = subprocess.Popen(
        [subject.tallyman, *arguments],
        env=clean_environment() | environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until_ready(process, environment["TALLYMAN__ADMIN__LISTEN"])
        yield environment
    finally:
        process.terminate()
        process.wait(timeout=60)


def wait_until_ready(process: subprocess.Popen[str], admin: str) -> None:
    until = time.monotonic() + 60
    while True:
        expect(
            process.poll() is None,
            f"the agent ended: {process.stderr.read() if process.poll() is not None else ''}",
        )
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            with urllib.request.urlopen(f"http://{admin}/readyz", timeout=5) as answer:
                if answer.status == 200:
                    return
        expect(time.monotonic() < until, "the agent does not get ready")
        time.sleep(0.05)


def the_sidecar_runs_as_its_manifest_says(subject: Subject) -> None:
    # A socket's path is short, and that of a temporary folder need not be.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        with running(subject, all_manifests()["overlays/statefulset"], Path(folder)) as environment:
            status = output(subject.tallyman, "status", env=clean_environment() | environment)
            expect("takes usage" in status and "pod-0" in status, status)
        expect(Path(folder, "var/lib/tallyman/db").is_dir(), "the data is not on the volume")


def the_socket_is_open_to_the_group_of_the_pod(subject: Subject) -> None:
    """The application has another user than the agent, and the volume's group (fsGroup)."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        with running(subject, all_manifests()["overlays/statefulset"], Path(folder)):
            mode = stat.S_IMODE(Path(folder, "run/tallyman/tallyman.sock").stat().st_mode)
    expect(mode == 0o660, f"the socket's mode is {mode:o}")


def shared_agents_answer_only_clients_with_a_certificate(subject: Subject) -> None:
    for source in ("overlays/shared-agent", "helm/tallyman"):
        with tempfile.TemporaryDirectory() as folder:
            answers_only_clients_with_a_certificate(subject, source, Path(folder))


def answers_only_clients_with_a_certificate(subject: Subject, source: str, folder: Path) -> None:
    keys, token = folder / "etc/tallyman-tls", folder / "etc/tallyman-token/token"
    keys.mkdir(parents=True)
    token.parent.mkdir()
    token.write_text("s3cret")
    authority = Authority(keys / "ca.crt")
    authority.issue(keys / "tls.crt", keys / "tls.key", "tallyman")
    with running(subject, all_manifests()[source], folder) as environment:
        port = environment["TALLYMAN__GRPC__LISTEN"].split(":")[1]
        address = f"https://localhost:{port}"
        ask = [subject.tallyman, "status", "--address", address, "--ca-file", keys / "ca.crt"]
        has_token = "TALLYMAN__GRPC__TOKEN_FILE" in environment
        with_token = [*ask, "--token-file", token] if has_token else ask
        certificate = ["--cert-file", keys / "tls.crt", "--key-file", keys / "tls.key"]
        expect("takes usage" in output(*with_token, *certificate, env=clean_environment()), f"{source}: no answer")
        refused(*with_token, env=clean_environment())
        if has_token:
            refused(*ask, *certificate, env=clean_environment())
        inside = environment | {"TALLYMAN_ADDRESS": address}
        said = output(subject.tallyman, "status", env=clean_environment(**inside))
        expect("takes usage" in said, f"{source}: an operator in the pod gets no answer")
        if source == "overlays/shared-agent":
            authority.issue(folder / "app.crt", folder / "app.key", "application")
            its = {"TALLYMAN_CERT_FILE": str(folder / "app.crt"), "TALLYMAN_KEY_FILE": str(folder / "app.key")}
            application = clean_environment(**inside | its)
            said = refused(subject.tallyman, "records", env=application)
            expect("client `application` needs" in said, f"an application may read the ledger: {said}")
            usage = ["emit", "--dimension", "requests", "--quantity", "1", "--customer", "globex"]
            said = refused(subject.tallyman, *usage, env=application)
            expect("unknown_customer" in said, f"an application may not send usage: {said}")


CLIENTS = """
tls: {secretName: tls, clientCertificates: false}
token: {secretName: ""}
clients: {secretName: clients, operator: operator}
"""


def the_chart_tells_clients_apart_as_its_example_of_a_configuration_says(subject: Subject) -> None:
    example = re.findall(r"^#(?:   (.*))?$", (CHART / "values.yaml").read_text(), re.MULTILINE)
    values = ci_values() | yaml.safe_load(CLIENTS) | {"config": "\n".join(example)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys, tokens = folder / "etc/tallyman-tls", folder / "etc/tallyman-clients"
        for made in (keys, tokens):
            made.mkdir(parents=True)
        Authority(keys / "ca.crt").issue(keys / "tls.crt", keys / "tls.key", "tallyman")
        for client in ("checkout", "operator"):
            (tokens / client).write_text(f"the token of {client}, which is long enough")
        with running(subject, rendered(CHART, values), folder) as inside:
            address = f"https://localhost:{inside['TALLYMAN__GRPC__LISTEN'].split(':')[1]}"
            pod = clean_environment(**inside | {"TALLYMAN_ADDRESS": address})
            application = pod | {"TALLYMAN_TOKEN_FILE": str(tokens / "checkout")}
            said = output(subject.tallyman, "status", env=pod)
            expect("takes usage" in said, f"an operator in the pod gets no answer: {said}")
            refused(subject.tallyman, "records", env=application)
            usage = ["emit", "--dimension", "requests", "--quantity", "1", "--customer"]
            for customer, answer in (("acme", "unknown_customer"), ("globex", "not_allowed")):
                said = refused(subject.tallyman, *usage, customer, env=application)
                expect(answer in said, f"{customer}: {said}")


class Authority:
    """Signs certificates for a test."""

    def __init__(self, file: Path) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
        self.certificate = self._sign(
            self.name, self.key.public_key(), x509.BasicConstraints(ca=True, path_length=None)
        )
        self._write(file, self.certificate)

    def issue(self, certificate: Path, key: Path, common_name: str) -> None:
        own = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
        here = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.DNSName(common_name)])
        self._write(certificate, self._sign(name, own.public_key(), here))
        pem, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        key.write_bytes(own.private_bytes(serialization.Encoding.PEM, pem, plain))

    def _sign(self, name: Any, key: Any, extension: Any) -> Any:
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder(self.name, name, key, x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(
            now + datetime.timedelta(days=1)
        )
        return builder.add_extension(extension, critical=True).sign(self.key, hashes.SHA256())

    def _write(self, file: Path, certificate: Any) -> None:
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


CHECKS = [
    the_agent_takes_every_configuration_here,
    the_sidecar_runs_as_its_manifest_says,
    the_socket_is_open_to_the_group_of_the_pod,
    shared_agents_answer_only_clients_with_a_certificate,
    the_chart_tells_clients_apart_as_its_example_of_a_configuration_says,
]

if __name__ == "__main__":
    sys.exit(main(CHECKS))
