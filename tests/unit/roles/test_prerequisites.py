"""A cluster without our kinds is waited for, and told of once; keys are one for all replicas."""

from __future__ import annotations

import base64
from typing import Any

import anyio
import pytest

from headrace.cluster.fake import FakeCluster
from headrace.errors import Denied, EngineFailed, Unavailable
from headrace.install.names import KEY_SECRET
from headrace.roles.keys import installation_key
from headrace.roles.prerequisites import await_kinds, missing_kinds, own_name
from headrace.spec.kinds import POD, POOL, SECRET, TRAIN_JOB

pytestmark = pytest.mark.anyio

CORE, OURS = "/api/v1", "/apis/headrace.io/v1alpha1"
REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


def serve(fake: FakeCluster, path: str, *plurals: str) -> None:
    fake.script_request("GET", path, {"resources": [{"name": plural} for plural in plurals]})


async def test_missing_kinds_are_named(fake: FakeCluster) -> None:
    serve(fake, CORE, "pods", "pods/log")
    serve(fake, OURS, "pools")
    assert await missing_kinds(fake, [POD, POOL, TRAIN_JOB]) == [TRAIN_JOB]


async def test_a_group_that_is_not_there_misses_all_its_kinds(fake: FakeCluster) -> None:
    assert await missing_kinds(fake, [POOL, TRAIN_JOB]) == [POOL, TRAIN_JOB]


async def test_it_waits_until_the_kinds_are_there_and_says_what_for(fake: FakeCluster) -> None:
    told: list[str] = []

    async def install() -> None:
        await anyio.sleep(60)
        serve(fake, OURS, "pools", "trainjobs")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(install)
        await await_kinds(fake, [POOL, TRAIN_JOB], told.append)
    assert "does not know pools.headrace.io, trainjobs.headrace.io" in told[0]
    assert len(set(told)) == 2
    assert told[-1] == ""


async def test_a_server_that_does_not_answer_is_waited_for_too(fake: FakeCluster) -> None:
    told: list[str] = []
    serve(fake, OURS, "pools")
    fake.fail_next("request", Unavailable("Nobody answers."), times=3)
    await await_kinds(fake, [POOL], told.append)
    assert told == ["Nobody answers."] * 3 + [""]


async def test_a_credential_that_is_not_taken_is_an_error_at_once(fake: FakeCluster) -> None:
    fake.fail_next("request", Denied("Unauthorized."))
    with pytest.raises(Denied):
        await await_kinds(fake, [POOL], lambda _why: None)


async def test_a_process_knows_its_own_name(fake: FakeCluster) -> None:
    fake.script_request("POST", REVIEWS, {"status": {"userInfo": {"username": "system:serviceaccount:a:b"}}})
    assert await own_name(fake) == "system:serviceaccount:a:b"
    fake.script_request("POST", REVIEWS, {"status": {}})
    with pytest.raises(Denied):
        await own_name(fake)


async def test_the_key_is_made_once(fake: FakeCluster) -> None:
    first = await installation_key(fake, "headrace-system")
    assert len(first) == 32
    assert await installation_key(fake, "headrace-system") == first


async def test_of_two_that_make_the_key_at_once_both_use_the_one_that_was_stored(fake: FakeCluster) -> None:
    found: list[bytes] = []

    async def ask() -> None:
        found.append(await installation_key(fake, "headrace-system"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        tasks.start_soon(ask)
    assert found[0] == found[1]


@pytest.mark.parametrize("data", [{}, {"code": "§"}, {"code": base64.b64encode(b"short").decode()}])
async def test_a_broken_key_is_said_and_not_replaced(fake: FakeCluster, data: Any) -> None:
    """What was handed out with the old key would be worth nothing, so a person decides."""
    fake.seed(SECRET, {"metadata": {"name": KEY_SECRET, "namespace": "s"}, "data": data})
    with pytest.raises(EngineFailed, match="Delete it"):
        await installation_key(fake, "s")
