"""Pods for a joined node, and what becomes of them."""

from __future__ import annotations

from typing import Any

from tests.kubernetes.access import Access
from tests.kubernetes.roles import apply, path_of, until
from tests.kubernetes.virtual_node.machine import Machine

from headrace.spec.kind import Json
from headrace.spec.names import NODE_POOL_LABEL, VIRTUAL_NODE_TAINT


def pod(space: str, name: str, pool: str, script: str, **spec: Any) -> Json:
    """A pod that runs a shell script in the root of this machine, on a node of a serverless pool."""
    main = {"name": "main", "image": "host", "command": ["sh", "-c", script], **spec.pop("main", {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": space, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "nodeSelector": {NODE_POOL_LABEL: pool},
            "tolerations": [{"key": VIRTUAL_NODE_TAINT, "operator": "Exists"}],
            "containers": [{"terminationMessagePolicy": "FallbackToLogsOnError", **main}],
            **spec,
        },
    }


def phase(access: Access, body: Json) -> str:
    return str(access.call("GET", path_of(body)).get("status", {}).get("phase"))


def run(machine: Machine, body: Json, ends: str = "Succeeded") -> Json:
    """Have a pod run to its end, and return it."""
    apply(machine.access, body)
    return await_phase(machine, body, ends)


def await_phase(machine: Machine, body: Json, wanted: str) -> Json:
    access = machine.access

    def told() -> str:
        return f"{access.call('GET', path_of(body))}\n{machine.told()}"

    until(lambda: phase(access, body) == wanted, f"{body['metadata']['name']} is {wanted}", told)
    return access.call("GET", path_of(body))
