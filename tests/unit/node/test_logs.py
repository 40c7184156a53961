"""Reading CRI logs: parts, streams, tails, limits, and following through rotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from headrace.node import logs
from headrace.node.logs import LogOptions
from headrace.sandbox.logs import LogWriter

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def write(path: Path, *records: str) -> None:
    path.write_text("".join(f"2026-01-01T00:00:0{n}.000000000Z {r}\n" for n, r in enumerate(records)))


async def read(path: Path, **options: Any) -> str:
    chunks: list[bytes] = []

    async def sink(data: bytes) -> None:
        chunks.append(data)

    async def end() -> None: ...

    await logs.stream(path, LogOptions(**options), sink, end)
    return b"".join(chunks).decode()


async def test_rendering(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    write(path, "stdout F one", "stderr F two", "stdout P thr", "stdout F ee", "stdout F  four ")
    assert await read(path) == "one\ntwo\nthree\n four \n"
    assert await read(path, stream="stdout") == "one\nthree\n four \n"
    assert await read(path, since="2026-01-01T00:00:01.000000000Z") == "two\nthree\n four \n"
    assert await read(path, timestamps=True, tail_lines=3) == (
        "2026-01-01T00:00:02.000000000Z three\n2026-01-01T00:00:04.000000000Z  four \n"
    )
    assert await read(path, limit_bytes=6) == "one\ntw"
    assert await read(path, limit_bytes=0) == ""
    assert await read(tmp_path / "none.log") == ""


@pytest.mark.parametrize(
    ("lines", "expected"), [(0, ""), (1, "6\n"), (2, "5\n6\n"), (3, "4\n5\n6\n"), (99, "1\n2\n3\n4\n5\n6\n")]
)
async def test_a_tail_may_begin_in_an_older_file(tmp_path: Path, lines: int, expected: str) -> None:
    for name, numbers in (("0.log.2", "12"), ("0.log.1", "34"), ("0.log", "56")):
        write(tmp_path / name, *(f"stdout F {n}" for n in numbers))
    assert await read(tmp_path / "0.log", tail_lines=lines) == expected


def test_last_bytes(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    write(path, "stdout F one", "stdout F two", "stdout F three")
    assert logs.last_bytes(path, 2, 100) == "two\nthree\n"
    assert logs.last_bytes(path, 9, 4) == "ree\n"
    assert logs.last_bytes(tmp_path / "none", 9, 9) == ""


async def test_following_misses_nothing_through_rotations(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "0.log"
    seen: list[bytes] = []
    ended, news = anyio.Event(), [anyio.Event()]

    async def sink(data: bytes) -> None:
        seen.append(data)
        news[0].set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(logs.stream, path, LogOptions(follow=True), sink, ended.wait)
        await anyio.wait_all_tasks_blocked()
        writer = LogWriter(str(path), max_bytes=2000, max_files=4)
        for number in range(300):
            writer.write("stdout", f"line {number}\n".encode())
            if number % 7 == 0:
                await anyio.lowlevel.checkpoint()
            if number % 20 == 0:
                while f"line {number}\n".encode() not in b"".join(seen[-40:]):
                    await news[0].wait()
                    news[0] = anyio.Event()
        writer.close()
        ended.set()
    assert b"".join(seen) == b"".join(f"line {n}\n".encode() for n in range(300))
    assert len(list(path.parent.iterdir())) == 4
