"""The broker: the only one that opens /dev/fuse and mounts, for clients that have no privilege at all.

It runs in the namespaces whose pods it serves (a world of the embedded engine, or a node), one thread, standard
library only. A driver registers volumes over the control socket; each volume has a socket of its own that only its
client's container can see, so a connection there *is* that volume and nothing a client says has to be believed. It
mounts in the volume's `ds` directory and nowhere else, with flags no client chooses, passes the descriptor and keeps
none, and ends connections that nobody serves (`place`). Registrations are kept in a file: a broker that is killed is
started again with the same arguments, and the stand-ins wait for it.

    python -m headrace.fuse.broker --directory DIRECTORY [--end-with-input]     control socket: DIRECTORY/control.sock

Control protocol: JSON objects, one a line, each with an `op`; answers in order, `{"ok": true, …}` or
`{"ok": false, "code": "…", "error": "sentence"}`.

    register    the fields of Registration       makes `ds`, the socket directory and the socket; idempotent
    unregister  id                               aborts, unmounts everything stacked, forgets; idempotent
    abort       id                               ends the client's connections, leaves the mounts
    state       id                               {state, message, places: [{place, state, message, mounts}]}
    list                                         {volumes: [state, …]}
    wait        id, timeout_s, until?            answers like `state` once its state is one of `until` (served, failing,
                                                 dead), when it was unregistered, or when time is up
    hello                                        {pid, device: "" or why /dev/fuse cannot be opened}
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields
from typing import Any

from headrace.fuse.caller import Caller
from headrace.fuse.loop import Loop
from headrace.fuse.mounts import DEVICE
from headrace.fuse.place import Limits, PlaceRefused
from headrace.fuse.volume import Registration, Volume

CONTROL_NAME = "control.sock"
STATE_NAME = "volumes.json"
_MAX_LINE_BYTES = 1 << 20
_MOST_VOLUMES = 4096
_MOST_VOLUMES_OF_ONE_OWNER = 32
_LONGEST_WAIT_S = 600.0
_SETTLED = ("served", "failing", "dead")

Message = dict[str, Any]


class _Refusal(Exception):
    """An order that cannot be carried out. `code` is Invalid, NotFound, Conflict, Limit or Failed."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Broker:
    """All volumes, their file, and the control socket.

    Args:
        directory: the broker's own, made if missing, mode 0700; one broker at a time.
    """

    def __init__(self, directory: str, *, limits: Limits | None = None) -> None:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._directory = directory
        self._limits = limits or Limits()
        self._loop = Loop()
        self._volumes: dict[str, Volume] = {}
        self._waiting: list[tuple[str, Callable[[], None]]] = []
        self._listener = _listen(os.path.join(directory, CONTROL_NAME))
        self._loop.on_readable(self._listener.fileno(), self._accept)
        self._restore()

    def run(self, *, end_with_input: bool = False) -> None:
        """Serve until SIGTERM. Mounts and registrations stay as they are: they are the volumes', not the process's.

        Args:
            end_with_input: end also when standard input does, with who holds its other end, however he died.
        """
        read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write)
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.signal(signal.SIGINT, lambda *_: None)
        self._loop.on_readable(read, self._loop.stop)
        if end_with_input:
            self._loop.on_readable(sys.stdin.fileno(), self._loop.stop)
        self._loop.run()
        for volume in self._volumes.values():
            volume.close(unmount=False)
        self._listener.close()

    # -- orders -------------------------------------------------------------------------------------------------

    def _register(self, order: Message) -> Message:
        known = {field.name for field in fields(Registration)}
        try:
            wanted = Registration(**{key: value for key, value in order.items() if key in known})
        except TypeError as error:
            raise _Refusal("Invalid", "A registration needs id, data_dir and socket_dir.") from error
        present = self._volumes.get(wanted.id)
        callers: Mapping[str, Caller] = {}
        if present is not None:
            if present.registration == wanted:
                return present.state()
            if (present.registration.data_dir, present.registration.socket_dir) != (wanted.data_dir, wanted.socket_dir):
                raise _Refusal(
                    "Conflict", f"Volume {wanted.id} is registered with other directories; unregister it first."
                )
            present.close(unmount=False)
            callers = present.callers
            del self._volumes[wanted.id]
        elif len(self._volumes) >= _MOST_VOLUMES:
            raise _Refusal(
                "Limit", f"The broker serves {_MOST_VOLUMES} volumes, its limit; remove pods from this node."
            )
        else:
            same = sum(
                1 for volume in self._volumes.values() if wanted.owner and volume.registration.owner == wanted.owner
            )
            if same >= _MOST_VOLUMES_OF_ONE_OWNER:
                raise _Refusal("Limit", f"{wanted.owner} has {same} FUSE volumes, the most a pod may have; use fewer.")
        try:
            volume = self._serve(wanted, callers)
        except (OSError, PlaceRefused) as error:
            raise _Refusal("Failed", f"Volume {wanted.id} cannot be registered: {error}.") from error
        self._volumes[wanted.id] = volume
        self._store()
        return volume.state()

    def _serve(self, registration: Registration, callers: Mapping[str, Caller]) -> Volume:
        return Volume(
            registration,
            self._loop,
            limits=self._limits,
            changed=self._changed,
            stored=self._store,
            callers=callers,
        )

    def _unregister(self, order: Message) -> Message:
        volume = self._volumes.get(str(order.get("id")))
        if volume is not None:
            try:
                volume.close(unmount=True)
            finally:
                del self._volumes[volume.registration.id]
                self._store()
            self._changed()
        return {}

    def _abort(self, order: Message) -> Message:
        volume = self._find(order)
        volume.abort("it was ended by order")
        return volume.state()

    def _find(self, order: Message) -> Volume:
        volume = self._volumes.get(str(order.get("id")))
        if volume is None:
            raise _Refusal("NotFound", f"Volume {order.get('id')} is not registered.")
        return volume

    def _hello(self) -> Message:
        try:
            os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            return {"pid": os.getpid(), "device": f"{DEVICE} cannot be opened: {error.strerror}"}
        return {"pid": os.getpid(), "device": ""}

    def _do(self, order: Message) -> Message:
        op = order.get("op")
        if op == "register":
            return self._register(order)
        if op == "unregister":
            return self._unregister(order)
        if op == "abort":
            return self._abort(order)
        if op == "state":
            return self._find(order).state()
        if op == "list":
            return {"volumes": [volume.state() for _, volume in sorted(self._volumes.items())]}
        if op == "hello":
            return self._hello()
        raise _Refusal("Invalid", f"{op!r} is no order of the broker.")

    # -- the control socket ----------------------------------------------------------------------------------------

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            peer, _ = self._listener.accept()
            if not _may_order(peer):
                peer.close()
                return
            # Blocking sends with a bound: a driver that does not read its answers loses its connection, not the broker.
            peer.settimeout(5.0)
            buffer = bytearray()
            self._loop.on_readable(peer.fileno(), lambda: self._read(peer, buffer))

    def _drop(self, peer: socket.socket) -> None:
        if peer.fileno() >= 0:
            self._loop.forget(peer.fileno())
            peer.close()

    def _read(self, peer: socket.socket, buffer: bytearray) -> None:
        try:
            data = peer.recv(65536)
        except (TimeoutError, ConnectionError):
            data = b""
        buffer += data
        if not data or len(buffer) > _MAX_LINE_BYTES:
            self._drop(peer)
            return
        *lines, rest = bytes(buffer).split(b"\n")
        buffer[:] = rest
        for line in lines:
            self._order(peer, line)

    def _order(self, peer: socket.socket, line: bytes) -> None:
        try:
            order = json.loads(line)
            if not isinstance(order, dict):
                raise _Refusal("Invalid", "An order is a JSON object.")
            if order.get("op") == "wait":
                self._wait(peer, order)
                return
            answer = {"ok": True, **self._do(order)}
        except _Refusal as error:
            answer = {"ok": False, "code": error.code, "error": str(error)}
        except (ValueError, OSError) as error:
            answer = {"ok": False, "code": "Failed", "error": f"The order failed: {error}."}
        self._send(peer, answer)

    def _send(self, peer: socket.socket, answer: Message) -> None:
        if peer.fileno() < 0:
            return
        try:
            peer.sendall(json.dumps(answer).encode() + b"\n")
        except OSError:  # it went away, or does not read; it will ask again
            self._drop(peer)

    def _wait(self, peer: socket.socket, order: Message) -> None:
        """Answer when the volume has settled, was unregistered, or time is up; only once."""
        name = str(order.get("id"))
        is_answered = False

        def answer(*, in_any_case: bool) -> None:
            nonlocal is_answered
            volume = self._volumes.get(name)
            state = volume.state() if volume else {"id": name, "state": "unregistered", "message": "", "places": []}
            if is_answered or (not in_any_case and state["state"] not in until):
                return
            is_answered = True
            self._waiting[:] = [waiter for waiter in self._waiting if waiter[1] is not check]
            self._send(peer, {"ok": True, **state})

        def check() -> None:
            answer(in_any_case=peer.fileno() < 0)

        self._find(order)
        until = (*order.get("until", _SETTLED), "unregistered")
        self._waiting.append((name, check))
        timeout_s = min(_LONGEST_WAIT_S, max(0.0, float(order.get("timeout_s", 0.0))))
        self._loop.later(timeout_s, lambda: answer(in_any_case=True))
        check()

    def _changed(self) -> None:
        for _, check in list(self._waiting):
            check()

    # -- the file -----------------------------------------------------------------------------------------------

    def _store(self) -> None:
        path = os.path.join(self._directory, STATE_NAME)
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump([volume.to_json() for volume in self._volumes.values()], file)
        os.rename(f"{path}.new", path)

    def _restore(self) -> None:
        """Serve again what was registered; a volume whose directories are gone, as after the world's end, is forgotten."""
        try:
            with open(os.path.join(self._directory, STATE_NAME), encoding="utf-8") as file:
                kept = json.load(file)
        except FileNotFoundError:
            return
        except ValueError:
            _log(f"{STATE_NAME} cannot be read; the driver has to register its volumes again")
            return
        for entry in kept:
            try:
                registration = Registration(**entry["registration"])
                if os.path.ismount(registration.data_dir):
                    callers = {name: Caller(**caller) for name, caller in entry["callers"].items()}
                    self._volumes[registration.id] = self._serve(registration, callers)
            except (OSError, TypeError, KeyError, PlaceRefused) as error:
                _log(f"a volume is forgotten: {error}")
        self._store()


def _listen(path: str) -> socket.socket:
    with suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    holder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{holder}/{os.path.basename(path)}")
        listener.listen(16)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(before)
        os.close(holder)
    listener.setblocking(False)
    return listener


def _may_order(peer: socket.socket) -> bool:
    """Tell whether who connected is outside of all pods.

    The same user runs the driver and, in the embedded engine, every pod. A pod's process is seen by its pid and is in
    a user namespace of its own; the driver is outside of this PID namespace (pid 0) or in this user namespace.
    """
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid = struct.unpack("3i", credentials)[0]
    if pid == 0:
        return True
    try:
        return os.readlink(f"/proc/{pid}/ns/user") == os.readlink("/proc/self/ns/user")
    except OSError:
        return False


def _log(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def main(arguments: list[str]) -> int:
    """Run the broker."""
    parser = argparse.ArgumentParser(prog="python -m headrace.fuse.broker")
    parser.add_argument("--directory", required=True, help="the broker's own directory: control socket and state")
    parser.add_argument("--end-with-input", action="store_true", help="end when standard input does")
    options = parser.parse_args(arguments)
    Broker(options.directory).run(end_with_input=options.end_with_input)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
