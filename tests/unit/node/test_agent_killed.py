"""The agent is killed at every single order it gives, before and after it took effect; the next one must not be seen.

What a pod's life comes to is compared with that of an undisturbed one: the same starts, each once, the same exits, the
same last status, and nothing left behind.
"""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from headrace.spec.kinds import POD

pytestmark = pytest.mark.anyio

SIDE = {"name": "side", "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["up"]}, "periodSeconds": 1}}
MEMORY = {"name": "m", "emptyDir": {"medium": "Memory"}}


@pytest.fixture
def anyio_backend(make_believe_time: tuple[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    return make_believe_time


async def live(bench: Any) -> dict[str, Any]:
    """One pod's life: an init container, a sidecar, a crash, an end; what is left and what was told is returned."""
    app = {"name": "app", "volumeMounts": [{"name": "m", "mountPath": "/m"}]}
    pod = await bench.submit(app, inits=(SIDE, "init"), restartPolicy="OnFailure", volumes=[MEMORY])
    for name, attempt, code in (("init", 0, 0), ("app", 0, 1), ("app", 1, 2), ("app", 2, 0)):
        await bench.until(lambda n=name, a=attempt: (bench.world.runs(n) or {}).get("attempt") == a)
        await bench.idle(1)
        bench.world.exits(pod.uid, name, code)
    done = await bench.until_phase("Succeeded")
    await bench.until(lambda: bench.world.pods == {} and bench.world.mounts == {})
    await bench.cluster.delete(POD, pod.ref)
    await bench.until(lambda: not bench.place(pod.uid).root.exists())
    entries = [*done["status"]["initContainerStatuses"], *done["status"]["containerStatuses"]]
    return {
        "starts": [(e["container"], e["attempt"]) for e in bench.world.written if e["type"] == "container-started"],
        "told": [(e["name"], e["restartCount"], e["state"]["terminated"]["exitCode"]) for e in entries],
        "last": done["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"],
        "address": done["status"]["podIP"],
    }


UNDISTURBED = {
    "starts": [("side", 0), ("init", 0), ("app", 0), ("app", 1), ("app", 2)],
    "told": [("side", 0, 143), ("init", 0, 0), ("app", 2, 0)],
    "last": 2,
    "address": "127.64.0.1",
}


async def test_undisturbed(bench: Any) -> None:
    async with bench.running():
        assert await live(bench) == UNDISTURBED
        assert len(bench.world.orders) < 30, "the range of the tests below covers a whole life"


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", range(24))
async def test_killed_at_an_order_to_the_world(bench: Any, number: int, after: bool) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: bench.run_killing(world=number, after=after))
        assert await live(bench) == UNDISTURBED
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", range(1, 12))
async def test_killed_at_a_write_to_the_server(bench: Any, number: int, after: bool) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: bench.run_killing(patch=number, after=after))
        assert await live(bench) == UNDISTURBED
        tasks.cancel_scope.cancel()
