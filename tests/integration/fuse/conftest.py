"""A node for FUSE tests: namespaces with a broker in them, and containers of its clients and apps nested in those.

`user` is the embedded engine's way, a user namespace of an ordinary user; `root` is a real node's, where the broker is
root. Run as root, the first is played by uid 65534, which gets a copy of /dev/fuse with mode 0666 in a mount
namespace of its own, so that the machine's stays as it is. Clients have the stand-in in Python or the static one.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.native import compiled

from headrace.fuse import mounts
from headrace.fuse.install import install_native

IS_ROOT = os.geteuid() == 0
NOBODY = 65534
_SOURCE = Path(__file__).parents[3] / "src"
_AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
_LONG_S = 30.0

# What the tools need of a checkout below /tmp, which containers have of their own.
_IN_TMP = " ".join(f"'{path}'" for path in (sys.prefix, sys.base_prefix, _SOURCE) if str(path).startswith("/tmp/"))
# Run as root before a user namespace is made: opens the way to what tests need and gives a /dev/fuse of its own.
_OPEN_UP = """
mount -t tmpfs -o mode=755 tmpfs /mnt; i=0
for pair in {pairs}; do
  closed=${{pair%%=*}}; needed=${{pair#*=}}; mkdir /mnt/need; mount --rbind "$needed" /mnt/need
  mount -t tmpfs -o mode=755 tmpfs "$closed"; mkdir -p "$needed"; mount --move /mnt/need "$needed"; rmdir /mnt/need
done
mknod /mnt/fuse c 10 229; chmod {mode} /mnt/fuse; mount --bind /mnt/fuse /dev/fuse
exec "$@"
"""
_HOLD = "mount --make-rshared /; : >{ready}; exec sleep 600"

# A container: mounts arrive (rslave), a /tmp and /run of its own, then no capability and no way to any.
_CONTAINER = """
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/headrace/bin /run/headrace/fuse /run/volume /run/app
mount --rbind {data} /run/volume; mount --make-rslave /run/volume
if {is_app}; then mount --rbind {data}/ds /run/app; mount --make-rslave /run/app; umount -l /run/volume
else mount --bind {sockets} /run/headrace/fuse; mount --bind {sockets}/bin /run/headrace/bin; fi
i=0; for kept in {kept}; do i=$((i+1)); mkdir -p /run/kept/$i; mount --rbind "$kept" /run/kept/$i; done
mount -t tmpfs -o mode=1777 tmpfs /tmp
i=0; for kept in {kept}; do i=$((i+1)); mkdir -p "$kept"; mount --rbind /run/kept/$i "$kept"; done
exec {drop} --bounding-set=-all --inh-caps=-all --no-new-privs \
  env -i PATH=/run/headrace/bin:{path}:/usr/bin:/bin HOME=/tmp {environment} "$@"
"""


def wait_until(happens: Callable[[], Any], what: str, deadline_s: float = _LONG_S) -> Any:
    """Return the first true value of `happens`, failing with `what` after the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        value = happens()
        if value:
            return value
        assert time.monotonic() < end, f"not within {deadline_s:g} s: {what}"
        time.sleep(0.02)


def children_of(pid: int) -> list[int]:
    """Return all descendants of a process, parents first."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                parents.setdefault(parent, []).append(int(entry.name))
    found, left = [], [pid]
    while left:
        below = parents.get(left.pop(0), [])
        found += below
        left += below
    return found


def opened_up(argv: Sequence[str], *, as_root: bool = False, device_mode: int = 0o666) -> list[str]:
    """Return how root runs `argv` as an ordinary user of a machine whose /dev/fuse has the mode `device_mode`."""
    script = _OPEN_UP.format(pairs=" ".join(f"{c}={n}" for c, n in _closed()), mode=f"{device_mode:o}")
    who = () if as_root else _AS_NOBODY
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh", *who, *argv]


class Container:
    """A process in a container, and what it wrote."""

    def __init__(self, process: subprocess.Popen[str], log: Path, program: str) -> None:
        self.process = process
        self.log = log
        self._program = program

    def pids(self) -> list[int]:
        """Return the pids, on this machine, of the program and its helpers, oldest first."""
        found = []
        for pid in children_of(self.process.pid):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().strip() == self._program[:15]:
                    found.append(pid)
        return found

    def signal(self, number: int) -> None:
        for pid in wait_until(self.pids, f"{self._program} runs"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait(self, deadline_s: float = _LONG_S) -> int:
        return self.process.wait(deadline_s)


class Node:
    """Namespaces that pods are nested in, and the broker's control socket.

    Args:
        programs: the static stand-in and probe; None for those in Python.
    """

    def __init__(self, kind: str, programs: Path | None = None) -> None:
        self.kind = kind
        self.programs = programs
        self.directory = Path(tempfile.mkdtemp(prefix="hr-fuse-", dir="/var/tmp"))
        self.directory.chmod(0o755)
        if IS_ROOT and kind == "user":
            os.chown(self.directory, NOBODY, NOBODY)
        self._started: list[subprocess.Popen[str]] = []
        self._count = 0
        self._holder, self._inner = self._hold()
        self.broker_directory = self.directory / "broker"
        self.broker: subprocess.Popen[str] | None = None

    def _hold(self) -> tuple[subprocess.Popen[str], int]:
        ready = self.directory / "ready"
        hold = _HOLD.format(ready=ready)
        common = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
        user = ["--user", "--map-root-user"] if self.kind == "user" else []
        argv = ["unshare", *user, *common, "sh", "-c", hold]
        if IS_ROOT:
            argv = opened_up(argv, as_root=self.kind == "root")
        holder = subprocess.Popen(argv, text=True)
        wait_until(lambda: ready.exists() or holder.poll() is not None, "namespaces are made")
        assert holder.poll() is None, "no namespaces on this machine"
        return holder, children_of(holder.pid)[-1]

    @property
    def enter(self) -> list[str]:
        """Return the words before a command that is to run in the node's namespaces."""
        user = ["-U", "--preserve-credentials"] if self.kind == "user" else []
        nobody = _AS_NOBODY if IS_ROOT and self.kind == "user" else ()
        return [*nobody, "nsenter", "-t", str(self._inner), "-m", "-p", *user, "--"]

    def run(self, *argv: str, deadline_s: float = _LONG_S) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self.enter, *argv], capture_output=True, text=True, timeout=deadline_s)

    def python(self, code: str, *, deadline_s: float = _LONG_S) -> subprocess.CompletedProcess[str]:
        return self.run("env", f"PYTHONPATH={_SOURCE}", sys.executable, "-c", code, deadline_s=deadline_s)

    def start_broker(self) -> None:
        self.broker = subprocess.Popen(
            [*self.enter, "env", f"PYTHONPATH={_SOURCE}", sys.executable, "-m", "headrace.fuse.broker", "--directory",
             str(self.broker_directory)],
            text=True,
        )  # fmt: skip
        self._started.append(self.broker)

    def kill_broker(self) -> None:
        assert self.broker is not None
        pid = self.order("hello")["pid"]
        self.run("kill", "-9", str(pid))
        self.broker.wait(_LONG_S)

    def order(self, op: str, **fields: Any) -> dict[str, Any]:
        """Give the broker an order, waiting for it to listen; return its answer whether it is ok or not."""

        def connect() -> socket.socket | None:
            control = socket.socket(socket.AF_UNIX)
            try:
                control.connect(str(self.broker_directory / "control.sock"))
            except OSError:
                control.close()
                return None
            return control

        with wait_until(connect, "the broker listens") as control, control.makefile("rwb") as stream:
            control.settimeout(_LONG_S)
            stream.write(json.dumps({"op": op, **fields}).encode() + b"\n")
            stream.flush()
            answer: dict[str, Any] = json.loads(stream.readline())
            return answer

    def volume(self, name: str, **fields: Any) -> Path:
        """Make a data volume, register it and return its directory."""
        place = self.directory / name
        data, sockets = place / "data", place / "sockets"
        script = f"mkdir -p {data} {sockets}; mount -t tmpfs -o size=1m,mode=755 tmpfs {data}"
        made = self.run("sh", "-ec", script)
        assert made.returncode == 0, made.stderr
        if self.kind == "root":
            fields.setdefault("client_uid", NOBODY)
        answer = self.order("register", id=name, data_dir=str(data), socket_dir=str(sockets), **fields)
        assert answer["ok"], answer
        if self.programs is not None:
            install_native(str(sockets / "bin"), programs=str(self.programs))
            return place
        arguments = f"{str(sockets / 'bin')!r}, seen_at='/run/headrace/bin', socket='/run/headrace/fuse/broker.sock'"
        code = f"from headrace.fuse.install import install_standin; install_standin({arguments})"
        made = self.python(code)
        assert made.returncode == 0, made.stderr
        return place

    def state(self, name: str) -> str:
        return str(self.order("state", id=name)["state"])

    def served(self, name: str, deadline_s: float = _LONG_S / 2) -> None:
        answer = self.order("wait", id=name, timeout_s=deadline_s, until=["served"])
        logs = "".join(log.read_text(errors="replace")[-2000:] for log in sorted(self.directory.glob("log-*")))
        assert answer["state"] == "served", (answer, logs)

    def probe(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the probe `served` in the node's namespaces."""
        if self.programs is not None:
            return self.run(str(self.directory / "served"), *arguments)
        return self.run("env", f"PYTHONPATH={_SOURCE}", sys.executable, "-m", "headrace.fuse.served", *arguments)

    def mounts(self, name: str) -> list[mounts.Mount]:
        """Return the FUSE mounts of a volume in the node's namespace, bottom first."""
        point = str(self.directory / name / "data" / "ds")
        text = self.run("cat", "/proc/self/mountinfo").stdout
        return [mount for mount in mounts.stack_at(point, mounts.parse_mountinfo(text)) if mount.is_fuse]

    def container(self, volume: str, *argv: str, is_app: bool = False, program: str = "") -> Container:
        """Start a container of the volume's client, or of an app that sees it at /run/app.

        Args:
            program: the command's name once it runs, where that is not the first word's.
        """
        place = self.directory / volume
        drop = f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups"
        nest = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "slave"]
        if self.kind == "user":
            drop = f"unshare --user --map-user={NOBODY} --map-group={NOBODY} setpriv --ambient-caps=-all"
            nest.insert(1, "--user")
            nest.insert(2, "--map-root-user")
        script = _CONTAINER.format(
            kept=_IN_TMP,
            data=place / "data",
            sockets=place / "sockets",
            is_app="true" if is_app else "false",
            path=Path(sys.executable).parent,
            drop=drop,
            environment=f"PYTHONPATH={_SOURCE}",
        )
        self._count += 1
        log = self.directory / f"log-{self._count}"
        with open(log, "w") as out:
            process = subprocess.Popen(
                [*self.enter, *nest, "sh", "-c", script, "sh", *argv], stdout=out, stderr=out, text=True
            )
        self._started.append(process)
        return Container(process, log, program or argv[0].rsplit("/", 1)[-1])

    def close(self) -> None:
        """End everything; namespaces take their processes and mounts with them.

        Connections are ended first: a client that is killed while it waits in its own mount would stay for ever, and
        the broker that sees to this dies with it.
        """
        if self.broker is not None and self.broker.poll() is None:
            for volume in self.order("list")["volumes"]:
                self.order("abort", id=volume["id"])
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._inner, signal.SIGKILL)
        self._holder.wait(_LONG_S)
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait(_LONG_S)
        assert mounts.beneath(str(self.directory), mounts.read_mounts()) == []
        assert not [pid for pid in _everybody() if str(self.directory) in _command_line(pid)]
        shutil.rmtree(self.directory)


