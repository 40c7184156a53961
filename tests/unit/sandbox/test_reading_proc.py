"""What is read from /proc: mounts, who a process is, how much memory it has."""

import os
import subprocess
from pathlib import Path

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
    assert memory.resident_bytes(pid) >= memory.proportional_bytes(pid) > 1 << 20
    assert memory.resident_bytes(2**22 - 1) == memory.proportional_bytes(2**22 - 1) == 0
