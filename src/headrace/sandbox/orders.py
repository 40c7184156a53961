"""Checks what clients ask for and fills in what they left out, so that the rest of the package need not doubt it.

A container order, complete (absent keys get the values shown; `?` has none):

    pod, container, attempt: 0, argv, env: {}, cwd: "/", root: "host" | "/directory" | {directory, layers: [], volumes: []}, read_only_root: true,
    mounts: [{target, source? (and sub_path: "" in it) | tmpfs?: {size_bytes?, mode?}, read_only: false, propagation: "none" | "HostToContainer", recursive: true}],
    masks: [], uid: 65534, gid: 65534, shm_bytes: 64 MiB, etc_hosts: null, resolv_conf: null,
    log: {path, max_bytes: 10 MiB, max_files: 5}, limits: {memory_bytes?, data_bytes?, nofile?, core: 0},
    termination_message_path: null, oom_score_adj: null, allow_privilege_escalation: false

`allow_privilege_escalation` lets setuid programs work where there are no namespaces; in them nothing ever does.
`root: "host"` is always read-only: `read_only_root` speaks of the others only. A root that is an object is the container's
own: its `layers` (directories, lowest first) beneath `upper` and `work` in `directory`, or, without layers, `tree` in it;
`volumes` are paths in it that stay writable where it is read-only.
"""

from __future__ import annotations

import posixpath
from typing import Any

from headrace.sandbox.wire import Message, Refusal

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NOBODY = 65534
_MEBIBYTE = 1024 * 1024
_PROPAGATIONS = ("none", "HostToContainer")


def text(request: Message, key: str, default: str | None = None) -> str:
    """Return the non-empty string `key`; raises Refusal."""
    value = request.get(key, default)
    if not isinstance(value, str) or not value or "\0" in value:
        raise Refusal("Invalid", f"{key} must be a non-empty string, not {value!r}")
    return value


def number(request: Message, key: str, default: float | None = None, *, least: float = 0) -> float:
    """Return the number `key`, at least `least`; raises Refusal."""
    value = request.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < least:
        raise Refusal("Invalid", f"{key} must be a number of at least {least}, not {value!r}")
    return value


def whole(request: Message, key: str, default: int | None = None, *, least: int = 0) -> int:
    """Return the integer `key`, at least `least`; raises Refusal."""
    value = number(request, key, default, least=least)
    if not isinstance(value, int):
        raise Refusal("Invalid", f"{key} must be a whole number, not {value!r}")
    return value


def flag(request: Message, key: str, default: bool) -> bool:
    """Return the boolean `key`; raises Refusal."""
    value = request.get(key, default)
    if not isinstance(value, bool):
        raise Refusal("Invalid", f"{key} must be true or false, not {value!r}")
    return value


def path(request: Message, key: str, default: str | None = None) -> str:
    """Return the absolute path `key` without `..` or doubled slashes; raises Refusal."""
    value = text(request, key, default)
    if not value.startswith("/"):
        raise Refusal("Invalid", f"{key} must be an absolute path, not {value!r}")
    return "/" + posixpath.normpath(value).lstrip("/")


def strings(request: Message, key: str, *, least: int = 0) -> list[str]:
    """Return the list of strings `key`, with at least `least` of them; raises Refusal."""
    value = request.get(key, [])
    if (
        not isinstance(value, list)
        or len(value) < least
        or not all(isinstance(item, str) and "\0" not in item for item in value)
    ):
        raise Refusal("Invalid", f"{key} must be a list of at least {least} strings")
    return value


def environment(request: Message) -> dict[str, str]:
    """Return `env`, with a PATH if it has none; raises Refusal."""
    return {"PATH": _PATH, **variables(request)}


def variables(request: Message) -> dict[str, str]:
    """Return `env` as it is, {} when absent; raises Refusal."""
    value = request.get("env") or {}
    if not isinstance(value, dict):
        raise Refusal("Invalid", "env must be an object of strings")
    for name, content in value.items():
        if not name or "=" in name or "\0" in name or not isinstance(content, str) or "\0" in content:
            raise Refusal("Invalid", f"env {name!r} is no variable that a process can have")
    return value


def argv(request: Message) -> list[str]:
    """Return `argv`, whose first item names the program; raises Refusal."""
    value = strings(request, "argv", least=1)
    if not value[0]:
        raise Refusal("Invalid", "argv[0] is empty; it must name a program")
    return value


