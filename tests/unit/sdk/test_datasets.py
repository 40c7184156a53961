"""Waiting for the data of a claim, from the label to the verified mount."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from headrace.cluster.fake import FakeCluster
from headrace.cluster.protocol import MergePatch
from headrace.errors import Conflict, NotFound, Unavailable
from headrace.sdk import AsyncClient
from headrace.spec.kind import Doc, Json
from headrace.spec.kinds import DATASET, PERSISTENT_VOLUME_CLAIM
from headrace.spec.names import RUNTIME_PROFILE_LABEL, WRAPPER_LABEL

pytestmark = pytest.mark.anyio


@pytest.fixture
def claim(fake: FakeCluster) -> Doc[Any]:
    meta = {"name": "digits", "namespace": "default", "uid": "u-1", "labels": {RUNTIME_PROFILE_LABEL: "juicefs"}}
    return fake.seed(PERSISTENT_VOLUME_CLAIM, {"metadata": meta})[0]


def dataset(status: str, message: str = "") -> Json:
    condition = {"type": "MountVerified", "status": status, "reason": "Listed", "message": message}
    return {
        "metadata": {"name": "digits", "namespace": "default", "labels": {WRAPPER_LABEL: "u-1"}},
        "status": {"conditions": [condition]},
    }


async def test_it_is_there_when_its_mount_was_listed(fake: FakeCluster, client: AsyncClient, claim: Doc[Any]) -> None:
    async def life() -> None:
        await anyio.sleep(1)
        made = fake.seed(DATASET, dataset("False"))[0]
        await anyio.sleep(1)
        status = MergePatch({"status": dataset("True")["status"]})
        await fake.patch(DATASET, made.ref, status, subresource="status")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(life)
        doc = await client.wait_for_dataset("digits", timeout_s=60)
    assert doc.name == "digits"


async def test_too_late_says_why(fake: FakeCluster, client: AsyncClient, claim: Doc[Any]) -> None:
    with pytest.raises(Unavailable, match="got no Dataset within 5 s"):
        await client.wait_for_dataset("digits", timeout_s=5)
    fake.seed(DATASET, dataset("False", "cloud: permission denied"))
    with pytest.raises(Unavailable, match="not verified within 5 s; last: cloud: permission denied"):
        await client.wait_for_dataset("digits", timeout_s=5)


async def test_what_cannot_come_is_not_waited_for(fake: FakeCluster, client: AsyncClient) -> None:
    with pytest.raises(NotFound):
        await client.wait_for_dataset("digits", timeout_s=60)
    fake.seed(PERSISTENT_VOLUME_CLAIM, {"metadata": {"name": "digits", "namespace": "default"}})
    with pytest.raises(Conflict, match=r"not connected.*headrace datasets connect digits"):
        await client.wait_for_dataset("digits", timeout_s=60)
