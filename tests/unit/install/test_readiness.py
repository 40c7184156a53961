"""What is said while an installation becomes ready: what is missing, and why."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.cluster.fake import FakeCluster
from headrace.errors import Unavailable
from headrace.install.installation import Installation
from headrace.install.kinds import API_SERVICE, DEPLOYMENT
from headrace.install.objects import kind_of, objects
from headrace.install.readiness import await_ready
from headrace.spec.kind import Json
from headrace.spec.kinds import DAEMON_SET, NODE, PERSISTENT_VOLUME_CLAIM, POD

pytestmark = pytest.mark.anyio
HOME = "headrace-system"
BODIES = [body for body in objects(Installation()) if kind_of(body) in {DEPLOYMENT, DAEMON_SET, API_SERVICE}]
READY: dict[str, Json] = {
    DEPLOYMENT.name: {"readyReplicas": 2, "updatedReplicas": 2},
    DAEMON_SET.name: {"desiredNumberScheduled": 1, "numberReady": 1, "updatedNumberScheduled": 1},
    API_SERVICE.name: {"conditions": [{"type": "Available", "status": "True"}]},
}


def cluster(**unready: Json) -> FakeCluster:
    """A cluster with a node and an installation, whose parts of these kinds have another status."""
    made = FakeCluster()
    made.seed(NODE, {"metadata": {"name": "n"}})
    for body in BODIES:
        status = {"observedGeneration": 9, **(unready.get(body["kind"]) or READY[body["kind"]])}
        made.seed(kind_of(body), {**body, "status": status})
    return made


async def waited(made: FakeCluster) -> tuple[list[str], str]:
    """Return what was said, and how it ended; empty when all was ready."""
    said: list[str] = []
    try:
        await await_ready(made, BODIES, said.append, timeout_s=0.05)
    except Unavailable as error:
        return said, str(error)
    return said, ""


async def test_what_is_ready_is_passed_over() -> None:
    assert await waited(cluster()) == ([], "")


async def test_without_a_node_nobody_waits() -> None:
    said, ended = await waited(FakeCluster())
    assert "has no node" in said[0]
    assert ended == ""


@pytest.mark.parametrize(
    ("unready", "why"),
    [
        ({"Deployment": {"readyReplicas": 0, "updatedReplicas": 1}}, "headrace-controller: 0 of 1 ready"),
        ({"Deployment": {"readyReplicas": 2, "updatedReplicas": 1}}, "headrace-admission: 1 of 2 ready"),
        ({"DaemonSet": {"desiredNumberScheduled": 3, "numberReady": 2, "updatedNumberScheduled": 3}}, "2 of 3 ready"),
        ({"APIService": {"conditions": [{"type": "Available", "status": "False", "message": "no"}]}}, "yet: no."),
        ({"Deployment": {"observedGeneration": 0}}, "has not been looked at yet"),
    ],
)
async def test_what_is_missing_is_counted(unready: dict[str, Any], why: str) -> None:
    made = cluster(**unready)
    if "observedGeneration" in unready.get("Deployment", {}):
        for body in BODIES[:1]:
            meta = {**body["metadata"], "generation": 2}
            made.seed(DEPLOYMENT, {**body, "metadata": meta, "status": {"observedGeneration": 1}})
    said, ended = await waited(made)
    assert why in said[0]
    assert why in ended


async def test_why_a_pod_does_not_start_is_said_with_it() -> None:
    made = cluster(Deployment={"readyReplicas": 0})
    claim: Json = {"metadata": {"name": "headrace-ledger", "namespace": HOME}, "status": {"phase": "Pending"}}
    made.seed(PERSISTENT_VOLUME_CLAIM, claim)
    waiting = {"reason": "ErrImagePull", "message": "not found"}
    scheduled = {"type": "PodScheduled", "status": "False", "message": "no room"}
    status = {"containerStatuses": [{"state": {"waiting": waiting}}], "conditions": [scheduled]}
    made.seed(POD, {"metadata": {"name": "p", "namespace": HOME}, "spec": {}, "status": status})
    said, _ = await waited(made)
    for why in ("needs a default StorageClass", "ErrImagePull: not found", "no room"):
        assert why in said[0]
