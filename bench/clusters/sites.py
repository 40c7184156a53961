"""Where it is measured: Headrace installed on a real API server, and the embedded engine with the same objects.

On the real one our processes run beside it, each with the rights that it is installed with and no more, as the tests
start them (tests/kubernetes/roles.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from bench.clusters.calls import Caller
from tests.kubernetes import objects, roles
from tests.kubernetes.access import Access
from tests.kubernetes.cluster.control import API_SERVER, CONTROLLERS, ETCD
from tests.kubernetes.cluster.temporary import temporary
from tests.kubernetes.fixtures import define
from tests.kubernetes.roles import Role, apply
from tests.storage import free_ports

from headrace.install.names import ADMISSION, CONTROLLER
from headrace.install.policies import policies
from headrace.install.webhooks import at_url, webhook_configurations
from headrace.ledger.database import file_url

Json = dict[str, Any]
HOME, PROJECT, ELSEWHERE = "headrace-system", "bench", "bench-elsewhere"
PROFILE, CLOUD = "bench", "bench-cloud"
NOT_ASKED = "bench.headrace.io/not-asked"
"""A label of pods about which the API server does not ask our webhooks: what everything else is compared with."""
BIN = Path(sys.executable).parent
_THEIRS = {"API server": API_SERVER, ETCD: ETCD, CONTROLLERS: CONTROLLERS}


@dataclass
class Site:
    """One API server with Headrace on it.

    Args:
        name: for the table.
        processes: what can be measured of it on this machine, by name.
        roles: our processes that tell figures of themselves.
    """

    name: str
    access: Access
    processes: Mapping[str, psutil.Process]
    roles: Mapping[str, Role] = field(default_factory=dict)
    is_real: bool = True

    def caller(self) -> Caller:
        """Return a new connection of the administrator's."""
        return Caller(self.access.url, self.access.tls, self.access.token)

    def metric(self, role: str, name: str) -> dict[str, float]:
        """Return the samples of one of our process' metrics, by their labels as they are written."""
        if role not in self.roles:
            return {}
        lines = self.roles[role].ask("/metrics")[1].splitlines()
        samples = (line.rpartition(" ") for line in lines if line.startswith((f"{name}{{", f"{name} ")))
        return {labels.removeprefix(name): float(value) for labels, _, value in samples}

    def until(self, holds: Any, what: str) -> None:
        roles.until(holds, what, self._told)

    def _told(self) -> str:
        return "\n".join(role.told() for role in self.roles.values())


@contextmanager
def own_cluster(directory: Path) -> Iterator[tuple[Access, Mapping[str, psutil.Process]]]:
    """Yield the API server that KUBECONFIG names, or one made for the run, and its processes if they are ours."""
    if given := os.environ.get("KUBECONFIG"):
        yield Access(Path(given)), {}
        return
    with temporary(directory / "cluster") as cluster:
        cluster.start()
        yield Access(cluster.kubeconfig), {name: cluster.control_process(program) for name, program in _THEIRS.items()}


@contextmanager
def real(access: Access, theirs: Mapping[str, psutil.Process], directory: Path) -> Iterator[Site]:
    """Yield Headrace installed, with its webhooks asked about all but pods that say otherwise, and take it away again."""
    made, (port,) = define(access), free_ports(1)
    with ExitStack() as stack:
        stack.callback(_undefine, access, made)
        stack.enter_context(roles.installed(access, HOME))
        directory.mkdir(parents=True, exist_ok=True)
        ours = roles.kubeconfig_of(access, CONTROLLER, HOME, directory)
        admitting = roles.kubeconfig_of(access, ADMISSION, HOME, directory)
        controller = stack.enter_context(roles.controller(directory, ours, file_url(directory / "ledger.db")))
        admission = stack.enter_context(
            roles.role("admission", directory, "--kubeconfig", admitting, "--listen", f"127.0.0.1:{port}")
        )
        running = {"controller": controller, "admission": admission}
        for role in running.values():
            role.await_ready()
        hooks = [_sparing(body) for body in webhook_configurations(HOME, at_url(f"https://127.0.0.1:{port}"))]
        rules = policies()
        stack.callback(roles.removed, access, [f"/api/v1/namespaces/{PROJECT}", f"/api/v1/namespaces/{ELSEWHERE}"])
        stack.callback(roles.removed, access, [roles.path_of(body) for body in (*hooks, *reversed(rules))])
        apply(access, *rules, *hooks)
        roles.until(lambda: all(_is_trusting(access, body) for body in hooks), "the webhooks trust", controller.told)
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ELSEWHERE}}
        apply(access, space)
        roles.project(access, PROJECT, HOME)
        stack.enter_context(_shared(access))
        processes = {**theirs, **{name: _child(role) for name, role in running.items()}}
        yield Site("API server", access, processes, running)


@contextmanager
def embedded(directory: Path) -> Iterator[Site]:
    """Yield an embedded engine of its own."""
    env = {**os.environ, "HEADRACE_HOME": str(directory / "home")}
    headrace = str(BIN / "headrace")
    try:
        subprocess.run([headrace, "up", "--own-cpu", "8", "--own-memory", "8Gi"], env=env, check=True)
        told = subprocess.run([headrace, "status", "-o", "json"], env=env, check=True, capture_output=True)
        control = next(row["pid"] for row in json.loads(told.stdout) if row["name"] == "control")
        access = Access(next((directory / "home").rglob("kubeconfig*")))
        apply(access, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PROJECT}})
        with _shared(access):
            yield Site("embedded", access, {"control": psutil.Process(control)}, is_real=False)
    finally:
        subprocess.run([headrace, "down", "--purge"], env=env, check=False, capture_output=True)


@contextmanager
def _shared(access: Access) -> Iterator[None]:
    """Have a profile, the Secret that its volumes name, and a pool whose nodes have no driver of the storage's own."""
    pool = objects.pool(CLOUD, kind="serverless", capacity={"cpu": 4}, dataAccess={"mode": "broker"})
    bodies = [objects.profile(PROFILE), pool]
    apply(access, objects.secret(PROJECT, "jfs"), *bodies)
    try:
        yield
    finally:
        roles.removed(access, [roles.path_of(body) for body in bodies])


def _sparing(configuration: Json) -> Json:
    """Return the configuration with webhooks that are asked about nothing that has the label `NOT_ASKED`."""
    spared = {"key": NOT_ASKED, "operator": "DoesNotExist"}
    hooks = [
        {**hook, "objectSelector": {**hook["objectSelector"], "matchExpressions": [spared]}}
        for hook in configuration["webhooks"]
    ]
    return {**configuration, "webhooks": hooks}


def _is_trusting(access: Access, configuration: Json) -> bool:
    hooks = access.call("GET", roles.path_of(configuration))["webhooks"]
    return all(hook["clientConfig"].get("caBundle") for hook in hooks)


def _child(role: Role) -> psutil.Process:
    """Return the process itself, which `timeout` has started."""
    (child,) = psutil.Process(role.process.pid).children()
    return child


def _undefine(access: Access, names: list[str]) -> None:
    for name in names:
        access.call("DELETE", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
