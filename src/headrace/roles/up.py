"""`headrace up` and `down`: the processes of one installation on this machine, under a supervisor that outlives the command.

    supervisor ── world-own, world-cloud ── node ── control     (docs/design.md, section 4)

Nothing here runs for long: it writes two files, starts the supervisor, and waits until everything is ready.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from headrace.errors import Conflict, EngineFailed, InvalidSpec, Unsupported
from headrace.node.images.registries import Mirror
from headrace.node.removal import remove
from headrace.roles import settings_file, supervision
from headrace.roles.settings_file import NODES, Capacity, UpSettings
from headrace.roles.supervision import processes
from headrace.sandbox.client import Client
from headrace.sandbox.wire import Refusal
from headrace.settings import Home
from headrace.spec.kind import Json
from headrace.units import parse_quantity

__all__ = ["Capacity", "processes", "purge", "start", "stop"]

_READY_WITHIN_S = 45
_MAIN_PORT = 6443
NO_MIRRORS = "none"
_KEPT = "{}; its settings stay as they are."


def start(
    home: Home,
    *,
    port: int,
    own: Capacity,
    cloud: Capacity,
    mirrors: Sequence[str] = (),
    progress: Callable[[str], None],
) -> Json:
    """Start everything, or find it running; return where it is. Idempotent.

    Args:
        mirrors: where nodes look for images first, as `PREFIX=URL`; none leaves those of the last time, `none` has none.

    Raises:
        InvalidSpec: a capacity is no quantity, or a mirror is none.
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
    wanted = [text for text in mirrors if text != NO_MIRRORS]
    for text in wanted:
        Mirror.parse(text)
    running = processes(home)
    if running and all(process["state"] == "ready" for process in running):
        return _started(home, _kept(home, port), began_s, [_KEPT.format("It was running already")])
    left = _left(home)
    settings = _kept(home, port) if left else _settings(home, port, own, cloud)
    if mirrors and not left:
        settings = msgspec.structs.replace(settings, mirrors=tuple(wanted))
    home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings_file.write(home, settings)
    supervision.supervise(home, _table(home))
    progress("taking over what still runs …" if left else "starting worlds, control and node agents …")
    try:
        with Client(str(home.supervisor_socket), timeout_s=_READY_WITHIN_S + 5) as client:
            client.call("wait", timeout_s=_READY_WITHIN_S)
    except Refusal as refusal:
        tail = supervision.log_tails(home)
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
    was_running = bool(processes(home) or _left(home))
    supervision.end_all(home)
    return was_running


def _left(home: Home) -> list[str]:
    return supervision.left(home, ("control", "node", *(supervision.world_process(node) for node in NODES)))


def purge(home: Home) -> None:
    """Delete the state directory with everything in it, but what this machine's nodes of other clusters have there."""
    if not home.nodes.is_dir():
        remove(home.root)
        return
    for path in home.root.iterdir():
        if path != home.nodes:
            remove(path)


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
    """Keep port and mirrors of the last time: kubeconfigs made then still work, and images are found where they were."""
    known = settings_file.read(home) if (home.root / settings_file.SETTINGS).is_file() else None
    wanted = port or (known.port if known else 0)
    chosen = _free_port(wanted, is_strict=bool(port))
    mirrors = known.mirrors if known else ()
    path = supervision.environment(home)["PATH"]
    return UpSettings(port=chosen, own=own, cloud=cloud, path=path, mirrors=mirrors)


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


def _table(home: Home) -> Json:
    worlds = [supervision.world_entry(home, node, [home.root]) for node in NODES]
    # Python takes half a second to import what control and node need: all begin at once, and the node waits by itself.
    control = supervision.entry(home, "control", ["headrace.roles.control"], ready={"file": str(home.ready("control"))})
    node = supervision.entry(
        home,
        "node",
        ["headrace.roles.node"],
        beside=[*(world["name"] for world in worlds), "control"],
        ready={"file": str(home.ready("node"))},
        ready_within_s=40,
    )
    return supervision.table(home, [*worlds, control, node])


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
