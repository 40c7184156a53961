"""The table that a supervisor is given: a JSON file that says what runs, in which order, and where everything is kept.

    {"directory": "/home/me/.local/share/headrace/run",      # records of processes, the supervisor's log
     "lock": "…/supervisor.lock", "socket": "…/run/supervisor.sock",
     "unprivileged": {"reach": ["/opt/headrace"], "own": ["/var/lib/headrace"]},       # only when started by root
     "processes": [
       {"name": "world-own", "argv": ["python", "-m", "…"], "env": {}, "log": "…/logs/world-own.log",
        "after": [],                                         # names that must be ready first
        "beside": [],                                        # names that must have been started first
        "ready": {"socket": "…"} or {"file": "…"},           # absent: ready once started
        "ready_within_s": 15, "stop_within_s": 10}]}

Processes are stopped in the reverse order of `after` and `beside`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from headrace.sandbox import orders
from headrace.sandbox.wire import Message, Refusal

_READY_WITHIN_S, _STOP_WITHIN_S = 15.0, 10.0


def read(path: str) -> Message:
    """Return the table in file `path`, complete; raises Refusal with the key at fault."""
    try:
        with open(path) as file:
            raw = json.load(file)
    except (OSError, ValueError) as error:
        raise Refusal("Invalid", f"the table {path} cannot be read: {error}") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("processes"), list):
        raise Refusal("Invalid", f"the table {path} must be an object with a list of processes")
    unprivileged = raw.get("unprivileged") or {}
    processes = [_process(item) for item in raw["processes"]]
    _check_order(processes)
    return {
        "directory": orders.path(raw, "directory"),
        "lock": orders.path(raw, "lock"),
        "socket": orders.path(raw, "socket"),
        "unprivileged": {key: orders.strings(unprivileged, key) for key in ("reach", "own")},
        "processes": processes,
    }


def _process(item: Message) -> Message:
    name = orders.text(item, "name")
    if "/" in name:
        raise Refusal("Invalid", f"the process name {name!r} must not hold a slash")
    ready = item.get("ready")
    if ready is not None and (not isinstance(ready, dict) or set(ready) not in ({"socket"}, {"file"})):
        raise Refusal("Invalid", f"ready of {name} must name either a socket or a file")
    return {
        "name": name,
        "argv": orders.argv(item),
        "env": orders.variables(item),
        "log": orders.path(item, "log"),
        "after": orders.strings(item, "after"),
        "beside": orders.strings(item, "beside"),
        "ready": ready,
        "ready_within_s": orders.number(item, "ready_within_s", _READY_WITHIN_S),
        "stop_within_s": orders.number(item, "stop_within_s", _STOP_WITHIN_S),
    }


def _check_order(processes: Sequence[Message]) -> None:
    """Names are unique, and `after` and `beside` name earlier entries only, so no order can be circular."""
    seen: set[str] = set()
    for entry in processes:
        for relation in ("after", "beside"):
            unknown = [name for name in entry[relation] if name not in seen]
            if unknown:
                raise Refusal(
                    "Invalid", f"{entry['name']} comes {relation} {unknown[0]!r}, which is not listed before it"
                )
        if entry["name"] in seen:
            raise Refusal("Invalid", f"there are two processes named {entry['name']}")
        seen.add(entry["name"])
