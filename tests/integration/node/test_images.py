"""Pods from images: pulled from a real registry, unpacked without root, run in a real world."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.images import TestImage, busybox
from tests.registry import Registry, programs, running_registry

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with tempfile.TemporaryDirectory() as place, running_registry(Path(place)) as registry:
        yield registry


@pytest.fixture(scope="session")
def box() -> TestImage:
    return busybox((programs() / "busybox").read_bytes())


def app(image: str, *command: str, **fields: Any) -> dict[str, Any]:
    return {"name": "app", "image": image, **({"command": [*command]} if command else {}), **fields}


def sh(image: str, script: str, **fields: Any) -> dict[str, Any]:
    return app(image, "sh", "-c", script, **fields)


async def test_a_pod_of_an_image_runs_with_a_root_of_its_own(node: Any, registry: Registry, box: TestImage) -> None:
    digest = registry.push("lab/box", "1", box)
    image = f"{registry.host}/lab/box:1"
    async with node.running():
        script = "echo $FROM; hostname; cat /etc/hostname; echo mine > /bin/new && cat /bin/new; id -u; ls /"
        pod = await node.submit(sh(image, script), restartPolicy="Never")
        done = await node.until_phase("Succeeded")
        words = (await node.output()).split()
        assert words[:5] == ["image", "p", "p", "mine", "0"]
        assert set(words[5:]) == {"bin", "dev", "etc", "proc", "sys", "tmp"}
        told = done["status"]["containerStatuses"][0]
        assert (told["image"], told["imageID"]) == (image, f"{registry.host}/lab/box@{digest}")
        assert [reason for reason, _ in node.notes.said] == ["Pulling", "Pulled", "Created", "Started"]
        await node.until(lambda: not node.place(pod.uid).roots.exists())
        await node.submit(sh(image, "ls /bin/new"), name="q", restartPolicy="Never")
        await node.until_phase("Failed", name="q")  # what the first wrote was its own
