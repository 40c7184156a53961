"""Killed agents, lost worlds, cut connections: nothing runs twice, nothing is forgotten, nothing is left behind."""

from __future__ import annotations

import datetime as dt
import errno
from typing import Any

import pytest

from headrace.errors import Unavailable
from headrace.node import checkpoint
from headrace.spec.kinds import POD

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(make_believe_time: tuple[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    return make_believe_time


async def test_a_new_agent_takes_up_what_runs(bench: Any) -> None:
    async with bench.running():
        pod = await bench.submit("app", restartPolicy="OnFailure")
        await bench.until_phase("Running")
        bench.world.exits(pod.uid, "app", 1)
        await bench.until(lambda: bench.entry("app")["restartCount"] == 1)
        bench.world.exits(pod.uid, "app", 1)
        await bench.until(lambda: bench.entry("app")["state"].get("waiting"))
        address = bench.pod()["status"]["podIP"]
    async with bench.running():
        await bench.until(lambda: (bench.world.runs("app") or {}).get("attempt") == 2)
        running = await bench.until(lambda: bench.entry("app")["restartCount"] == 2 and bench.pod())
        assert running["status"]["podIP"] == address
    starts = [(e["attempt"]) for e in bench.world.written if e["type"] == "container-started"]
    assert starts == [0, 1, 2]
    first_retry, second_retry = [e["wall_ns"] / 1e9 for e in bench.world.written if e["type"] == "container-started"][
        1:
    ]
    assert second_retry - first_retry >= 10, "back-off was forgotten"


async def test_what_happened_while_no_agent_looked_is_replayed(bench: Any) -> None:
    async with bench.running():
        pod = await bench.submit("app", restartPolicy="Never")
        await bench.until_phase("Running")
    await bench.idle(33)
    bench.world.exits(pod.uid, "app", 3, termination_message="out of luck")
    exited_ns = bench.world.written[-1]["wall_ns"]
    await bench.idle(100)
    async with bench.running():
        ended = (await bench.until_phase("Failed"))["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["message"]) == (3, "out of luck")
    at = ended["finishedAt"]
    assert at == as_time(exited_ns), "the end is the journal's, not the replay's"


def as_time(wall_ns: int) -> str:
    return dt.datetime.fromtimestamp(wall_ns / 1e9, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_an_agent_without_its_records_believes_server_and_world(bench: Any) -> None:
    async with bench.running():
        pod = await bench.submit("app")
        await bench.until_phase("Running")
        bench.world.exits(pod.uid, "app", 1)
        await bench.until(lambda: bench.entry("app")["restartCount"] == 1)
        await bench.idle(10)
    bench.place(pod.uid).record.unlink()
    async with bench.running():
        await bench.idle(30)
        assert bench.entry("app")["restartCount"] == 1
        bench.world.exits(pod.uid, "app", 1)
        await bench.until(lambda: bench.entry("app")["restartCount"] == 2)
    starts = [e["attempt"] for e in bench.world.written if e["type"] == "container-started"]
    assert starts == [0, 1, 2]


async def test_a_full_disk_makes_nobody_forget_an_end(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_path: object, _content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with bench.running():
        pod = await bench.submit("app", restartPolicy="Never")
        await bench.until_phase("Running")
        with monkeypatch.context() as disk:
            disk.setattr(checkpoint, "write_file", full)
            bench.world.exits(pod.uid, "app", 3)
            await bench.idle(60)
        ended = (await bench.until_phase("Failed"))["status"]["containerStatuses"][0]["state"]["terminated"]
        assert ended["exitCode"] == 3
        await bench.idle(10)
    saved = checkpoint.load(bench.place(pod.uid).record)
    assert saved is not None
    assert saved.of("app").runs[-1].exit_code == 3


async def test_a_pod_deleted_while_no_agent_looked_is_cleared_away(bench: Any) -> None:
    volumes = [{"name": "m", "emptyDir": {"medium": "Memory"}}]
    async with bench.running():
        app = {"name": "app", "volumeMounts": [{"name": "m", "mountPath": "/m"}]}
        pod = await bench.submit(app, volumes=volumes)
        await bench.until_phase("Running")
        assert bench.world.mounts
    await bench.cluster.delete(POD, pod.ref, grace_s=0)
    async with bench.running():
        await bench.until(lambda: not bench.place(pod.uid).root.exists())
    assert bench.world.pods == {}
    assert bench.world.mounts == {}


async def test_deletion_goes_on_after_the_agent_was_killed(bench: Any) -> None:
    bench.world.deaf.add("app")
    async with bench.running():
        pod = await bench.submit("app", terminationGracePeriodSeconds=50)
        await bench.until_phase("Running")
        began = bench.clock.monotonic_s()
        await bench.cluster.delete(POD, pod.ref)
        await bench.until(lambda: bench.world.ops("container.signal"))
    await bench.idle(10)
    async with bench.running():
        await bench.until(lambda: bench.pod() is None)
    # Not 60, as a grace period that began anew would give; some more than 50, for time jumps while a thread works.
    assert 50 <= bench.clock.monotonic_s() - began < 60
    assert [o["signal"] for o in bench.world.ops("container.signal")] == [15, 9]


async def test_a_lost_world_ends_pods_at_the_last_proven_instant(bench: Any) -> None:
    async with bench.running():
        await bench.submit("app", restartPolicy="Always")
        await bench.until_phase("Running")
        await bench.submit("app", name="waits", volumes=[{"name": "s", "secret": {"secretName": "later"}}])
        await bench.idle(60)
        bench.world.die_and_restart(proven_s_ago=20)
        lost = await bench.until_phase("Failed")
        assert lost["status"]["reason"] == "NodeLost"
        ended = lost["status"]["containerStatuses"][0]["state"]["terminated"]
        assert ended["reason"] == "NodeLost"
        proven = next(e for e in bench.world.written if e.get("reason") == "WorldLost")
        assert ended["finishedAt"] == as_time(proven["wall_ns"])


@pytest.mark.parametrize("reason", ["WorldLost", "PodShutdown"])
async def test_a_container_that_ended_with_its_world_is_no_failure(bench: Any, reason: str) -> None:
    """The pod is told with its first container; what else ended with the world may be heard much later."""
    async with bench.running():
        pod = await bench.submit("app", "second")
        await bench.until_phase("Running")
        bench.world.write("container-exited", pod=pod.uid, container="app", attempt=0, exit_code=137, signal=9, reason=reason)  # fmt: skip
        lost = await bench.until_phase("Failed")
        assert lost["status"]["reason"] == "NodeLost"
        assert {bench.entry(name)["state"]["terminated"]["reason"] for name in ("app", "second")} == {"NodeLost"}


async def test_a_pod_of_which_nothing_ran_survives_a_lost_world(bench: Any) -> None:
    bench.world.commands["gate"] = 1
    env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k"}}}]
    async with bench.running():
        await bench.submit({"name": "app", "env": env})
        await bench.until(lambda: bench.world.pods)
        bench.world.die_and_restart(proven_s_ago=1)
        await bench.until(lambda: bench.world.pods)
        assert bench.pod()["status"]["phase"] == "Pending"


async def test_a_world_that_wiped_its_journal_is_asked_what_runs(bench: Any) -> None:
    async with bench.running():
        await bench.submit("app")
        await bench.until_phase("Running")
        bench.world.go_away()
        bench.world.pods.clear()
        bench.world.journal.clear()
        bench.world.seq = 0
        bench.world.write("world-started")
        bench.world.come_back()
        lost = await bench.until_phase("Failed")
        assert lost["status"]["reason"] == "NodeLost"


async def test_a_cut_connection_is_no_loss(bench: Any) -> None:
    async with bench.running():
        pod = await bench.submit("app", restartPolicy="Never")
        await bench.until_phase("Running")
        bench.world.go_away()
        await bench.idle(5)
        bench.world.exits(pod.uid, "app", 0)
        bench.world.come_back()
        await bench.until_phase("Succeeded")
        assert len(bench.world.ops("container.start")) == 1


async def test_a_killed_pod_process_is_that_pod_only(bench: Any) -> None:
    async with bench.running():
        pod = await bench.submit("app")
        await bench.until_phase("Running")
        bench.world.exits(pod.uid, "app", signal=9, reason="Killed")
        del bench.world.pods[pod.uid]
        bench.world.write("pod-removed", pod=pod.uid, reason="Killed")
        await bench.until(lambda: (bench.world.runs("app") or {}).get("attempt") == 1)
        assert bench.entry("app")["restartCount"] in {0, 1}
        running = await bench.until(lambda: bench.entry("app")["restartCount"] == 1 and bench.pod())
        assert running["status"]["phase"] == "Running"


async def test_the_journal_is_trimmed_only_after_the_status_is_written(bench: Any) -> None:
    async with bench.running():
        pod = await bench.submit("app", restartPolicy="Never")
        await bench.until_phase("Running")
        await bench.until(lambda: bench.world.trimmed >= 3)
        before = bench.world.trimmed
        bench.cluster.fail_next("patch", Unavailable("away"), times=20, kind=POD)
        bench.world.exits(pod.uid, "app", 0)
        await bench.idle(5)
        exited = bench.world.written[-1]["seq"]
        assert bench.world.trimmed == before
        assert any(e["type"] == "container-exited" for e in bench.world.journal)
        await bench.until_phase("Succeeded")
        await bench.until(lambda: bench.world.trimmed >= exited)
