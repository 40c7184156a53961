"""What is thrown away goes, and what is mounted in it does not."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from headrace.node.volumes.trash import Trash, mounts_beneath

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_it_vanishes_at_once_and_is_deleted_later(tmp_path: Path) -> None:
    trash, gone, left = Trash(tmp_path / "trash"), tmp_path / "pod", tmp_path / "trash" / "left-by-another-agent"
    (gone / "deep").mkdir(parents=True)
    (gone / "deep" / "file").write_text("x")
    left.mkdir(parents=True)
    trash.put(gone)
    trash.put(gone)
    assert not gone.exists()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(trash.run)
        with anyio.fail_after(10):
            while list((tmp_path / "trash").iterdir()):  # noqa: ASYNC110 - a thread deletes
                await anyio.sleep(0.005)
        tasks.cancel_scope.cancel()


def test_mounts_beneath(tmp_path: Path) -> None:
    info = tmp_path / "mountinfo"
    info.write_text("1 0 8:1 / / rw - ext4 a rw\n2 1 0:5 / /x/trash/pod/vol\\040ume rw - fuse.juicefs b rw\n")
    assert mounts_beneath(Path("/x/trash/pod"), info) == ["/x/trash/pod/vol ume"]
    assert mounts_beneath(Path("/x/trash/po"), info) == []
