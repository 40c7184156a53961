"""Computed reads behind a real API server: the SDK and the command line work unchanged with any kubeconfig."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.kubernetes import objects, roles
from tests.kubernetes.access import Access
from tests.kubernetes.roles import Role, apply, path_of, until
from tests.kubernetes.test_controller import node_in, run_to_the_end
from tests.storage import free_ports

from headrace.clock import SystemClock
from headrace.engine.pki import Authority
from headrace.install.names import CONTROLLER, READS_API_SERVICE
from headrace.install.reads import api_service
from headrace.ledger.database import file_url
from headrace.sdk import Client
from headrace.spec.kind import Json

HOME = "headrace-system"
OURS = "/apis/headrace.io/v1alpha1"
READS = "/apis/reads.headrace.io/v1alpha1"


@dataclass(frozen=True)
class Installation:
    """A controller that answers computed reads, and a project."""

    access: Access
    project: str
    controller: Role
    directory: Path
    port: int

    def get(self, path: str) -> Json:
        return self.access.call("GET", path)

    def headrace(self, *words: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run the command line, as somebody on a machine of their own does."""
        program = Path(sys.executable).parent / "headrace"
        chosen = ("--kubeconfig", str(kubeconfig or self.access.kubeconfig), "-n", self.project)
        return subprocess.run(
            [str(program), *chosen, *words], capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"}
        )