def log(request: Message) -> Message:
    """Return `log`, complete; raises Refusal."""
    value = _object(request, "log")
    return {
        "path": path(value, "path"),
        "max_bytes": whole(value, "max_bytes", 10 * _MEBIBYTE),
        "max_files": whole(value, "max_files", 5, least=1),
    }


def container(request: Message) -> Message:
    """Return a complete container order; raises Refusal with code `Invalid` and the key at fault."""
    root = _root(request)
    optional = {
        key: request.get(key) for key in ("etc_hosts", "resolv_conf", "termination_message_path", "oom_score_adj")
    }
    for key in ("etc_hosts", "resolv_conf"):
        if optional[key] is not None and not isinstance(optional[key], str):
            raise Refusal("Invalid", f"{key} must be text, not {optional[key]!r}")
    if optional["termination_message_path"] is not None:
        optional["termination_message_path"] = path(request, "termination_message_path")
    if optional["oom_score_adj"] is not None:
        whole(request, "oom_score_adj", least=-1000)
    return {
        "pod": text(request, "pod"),
        "container": text(request, "container"),
        "attempt": whole(request, "attempt", 0),
        "argv": argv(request),
        "env": environment(request),
        "cwd": path(request, "cwd", "/"),
        "root": root,
        "read_only_root": root == "host" or flag(request, "read_only_root", True),
        "mounts": [_mount(item) for item in _objects(request, "mounts")],
        "masks": [path({"masks": item}, "masks") for item in strings(request, "masks")],
        "uid": whole(request, "uid", _NOBODY),
        "gid": whole(request, "gid", _NOBODY),
        "allow_privilege_escalation": flag(request, "allow_privilege_escalation", False),
        "shm_bytes": whole(request, "shm_bytes", 64 * _MEBIBYTE, least=1),
        "log": log(request),
        "limits": _limits(request.get("limits") or {}),
        **optional,
    }


def _root(request: Message) -> str | Message:
    value = request.get("root", "host")
    if not isinstance(value, dict):
        return "host" if value == "host" else path(request, "root")
    # The lowest layer is named last to the kernel.
    layers = [path({"root.layers": item}, "root.layers") for item in reversed(strings(value, "layers"))]
    volumes = [path({"root.volumes": item}, "root.volumes") for item in strings(value, "volumes")]
    return {"directory": path(value, "directory"), "layers": layers, "volumes": volumes}


def _limits(value: Any) -> Message:
    if not isinstance(value, dict):
        raise Refusal("Invalid", "limits must be an object")
    limits: Message = {"core": 0}
    for key in ("memory_bytes", "data_bytes", "nofile", "core"):
        if value.get(key) is not None:
            limits[key] = whole(value, key)
    return limits


def _mount(value: Message) -> Message:
    mount: Message = {
        "target": path(value, "target"),
        "read_only": flag(value, "read_only", False),
        "propagation": text(value, "propagation", "none"),
        "recursive": flag(value, "recursive", True),
    }
    if mount["target"] == "/":
        raise Refusal("Invalid", "nothing can be mounted on / of a container; set root instead")
    if mount["propagation"] not in _PROPAGATIONS:
        raise Refusal(
            "Unsupported",
            f"mount propagation {mount['propagation']!r} of {mount['target']} is not supported; use none or HostToContainer",
        )
    if ("source" in value) == ("tmpfs" in value):
        raise Refusal("Invalid", f"the mount on {mount['target']} must have either a source or a tmpfs")
    if "source" in value:
        return {**mount, "source": path(value, "source"), "sub_path": _sub_path(value)}
    return {**mount, "tmpfs": tmpfs(value["tmpfs"])}


def _sub_path(value: Message) -> str:
    sub_path = value.get("sub_path") or ""
    if not isinstance(sub_path, str) or sub_path.startswith("/") or ".." in sub_path.split("/") or "\0" in sub_path:
        raise Refusal("Invalid", f"sub_path must be relative and without '..', not {sub_path!r}")
    return "" if not sub_path else posixpath.normpath(sub_path).removeprefix(".")


def tmpfs(value: Any) -> Message:
    """Return the options of a tmpfs, complete; raises Refusal."""
    if not isinstance(value, dict):
        raise Refusal("Invalid", "tmpfs must be an object")
    return {"mode": whole(value, "mode", 0o1777), "size_bytes": whole(value, "size_bytes", 0)}


def _object(request: Message, key: str) -> Message:
    value = request.get(key)
    if not isinstance(value, dict):
        raise Refusal("Invalid", f"{key} must be an object")
    return value


def _objects(request: Message, key: str) -> list[Message]:
    value = request.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Refusal("Invalid", f"{key} must be a list of objects")
    return value
