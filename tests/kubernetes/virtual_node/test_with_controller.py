"""A joined node and the controllers: its serving certificate, forgeries of it, and a gang that runs on it."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kubernetes import objects, roles
from tests.kubernetes.access import Access
from tests.kubernetes.roles import Role, apply, missing, path_of, removed, until
from tests.kubernetes.virtual_node import pods
from tests.kubernetes.virtual_node.machine import Machine

from headrace.certificates import make_key, request_for, subject_of
from headrace.cluster.signing import KUBELET_SERVING_SIGNER
from headrace.install.names import CONTROLLER
from headrace.ledger.database import file_url
from headrace.spec.kind import Json

HOME = "headrace-system"
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"


@pytest.fixture(scope="module")
def controller(cluster: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Role]:
    """A controller with the rights that it is installed with."""
    directory: Path = tmp_path_factory.mktemp("controller")
    with roles.installed(cluster, HOME):
        kubeconfig = roles.kubeconfig_of(cluster, CONTROLLER, HOME, directory)
        with roles.controller(directory, kubeconfig, file_url(directory / "ledger.db")) as running:
            running.await_ready()
            yield running
            roles.check_rights(directory, HOME)


@pytest.fixture(scope="module")
def project(cluster: Access, controller: Role) -> Iterator[str]:
    name = f"gangs-{secrets.token_hex(2)}"
    roles.project(cluster, name, HOME)
    yield name
    path = f"/api/v1/namespaces/{name}"
    cluster.call("DELETE", path)
    roles.gone(cluster, path)


def test_logs_are_served_once_the_controller_has_approved_the_certificate(
    machine: Machine, controller: Role, space: str, pool: Json
) -> None:
    access = machine.access
    until((machine.home / "identity" / "serving.pem").is_file, "there is a certificate", machine.told)
    request, *_ = [
        each for each in access.call("GET", REQUESTS)["items"] if each["metadata"]["name"].startswith(_prefix(machine))
    ]
    (approved,) = request["status"]["conditions"]
    assert approved["reason"] == "HeadraceNode"
    assert machine.name in approved["message"]
    body = pods.pod(space, "talks", pool["metadata"]["name"], "echo words")
    pods.run(machine, body)

    def log() -> str:
        with access.client() as client:
            return str(client.get(f"{path_of(body)}/log").text)

    until(lambda: log() == "words\n", "the API server shows the log", log)


def _prefix(machine: Machine) -> str:
    return f"node-serving-{machine.name}-"


FORGED = [
    pytest.param({"hosts": ["203.0.113.9"]}, "203.0.113.9 is no address of node", id="another address"),
    pytest.param({"hosts": ["kubernetes.default"]}, "kubernetes.default is not the name of node", id="another name"),
    pytest.param({"groups": ["system:masters"]}, "names the group system:nodes", id="another group"),
    pytest.param({"asks": "alice"}, "alice is not it", id="asked by somebody else"),
]


@pytest.mark.parametrize(("how", "why"), FORGED)
def test_a_forged_request_is_denied_with_the_reason(machine: Machine, controller: Role, how: Json, why: str) -> None:
    user = f"system:node:{machine.name}"
    subject = subject_of(user, how.get("groups", ["system:nodes"]))
    name = _ask(machine.access, how.get("asks", user), subject, how.get("hosts", [machine.name]))
    try:
        told = until(lambda: _decision(machine.access, name, "Denied"), "it is denied", controller.told)
        assert why in told
    finally:
        removed(machine.access, [f"{REQUESTS}/{name}"])


def test_requests_of_nodes_that_are_no_pools_are_left_alone(machine: Machine, controller: Role) -> None:
    foreign, ours = f"foreign-{secrets.token_hex(2)}", f"system:node:{machine.name}"
    user = f"system:node:{foreign}"
    left = _ask(machine.access, user, subject_of(user, ["system:nodes"]), [foreign])
    judged = _ask(machine.access, ours, subject_of(ours, ["system:nodes"]), ["localhost"])
    try:
        until(lambda: _decision(machine.access, judged, "Denied"), "the later one is decided", controller.told)
        assert not machine.access.call("GET", f"{REQUESTS}/{left}")["status"].get("conditions")
    finally:
        removed(machine.access, [f"{REQUESTS}/{left}", f"{REQUESTS}/{judged}"])


def _ask(access: Access, user: str, subject: Any, hosts: list[str]) -> str:
    name = f"forged-{secrets.token_hex(4)}"
    body = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {
            "request": base64.b64encode(request_for(make_key(), subject, hosts)).decode(),
            "signerName": KUBELET_SERVING_SIGNER,
            "usages": ["digital signature", "server auth"],
            "username": user,
        },
    }
    group = "system:nodes" if user.startswith("system:node:") else "system:masters"
    with access.client() as client:
        headers = {"impersonate-user": user, "impersonate-group": group}
        answer = client.post(REQUESTS, json=body, headers=headers)
    assert answer.is_success, answer.text
    return name


def _decision(access: Access, name: str, kind: str) -> str:
    conditions = access.call("GET", f"{REQUESTS}/{name}").get("status", {}).get("conditions") or []
    return next((str(each["message"]) for each in conditions if each["type"] == kind), "")


def test_a_gang_runs_on_the_joined_node(machine: Machine, controller: Role, project: str, pool: Json) -> None:
    program = (
        "import os, socket, time\n"
        "where = os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT'])\n"
        "if os.environ['RANK'] == '0':\n"
        "    server = socket.create_server(('', where[1])); server.settimeout(60); server.accept()\n"
        "    raise SystemExit\n"
        "for _ in range(600):\n"
        "    try: socket.create_connection(where).close(); raise SystemExit\n"
        "    except OSError: time.sleep(.1)\n"
        "raise SystemExit('nobody there')"
    )
    queue = objects.queue("default", burst={"allow": True})
    job = objects.job(
        project,
        "pair",
        framework="pytorch",
        workers=2,
        image="host",
        command=["python3", "-c", program],
        resources={"cpu": "100m", "memory": "128Mi"},
        pools=[pool["metadata"]["name"]],
    )
    had_queue = not missing(machine.access, path_of(queue))
    apply(machine.access, *([] if had_queue else [queue]), job)

    def phase() -> str:
        return str(machine.access.call("GET", path_of(job)).get("status", {}).get("phase"))

    def told() -> str:
        found = machine.access.call("GET", f"/api/v1/namespaces/{project}/pods")["items"]
        return f"{machine.access.call('GET', path_of(job))} {found} {machine.told()}"

    try:
        until(lambda: phase() == "Succeeded", "the job has succeeded", told)
        found = machine.access.call("GET", f"/api/v1/namespaces/{project}/pods")["items"]
        assert {each["spec"]["nodeName"] for each in found} == {machine.name}
        assert len(found) == 2
    finally:
        removed(machine.access, [path_of(job), *([] if had_queue else [path_of(queue)])])
