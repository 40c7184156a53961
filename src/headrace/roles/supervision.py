"""A supervisor and the processes of its table, for whoever starts them on this machine: `headrace up`, `headrace node`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from headrace.errors import EngineFailed
from headrace.sandbox.client import Client
from headrace.sandbox.supervised import is_left
from headrace.sandbox.wire import Refusal
from headrace.settings import HOME_VARIABLE, Home
from headrace.spec.kind import Json

TABLE = "supervisor.json"
_WORLD_PREFIX = "world-"
_WAYS_OUT = (
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "https_proxy",
    "http_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
"""Variables that say how registries are reached, and who vouches for them."""


def world_process(node: str) -> str:
    """Return what the process of a node's world is called."""
    return f"{_WORLD_PREFIX}{node}"


def environment(home: Home) -> dict[str, str]:
    """Return what our processes need of the environment, and nothing else of the caller's."""
    programs = [str(Path(sys.executable).parent), *os.environ.get("PATH", os.defpath).split(os.pathsep)]
    return {
        "PATH": os.pathsep.join(dict.fromkeys(programs)),
        HOME_VARIABLE: str(home.root),
        "HOME": os.environ.get("HOME", "/"),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        **{name: os.environ[name] for name in ("PYTHONPATH", "TZ", *_WAYS_OUT) if name in os.environ},
    }


def entry(
    home: Home,
    name: str,
    arguments: Sequence[str],
    *,
    ready: Json | None,
    beside: Sequence[str] = (),
    ready_within_s: int = 20,
) -> Json:
    """Return a process of the table: `python -m` with these arguments. See `sandbox.table`."""
    return {
        "name": name,
        "argv": [sys.executable, "-m", *arguments],
        "env": environment(home),
        "log": str(home.logs / f"{name}.log"),
        "beside": list(beside),
        "ready": ready,
        "ready_within_s": ready_within_s,
        "stop_within_s": 10,
    }


def world_entry(home: Home, node: str, masks: Iterable[Path]) -> Json:
    """Return the process that holds a node's pods, to whom nothing at or below `masks` is there."""
    options = ["--name", node, "--socket", str(home.world_socket(node)), "--directory", str(home.world(node))]
    for mask in masks:
        options += ["--mask", str(mask)]
    return entry(
        home,
        world_process(node),
        ["headrace.sandbox.world", *options],
        ready={"socket": str(home.world_socket(node))},
    )


def table(home: Home, processes: Sequence[Json], reach: Sequence[Path] = ()) -> Json:
    """Return the supervisor's table."""
    return {
        "directory": str(home.root / "run"),
        "lock": str(home.lock),
        "socket": str(home.supervisor_socket),
        "unprivileged": {"reach": [str(path) for path in reach], "own": [str(home.root)]},
        "processes": list(processes),
    }


def supervise(home: Home, wanted: Json) -> None:
    """Have a supervisor run what the table says; one that runs goes on as it is."""
    path = home.root / TABLE
    path.write_text(json.dumps(wanted, indent=1))
    began = subprocess.run(
        [sys.executable, "-m", "headrace.sandbox.supervisor", "--table", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if began.returncode:
        raise EngineFailed(f"The supervisor did not start: {began.stderr.strip()}", hint="See: headrace doctor")


def end_all(home: Home) -> None:
    """End every process of the table; also after the supervisor was killed. Idempotent."""
    path = home.root / TABLE
    if not path.is_file():
        return
    done = subprocess.run(
        [sys.executable, "-m", "headrace.sandbox.supervisor", "--table", str(path), "--down"],
        capture_output=True,
        text=True,
        check=False,
        env=environment(home),
    )
    if done.returncode:
        raise EngineFailed(f"Not everything could be stopped: {done.stderr.strip()}", hint="Run it again.")


def left(home: Home, names: Iterable[str]) -> list[str]:
    """Return the names of processes that still run, also those whose supervisor was killed."""
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
    return [{**row, "memory": _memory(row.get("pid") or 0, row["name"])} for row in rows]


def _memory(pid: int, name: str) -> str:
    """Return the proportional set size in MiB, of a world both processes', or a dash where it cannot be read."""
    import psutil

    try:
        process = psutil.Process(pid)
        family = [process, *(process.children() if name.startswith(_WORLD_PREFIX) else ())]
        return f"{sum(member.memory_full_info().pss for member in family) / 2**20:.0f} MiB"
    except (psutil.Error, AttributeError):
        return "–"


def log_tails(home: Home) -> str:
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
