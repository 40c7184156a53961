"""`kill -9` in the middle of pulling and unpacking: whatever is taken for whole afterwards is whole."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest
from tests.images import TestImage, directory, entry, layer
from tests.registry import running_registry

from headrace.node.images import reference
from headrace.node.images.credentials import Keyring
from headrace.node.images.images import Images
from headrace.node.images.store import Store

CHILD = Path(__file__).with_name("pull_child.py")
LAYERS, FILES = 4, 150
ROUNDS = 4


def files_of(number: int) -> bytes:
    return layer(directory(f"l{number}"), *(entry(f"l{number}/{f}", b"%d" % f * 50) for f in range(FILES)))


def test_killed_pulls_leave_nothing_half(tmp_path: Path) -> None:
    chance = random.Random(7)
    place = tmp_path / "images"
    with running_registry(tmp_path) as registry:
        registry.push("lab/many", "1", TestImage(tuple(files_of(number) for number in range(LAYERS))))
        image = f"{registry.host}/lab/many:1"
        seen = set()
        for _ in range(ROUNDS):
            command = [sys.executable, str(CHILD), str(place), image]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
                assert child.stdout is not None
                assert child.stdout.readline() == "pulled\n"  # it works, and is at it again
                time.sleep(chance.uniform(0.0, 0.5))
                child.kill()
            seen |= {path.suffix for path in (place / "staging").iterdir()}
            for found in (place / "layers").iterdir():
                tree = next(path for path in (found / "tree").iterdir())
                assert sorted(os.listdir(tree)) == sorted(str(f) for f in range(FILES))
        assert seen & {".blob", ".layer"}, "it was never killed in the middle"
        store = Store(place)
        store.open()
        assert not list((place / "staging").iterdir())
        needed = {one for known in store.images for one in known.layers}
        assert len(list((place / "layers").iterdir())) == len(needed)
        anyio.run(pulls_whole, place, image)


async def pulls_whole(place: Path, image: str) -> None:
    images = Images(place, (), agent="test", in_use=set)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(images.run)
        pulled = await images.pull(reference.parse(image), Keyring())
        assert len(pulled.image.layers) == LAYERS
        root = await images.root(pulled.image, place.parent / "view")
        if not root["layers"]:
            pytest.skip("NO EXTENDED ATTRIBUTES HERE, OVERLAYS ARE NOT TESTED")
        assert [len(list(Path(tree).glob("l*/*"))) for tree in root["layers"]] == [FILES] * LAYERS
        tasks.cancel_scope.cancel()
