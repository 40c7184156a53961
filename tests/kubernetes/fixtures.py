"""A real Kubernetes for tests: the one that KUBECONFIG names, else one of this machine's own, made when first asked for.

Only runs with `--kubernetes` have it. Where this machine cannot make one, tests say what is missing and are skipped; in
CI (`CI=true`) they fail.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest
from tests.kubernetes.access import Access
from tests.kubernetes.cluster import images
from tests.kubernetes.cluster.own import OwnCluster
from tests.kubernetes.cluster.programs import Missing
from tests.kubernetes.cluster.temporary import temporary

from headrace.spec.crds import crd
from headrace.spec.kind import Json
from headrace.spec.kinds import DEFINED_KINDS

T = TypeVar("T")
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
READY_S = 120.0


@pytest.fixture(scope="session")
def own_kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnCluster | None]:
    """The control plane of a cluster of this machine's own; None where KUBECONFIG names another cluster.

    One that is kept between runs is used as it is, and goes on.
    """
    if os.environ.get("KUBECONFIG"):
        yield OwnCluster.kept(Path(os.environ["KUBECONFIG"]))
        return
    with temporary(tmp_path_factory.mktemp("kubernetes") / "cluster") as own:
        made_or_skipped(own.start)
        yield own


@pytest.fixture(scope="session")
def bare_kubernetes(own_kubernetes: OwnCluster | None) -> Access:
    """A real API server with its controllers, as it comes. It may have no node."""
    return Access(own_kubernetes.kubeconfig if own_kubernetes else Path(os.environ["KUBECONFIG"]))


@pytest.fixture(scope="session")
def kubernetes(bare_kubernetes: Access) -> Iterator[Access]:
    """A real API server that has our kinds and Fluid's; those that it had not before are removed in the end."""
    made = define(bare_kubernetes)
    yield bare_kubernetes
    for name in made:
        bare_kubernetes.call("DELETE", f"{DEFINITIONS}/{name}")


@pytest.fixture(scope="session")
def kubernetes_node(own_kubernetes: OwnCluster | None, bare_kubernetes: Access) -> str:
    """The name of a node that is Ready; adds one where the cluster is this machine's own."""
    if own_kubernetes:
        name = own_kubernetes.nodes[0] if own_kubernetes.nodes else made_or_skipped(own_kubernetes.add_node)
        wait(lambda: name in ready_nodes(bare_kubernetes), f"node {name} is Ready")
        return name
    ready = ready_nodes(bare_kubernetes)
    if not ready:
        unavailable("The cluster of KUBECONFIG has no node that is Ready. Nothing that runs pods is tested.")
    return ready[0]


@pytest.fixture(scope="session")
def busybox(kubernetes_node: str, bare_kubernetes: Access) -> str:
    """An image with a shell: ours where the node has it, else that of the Docker hub."""
    node = bare_kubernetes.call("GET", f"/api/v1/nodes/{kubernetes_node}")
    there = {name for image in node["status"].get("images", ()) for name in image.get("names", ())}
    return images.BUSYBOX if images.BUSYBOX in there else "docker.io/library/busybox:1.37"


def define(access: Access) -> list[str]:
    """Create what is missing of our kinds and Fluid's, wait until all are served, and return what was created."""
    there = {each["metadata"]["name"] for each in access.call("GET", DEFINITIONS)["items"]}
    wanted = [crd(kind) for kind in DEFINED_KINDS]
    made = [body for body in wanted if body["metadata"]["name"] not in there]
    for body in made:
        access.call("POST", DEFINITIONS, body)
    for kind in DEFINED_KINDS:
        wait(lambda kind=kind: is_served(access, kind.path("")), f"{kind.name} is served")  # type: ignore[misc]
    return [body["metadata"]["name"] for body in made]


def is_served(access: Access, path: str) -> bool:
    with access.client() as client:
        return client.get(path).is_success


def ready_nodes(access: Access) -> list[str]:
    def is_ready(node: Json) -> bool:
        conditions = {each["type"]: each["status"] for each in node["status"].get("conditions", ())}
        return conditions.get("Ready") == "True"

    return [node["metadata"]["name"] for node in access.call("GET", "/api/v1/nodes")["items"] if is_ready(node)]


def wait(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + READY_S
    while not holds():
        assert time.monotonic() < end, f"after {READY_S:g} s it does not hold that {what}"
        time.sleep(0.1)


def made_or_skipped(make: Callable[[], T]) -> T:
    try:
        return make()
    except Missing as missing:
        unavailable(str(missing))


def unavailable(why: str) -> NoReturn:
    """Skip what asks for it, and say why; in CI, fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)
