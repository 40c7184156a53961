"""Pods without namespaces: what is left to do where this machine forbids them. Nothing is hidden from anybody then.

Processes are told apart by descent only: world, pods' and containers' first processes are subreapers, so that whatever
a program leaves behind becomes the child of one of them, is a stray there, and is killed. Mounts become other paths:
`relocations` says which, and arguments, variables and directories that name a mount's place are rewritten.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Collection, Mapping

from headrace.sandbox.wire import Message, Refusal

RELOCATED = "HEADRACE_RELOCATED"
"""Variable with every relocation as a JSON object, for programs that name places in files."""

_STRAYS_WITHIN_S = 5.0
_LOOK_EVERY_S = 0.001


def descendants(pid: int) -> list[int]:
    """Return every process beneath `pid`, children before grandchildren; zombies too."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            children.setdefault(int(file.read().rpartition(b")")[2].split()[1]), []).append(int(name))
    found = list(children.get(pid, ()))
    for member in found:
        found += children.get(member, ())
    return found


def kill_beneath(pid: int, spare: Collection[int] = ()) -> list[int]:
    """Kill what is beneath `pid` now, but neither its children `spare` nor what is beneath them; return what was found.

    A process that forks faster than it is killed is caught by asking again until nothing is found.
    """
    spared = {pid for child in spare for pid in (child, *descendants(child))}
    found = [member for member in descendants(pid) if member not in spared]
    for member in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
    return found


def end_strays(known: Collection[int]) -> None:
    """Kill the caller's descendants except the children `known` and theirs, and wait until they are gone."""
    deadline = time.monotonic() + _STRAYS_WITHIN_S
    while (strays := kill_beneath(os.getpid(), known)) and time.monotonic() < deadline:
        for stray in strays:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(stray, os.WNOHANG)
        time.sleep(_LOOK_EVERY_S)


def settle(order: Message, scratch: str) -> Message:
    """Return a container order as a plain process can follow it, with `relocated: {target: path}` added.

    Args:
        scratch: a directory for what the container would have had in memory; made here, removed by `forget`.

    Raises Refusal for what no plain process can have.
    """
    if order["root"] != "host":
        raise Refusal(
            "Unsupported",
            "an image or a root directory of its own needs user namespaces; use the image host, or enable them",
        )
    relocated = {}
    for number, mount in enumerate(order["mounts"]):
        if "source" in mount:
            relocated[mount["target"]] = os.path.join(mount["source"], mount["sub_path"]).rstrip("/") or "/"
        else:
            relocated[mount["target"]] = os.path.join(scratch, str(number))
            os.makedirs(relocated[mount["target"]], mode=0o700, exist_ok=True)
    if order["termination_message_path"]:
        os.makedirs(scratch, mode=0o700, exist_ok=True)
        relocated[order["termination_message_path"]] = os.path.join(scratch, "termination-message")
        open(relocated[order["termination_message_path"]], "w").close()
    return {
        **order,
        "relocated": relocated,
        "argv": [relocate(argument, relocated) for argument in order["argv"]],
        "env": {
            **{name: relocate(value, relocated) for name, value in order["env"].items()},
            RELOCATED: json.dumps(relocated),
        },
        "cwd": relocate(order["cwd"], relocated),
        "termination_message_path": relocated.get(order["termination_message_path"]),
    }


def forget(scratch: str) -> None:
    """Remove what `settle` made."""
    import shutil  # brings three decompressors along, which no world with namespaces needs

    shutil.rmtree(scratch, ignore_errors=True)


def relocate(text: str, relocated: Mapping[str, str]) -> str:
    """Return `text` with every path at or below a mount's place led to where the mount is now.

    A path is found at the beginning, after one of `=:,;` or a quote or white space, and ends at a slash, one of those
    or the end: `--data=/data/x:/data` has two, `/database` and `/mnt/data` have none.
    """
    if not relocated:
        return text
    targets = "|".join(re.escape(target) for target in sorted(relocated, key=len, reverse=True))
    return re.sub(rf"(?<![^=:,;\s'\"])({targets})(?![^/=:,;\s'\"])", lambda match: relocated[match.group(1)], text)