def _everybody() -> list[str]:
    return [entry.name for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _command_line(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def _closed() -> list[tuple[str, str]]:
    """Return pairs of a directory that others may not enter and what is needed beneath it."""
    pairs: dict[str, str] = {}
    for needed in {os.path.realpath(sys.base_prefix), os.path.realpath(sys.prefix), str(_SOURCE)}:
        for above in reversed(Path(needed).parents):
            if not above.stat().st_mode & 0o001:
                pairs.setdefault(str(above), needed)
                break
    return sorted(pairs.items())


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The static stand-in and probe."""
    return compiled(tmp_path_factory.mktemp("native"))


@pytest.fixture(params=["user-python", "user-native", "root-native"])
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    """A node with a broker, the embedded engine's way and a real node's, where clients' images have no Python."""
    kind, _, stand_in = request.param.partition("-")
    if kind == "root" and not IS_ROOT:
        pytest.skip("a real node's broker is root")
    if not IS_ROOT and not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse is closed to ordinary users: sudo chmod 0666 /dev/fuse")
    programs = request.getfixturevalue("programs") if stand_in == "native" else None
    place = Node(kind, programs)
    if programs is not None:
        shutil.copy(programs / "served", place.directory / "served")
    try:
        place.start_broker()
        yield place
    finally:
        place.close()
