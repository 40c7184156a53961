"""A node as a world: its services, and what it refuses. What it mounts is in tests/integration/fuse/test_node_plugin.py."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from headrace.csi.host import HostRefused, HostWorld
from headrace.errors import EngineFailed, Unavailable, Unsupported

pytestmark = pytest.mark.anyio

# Says its number and stays until its standard input ends.
_SERVICE = "import os, sys; open(sys.argv[1], 'a').write(f'{os.getpid()}\\n'); sys.stdin.read()"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def _argv(place: Path) -> list[str]:
    return [sys.executable, "-c", _SERVICE, str(place / "started")]


def _started(place: Path) -> list[int]:
    file = place / "started"
    return [int(line) for line in file.read_text().splitlines()] if file.exists() else []


async def _until(happens: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not happens():  # noqa: ASYNC110 - files and processes have no event
            await anyio.sleep(0.01)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_service_is_started_once_and_again_when_it_ends(tmp_path: Path) -> None:
    world = HostWorld()
    async with world.running():
        for _ in range(2):
            await world.request("service.start", service="s", argv=_argv(tmp_path), log={"path": "/x"}, restart=True)
        await _until(lambda: len(_started(tmp_path)) == 1)
        [service] = (await world.request("state"))["services"]
        assert (service["service"], service["pid"]) == ("s", _started(tmp_path)[0])
        os.kill(service["pid"], signal.SIGKILL)
        await _until(lambda: len(_started(tmp_path)) == 2)
        with pytest.raises(HostRefused, match="runs another command") as refused:
            await world.request("service.start", service="s", argv=["true"])
        assert refused.value.code == "Conflict"
    assert not _lives(_started(tmp_path)[-1])


async def test_a_service_that_is_stopped_stays_stopped(tmp_path: Path) -> None:
    world = HostWorld()
    async with world.running():
        await world.request("service.start", service="s", argv=_argv(tmp_path))
        await _until(lambda: len(_started(tmp_path)) == 1)
        for _ in range(2):
            await world.request("service.stop", service="s")
        assert not _lives(_started(tmp_path)[0])
        assert (await world.request("state"))["services"] == []
        await world.request("service.start", service="s", argv=_argv(tmp_path))
        await _until(lambda: len(_started(tmp_path)) == 2)


async def test_a_service_that_is_stopped_while_it_is_started_leaves_no_process(tmp_path: Path) -> None:
    world = HostWorld()
    async with world.running():
        for _ in range(5):
            await world.request("service.start", service="s", argv=_argv(tmp_path))
            await anyio.lowlevel.checkpoint()
            await world.request("service.stop", service="s")
    assert not any(_lives(pid) for pid in _started(tmp_path))


async def test_a_program_that_is_not_there_is_tried_again_and_takes_nothing_down(tmp_path: Path) -> None:
    world = HostWorld()
    async with world.running():
        await world.request("service.start", service="s", argv=[str(tmp_path / "late")])
        await anyio.sleep(0.05)
        (tmp_path / "late").write_text(f"#!{sys.executable}\nopen({str(tmp_path / 'started')!r}, 'a').write('1\\n')\n")
        (tmp_path / "late").chmod(0o755)
        await _until(lambda: _started(tmp_path) != [])


async def test_what_a_node_does_not_do() -> None:
    world = HostWorld()
    with pytest.raises(Unsupported, match=r"container\.start"):
        await world.request("container.start", pod="p")
    with pytest.raises(EngineFailed, match=r"outside of running"):
        await world.request("service.start", service="s", argv=["true"])
    hello = await world.request("hello")
    assert hello["started_wall_ns"] == (await world.request("hello"))["started_wall_ns"]


async def test_mounts_are_listed_and_failures_are_told_with_their_code(tmp_path: Path) -> None:
    world = HostWorld()
    listed = (await world.request("mount.list", prefix="/proc"))["mounts"]
    assert {"target", "type", "id", "parent", "device"} <= set(listed[0])
    assert (await world.request("mount.unmount", target=str(tmp_path), all=True, lazy=True)) == {"unmounted": 0}
    with pytest.raises(HostRefused, match="does not exist") as refused:
        await world.request("mount.bind", source=str(tmp_path / "none"), target=str(tmp_path / "t"))
    assert refused.value.code == "NotFound"
    (tmp_path / "file").touch()
    with pytest.raises(HostRefused, match=r"mount\.tmpfs failed") as refused:
        await world.request("mount.tmpfs", target=str(tmp_path / "file" / "below"), size_bytes=1, mode=0o755)
    assert refused.value.code == "Failed"
    with pytest.raises(Unavailable, match="took longer than"):
        await world.request("mount.list", timeout_s=0.0)
