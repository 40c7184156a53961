"""`headrace up` and `down`: the processes of one installation on this machine, under a supervisor that outlives the command.

    supervisor ── world-own, world-cloud ── node ── control     (docs/design.md, section 4)

Nothing here runs for long: it writes two files, starts the supervisor, and waits until everything is ready.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headrace.errors import Conflict, EngineFailed, InvalidSpec, Unsupported
from headrace.roles import settings_file
from headrace.roles.settings_file import NODES, Capacity, UpSettings
from headrace.sandbox.client import Client
from headrace.sandbox.supervised import is_left
from headrace.sandbox.wire import Refusal
from headrace.settings import Home
from headrace.spec.kind import Json
from headrace.units import parse_quantity

__all__ = ["Capacity", "processes", "purge", "start", "stop"]

_READY_WITHIN_S = 45
_MAIN_PORT = 6443
_KEPT = "{}; its settings stay as they are."


def start(home: Home, *, port: int, own: Capacity, cloud: Capacity, progress: Callable[[str], None]) -> Json:
    """Start everything, or find it running; return where it is. Idempotent.

    Raises:
        InvalidSpec: a capacity is no quantity.
        Conflict: the port is taken, or it runs already with other settings.
        EngineFailed: something did not become ready; the sentence names it and its log.
    """
    began_s = time.monotonic()
    if sys.platform != "linux":
        raise Unsupported(
            f"Headrace embedded needs Linux; this is {sys.platform}.",
            hint="Run it in a Linux container or virtual machine, or use a cluster with --kubeconfig.",
        )
    _check(own, cloud)
    running = processes(home)
    if running and all(process["state"] == "ready" for process in running):
        return _started(home, _kept(home, port), began_s, [_KEPT.format("It was running already")])
    left = _left(home)
    settings = _kept(home, port) if left else _settings(home, port, own, cloud)
    home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings_file.write(home, settings)
    table = home.root / "supervisor.json"
    table.write_text(json.dumps(_table(home), indent=1))
    _supervise(table)
    progress("taking over what still runs …" if left else "starting worlds, control and node agents …")
    try:
        with Client(str(home.supervisor_socket), timeout_s=_READY_WITHIN_S + 5) as client:
            client.call("wait", timeout_s=_READY_WITHIN_S)
    except Refusal as refusal:
        tail = _log_tails(home)
        stop(home)
        raise EngineFailed(
            f"Headrace did not start: {refusal.message}.{tail}", hint="See also: headrace doctor"
        ) from refusal
    except OSError as error:
        raise EngineFailed(
            f"The supervisor went away: {error}.", hint=f"Its log: {home.root / 'run' / 'supervisor.log'}"
        ) from error
    notes = [_KEPT.format(f"What ran on was taken over ({', '.join(left)})")] if left else []
    return _started(home, settings, began_s, notes)


def stop(home: Home) -> bool:
    """End everything and return whether anything ran. Idempotent; also after the supervisor was killed."""
    table = home.root / "supervisor.json"
    if not table.is_file():
        return False
    was_running = bool(processes(home) or _left(home))
    done = subprocess.run(
        [sys.executable, "-m", "headrace.sandbox.supervisor", "--table", str(table), "--down"],
        capture_output=True,
        text=True,
        check=False,
        env=_environment(home),
    )
    if done.returncode:
        raise EngineFailed(f"Not everything could be stopped: {done.stderr.strip()}", hint="Run headrace down again.")
    return was_running


def _left(home: Home) -> list[str]:
    """Return the names of processes that still run, also those whose supervisor was killed."""
    names = ("control", "node", *(f"world-{node}" for node in NODES))
    return [name for name in names if is_left(str(home.root / "run"), name)]


def processes(home: Home) -> list[Json]:
    """Return name, pid, state, restarts and memory of each process; empty when no supervisor runs."""
    if not home.supervisor_socket.exists():
        return []
    try:
        with Client(str(home.supervisor_socket), timeout_s=5) as client:
            status = client.call("status")
    except (OSError, Refusal):
        return []
    rows = [{"name": "supervisor", "pid": status["pid"], "state": "ready", "restarts": 0}, *status["processes"]]
    return [{**row, "memory": _memory(row.get("pid") or 0, is_world=row["name"].startswith("world-"))} for row in rows]


def _memory(pid: int, *, is_world: bool) -> str:
    """Return the proportional set size in MiB, of a world both processes', or a dash where it cannot be read."""
    import psutil

    try:
        process = psutil.Process(pid)
        family = [process, *(process.children() if is_world else ())]
        return f"{sum(member.memory_full_info().pss for member in family) / 2**20:.0f} MiB"
    except (psutil.Error, AttributeError):
        return "–"


def purge(home: Home) -> None:
    """Delete the state directory with everything in it."""
    shutil.rmtree(home.root)


