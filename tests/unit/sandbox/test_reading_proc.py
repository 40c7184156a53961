"""What is read from /proc: mounts, who a process is, how much memory it has."""

import os
import subprocess
from pathlib import Path

import pytest

from headrace.sandbox import journal, memory, mounts, supervised


def test_mountinfo_is_read_with_its_escapes(tmp_path: Path) -> None:
    path = tmp_path / "mountinfo"
    path.write_text(
        "22 27 0:21 / /proc rw,relatime - proc proc rw\n"
        "47 22 0:49 /sub\\040dir /a\\040b\\134c ro,nosuid shared:7 master:2 - fuse.rclone host:/x\\011y rw,user_id=0\n"
    )
    assert mounts.listed(str(path))[1] == {
        "id": 47,
        "parent": 22,
        "device": "0:49",
        "root": "/sub dir",
        "target": "/a b\\c",
        "options": ["ro", "nosuid"],
        "type": "fuse.rclone",
        "source": "host:/x\ty",
    }


def test_beneath_is_by_component() -> None:
    assert mounts.is_beneath("/a/b", "/a")
    assert mounts.is_beneath("/a", "/a")
    assert mounts.is_beneath("/a", "/")
    assert not mounts.is_beneath("/ab", "/a")


def test_a_process_is_its_pid_its_start_and_this_boot() -> None:
    child = subprocess.Popen(["sleep", "1000"])
    ticks = supervised.start_ticks(child.pid)
    record = {"pid": child.pid, "start_ticks": ticks, "boot_id": journal.boot_id()}
    assert supervised.is_alive(record)
    assert not supervised.is_alive({**record, "start_ticks": ticks - 1})
    assert not supervised.is_alive({**record, "boot_id": "another"})
    assert not supervised.is_alive({})
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not supervised.is_alive(record), "a zombie is dead"
    child.wait()
    assert not supervised.is_alive(record)


def test_memory_of_a_process() -> None:
    pid = os.getpid()
    assert memory.resident_bytes(pid) >= memory.share(pid).bytes > 1 << 20
    assert memory.resident_bytes(2**22 - 1) == memory.share(2**22 - 1).bytes == 0


def test_a_rollup_is_read() -> None:
    text = b"55e0-7ffc ---p 00000000 00:00 0 [rollup]\nRss: 9 kB\nPss:  7 kB\nPss_Dirty: 1 kB\nPss_Shmem:   2 kB\n"
    assert memory.parse_share(text) == memory.Share(7 * 1024, 2 * 1024)
    assert memory.parse_share(b"") == memory.Share(0, 0)


@pytest.mark.parametrize(
    ("shares", "files_bytes", "expected"),
    [
        ([], 0, 0),
        ([(10, 0), (20, 0)], 0, 30),
        ([(10, 0)], 5, 15),  # files that nobody maps
        ([(10, 4), (10, 4)], 8, 20),  # the same pages, mapped
        ([(10, 4)], 0, 10),  # a memfd is in no file system
        ([(10, 4)], 9, 15),
    ],
)
def test_memory_used_together(shares: list[tuple[int, int]], files_bytes: int, expected: int) -> None:
    assert memory.working_set_bytes([memory.Share(*one) for one in shares], files_bytes) == expected
