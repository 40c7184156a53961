"""What a cluster does by itself: its controllers collect, empty, bind and place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from headrace.cluster.protocol import Cluster, MergePatch
from headrace.errors import NotFound
from headrace.spec.kind import Doc, Kind, Ref
from headrace.spec.kinds import CONFIG_MAP, NAMESPACE, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, SERVICE_ACCOUNT

pytestmark = pytest.mark.anyio
DEADLINE_S = 20


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    with anyio.fail_after(DEADLINE_S):
        while not await holds():  # noqa: ASYNC110 any server, from outside
            await anyio.sleep(0.02)


async def until_gone(cluster: Cluster, kind: Kind[Any], ref: Ref) -> None:
    async def is_gone() -> bool:
        try:
            await cluster.get(kind, ref)
        except NotFound:
            return True
        return False

    await until(is_gone)


async def make(cluster: Cluster, room: str, name: str, *owners: Doc[Any]) -> Doc[Any]:
    references = [owner.owner_reference(controller=False) for owner in owners]
    metadata = {"name": name, "namespace": room, "ownerReferences": references}
    return await cluster.create(CONFIG_MAP, {"metadata": metadata})


async def test_dependants_go_with_their_owner(living: Cluster, room: str) -> None:
    owner = await make(living, room, "owner")
    child = await make(living, room, "child", owner)
    grandchild = await make(living, room, "grandchild", child)
    await living.delete(CONFIG_MAP, owner.ref)
    await until_gone(living, CONFIG_MAP, grandchild.ref)
    await until_gone(living, CONFIG_MAP, child.ref)


async def test_in_the_foreground_they_go_first(living: Cluster, room: str) -> None:
    owner = await make(living, room, "owner")
    child = await make(living, room, "child", owner)
    await living.patch(CONFIG_MAP, child.ref, MergePatch({"metadata": {"finalizers": ["example.org/hold"]}}))
    await living.delete(CONFIG_MAP, owner.ref, propagation="Foreground")

    async def is_going() -> bool:
        return (await living.get(CONFIG_MAP, child.ref)).is_deleting

    await until(is_going)
    assert (await living.get(CONFIG_MAP, owner.ref)).is_deleting
    await living.patch(CONFIG_MAP, child.ref, MergePatch({"metadata": {"finalizers": None}}))
    await until_gone(living, CONFIG_MAP, owner.ref)


async def test_orphans_stay(living: Cluster, room: str) -> None:
    owner = await make(living, room, "owner")
    child = await make(living, room, "child", owner)
    await living.delete(CONFIG_MAP, owner.ref, propagation="Orphan")
    await until_gone(living, CONFIG_MAP, owner.ref)
    assert (await living.get(CONFIG_MAP, child.ref)).owners == []


async def test_a_namespace_is_equipped_and_emptied(living: Cluster, room: str) -> None:
    async def is_equipped() -> bool:
        try:
            await living.get(SERVICE_ACCOUNT, Ref(room, "default"))
            return bool((await living.get(CONFIG_MAP, Ref(room, "kube-root-ca.crt"))).raw["data"]["ca.crt"])
        except NotFound:
            return False

    await until(is_equipped)
    await make(living, room, "x")
    await living.delete(NAMESPACE, Ref("", room))
    await until_gone(living, NAMESPACE, Ref("", room))
    with pytest.raises(NotFound):
        await living.get(CONFIG_MAP, Ref(room, "x"))


async def test_a_claim_and_a_volume_meet_and_part(living: Cluster, room: str) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    volume = {
        "capacity": {"storage": "1Gi"},
        "hostPath": {"path": "/tmp/x"},
        "claimRef": {"namespace": room, "name": "c"},
    }
    made = await living.create(PERSISTENT_VOLUME, {"metadata": {"name": f"pv-{room}"}, "spec": {**spec, **volume}})
    claim = {"resources": {"requests": {"storage": "1Gi"}}, **spec}
    bound = await living.create(PERSISTENT_VOLUME_CLAIM, {"metadata": {"name": "c", "namespace": room}, "spec": claim})

    async def has_phase(kind: Kind[Any], ref: Ref, phase: str) -> bool:
        return bool((await living.get(kind, ref)).status.get("phase") == phase)

    await until(lambda: has_phase(PERSISTENT_VOLUME_CLAIM, bound.ref, "Bound"))
    await until(lambda: has_phase(PERSISTENT_VOLUME, made.ref, "Bound"))
    await living.delete(PERSISTENT_VOLUME_CLAIM, bound.ref)
    await until_gone(living, PERSISTENT_VOLUME_CLAIM, bound.ref)
    await until(lambda: has_phase(PERSISTENT_VOLUME, made.ref, "Released"))
    await living.delete(PERSISTENT_VOLUME, made.ref)
    await until_gone(living, PERSISTENT_VOLUME, made.ref)
