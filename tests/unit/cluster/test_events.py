"""Events: one object a sentence, counted; never too many; never an error for who reports."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from headrace.clock import FakeClock
from headrace.cluster.events import Outbox, Recorder
from headrace.cluster.fake import FakeCluster
from headrace.errors import Denied, Unavailable
from headrace.spec.kind import Doc
from headrace.spec.kinds import EVENT, NODE, POD

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def recorder(fake: FakeCluster, clock: FakeClock) -> Recorder:
    return Recorder(fake, "headrace-jobs", clock=clock)


@pytest.fixture
def pod(fake: FakeCluster) -> Doc[Any]:
    return fake.seed(POD, {"metadata": {"name": "p", "namespace": "vision"}})[0]


async def events(fake: FakeCluster) -> list[Doc[Any]]:
    return (await fake.list(EVENT)).items


async def test_an_event_says_who_what_about_whom(fake: FakeCluster, recorder: Recorder, pod: Doc[Any]) -> None:
    await recorder.event(pod, "Normal", "Placed", "Placed on own.")
    (event,) = await events(fake)
    view = event.view
    assert (view.type, view.reason, view.message, view.count) == ("Normal", "Placed", "Placed on own.", 1)
    assert (view.source.component, view.reporting_component) == ("headrace-jobs", "headrace-jobs")
    assert (view.involved_object.kind, view.involved_object.name) == ("Pod", "p")
    assert view.involved_object.uid == pod.uid
    assert event.namespace == "vision"
    assert view.first_timestamp == view.last_timestamp == "2026-01-01T00:00:00Z"


async def test_repeats_are_counted_in_one_object(
    fake: FakeCluster, clock: FakeClock, recorder: Recorder, pod: Doc[Any]
) -> None:
    for _ in range(3):
        await recorder.event(pod, "Warning", "Waits", "No room.")
        clock.advance(60)
    await recorder.event(pod, "Warning", "Waits", "No quota.")
    counted = {event.raw["message"]: event for event in await events(fake)}
    assert counted["No room."].view.count == 3
    assert counted["No room."].view.first_timestamp == "2026-01-01T00:00:00Z"
    assert counted["No room."].view.last_timestamp == "2026-01-01T00:02:00Z"
    assert counted["No quota."].view.count == 1


async def test_a_restarted_process_counts_on(fake: FakeCluster, clock: FakeClock, pod: Doc[Any]) -> None:
    for _ in range(3):
        await Recorder(fake, "headrace-jobs", clock=clock).event(pod, "Normal", "Placed", "Placed on own.")
    (event,) = await events(fake)
    assert event.view.count == 3


async def test_an_event_the_server_forgot_is_made_anew(fake: FakeCluster, recorder: Recorder, pod: Doc[Any]) -> None:
    await recorder.event(pod, "Normal", "Placed", "Placed on own.")
    (event,) = await events(fake)
    await fake.delete(EVENT, event.ref)
    await recorder.event(pod, "Normal", "Placed", "Placed on own.")
    (event,) = await events(fake)
    assert event.view.count == 1


async def test_cluster_scoped_objects_are_told_of_in_default(fake: FakeCluster, recorder: Recorder) -> None:
    (node,) = fake.seed(NODE, {"metadata": {"name": "own"}})
    await recorder.event(node, "Warning", "NotReady", "The agent is silent.")
    (event,) = await events(fake)
    assert event.namespace == "default"


async def test_too_much_about_one_object_is_dropped_and_not_about_others(
    fake: FakeCluster, clock: FakeClock, recorder: Recorder, pod: Doc[Any]
) -> None:
    for number in range(100):
        await recorder.event(pod, "Normal", "Chatter", f"Sentence {number}.")
    assert len(await events(fake)) == 25
    (other,) = fake.seed(POD, {"metadata": {"name": "other", "namespace": "vision"}})
    await recorder.event(other, "Normal", "Placed", "Placed.")
    assert len(await events(fake)) == 26
    clock.advance(600)
    for number in range(100, 110):
        await recorder.event(pod, "Normal", "Chatter", f"Sentence {number}.")
    assert len(await events(fake)) == 28


@pytest.mark.parametrize("error", [Denied("You may not."), Unavailable("Later.")])
async def test_no_error_reaches_the_reconciler(
    fake: FakeCluster, recorder: Recorder, pod: Doc[Any], error: Exception
) -> None:
    fake.fail_next("create", error)
    await recorder.event(pod, "Normal", "Placed", "Placed on own.")
    assert await events(fake) == []


async def test_long_messages_are_cut_within_a_character(fake: FakeCluster, recorder: Recorder, pod: Doc[Any]) -> None:
    await recorder.event(pod, "Normal", "Placed", "ü" * 1000)
    (event,) = await events(fake)
    assert event.view.message == "ü" * 512


async def test_an_outbox_records_in_order_and_holds_nobody_up(
    fake: FakeCluster, recorder: Recorder, pod: Doc[Any]
) -> None:
    outbox = Outbox(recorder)
    for number in range(3):
        await outbox.event(pod, "Normal", "Said", f"Number {number}.")
    assert await events(fake) == []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(outbox.run)
        with anyio.fail_after(5):
            while len(await events(fake)) < 3:
                await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    said = sorted(await events(fake), key=lambda event: int(event.version))
    assert [event.raw["message"] for event in said] == [f"Number {number}." for number in range(3)]


async def test_what_an_outbox_cannot_hold_is_dropped_and_raises_nothing(recorder: Recorder, pod: Doc[Any]) -> None:
    outbox = Outbox(recorder)
    for number in range(1100):
        await outbox.event(pod, "Normal", "Said", f"Number {number}.")
    assert len(outbox._waiting) == 1000