def _check(*capacities: Capacity) -> None:
    for capacity in capacities:
        for name, text in (("CPU", capacity.cpu), ("memory", capacity.memory)):
            try:
                good = text is None or parse_quantity(text) > 0
            except ValueError as error:
                raise InvalidSpec(f"{name} {error}.", hint="Write for example --own-cpu 4 --own-memory 8Gi") from error
            if not good:
                raise InvalidSpec(f"{name} must be more than nothing, not {text}.", hint="Write for example 4 or 8Gi")


def _settings(home: Home, port: int, own: Capacity, cloud: Capacity) -> UpSettings:
    """Keep the port of the last time when none is asked for, so that kubeconfigs made then still work."""
    known = settings_file.read(home) if (home.root / settings_file.SETTINGS).is_file() else None
    wanted = port or (known.port if known else 0)
    chosen = _free_port(wanted, is_strict=bool(port))
    return UpSettings(port=chosen, own=own, cloud=cloud, path=_environment(home)["PATH"])


def _kept(home: Home, port: int) -> UpSettings:
    """Return the settings of what runs; raises Conflict when another port is wanted."""
    settings = settings_file.read(home)
    if port not in {0, settings.port}:
        raise Conflict(f"Headrace runs already, on port {settings.port}.", hint="Stop it first: headrace down")
    return settings


def _free_port(wanted: int, *, is_strict: bool) -> int:
    for candidate in dict.fromkeys((wanted or _MAIN_PORT, 0)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError as error:
                if is_strict:
                    raise Conflict(
                        f"Port {candidate} cannot be used: {error.strerror}.",
                        hint="Choose another, or none: headrace up",
                    ) from error
                continue
            return int(probe.getsockname()[1])
    raise AssertionError("port 0 can always be bound")


def _environment(home: Home) -> dict[str, str]:
    """Return what our processes need of the environment, and nothing else of the caller's."""
    programs = [str(Path(sys.executable).parent), *os.environ.get("PATH", os.defpath).split(os.pathsep)]
    return {
        "PATH": os.pathsep.join(dict.fromkeys(programs)),
        "HEADRACE_HOME": str(home.root),
        "HOME": os.environ.get("HOME", "/"),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        **{name: os.environ[name] for name in ("PYTHONPATH", "TZ") if name in os.environ},
    }


def _table(home: Home) -> Json:
    env = _environment(home)

    def entry(name: str, arguments: list[str], beside: list[str], ready: Json, ready_within_s: int = 20) -> Json:
        return {
            "name": name,
            "argv": [sys.executable, "-m", *arguments],
            "env": env,
            "log": str(home.logs / f"{name}.log"),
            "beside": beside,
            "ready": ready,
            "ready_within_s": ready_within_s,
            "stop_within_s": 10,
        }

    worlds = [
        entry(
            f"world-{node}",
            [
                "headrace.sandbox.world",
                "--name",
                node,
                "--socket",
                str(home.world_socket(node)),
                "--directory",
                str(home.world(node)),
                "--mask",
                str(home.root),
            ],
            [],
            {"socket": str(home.world_socket(node))},
        )
        for node in NODES
    ]
    # Python takes half a second to import what control and node need: all begin at once, and the node waits by itself.
    names = [world["name"] for world in worlds]
    control = entry("control", ["headrace.roles.control"], [], {"file": str(home.ready("control"))})
    node = entry("node", ["headrace.roles.node"], [*names, "control"], {"file": str(home.ready("node"))}, 40)
    return {
        "directory": str(home.root / "run"),
        "lock": str(home.lock),
        "socket": str(home.supervisor_socket),
        "unprivileged": {"reach": [], "own": [str(home.root)]},
        "processes": [*worlds, control, node],
    }


def _supervise(table: Path) -> None:
    began = subprocess.run(
        [sys.executable, "-m", "headrace.sandbox.supervisor", "--table", str(table)],
        capture_output=True,
        text=True,
        check=False,
    )
    if began.returncode:
        raise EngineFailed(f"The supervisor did not start: {began.stderr.strip()}", hint="See: headrace doctor")


def _log_tails(home: Home) -> str:
    """Return the last error in each process's log, as a sentence each."""
    said = []
    for log in sorted(home.logs.glob("*.log")):
        lines = [line for line in log.read_text(errors="replace").splitlines() if "rror" in line]
        said += [f" {log.stem}: {_sentence(lines[-1])}"] if lines else []
    return "".join(said)


def _sentence(line: str) -> str:
    """Return what a JSON log line says went wrong, or the line itself."""
    try:
        return str(json.loads(line)["error"])
    except (ValueError, KeyError, TypeError):
        return line[-300:]


def _started(home: Home, settings: UpSettings, began_s: float, warnings: list[str]) -> Json:
    notes = home.root / "run" / "notes.json"
    if notes.is_file():
        warnings = [*warnings, *json.loads(notes.read_text())]
    started: dict[str, Any] = {
        "server": settings.server,
        "kubeconfig": str(home.kubeconfig),
        "home": str(home.root),
        "pools": list(NODES),
        "seconds": time.monotonic() - began_s,
        "warnings": warnings,
    }
    return started
