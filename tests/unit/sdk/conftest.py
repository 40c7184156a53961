"""Clients over the fake cluster. Trio's clock jumps to the next deadline, so minutes pass in no time."""

from __future__ import annotations

from typing import Any

import pytest
import trio.testing

from headrace.cluster.fake import FakeCluster
from headrace.cluster.protocol import MergePatch
from headrace.sdk import AsyncClient
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import POD, TRAIN_JOB
from headrace.spec.names import INDEX_LABEL, JOB_LABEL, ROLE_LABEL


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@pytest.fixture
def fake() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def client(fake: FakeCluster) -> AsyncClient:
    return AsyncClient(fake)


@pytest.fixture
def job(fake: FakeCluster) -> Doc[Any]:
    """A job that has just been submitted."""
    body = {"metadata": {"name": "digits", "namespace": "default"}, "spec": {"command": ["true"]}, "status": {}}
    return fake.seed(TRAIN_JOB, body)[0]


def pod(index: int, *, attempt: int = 1, state: Json | None = None, container: str = "main") -> Json:
    """Return a worker's pod; without a state its container has not started."""
    return {
        "metadata": {
            "name": f"digits-{attempt}-worker-{index}",
            "namespace": "default",
            "labels": {JOB_LABEL: "digits", ROLE_LABEL: "worker", INDEX_LABEL: str(index)},
        },
        "spec": {"containers": [{"name": container}]},
        "status": {
            "phase": "Running" if state and "running" in state else "Pending",
            "containerStatuses": [{"name": container, "state": state or {"waiting": {"reason": "ContainerCreating"}}}],
        },
    }


RUNNING: Json = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
ENDED: Json = {"terminated": {"exitCode": 0}}


async def set_phase(fake: FakeCluster, phase: str, **status: Any) -> None:
    """Write a job's phase as the reconciler does."""
    body = MergePatch({"status": {"phase": phase, **status}})
    await fake.patch(TRAIN_JOB, Ref("default", "digits"), body, subresource="status")


async def set_state(fake: FakeCluster, index: int, state: Json) -> None:
    body = MergePatch({"status": pod(index, state=state)["status"]})
    await fake.patch(POD, Ref("default", f"digits-1-worker-{index}"), body, subresource="status")
