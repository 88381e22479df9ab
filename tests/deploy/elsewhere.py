"""What is not Kubernetes: the image, ECS, systemd, IAM and docker compose."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import botocore.session
import yaml
from botocore.validate import ParamValidator
from workshop import (
    DEPLOY,
    ROOT,
    Subject,
    clean_environment,
    expect,
    free_port,
    main,
    output,
    refused,
    seconds_of_the_drain,
)

DOCKERFILE = DEPLOY / "docker/Dockerfile"
UNIT = DEPLOY / "systemd/tallyman.service"
NOBODY = "65532:65532"
# Tenths of systemd's exposure level, from 0 to 100. It is 11 as the unit stands.
MOST_EXPOSURE = 15


# --- The image -------------------------------------------------------------------------------------------


def the_images_folder_runs_tallyman_without_root_and_without_a_shell(subject: Subject) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        output(DEPLOY / "docker/rootfs", subject.tallyman, root)
        files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
        strange = {
            file for file in files if not re.match(r"usr/bin/tallyman$|etc/|lib(64)?/.*\.so[.\d]*$", file)
        }
        expect(not strange, f"the image has {sorted(strange)}")
        output("chmod", "-R", "a-w", root)
        inside = [*jail(root), "/usr/bin/tallyman"]
        expect(output(*inside, "--version").startswith("tallyman "), "another version")
        small = {"TALLYMAN__PRODUCT__0__CODE": "p", "TALLYMAN__PRODUCT__0__DIMENSION__0__NAME": "d"}
        expect(
            "is right" in output(*inside, "check", env=clean_environment(**small)),
            "it does not check a configuration",
        )
        said = refused(*inside, "run", env=clean_environment(**small))
        expect(
            "create /var/lib/tallyman: Permission denied" in said, f"it could write its root folder: {said}"
        )


def jail(root: Path) -> list[str]:
    """Into the folder, as the user of the image; without root, as one that may do as little."""
    if os.geteuid() == 0:
        return ["chroot", f"--userspec={NOBODY}", str(root)]
    powerless = ["setpriv", "--bounding-set=-all,+sys_chroot", "--inh-caps=-all"]
    return ["unshare", "--map-root-user", *powerless, "/usr/sbin/chroot", str(root)]


def the_dockerfile_ends_in_an_image_of_nothing_but_that_folder(_: Subject) -> None:
    stages = re.split(r"^FROM ", DOCKERFILE.read_text().replace("\\\n", " "), flags=re.MULTILINE)
    last = stages[-1].splitlines()
    expect(last[0] == "scratch", f"the last stage is from {last[0]}")
    instructions = [line.split(None, 1) for line in last[1:] if line and not line.startswith("#")]
    words = {name for name, _ in instructions}
    expect(words <= {"COPY", "ENV", "USER", "EXPOSE", "ENTRYPOINT", "CMD"}, f"{sorted(words)}")
    expect(["USER", NOBODY] in instructions, "the image runs as root")
    for name, value in instructions:
        expect(
            name not in ("ENTRYPOINT", "CMD") or isinstance(json.loads(value), list), f"{name} needs a shell"
        )
        expect(name != "COPY" or "--from=build" in value, f"COPY {value} takes what was not built")


def the_image_is_built_from_files_that_are_there(_: Subject) -> None:
    kept = [
        line[1:]
        for line in (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().split()
        if line[0] == "!"
    ]
    for path in kept:
        expect((ROOT / path).exists(), f"{path} is not there")
    manifest = (ROOT / "Cargo.toml").read_text()
    needed = {"src", "build.rs", "proto", "client", "Cargo.lock", "Cargo.toml"} | {
        path.split("/")[0] for path in re.findall(r'^path = "([^"]+)"', manifest, re.MULTILINE)
    }
    expect(needed <= set(kept), f"cargo needs {sorted(needed - set(kept))}")


# --- ECS and IAM -----------------------------------------------------------------------------------------


def model(service: str) -> Any:
    return botocore.session.Session().get_service_model(service)


def load(file: str) -> Any:
    return json.loads((DEPLOY / file).read_text())


def ecs_takes_the_task_and_the_service(_: Subject) -> None:
    for file, operation in (
        ("ecs/task-definition.json", "RegisterTaskDefinition"),
        ("ecs/service.json", "CreateService"),
    ):
        report = ParamValidator().validate(load(file), model("ecs").operation_model(operation).input_shape)
        expect(not report.has_errors(), f"{file}: {report.generate_report()}")


def ecs_never_runs_two_agents(_: Subject) -> None:
    service = load("ecs/service.json")
    expect(service["desiredCount"] == 1, "more than one task")
    bounds = service["deploymentConfiguration"]
    expect(
        (bounds["minimumHealthyPercent"], bounds["maximumPercent"]) == (0, 100),
        "the new task starts beside the old one",
    )
    network = service["networkConfiguration"]["awsvpcConfiguration"]
    expect(network["assignPublicIp"] == "DISABLED", "the task has an address that everyone reaches")
    expect(service["availabilityZoneRebalancing"] == "DISABLED", "rebalancing may start another task")


def the_task_starts_the_agent_first_and_lets_it_end(subject: Subject) -> None:
    task = load("ecs/task-definition.json")
    agent, application = task["containerDefinitions"]
    expect(application["dependsOn"] == [{"containerName": "tallyman", "condition": "HEALTHY"}], "no order")
    expect(agent["stopTimeout"] >= seconds_of_the_drain() + 5, "it is killed before it is done")
    for container in (agent, application):
        expect(
            container["readonlyRootFilesystem"] and not container["privileged"],
            f"{container['name']} may do too much",
        )
        expect(
            container["linuxParameters"]["capabilities"] == {"drop": ["ALL"]},
            f"{container['name']}: capabilities",
        )
        expect(not container["user"].startswith("0"), f"{container['name']} is root")
    (mount,) = agent["mountPoints"]
    (volume,) = task["volumes"]
    expect(
        mount["sourceVolume"] == volume["name"] and mount["containerPath"] == "/var/lib/tallyman", "no volume"
    )
    given = {entry["name"]: entry["value"] for entry in agent["environment"]}
    expect(
        "is right" in output(subject.tallyman, "check", env=clean_environment(**given)),
        "the configuration is wrong",
    )
    output(subject.tallyman, *agent["command"], "--help")
    check = agent["healthCheck"]["command"]
    expect(check[2:] == ["status", "--ready"], f"{check} does not tell whether usage is taken")


def iam_allows_the_calls_that_are_made_and_nothing_else(_: Subject) -> None:
    service = model("meteringmarketplace")
    call = f"{service.signing_name}:BatchMeterUsage"
    expect("BatchMeterUsage" in service.operation_names, "AWS has no such call")
    expect(allowed("policy.json") == {call}, f"{allowed('policy.json')}")
    expect(allowed("assume-role-policy.json") == {"sts:AssumeRole"}, "more than to assume the role")
    (statement,) = load("iam/assume-role-policy.json")["Statement"]
    expect("*" not in statement["Resource"], "any role may be assumed")
    calls = set(model("sts").operation_names) | {"TagSession"}
    for file, (principal, conditions) in TRUST.items():
        for action in allowed(file):
            expect(action.removeprefix("sts:") in calls, f"{file}: there is no {action}")
        (statement,) = load(f"iam/{file}")["Statement"]
        expect(statement["Principal"] == principal, f"{file}: {statement['Principal']} may assume the role")
        asked = {kind: set(keys) for kind, keys in statement["Condition"].items()}
        expect(asked == {"StringEquals": conditions}, f"{file}: under {asked} alone")
        values = statement["Condition"]["StringEquals"].values()
        expect(all(value and "*" not in value for value in values), f"{file}: {list(values)}")


# Who may assume a role, and by what else they are known.
TRUST = {
    "trust-policy.json": ({"AWS": "arn:aws:iam::AGENT_ACCOUNT_ID:role/AGENT_ROLE_NAME"}, {"sts:ExternalId"}),
    "irsa-trust-policy.json": (
        {"Federated": "arn:aws:iam::AGENT_ACCOUNT_ID:oidc-provider/OIDC_PROVIDER"},
        {"OIDC_PROVIDER:aud", "OIDC_PROVIDER:sub"},
    ),
    "pod-identity-trust-policy.json": (
        {"Service": "pods.eks.amazonaws.com"},
        {"aws:RequestTag/kubernetes-namespace", "aws:RequestTag/kubernetes-service-account"},
    ),
}


def allowed(file: str) -> set[str]:
    policy = load(f"iam/{file}")
    expect(policy["Version"] == "2012-10-17", f"{file}: {policy['Version']}")
    actions: set[str] = set()
    for statement in policy["Statement"]:
        expect(statement["Effect"] == "Allow", f"{file}: {statement['Effect']}")
        action = statement["Action"]
        actions |= {action} if isinstance(action, str) else set(action)
    return actions


# --- systemd ---------------------------------------------------------------------------------------------


def systemd_takes_the_unit(subject: Subject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        unit = Path(folder, "tallyman.service")
        unit.write_text(UNIT.read_text().replace("/usr/bin/tallyman", str(subject.tallyman)))
        said = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, timeout=120
        )
        # It also speaks of other units of this machine.
        complaints = [line for line in said.stderr.splitlines() if "tallyman" in line]
        expect(said.returncode == 0 and not complaints, f"{said.returncode}: {said.stderr}")


def the_unit_is_hardened_as_systemd_counts_it(_: Subject) -> None:
    output("systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSURE}", UNIT)
    filters = re.findall(r"^SystemCallFilter=(.*)$", UNIT.read_text(), re.MULTILINE)
    expect(filters == ["@system-service", "~@privileged @resources"], f"{filters}")
    unit = dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE))
    for key, value in HARDENED.items():
        expect(unit.get(key) == value, f"{key} is {unit.get(key)}")


# What systemd's own count gives little for, and this unit needs: others must not read usage or keys, and no one may gain
# by the agent what they do not have.
HARDENED = {
    "User": "tallyman",
    "UMask": "0077",
    "StateDirectoryMode": "0700",
    "RuntimeDirectoryMode": "0750",
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "MemoryDenyWriteExecute": "yes",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
}


def the_unit_stops_in_time_and_restarts_only_what_a_restart_may_mend(_: Subject) -> None:
    unit = dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE))
    expect(int(unit["TimeoutStopSec"]) >= seconds_of_the_drain() + 5, "it is killed before it is done")
    expect(unit["RestartPreventExitStatus"].split() == ["64", "74"], unit["RestartPreventExitStatus"])
    expect((unit["Restart"], unit["StartLimitIntervalSec"]) == ("on-failure", "0"), "it is given up on")
    expect(unit["KillSignal"] == "SIGTERM", f"{unit['KillSignal']} leaves no time to drain")
    reference = (ROOT / "docs/configuration.md").read_text()
    (connections,) = re.findall(r"LIMITS__MAX_CONNECTIONS`[^|]*\|[^|]*\| `(\d+)`", reference)
    expect(int(unit["LimitNOFILE"]) >= int(connections) + 1000, "too few files for connections and the store")
    codes = (ROOT / "src/cli/exit.rs").read_text()
    expect("64" in codes and "74" in codes, "the exit codes are others")
    expect(unit["StateDirectory"] == "tallyman", "the data folder is not the default one")


def the_unit_leaves_the_host_name_to_be_read(_: Subject) -> None:
    """`agent.id` is the host name by default, from /proc/sys."""
    expect(
        "/proc/sys/kernel/hostname" in (ROOT / "src/base/config/tables/agent.rs").read_text(),
        "it is read elsewhere now",
    )
    expect("ProcSubset=pid" not in UNIT.read_text(), "the agent would not know its name")


# --- docker compose --------------------------------------------------------------------------------------


def the_laptops_agent_bills_the_laptops_sandbox(subject: Subject) -> None:
    """Both commands of the compose file, as they are, but for ports and folders."""
    file = (DEPLOY / "compose/compose.yaml").read_text()
    clock = f"anchor={int(time.time())},start=2026-12-01T10:50:00Z,speed=240"
    services = yaml.safe_load(re.sub(r"\$\{TALLYMAN_CLOCK:-[^}]*\}", clock, file))["services"]
    expect(
        services["sandbox"]["network_mode"] == "service:tallyman",
        "the agent does not reach the sandbox on loopback",
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ports = {port: free_port() for port in (7450, 7451, 7460)}
        for mount in services["tallyman"]["volumes"][:2]:
            source, target, _mode = mount.split(":")
            inside = folder / target.strip("/")
            inside.parent.mkdir(parents=True, exist_ok=True)
            inside.write_text(moved((DEPLOY / "compose" / source).read_text(), folder, ports))
        given = {
            key: moved(value, folder, ports) for key, value in services["tallyman"]["environment"].items()
        }
        given |= {
            "TALLYMAN__AGENT__DATA_DIR": str(folder / "data"),
            "TALLYMAN_ADDRESS": f"127.0.0.1:{ports[7450]}",
        }
        started = [
            subprocess.Popen(
                [subject.tallyman, *(moved(word, folder, ports) for word in service["command"])],
                env=clean_environment(**given),
            )
            for service in (services["sandbox"], services["tallyman"])
        ]
        try:
            environment = clean_environment(**given)
            sees_a_bill(subject, environment, ports[7460])
            output(subject.tallyman, *services["tallyman"]["healthcheck"]["test"][2:], env=environment)
        finally:
            for process in started:
                process.terminate()
                process.wait(timeout=60)


def sees_a_bill(subject: Subject, given: dict[str, str], sandbox: int) -> None:
    event = ["--customer", "123456789012", "--dimension", "requests", "--quantity", "17"]
    until = time.monotonic() + 60
    while subprocess.run([subject.tallyman, "emit", *event], env=given, capture_output=True).returncode:
        expect(time.monotonic() < until, "the agent takes no usage")
        time.sleep(0.1)
    output(subject.tallyman, "status", env=given)
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{sandbox}/_sandbox/records", timeout=10) as answer:
            billed = [record for record in json.load(answer)["records"] if record["quantity"] == "17"]
        if billed:
            return
        expect(time.monotonic() < until, "nothing is billed")
        time.sleep(0.1)


def moved(text: str, folder: Path, ports: dict[int, int]) -> str:
    for port, free in ports.items():
        text = text.replace(f"0.0.0.0:{port}", f"127.0.0.1:{free}").replace(
            f"127.0.0.1:{port}", f"127.0.0.1:{free}"
        )
    return text.replace("/etc/tallyman/", f"{folder}/etc/tallyman/")


def the_compose_file_opens_ports_on_this_machine_only(_: Subject) -> None:
    services = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())["services"]
    for port in services["tallyman"]["ports"]:
        expect(port.startswith("127.0.0.1:"), f"{port} is open to the network")
    grace = services["tallyman"]["stop_grace_period"]
    expect(int(grace.removesuffix("s")) >= seconds_of_the_drain() + 5, f"it is killed after {grace}")
    for name, service in services.items():
        expect(service["read_only"] and service["cap_drop"] == ["ALL"], f"{name} may do too much")


def the_default_clock_of_the_compose_file_is_the_real_one(subject: Subject) -> None:
    default = re.search(r"\$\{TALLYMAN_CLOCK:-([^}]*)\}", (DEPLOY / "compose/compose.yaml").read_text())
    expect(default is not None, "there is no default")
    port = free_port()
    process = subprocess.Popen(
        [subject.tallyman, "sandbox", "--listen", f"127.0.0.1:{port}", "--clock", default[1]]
    )
    try:
        until = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_sandbox/health", timeout=10) as answer:
                    shown = json.load(answer)["now"]
                break
            except OSError:
                expect(time.monotonic() < until, "the sandbox does not start")
                time.sleep(0.05)
    finally:
        process.terminate()
        process.wait(timeout=60)
    expect(
        shown[:13] == time.strftime("%Y-%m-%dT%H", time.gmtime()) or shown[14:16] in ("59", "00"),
        f"it shows {shown}",
    )


def no_file_names_a_registry_that_is_not_a_placeholder(_: Subject) -> None:
    registry = r"(123456789012\.dkr\.ecr\.us-east-1\.amazonaws\.com/)?"
    placeholder = re.compile(registry + "(tallyman|application)")
    named = re.compile(r'"?\b(?:image|newName|repository)"?: "?([\w.${}/:-]+)')
    for file in DEPLOY.rglob("*"):
        if "templates" in file.parts or (file.suffix != ".yaml" and file.parent.name != "ecs"):
            continue
        for image in named.findall(file.read_text()):
            is_one = image.startswith("file:") or placeholder.match(image) is not None
            expect(is_one, f"{file.relative_to(ROOT)} names {image}")


CHECKS = [
    the_images_folder_runs_tallyman_without_root_and_without_a_shell,
    the_dockerfile_ends_in_an_image_of_nothing_but_that_folder,
    the_image_is_built_from_files_that_are_there,
    ecs_takes_the_task_and_the_service,
    ecs_never_runs_two_agents,
    the_task_starts_the_agent_first_and_lets_it_end,
    iam_allows_the_calls_that_are_made_and_nothing_else,
    systemd_takes_the_unit,
    the_unit_is_hardened_as_systemd_counts_it,
    the_unit_stops_in_time_and_restarts_only_what_a_restart_may_mend,
    the_unit_leaves_the_host_name_to_be_read,
    the_laptops_agent_bills_the_laptops_sandbox,
    the_compose_file_opens_ports_on_this_machine_only,
    the_default_clock_of_the_compose_file_is_the_real_one,
    no_file_names_a_registry_that_is_not_a_placeholder,
]

if __name__ == "__main__":
    sys.exit(main(CHECKS))
