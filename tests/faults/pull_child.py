"""Pulls one image into a directory again and again, for a test that kills it: `pull_child.py DIRECTORY IMAGE`."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from headrace.node.images import reference
from headrace.node.images.credentials import Keyring
from headrace.node.images.images import Images
from headrace.node.images.reference import Reference


async def pull(directory: Path, wanted: Reference) -> None:
    """Pull until killed; whatever was pulled is thrown away again."""
    images = Images(directory, (), agent="test", in_use=set)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(images.run)
        while True:
            pulled = await images.pull(wanted, Keyring())
            print("pulled", flush=True)
            images.store.forget(pulled.image)
            images.store.unneeded()


if __name__ == "__main__":
    anyio.run(pull, Path(sys.argv[1]), reference.parse(sys.argv[2]))
