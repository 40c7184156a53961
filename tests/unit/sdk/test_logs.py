"""Merging workers' output: every line once, whatever happens to pods and connections in between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from headrace.cluster.fake import FakeCluster
from headrace.errors import NotFound, Unavailable
from headrace.sdk.logs import LogLine, log_lines
from headrace.spec.kind import Doc, Ref
from headrace.spec.kinds import POD, TRAIN_JOB

from .conftest import ENDED, RUNNING, pod, set_phase, set_state

pytestmark = pytest.mark.anyio

JOB = Ref("default", "digits")


def stamped(*lines: str, first_s: int = 0) -> list[bytes]:
    return [f"2026-01-01T00:00:{first_s + n:02}.5Z {line}\n".encode() for n, line in enumerate(lines)]


def worker(index: int) -> Ref:
    return Ref("default", f"digits-1-worker-{index}")


class Recorded:
    """Answers each call for a log in turn with what a test says, and keeps what was asked."""

    def __init__(self, fake: FakeCluster, *answers: Sequence[bytes | Exception]) -> None:
        self._fake = fake
        self._answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fake, name)

    @asynccontextmanager
    async def logs(self, ref: Ref, **options: Any) -> AsyncIterator[AsyncIterator[bytes]]:
        self.asked.append(options)
        answer = self._answers.pop(0)

        async def chunks() -> AsyncIterator[bytes]:
            for chunk in answer:
                if isinstance(chunk, Exception):
                    raise chunk
                yield chunk

        yield chunks()


async def collect(cluster: Any, *, into: list[LogLine] | None = None, **options: Any) -> list[LogLine]:
    seen = [] if into is None else into
    async with log_lines(cluster, JOB, **options) as lines:
        async for line in lines:
            seen.append(line)
    return seen


async def test_what_there_is_comes_worker_after_worker(fake: FakeCluster, job: Doc[Any]) -> None:
    fake.seed(POD, pod(1, state=RUNNING), pod(0, state=ENDED), pod(2))
    fake.script_logs(worker(1), stamped("c"), container="main")
    fake.script_logs(worker(0), [b"2026-01-01T00:00:00Z a\n2026-01-01T00:00:01Z b"], container="main")
    assert await collect(fake, follow=False) == [("worker-0", "a"), ("worker-0", "b"), ("worker-1", "c")]


async def test_lines_cut_by_chunks_are_whole_and_odd_bytes_do_no_harm(fake: FakeCluster, job: Doc[Any]) -> None:
    fake.seed(POD, pod(0, state=ENDED))
    fake.script_logs(
        worker(0), [b"2026-01-01T00:00:00Z on", b"e\n2026-01-01T00:00:", b"01Z \xfftwo\n"], container="main"
    )
    assert [line.text for line in await collect(fake, follow=False)] == ["one", "�two"]


async def test_one_worker_and_another_container(fake: FakeCluster, job: Doc[Any]) -> None:
    fake.seed(POD, pod(0, state=RUNNING, container="fluid-fuse-0"), pod(1, state=RUNNING, container="fluid-fuse-0"))
    fake.script_logs(worker(1), stamped("mounted"), container="fluid-fuse-0")
    assert await collect(fake, follow=False, worker="worker-1", container="fluid-fuse-0") == [("worker-1", "mounted")]
    assert await collect(fake, follow=False) == []


async def test_following_picks_up_pods_as_they_start_until_the_job_has_ended(fake: FakeCluster, job: Doc[Any]) -> None:
    fake.script_logs(worker(0), stamped("a"), container="main")
    fake.script_logs(worker(1), stamped("b"), container="main")

    async def life() -> None:
        await set_phase(fake, "Starting")
        fake.seed(POD, pod(0), pod(1))
        await set_state(fake, 0, RUNNING)
        await set_phase(fake, "Running")
        await anyio.sleep(60)
        for index in (0, 1):
            await set_state(fake, index, ENDED)
        await set_phase(fake, "Succeeded")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(life)
        assert sorted(await collect(fake)) == [("worker-0", "a"), ("worker-1", "b")]


async def test_a_pod_that_began_and_ended_unseen_is_still_read(fake: FakeCluster, job: Doc[Any]) -> None:
    fake.seed(POD, pod(0, state=ENDED))
    fake.script_logs(worker(0), stamped("short"), container="main")
    await set_phase(fake, "Failed")
    assert await collect(fake) == [("worker-0", "short")]


async def test_after_a_cut_each_line_comes_once(fake: FakeCluster, job: Doc[Any]) -> None:
    fake.seed(POD, pod(0, state=ENDED))
    await set_phase(fake, "Succeeded")
    cut = Unavailable("The connection was lost.")
    first: list[bytes | Exception] = [*stamped("a", "b"), b"2026-01-01T00:00:02.5Z half of", cut]
    cluster = Recorded(fake, first, stamped("a", "b", "half of c", "d"))
    assert [line.text for line in await collect(cluster, tail_lines=10)] == ["a", "b", "half of c", "d"]
    assert [options["tail_lines"] for options in cluster.asked] == [10, None]
    assert cluster.asked[1]["since_s"] > 0


async def test_output_that_ends_while_its_worker_runs_goes_on(fake: FakeCluster, job: Doc[Any]) -> None:
    """A server that stops in good order ends its streams as if the container had ended."""
    fake.seed(POD, pod(0, state=RUNNING))
    await set_phase(fake, "Running")
    cluster = Recorded(fake, stamped("a"), stamped("a", "b"))

    async def life() -> None:
        await anyio.sleep(0.1)
        await set_state(fake, 0, ENDED)
        await set_phase(fake, "Succeeded")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(life)
        assert [line.text for line in await collect(cluster)] == ["a", "b"]


async def test_a_server_that_stays_away_is_reported_as_itself(fake: FakeCluster, job: Doc[Any]) -> None:
    fake.seed(POD, pod(0, state=RUNNING))
    await set_phase(fake, "Succeeded")
    cut = Unavailable("The connection was lost.")
    cluster = Recorded(fake, *([cut] for _ in range(100)))
    with pytest.raises(Unavailable, match="was lost"):
        await collect(cluster)


async def test_without_stamps_nothing_is_repeated(fake: FakeCluster, job: Doc[Any]) -> None:
    fake.seed(POD, pod(0, state=RUNNING))
    await set_phase(fake, "Succeeded")
    cluster = Recorded(fake, [b"plain\n", Unavailable("Cut.")], [b"plain\n"])
    with pytest.raises(Unavailable, match="Cut"):
        await collect(cluster)
    assert len(cluster.asked) == 1


async def test_one_unreachable_worker_does_not_hide_the_others(fake: FakeCluster, job: Doc[Any]) -> None:
    fake.seed(POD, pod(0, state=ENDED), pod(1, state=ENDED))
    cluster = Recorded(fake, [Unavailable("The node is gone.")], stamped("b"))
    seen: list[LogLine] = []
    with pytest.raises(Unavailable, match="node is gone"):
        await collect(cluster, into=seen, follow=False)
    assert seen == [("worker-1", "b")]


@pytest.mark.parametrize("follow", [True, False])
async def test_a_job_that_is_not_there(fake: FakeCluster, follow: bool) -> None:
    with pytest.raises(NotFound):
        await collect(fake, follow=follow)


async def test_a_deleted_job_ends_the_stream(fake: FakeCluster, job: Doc[Any]) -> None:
    async def life() -> None:
        await anyio.sleep(5)
        await fake.delete(TRAIN_JOB, JOB)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(life)
        assert await collect(fake) == []
