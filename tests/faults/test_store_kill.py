"""`kill -9` of the engine's process loses no acknowledged write; a full disk refuses writes and is survived."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from headrace.engine.store.store import VERSION_GAP, Store
from headrace.errors import Expired

CHILD = Path(__file__).with_name("store_child.py")


class Expected:
    """What must be in the store, from what the child said."""

    def __init__(self) -> None:
        self.saved: dict[str, int] = {}
        self.removed: set[str] = set()
        self.removing: set[str] = set()
        self.version = 0

    def hear(self, line: str) -> None:
        word, name, *rest = line.split()
        if word == "removing":
            self.removing.add(name)
            return
        self.version = max(self.version, int(rest[0]))
        if word == "saved":
            self.saved[name] = int(rest[0])
        else:
            self.removed.add(name)

    def faults(self, found: dict[str, int]) -> list[str]:
        faults = [f"{name} was removed and is there" for name in self.removed & found.keys()]
        for name, version in self.saved.items():
            if name in self.removing and name not in found:
                continue
            if found.get(name, 0) < version:
                faults.append(f"{name} was acknowledged at {version} and is at {found.get(name)}")
        return faults


def run_and_kill(path: Path, seed: int, after_lines: int, expected: Expected) -> None:
    with subprocess.Popen([sys.executable, CHILD, path, str(seed)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            for count, line in enumerate(child.stdout, 1):
                expected.hear(line)
                if count == after_lines:
                    child.kill()
        finally:
            child.kill()


async def contents(path: Path, old: int) -> tuple[dict[str, int], int]:
    async with Store(path) as store:
        with pytest.raises(Expired):
            store.watch("things", since=old)
        items = store.page("things").items
        return {item["metadata"]["name"]: int(item["metadata"]["resourceVersion"]) for item in items}, store.version


@pytest.mark.parametrize("seed", [1, 2])
def test_no_acknowledged_write_is_lost(tmp_path: Path, seed: int) -> None:
    path, chance, expected = tmp_path / "objects.db", random.Random(seed), Expected()
    for round_number in range(4):
        run_and_kill(path, seed * 100 + round_number, chance.randrange(1, 3000), expected)
        found, version = anyio.run(contents, path, expected.version)
        assert expected.saved
        assert not expected.faults(found)
        assert version >= expected.version + VERSION_GAP


def test_a_full_disk_refuses_writes_until_there_is_room_again(tmp_path: Path) -> None:
    path, expected = tmp_path / "objects.db", Expected()
    done = subprocess.run(
        [sys.executable, CHILD, path, "small-disk"], capture_output=True, text=True, check=True, timeout=60
    )
    refused = [line for line in done.stdout.splitlines() if line.startswith("refused")]
    for line in done.stdout.splitlines():
        if line not in refused:
            expected.hear(line)
    assert len(refused) == 2
    assert "Free space" in refused[0]
    assert len(expected.saved) > 50

    async def names() -> dict[str, int]:
        async with Store(path) as store:
            return {item["metadata"].get("name", ""): 1 for item in store.page("things").items}

    found = anyio.run(names)
    assert set(found) == {name for name in expected.saved if not name.startswith("after")} | {""}