@pytest.fixture(scope="module")
def installation(kubernetes: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    directory, (port, code) = tmp_path_factory.mktemp("reads"), free_ports(2)
    project = f"money-{secrets.token_hex(3)}"
    with ExitStack() as stack:
        stack.enter_context(roles.installed(kubernetes, HOME))
        kubeconfig = roles.kubeconfig_of(kubernetes, CONTROLLER, HOME, directory)
        options = [
            *("--listen", f"127.0.0.1:{port}", "--code-listen", f"127.0.0.1:{code}"),
            *("--code-url", f"https://127.0.0.1:{code}", "--image", "registry.test/headrace:1"),
        ]
        controller = stack.enter_context(
            roles.controller(directory, kubeconfig, file_url(directory / "ledger.db"), *options)
        )
        service = {"name": CONTROLLER, "namespace": HOME}
        spec = {
            "type": "ExternalName",
            "externalName": "127.0.0.1",
        }  # nobody routes to Services on a control plane alone
        stack.callback(roles.removed, kubernetes, [f"/api/v1/namespaces/{project}", path_of(api_service(HOME))])
        apply(kubernetes, {"apiVersion": "v1", "kind": "Service", "metadata": service, "spec": spec})
        apply(kubernetes, api_service(HOME, port=port))
        controller.await_ready()
        path = f"/apis/apiregistration.k8s.io/v1/apiservices/{READS_API_SERVICE}"
        until(lambda: is_available(kubernetes.call("GET", path)), "the API is available", controller.told)
        roles.project(kubernetes, project, HOME)
        yield Installation(kubernetes, project, controller, directory, port)
        roles.check_rights(directory, HOME, project)


def is_available(service: Json) -> bool:
    conditions = (service.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Available" and c["status"] == "True" for c in conditions)


def test_why_says_what_a_job_waits_for(installation: Installation) -> None:
    apply(installation.access, objects.job(installation.project, "waits"))
    until(lambda: phase(installation, "waits") == "Queued", "it is queued", installation.controller.told)
    done = installation.headrace("why", "waits")
    assert done.returncode == 0, done.stderr
    assert re.search(r"number \d in queue default", done.stdout)


def test_usage_is_billed_and_replayed_to_the_second(installation: Installation) -> None:
    space, pool = installation.project, f"own-{installation.project}"
    price = {"currency": "USD", "startsAt": "Pull", "rates": {"cpu": "0.01/s"}}
    with node_in(installation, pool, price=price):
        apply(installation.access, objects.job(space, "bought", pools=[pool]))
        pod = f"/api/v1/namespaces/{space}/pods/bought-1-worker-0"
        until(lambda: not roles.missing(installation.access, pod), "the worker is made", installation.controller.told)
        run_to_the_end(installation, [pod])
        until(lambda: phase(installation, "bought") == "Succeeded", "the job succeeded", installation.controller.told)
        until(lambda: not installation.get(pod)["metadata"].get("finalizers"), "it is metered")
    done = installation.headrace("usage", "-o", "json")
    assert done.returncode == 0, done.stderr
    bill = json.loads(done.stdout)
    assert (Decimal(bill["total"]), bill["final"], bill["currency"]) == (Decimal("0.6"), True, "USD")
    assert [(row["job"], row["seconds"]) for row in bill["rows"]] == [("bought", 60)]
    assert installation.headrace("usage", "--replay").returncode == 0


def test_a_quote_is_answered_for_a_job_that_is_not_submitted(installation: Installation) -> None:
    with Client.connect(kubeconfig=str(installation.access.kubeconfig), namespace=installation.project) as client:
        quoted = client.quote({"spec": {"command": ["true"], "image": "i", "resources": {"cpu": 1}}})
    assert quoted["action"] in {"wait", "place"}
    assert {figure["name"] for figure in quoted["figures"]} >= {"expected duration"}


def test_code_goes_up_through_the_api_server_and_down_to_the_worker(installation: Installation, tmp_path: Path) -> None:
    """The worker's init container is run here, with the command and the environment that its pod says."""
    space, pool = installation.project, f"code-{installation.project}"
    (tmp_path / "train.py").write_text("print('trained')\n")
    job = objects.job(space, "coded", pools=[pool], code={"directory": "."})
    (tmp_path / "job.yaml").write_text(json.dumps(job))
    with node_in(installation, pool):
        done = installation.headrace("apply", "-f", str(tmp_path / "job.yaml"))
        assert done.returncode == 0, done.stderr
        path = f"/api/v1/namespaces/{space}/pods/coded-1-worker-0"
        until(lambda: not roles.missing(installation.access, path), "the worker is made", installation.controller.told)
        init = installation.get(path)["spec"]["initContainers"][0]
    assert init["image"] == "registry.test/headrace:1"
    target = tmp_path / "workspace"
    target.mkdir()
    command = [sys.executable, *init["command"][1:-1], str(target)]
    environment = {entry["name"]: entry["value"] for entry in init["env"]}
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (target / "train.py").read_text() == "print('trained')\n"
    wrong = [word.replace("token=", "token=0") for word in command]
    assert "404" in subprocess.run(wrong, env={**os.environ, **environment}, capture_output=True, text=True).stderr


def test_who_has_no_role_is_refused_and_who_gets_one_is_answered(installation: Installation, tmp_path: Path) -> None:
    space = installation.project
    apply(installation.access, objects.job(space, "theirs"))
    until(lambda: phase(installation, "theirs"), "it is seen", installation.controller.told)
    body: Any = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    path = f"/api/v1/namespaces/{space}/serviceaccounts/default/token"
    token = installation.access.call("POST", path, body)["status"]["token"]
    kubeconfig = tmp_path / "kubeconfig"
    roles.write_kubeconfig(installation.access, token, "default", kubeconfig)
    refused = installation.headrace("why", "theirs", kubeconfig=kubeconfig)
    assert refused.returncode == 77, refused.stdout
    rule = {"apiGroups": ["reads.headrace.io"], "resources": ["trainjobs/waiting"], "verbs": ["get"]}
    grant(installation.access, space, rule)
    until(
        lambda: installation.headrace("why", "theirs", kubeconfig=kubeconfig).returncode == 0, "whoever may is answered"
    )
    assert installation.headrace("usage", kubeconfig=kubeconfig).returncode == 77


def grant(access: Access, space: str, rule: Json) -> None:
    """Give the default account of a namespace a role."""
    api, meta = "rbac.authorization.k8s.io/v1", {"name": "reads", "namespace": space}
    apply(access, {"apiVersion": api, "kind": "Role", "metadata": meta, "rules": [rule]})
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": space}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reads"}
    body = {"apiVersion": api, "kind": "RoleBinding", "metadata": meta, "subjects": [subject], "roleRef": reference}
    apply(access, body)


def test_what_is_not_there_is_said_as_everywhere(installation: Installation) -> None:
    done = installation.headrace("why", "nobody")
    assert done.returncode == 66
    assert "There is no TrainJob" in done.stderr


def test_nobody_but_the_api_server_speaks_for_others(installation: Installation, tmp_path: Path) -> None:
    """Without a certificate, and with one of somebody else's, headers are worth nothing."""
    url = f"https://127.0.0.1:{installation.port}{READS}/usage"
    headers = {"X-Remote-User": "admin", "X-Remote-Group": "system:masters"}
    stranger = Authority.open(tmp_path / "pki", SystemClock()).client("c", user="front-proxy-client")
    for certificate in (None, stranger):
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        if certificate is not None:
            tls.load_cert_chain(certificate.certificate, certificate.key)
        with httpx2.Client(verify=tls, trust_env=False) as client, pytest.raises(httpx2.TransportError):
            client.get(url, headers=headers)


def test_discovery_tells_what_there_is(installation: Installation) -> None:
    there = {entry["name"] for entry in installation.get(READS)["resources"]}
    assert there == {"trainjobs/waiting", "quote", "usage", "code", "code/known"}
    groups = {group["name"] for group in installation.get("/apis")["groups"]}
    assert "reads.headrace.io" in groups


def phase(installation: Installation, name: str) -> str:
    body = installation.get(f"{OURS}/namespaces/{installation.project}/trainjobs/{name}")
    return str((body.get("status") or {}).get("phase") or "")


def test_an_archive_of_another_digest_is_refused(installation: Installation) -> None:
    digest = hashlib.sha256(b"other").hexdigest()
    with installation.access.client() as client:
        answer = client.put(f"{READS}/namespaces/{installation.project}/code/{digest}", content=b"this")
    assert answer.status_code == 422
    assert "has digest" in answer.json()["message"]
