"""One machine that has joined the session's cluster, in a pool and a namespace of its own."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kubernetes import objects
from tests.kubernetes.access import Access
from tests.kubernetes.cluster.own import OwnCluster
from tests.kubernetes.roles import apply, missing, path_of, removed, until
from tests.kubernetes.virtual_node.machine import Machine, joined

from headrace.spec.kind import Json
from headrace.spec.names import VIRTUAL_NODE_TAINT

TOLERATION = {"key": VIRTUAL_NODE_TAINT, "operator": "Exists"}


@pytest.fixture(scope="session")
def suffix() -> str:
    return secrets.token_hex(2)


@pytest.fixture(scope="session")
def cluster(kubernetes: Access, own_kubernetes: OwnCluster | None) -> Access:
    """A real API server with a scheduler."""
    if own_kubernetes is not None:
        own_kubernetes.start_scheduler()
    return kubernetes


@pytest.fixture(scope="session")
def pool(cluster: Access, suffix: str) -> Iterator[Json]:
    """A serverless pool."""
    body = objects.pool(
        f"cloud-{suffix}",
        kind="serverless",
        capacity={"cpu": "4", "memory": "8Gi"},
        nodes={"tolerations": [TOLERATION]},
        dataAccess={"mode": "broker"},
    )
    apply(cluster, body)
    yield body
    removed(cluster, [path_of(body)])


@pytest.fixture(scope="session")
def space(cluster: Access, suffix: str) -> Iterator[str]:
    """A namespace whose pods have their account."""
    name = f"virtual-node-{suffix}"
    body: Json = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    apply(cluster, body)
    until(lambda: not missing(cluster, f"/api/v1/namespaces/{name}/serviceaccounts/default"), "there is an account")
    yield name
    removed(cluster, [path_of(body)])


@pytest.fixture(scope="session")
def machine(
    cluster: Access, pool: Json, suffix: str, space: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """This machine as a node of the pool, until the session ends."""
    home: Path = tmp_path_factory.mktemp("node") / "home"
    with joined(cluster, home, f"vm-{suffix}", pool["metadata"]["name"]) as found:
        yield found
