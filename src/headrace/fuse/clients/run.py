"""Runs a real client in the foreground for as long as it lives, and saves its counters.

This process stays the container's main one: it looks at the client's metrics every few seconds, passes signals on once
nothing is left to be written to the storage, and leaves the last counters as the termination message, which a client could
not do itself.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from headrace.fuse import counters
from headrace.fuse.clients.contract import Unusable
from headrace.fuse.clients.identity import be_as_outside, is_other_outside
from headrace.fuse.clients.unwritten import Uploads

STAND_IN_DIRECTORY = "/run/headrace/bin"
TERMINATION_LOG = "/dev/termination-log"
CACHE_DIRECTORY = "/var/cache/fluid-fuse"
_TEMPORARY = "/tmp"
_LOOK_EVERY_S = 5.0
_FIRST_LOOK_S = 1.0
_FLUSHING_LOOK_S = 0.2


@dataclass(frozen=True)
class Command:
    """A client ready to run.

    Args:
        env: added to this process's own; secrets are in it or in files, never in `argv`.
        is_known_by_uid: the client compares its own uid with what FUSE says (see `identity`).
        uploads: what it writes to the storage behind the apps' backs.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    metrics: counters.Source | None = None
    is_known_by_uid: bool = False
    uploads: Uploads | None = None


def find_program(name: str) -> str:
    """Return the client's path: on PATH, else beside the interpreter, where wheels put it."""
    beside = os.path.join(os.path.dirname(sys.executable), name)
    found = shutil.which(name) or (beside if os.access(beside, os.X_OK) else None)
    if found is None:
        raise Unusable(f"There is no {name} in this container. Use an image that has it, or `pip install {name}-bin`.")
    return found


def cache_directory(wanted: str) -> str:
    """Return where the client may cache: what was asked, else the usual place where it is writable, else /tmp."""
    if wanted:
        return wanted
    return CACHE_DIRECTORY if os.access(CACHE_DIRECTORY, os.W_OK) else f"{_TEMPORARY}/fuse-cache"


def child_environment(added: Mapping[str, str]) -> dict[str, str]:
    """Return the client's environment: the stand-in for fusermount3 is found first, and HOME can be written."""
    path = os.environ.get("PATH", os.defpath)
    if os.path.isdir(STAND_IN_DIRECTORY) and STAND_IN_DIRECTORY not in path.split(":"):
        path = f"{STAND_IN_DIRECTORY}:{path}"
    return {**os.environ, "HOME": _TEMPORARY, **added, "PATH": path}


def run(command: Command) -> int:
    """Run the client until it ends; return its exit code, 0 when it ended because it was asked to.

    It is asked to end once all is written to the storage, or at once when this process is asked a second time.
    """
    print(f"starting {os.path.basename(command.argv[0])} with {_capabilities()}", flush=True)
    renumber = be_as_outside if command.is_known_by_uid and is_other_outside() else None
    client = subprocess.Popen(command.argv, env=child_environment(command.env), preexec_fn=renumber)  # noqa: PLW1509 - one thread
    asked = False
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    pidfd = os.pidfd_open(client.pid)
    poller = select.poll()
    for fd in (read, pidfd):
        poller.register(fd, select.POLLIN)
    seen = _look(command.metrics, None)
    ending = _Ending(command.uploads)
    pause_s = _FIRST_LOOK_S
    while True:
        ready = {fd for fd, _ in poller.poll(pause_s * 1000)}
        if pidfd in ready:
            break
        if read in ready:
            os.read(read, 512)
            ending.ask()
            asked = True
        seen = _look(command.metrics, seen)
        pause_s = _LOOK_EVERY_S if seen else _FIRST_LOOK_S
        if asked:
            pause_s = _FLUSHING_LOOK_S
            if ending.is_due():
                client.send_signal(signal.SIGTERM)
    code = client.wait()
    if seen is not None:
        with suppress(OSError), open(TERMINATION_LOG, "w", encoding="utf-8") as file:
            json.dump(seen.to_json(), file)
    if asked:
        return 0
    return code if code >= 0 else 128 - code


class _Ending:
    """When a client that shall end may be told so.

    A file that an app has just closed comes to the client a moment later, so nothing must be left twice in a row.
    """

    def __init__(self, uploads: Uploads | None) -> None:
        self._uploads = uploads
        self._times_asked = 0
        self._times_empty = 0
        self._has_said = False
        self._is_told = False

    def ask(self) -> None:
        self._times_asked += 1
        self._is_told = False

    def is_due(self) -> bool:
        """Look at what is left; True once for each time that the client is to be told."""
        if self._is_told:
            return False
        self._is_told = self._times_asked > 1 or self._is_written()
        return self._is_told

    def _is_written(self) -> bool:
        left = self._uploads.hurry() if self._uploads is not None else None
        if left is None:
            return True
        if left and not self._has_said:
            self._has_said = True
            print(f"before this ends, {left} file(s) are written to the storage", flush=True)
        self._times_empty = 0 if left else self._times_empty + 1
        return self._times_empty > 1


def _capabilities() -> str:
    """Return what this container may do beyond an ordinary user, as the kernel shows it: all zeros is nothing."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        return next((" ".join(line.split()) for line in status if line.startswith("CapEff:")), "CapEff: unknown")


def main(mounting: Callable[[], Command], copying: Callable[[], Command], arguments: Sequence[str]) -> int:
    """Run a client's entry point: no argument mounts, `--copy` copies everything into targetPath and ends."""
    if list(arguments) not in ([], ["--copy"]):
        print("usage: [--copy]", file=sys.stderr)
        return 2
    try:
        command = copying() if arguments else mounting()
    except Unusable as error:
        print(error, file=sys.stderr)
        return 1
    return run(command)


def _look(source: counters.Source | None, before: counters.Counters | None) -> counters.Counters | None:
    if source is None:
        return None
    seen = source.look() or before
    with suppress(OSError):  # a container without a writable /tmp has its termination message still
        counters.keep(seen, source)
    return seen
