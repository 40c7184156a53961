"""What this machine lets an ordinary user do, found by really doing it, with the cure for what it does not.

Reading settings would not do: a container's filter, AppArmor or a masked /proc shows only when something is tried.
Everything is tried in a process of its own, which is single-threaded (a user namespace can be made in no other) and
takes all its mounts with it. Started by root, it first becomes the ordinary user that worlds run as, with a /dev/fuse
of its own, because that is what `headrace up` does.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from headrace.fuse.mounts import (
    DEVICE,
    MNT_DETACH,
    MS_NODEV,
    MS_NOSUID,
    Wish,
    mount,
    mount_fuse,
    open_directory,
    unmount,
)

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWPID = 0x20000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 1 << 18
_PR_SET_DUMPABLE = 4
_NOBODY = 65534
_FUSE_DEVICE = os.makedev(10, 229)
_DEADLINE_S = 20.0
_CONTAINER_CURE = (
    "This looks like a container's restriction: start it with --security-opt seccomp=unconfined "
    "--security-opt apparmor=unconfined --security-opt systempaths=unconfined --device /dev/fuse, or outside of it."
)


@dataclass(frozen=True)
class Capabilities:
    """What works here for an ordinary user.

    Args:
        user_namespaces: a user, mount and PID namespace of one's own in which one may mount.
        fuse_in_namespace: FUSE can be mounted there: sidecars and the own CSI driver work.
        setuid_fusermount: the distribution's fusermount3 mounts outside of namespaces.
        proc_mount: a pod can have a /proc of its own.
        overlay: overlays can be mounted there.
        cgroup2: a cgroup with a memory controller is ours, so limits can be enforced by the kernel.
        reasons: feature -> sentence with the cause and the cure, for each feature that is missing.
    """

    user_namespaces: bool = False
    fuse_in_namespace: bool = False
    setuid_fusermount: bool = False
    proc_mount: bool = False
    overlay: bool = False
    cgroup2: bool = False
    reasons: dict[str, str] = field(default_factory=dict)


FEATURES = ("user_namespaces", "fuse_in_namespace", "setuid_fusermount", "proc_mount", "overlay", "cgroup2")


def probe(*, deadline_s: float = _DEADLINE_S) -> Capabilities:
    """Try everything, in about 0.2 s. Blocking; may be called from any thread; never raises."""
    package = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(package)}
    command = [sys.executable, "-m", "headrace.fuse.probe"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=deadline_s, env=environment, check=True)
        return Capabilities(**json.loads(done.stdout))
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        said = getattr(error, "stderr", b"") or b""
        why = f"The probe failed: {error}. {said.decode(errors='replace')[-300:]}".strip()
        return Capabilities(reasons=dict.fromkeys(FEATURES, why))


# -- in the probing process ----------------------------------------------------------------------------------------


class _Report:
    """Collects `feature -> "" or why not`, also from children that end."""

    def __init__(self) -> None:
        self._receive, self._send = os.pipe2(os.O_CLOEXEC)

    def tell(self, name: str, why: str) -> None:
        os.write(self._send, json.dumps({name: why}).encode() + b"\n")

    def attempt(self, name: str, trial: Callable[[], None], cure: Callable[[OSError], str]) -> bool:
        try:
            trial()
        except OSError as error:
            self.tell(name, f"{error.strerror or error}. {cure(error)}")
            return False
        self.tell(name, "")
        return True

    def collect(self) -> Capabilities:
        os.close(self._send)
        found: dict[str, str] = {}
        with open(self._receive, "rb") as file:
            for line in file:
                found.update(json.loads(line))
        because = found.get("user_namespaces") or "The trial ended the process that made it."
        reasons = {name: found.get(name, because) for name in FEATURES}
        return Capabilities(
            **{name: not why for name, why in reasons.items()},
            reasons={name: why for name, why in reasons.items() if why},
        )


def _try_everything() -> Capabilities:
    report = _Report()
    report.tell("cgroup2", _why_no_cgroup())
    _in_child(lambda: _as_ordinary_user(report))
    return report.collect()


def _as_ordinary_user(report: _Report) -> None:
    if os.geteuid() == 0:
        _become_nobody()
    report.attempt(
        "setuid_fusermount", _try_fusermount, lambda _error: "Install fuse3 (Debian, Ubuntu: apt install fuse3)."
    )
    if not report.attempt("user_namespaces", _enter_namespaces, _namespace_cure):
        return
    report.attempt("fuse_in_namespace", _try_fuse, _fuse_cure)
    report.attempt("overlay", _try_overlay, lambda _error: "Overlays for ordinary users need Linux 5.11 or newer.")
    # Only a child is in the new PID namespace, whose /proc it may mount.
    _in_child(lambda: report.attempt("proc_mount", _try_proc, lambda _error: f"/proc is masked. {_CONTAINER_CURE}"))


def _in_child(work: Callable[[], object]) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def _become_nobody() -> None:
    """Do what the supervisor does as root: a private mount namespace, a usable /dev/fuse in it, then no root any more."""
    with suppress(OSError):
        _libc_call("unshare", _CLONE_NEWNS)
        mount("none", "/", "", _MS_PRIVATE | _MS_REC, "")
        mount("tmpfs", "/mnt", "tmpfs", 0, "mode=0755")
        os.mknod("/mnt/fuse", stat.S_IFCHR | 0o666, _FUSE_DEVICE)
        os.chmod("/mnt/fuse", 0o666)
        mount("/mnt/fuse", DEVICE, "", _MS_BIND, "")
    with suppress(OSError):  # refused where root itself is only a namespace's; what follows tells how far that gets
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
        _libc_call("prctl", _PR_SET_DUMPABLE, 1, 0, 0, 0)  # else /proc/self/uid_map stays root's


def _enter_namespaces() -> None:
    uid, gid = os.geteuid(), os.getegid()
    _libc_call("unshare", _CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWPID)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    mount("none", "/", "", _MS_PRIVATE | _MS_REC, "")
    mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")


def _try_fuse() -> None:
    os.mkdir("/tmp/fuse")
    device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    target = open_directory("/tmp/fuse")
    try:
        mount_fuse(device, target, Wish(source="probe"), uid=0, gid=0)
        unmount("/tmp/fuse", MNT_DETACH)
    finally:
        os.close(device)
        os.close(target)


def _try_overlay() -> None:
    for name in ("lower", "upper", "work", "merged"):
        os.mkdir(f"/tmp/{name}")
    layers = "lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work,userxattr"
    mount("overlay", "/tmp/merged", "overlay", 0, layers)


def _try_proc() -> None:
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV, "")


def _try_fusermount() -> None:
    helper = shutil.which("fusermount3") or shutil.which("fusermount")
    if helper is None:
        raise OSError(errno.ENOENT, "There is no fusermount3")
    with tempfile.TemporaryDirectory() as place:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            try:
                subprocess.run(
                    [helper, "-o", "ro", "--", place],
                    env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
                    pass_fds=[theirs.fileno()],
                    capture_output=True,
                    text=True,
                    timeout=_DEADLINE_S / 2,
                    check=True,
                )
            except subprocess.SubprocessError as error:
                said = str(getattr(error, "stderr", "") or error).strip()
                raise OSError(errno.EPERM, f"{helper} says: {said}") from error
            ours.settimeout(1.0)
            for fd in socket.recv_fds(ours, 1, 1)[1]:
                os.close(fd)
            subprocess.run([helper, "-u", "-z", "--", place], capture_output=True, timeout=_DEADLINE_S / 2, check=False)


def _namespace_cure(error: OSError) -> str:
    for path, wrong, cure in (
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        ("/proc/sys/user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=15000"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ):
        with suppress(OSError):
            if Path(path).read_text().strip() == wrong:
                return f"{path} is {wrong}: run `{cure}`, and put the setting into /etc/sysctl.d to keep it."
    if error.errno == errno.ENOSPC:
        return "No more user namespaces are allowed: run `sudo sysctl -w user.max_user_namespaces=15000`."
    return f"User namespaces are refused. {_CONTAINER_CURE}"


def _fuse_cure(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return "There is no /dev/fuse: run `sudo modprobe fuse`; in a container add --device /dev/fuse."
    if error.errno == errno.EACCES:
        rule = 'KERNEL=="fuse", MODE="0666"'
        return (
            f"/dev/fuse is closed to ordinary users: run `sudo chmod 0666 /dev/fuse`, and put `{rule}` into "
            "/etc/udev/rules.d/99-fuse.rules to keep it."
        )
    return f"FUSE is refused. {_CONTAINER_CURE}"


def _why_no_cgroup() -> str:
    cure = (
        "Limits are accounted and watched, not enforced by the kernel. For more, run under "
        "`systemd-run --user --scope -p Delegate=yes`."
    )
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = next(line[3:] for line in lines if line.startswith("0::"))
        place = Path("/sys/fs/cgroup") / own.lstrip("/")
        if "memory" not in (place / "cgroup.controllers").read_text().split():
            return f"This process's cgroup has no memory controller of version 2. {cure}"
        trial = place / f"headrace-probe-{os.getpid()}"
        trial.mkdir()
        trial.rmdir()
    except StopIteration:
        return f"This machine has no cgroup version 2. {cure}"
    except OSError as error:
        return f"No cgroup of version 2 is delegated to this user ({error.strerror}). {cure}"
    return ""


def _libc_call(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*(ctypes.c_ulong(argument) for argument in arguments)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(_try_everything())) + "\n")
