"""What this machine lets a world do, found by really doing it in a child process that is thrown away.

`features()` maps each feature to the sentence why it is missing, "" where it is there. The sentences name a cure.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable

from headrace.sandbox import process, syscalls
from headrace.sandbox.loop import fork

_OLDEST_KERNEL = (5, 12)
_MAJOR, _MINOR = 10, 229  # /dev/fuse
_CGROUPS = "/sys/fs/cgroup"


def features() -> dict[str, str]:
    """Try everything once, in about 10 ms. The caller must have one thread only.

    Keys: `userns` (user, mount and PID namespaces with a mount of ours), `proc` (a fresh /proc in them), `fuse` (a FUSE
    mount in them), `overlay`, `cgroup2` (memory limits by a cgroup delegated to this user).
    """
    found = {"cgroup2": _cgroup2()}
    version = tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2])
    if version < _OLDEST_KERNEL:
        why = f"the kernel is {platform.release()}; containers need Linux {_OLDEST_KERNEL[0]}.{_OLDEST_KERNEL[1]} or newer"
        return found | dict.fromkeys(("userns", "proc", "fuse", "overlay"), why)
    receive, send = os.pipe2(os.O_CLOEXEC)
    pid = fork(lambda: _try_all(send), (send,))
    os.close(send)
    with open(receive, "rb") as file:
        lines = file.read().splitlines()
    os.waitpid(pid, 0)
    for line in lines:
        found |= json.loads(line)
    for name in ("userns", "proc", "fuse", "overlay"):
        found.setdefault(name, found.get("userns") or "trying it ended the process that tried")
    return found


def _try_all(send: int) -> None:
    """Report line by line, so that a trial that kills the process leaves the earlier ones told."""

    def report(name: str, trial: Callable[[], None], cure: str) -> bool:
        try:
            trial()
        except OSError as error:
            why = f"{error.strerror or error}; {cure}"
        else:
            why = ""
        os.write(send, json.dumps({name: why}).encode() + b"\n")
        return not why

    if not report("userns", _enter, _userns_cure()):
        return
    report("overlay", _overlay, "Linux 5.11 or newer lets ordinary users mount overlays")
    report("fuse", _fuse, "load the module fuse and make /dev/fuse usable by this user (chmod 0666 /dev/fuse)")
    # Last, as only a child is in the new PID namespace.
    in_child, result = os.pipe2(os.O_CLOEXEC)
    pid = fork(lambda: _report_proc(result, report), (result, send))
    os.close(result)
    os.close(in_child)
    os.waitpid(pid, 0)


def _report_proc(_result: int, report: Callable[[str, Callable[[], None], str], bool]) -> None:
    report("proc", _proc, "a surrounding container hides parts of /proc; run it with an unmasked /proc")


def _enter() -> None:
    uid, gid = os.geteuid(), os.getegid()
    syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID)
    process.map_ids(0, 0, outside_uid=uid, outside_gid=gid)
    syscalls.mount("none", "/", flags=syscalls.MS_PRIVATE | syscalls.MS_REC)
    syscalls.mount("tmpfs", "/tmp", "tmpfs")


def _overlay() -> None:
    for name in ("lower", "upper", "work", "merged"):
        os.mkdir(f"/tmp/{name}")
    syscalls.mount(
        "overlay", "/tmp/merged", "overlay", data="lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work,userxattr"
    )


def _fuse() -> None:
    os.makedirs("/tmp/fuse")
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        syscalls.mount(
            "probe",
            "/tmp/fuse",
            "fuse",
            syscalls.MS_NOSUID | syscalls.MS_NODEV,
            f"fd={device},rootmode=40000,user_id=0,group_id=0",
        )
        syscalls.umount("/tmp/fuse", syscalls.MNT_DETACH)
    finally:
        os.close(device)


def _proc() -> None:
    syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)


def _userns_cure() -> str:
    for path, wrong, cure in (
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
        ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ):
        try:
            with open(path) as file:
                if file.read().strip() == wrong:
                    return f"as root run: {cure}"
        except OSError:
            continue
    return "user namespaces are forbidden here; a surrounding container must allow them (no seccomp filter on unshare and mount)"


def _cgroup2() -> str:
    """Memory is limited by looking at it (see `memory.py`) wherever this says why."""
    try:
        with open("/proc/self/cgroup") as file:
            own = next((line.rstrip("\n")[3:] for line in file if line.startswith("0::")), "")
        with open(f"{_CGROUPS}{own}/cgroup.controllers") as file:
            has_memory = "memory" in file.read().split()
    except OSError:
        return "cgroup v2 is not mounted on /sys/fs/cgroup"
    if not has_memory or not os.access(f"{_CGROUPS}{own}", os.W_OK):
        return "no cgroup with a memory controller is delegated to this user; memory limits are watched instead"
    return ""


if __name__ == "__main__":
    print(json.dumps(features(), indent=2))  # noqa: T201
