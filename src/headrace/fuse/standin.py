"""The stand-in for fusermount3: asks the broker for the mount and hands the descriptor on to the client.

Copied beside a small shell script that is called `fusermount3` and `fusermount`; imports nothing but the standard
library, not even this package. Clients call it in three ways: found on PATH (Go), at a compiled-in path (libfuse),
and with nothing in the environment but `_FUSE_COMMFD` (go-fuse). So the broker's socket is an argument that the
script fills in:

    standin.py SOCKET [-o OPTIONS] [-u] [-z] [-q] [-V] [--] MOUNTPOINT

It waits a bounded time for a broker that restarts. `-u` is answered by aborting the connection: unmounting would let
an app see the empty directory beneath, and doing nothing leaves the client waiting for its own end.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import sys
import time

VERSION = "fusermount3 version: 3.16.2"
WAIT_FOR_BROKER_S = 30.0
ANSWER_WITHIN_S = 30.0
_RETRY_S = 0.1
_MAX_ANSWER_BYTES = 65536
_NO_BROKER_YET = (errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN)


class Refused(Exception):
    """The broker will not, or cannot; the sentence says why."""


def read_arguments(arguments: list[str]) -> dict[str, object]:
    """Return `action` (mount, unmount, version, help), `options` and `mountpoint` of fusermount's command line.

    Raises Refused for a command line that fusermount3 would refuse too.
    """
    options: list[str] = []
    names: list[str] = []
    flags = set()
    left = list(arguments)
    while left:
        argument = left.pop(0)
        if argument == "--":
            names += left
            break
        if argument in ("--unmount", "--lazy", "--quiet", "--version", "--help", "--auto-unmount"):
            flags.add({"--version": "V", "--auto-unmount": "U"}.get(argument, argument[2]))
        elif argument.startswith("-") and len(argument) > 1:
            for position, letter in enumerate(argument[1:], start=1):
                if letter == "o":
                    value = argument[position + 1 :] or (left.pop(0) if left else "")
                    options.append(value)
                    break
                flags.add(letter)
        else:
            names.append(argument)
    if "V" in flags or "h" in flags:
        return {"action": "version" if "V" in flags else "help", "options": "", "mountpoint": ""}
    if len(names) != 1:
        raise Refused("missing mountpoint argument" if not names else "extra arguments after the mountpoint")
    action = "unmount" if "u" in flags else "mount"
    return {"action": action, "options": ",".join(options), "mountpoint": names[0]}


def place_of(mountpoint: str, mountinfo: str) -> str:
    """Return `mountpoint` relative to the volume that holds it, as the broker names places.

    The volume is the innermost mount around the mount point that is no FUSE. Only the parent directory is resolved:
    the mount point itself may be a mount that nobody serves.
    """
    parent, name = os.path.split(os.path.abspath(mountpoint).rstrip("/"))
    path = os.path.join(os.path.realpath(parent), name)
    best, best_root = "", "/"
    for line in mountinfo.splitlines():
        left, separator, right = line.partition(" - ")
        fields = left.split(" ")
        if not separator or len(fields) < 6:
            continue
        kind = right.split(" ")[0]
        root, point = (re.sub(r"\\([0-7]{3})", lambda m: chr(int(m.group(1), 8)), field) for field in fields[3:5])
        inside = point == "/" or path == point or path.startswith(point + "/")
        if inside and path != point and not kind.startswith("fuse") and len(point) >= len(best):
            best, best_root = point, root
    relative = os.path.relpath(path, best or "/")
    return os.path.normpath(os.path.join(best_root, relative)).lstrip("/")


def ask(address: str, request: dict[str, object], wait_s: float = WAIT_FOR_BROKER_S) -> int | None:
    """Send a request to the broker at `address`, waiting for it up to `wait_s`; return the descriptor it sent."""
    with _connect(address, wait_s) as broker:
        broker.settimeout(ANSWER_WITHIN_S)
        broker.send(json.dumps(request).encode())
        data, fds, _, _ = socket.recv_fds(broker, _MAX_ANSWER_BYTES, 1)
    if not data:
        raise Refused("the broker went away")
    answer = json.loads(data)
    if not answer.get("ok"):
        raise Refused(str(answer.get("error", "the broker refused")))
    return fds[0] if fds else None


def _connect(address: str, wait_s: float) -> socket.socket:
    deadline = time.monotonic() + wait_s
    while True:
        broker = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        broker.settimeout(max(_RETRY_S, deadline - time.monotonic()))
        try:
            broker.connect(address)
        except OSError as error:
            broker.close()
            if error.errno not in _NO_BROKER_YET or time.monotonic() >= deadline:
                raise Refused(f"no broker at {address} within {wait_s:g} s ({error})") from error
            time.sleep(_RETRY_S)
            continue
        return broker


def hand_on(fd: int, commfd: int) -> None:
    """Give the FUSE descriptor to who called, in the way libfuse expects it: one byte with the descriptor alongside."""
    with socket.socket(fileno=commfd) as caller:
        socket.send_fds(caller, [b"\0"], [fd])


def run(address: str, arguments: list[str], environment: dict[str, str]) -> None:
    """Do what fusermount3 would be asked to do by `arguments`; raises Refused or OSError."""
    call = read_arguments(arguments)
    if call["action"] == "version":
        sys.stdout.write(VERSION + "\n")
        return
    if call["action"] == "help":
        sys.stdout.write("usage: fusermount3 [-o OPTIONS] [-u] [-z] [-q] [-V] MOUNTPOINT\n")
        return
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        place = place_of(str(call["mountpoint"]), file.read())
    request = {"op": call["action"], "place": place, "options": call["options"]}
    if call["action"] == "unmount":
        ask(address, request)
        return
    commfd = environment.get("_FUSE_COMMFD", "")
    if not commfd.isdecimal():
        raise Refused("old style mounting is not supported: _FUSE_COMMFD is not set")
    fd = ask(address, request)
    if fd is None:
        raise Refused("the broker sent no descriptor")
    hand_on(fd, int(commfd))


def main(argv: list[str]) -> int:
    """Run the stand-in; `argv[1]` is the broker's socket."""
    quiet = any(re.fullmatch(r"-[a-z]*q[a-z]*", argument) or argument == "--quiet" for argument in argv[2:])
    try:
        run(argv[1], argv[2:], dict(os.environ))
    except (Refused, OSError, ValueError) as error:
        if not quiet:
            sys.stderr.write(f"fusermount3: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
