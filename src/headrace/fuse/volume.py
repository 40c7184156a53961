"""One registered volume of the broker: its socket, its places, and what its clients ask. Standard library only."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from headrace.fuse import mounts
from headrace.fuse.caller import Caller, caller_of
from headrace.fuse.install import DEVICE_PLACE
from headrace.fuse.loop import Loop
from headrace.fuse.place import DIRECTORY, Deadlines, Limits, Place, PlaceRefused, check_place, make_directory

SOCKET_NAME = "broker.sock"
_MAX_REQUEST_BYTES = 65536
_PEER_SILENCE_S = 10.0
_LOOK_AFTER_EVERY_S = 1.0
_SUN_PATH_BYTES = 107


@dataclass(frozen=True)
class Registration:
    """What the driver says about a volume; the same words come back after a restart of the broker.

    Args:
        id: names the volume to the driver.
        data_dir: where clients' mounts go, beneath `ds`; a file system of its own.
        socket_dir: gets the socket; only this volume's client can see it, so who connects is this volume.
        read_only: whatever the client asks.
        source: what mountinfo shows as the source; empty leaves it to the client.
        file_system_type: what follows `fuse.`; empty leaves it to the client.
        owner: who the limit on volumes counts for, such as a pod's uid.
        client_uid: owner of the `ds` directory, in the broker's user namespace; -1 for the broker itself.
    """

    id: str
    data_dir: str
    socket_dir: str
    read_only: bool = False
    source: str = ""
    file_system_type: str = ""
    owner: str = ""
    client_uid: int = -1
    start_deadline_s: float = Deadlines.start_s
    stall_deadline_s: float = Deadlines.stall_s

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Volume:
    """Listens for the stand-ins of one volume's client and does what the rules allow.

    Args:
        changed: called after every change of a place's state.
        stored: called when `to_json` has changed.
        callers: who mounted what is there already, by place.
    """

    def __init__(
        self,
        registration: Registration,
        loop: Loop,
        *,
        limits: Limits,
        changed: Callable[[], None],
        stored: Callable[[], None],
        callers: Mapping[str, Caller],
    ) -> None:
        self.registration = registration
        self._loop = loop
        self._limits = limits
        self._changed = changed
        self._stored = stored
        self._places: dict[str, Place] = {}
        self._callers = dict(callers)
        make_directory(registration.data_dir, uid=registration.client_uid, gid=registration.client_uid)
        os.makedirs(registration.socket_dir, mode=0o755, exist_ok=True)
        with open(os.path.join(registration.socket_dir, DEVICE_PLACE), "a"):
            pass
        self._listener = _listen(os.path.join(registration.socket_dir, SOCKET_NAME))
        loop.on_readable(self._listener.fileno(), self._accept)
        self._adopt()
        self._callers = {name: caller for name, caller in self._callers.items() if name in self._places}
        self._look_after_clients()

    def to_json(self) -> dict[str, Any]:
        """Return what has to be known to serve the volume again after a restart."""
        callers = {name: asdict(caller) for name, caller in self._callers.items()}
        return {"registration": self.registration.to_json(), "callers": callers}

    @property
    def callers(self) -> Mapping[str, Caller]:
        return self._callers

    def state(self) -> dict[str, Any]:
        """Return the registration, every place with its state, and the volume's own: that of its worst place."""
        places = [
            {"place": name, "state": place.state, "message": place.message, "mounts": len(place.stack())}
            for name, place in sorted(self._places.items())
        ]
        worst = next(
            (p for s in ("waiting", "dead", "stalled", "failing", "served") for p in places if p["state"] == s), None
        )
        return {
            "id": self.registration.id,
            "state": worst["state"] if worst else "empty",
            "message": worst["message"] if worst else "",
            "places": places,
            "registration": self.registration.to_json(),
        }

    def abort(self, why: str) -> None:
        """End the connections of all places."""
        for place in self._places.values():
            place.abort(why)

    def close(self, *, unmount: bool) -> None:
        """Stop listening; with `unmount` also take away all that is mounted in the data directory, innermost first."""
        fd = self._listener.fileno()
        self._loop.forget(fd)
        self._listener.close()
        if not unmount:
            return
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self.registration.socket_dir, SOCKET_NAME))
        for place in sorted(self._places.values(), key=lambda place: -place.point.count("/")):
            place.clear()
        found = {m.point for m in mounts.beneath(self.registration.data_dir, mounts.read_mounts()) if m.is_fuse}
        for point in sorted(found, key=lambda point: -point.count("/")):
            mounts.unmount_all(point)

    def _adopt(self) -> None:
        data = self.registration.data_dir
        for mount in mounts.beneath(data, mounts.read_mounts()):
            name = os.path.relpath(mount.point, data)
            if mount.is_fuse and name not in self._places and name.split("/")[0] == DIRECTORY:
                self._place(name).adopt()

    def _place(self, name: str) -> Place:
        place = self._places.get(check_place(name))
        if place is None:
            if len(self._places) >= self._limits.places:
                raise PlaceRefused(f"a volume has at most {self._limits.places} places to mount on")
            place = self._places[name] = Place(
                self.registration.data_dir,
                name,
                self._loop,
                deadlines=self._deadlines(),
                limits=self._limits,
                changed=self._changed,
                last_resort=lambda: self._kill_client(name),
            )
        return place

    def _deadlines(self) -> Deadlines:
        given = self.registration
        look_every_s = min(Deadlines.look_every_s, given.stall_deadline_s)
        return Deadlines(start_s=given.start_deadline_s, stall_s=given.stall_deadline_s, look_every_s=look_every_s)

    # -- the stand-in's side -------------------------------------------------------------------------------------

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            peer, _ = self._listener.accept()
            peer.setblocking(False)
            self._loop.on_readable(peer.fileno(), lambda: self._read(peer))
            self._loop.later(_PEER_SILENCE_S, lambda: self._drop(peer))

    def _drop(self, peer: socket.socket) -> None:
        if peer.fileno() >= 0:
            self._loop.forget(peer.fileno())
            peer.close()

    def _read(self, peer: socket.socket) -> None:
        try:
            data = peer.recv(_MAX_REQUEST_BYTES)
            if data:
                self._serve(peer, data)
        except (BlockingIOError, ConnectionError):
            pass
        finally:
            self._drop(peer)

    def _serve(self, peer: socket.socket, data: bytes) -> None:
        try:
            request = json.loads(data)
            name, op = str(request["place"]), str(request["op"])
            if op == "mount":
                self._mount(peer, name, str(request.get("options", "")))
                return
            if op != "unmount":
                raise PlaceRefused(f"{op!r} is not mount or unmount")
            place = self._places.get(check_place(name))
            if place is not None:
                place.abort("its client asked to unmount it")
            _answer(peer, {"ok": True})
        except (PlaceRefused, OSError, ValueError, KeyError, TypeError) as error:
            reason = str(error) if isinstance(error, (PlaceRefused, OSError)) else "that is no request of a stand-in"
            _log(f"volume {self.registration.id}: refused: {reason}")
            _answer(peer, {"ok": False, "error": reason})

    def _mount(self, peer: socket.socket, name: str, options: str) -> None:
        place = self._place(name)
        asked = mounts.read_wish(options)
        given = self.registration
        wish = mounts.Wish(
            source=mounts.clean_name(given.source) or asked.source,
            subtype=mounts.clean_name(given.file_system_type) or asked.subtype,
            read_only=given.read_only or asked.read_only,
            max_read_bytes=asked.max_read_bytes,
        )
        fd = place.mount(wish)
        caller = caller_of(peer)
        if caller is not None:
            self._callers[name] = caller
        try:
            _answer(peer, {"ok": True}, fd)
        finally:
            # Whoever holds a copy keeps a dead client's readers waiting: the last close is what ends them.
            os.close(fd)
        place.watch()
        self._stored()
        _log(f"volume {given.id}: mounted {place.point}")

    def _kill_client(self, name: str) -> None:
        """Where no other way ends a connection its owner has to die: its container, or who called the stand-in."""
        caller = self._callers.get(name)
        if caller is not None:
            _log(f"volume {self.registration.id}: killing its client, because its connection cannot be aborted")
            for pid in caller.all_pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _look_after_clients(self) -> None:
        """End the connections of clients that were killed; their own end may be waiting for that."""
        if self._listener.fileno() < 0:
            return
        for name, caller in self._callers.items():
            place = self._places[name]
            if place.state not in ("empty", "dead") and caller.is_gone():
                place.abort(f"The client of {place.point} has ended.")
        self._loop.later(_LOOK_AFTER_EVERY_S, self._look_after_clients)


def _listen(path: str) -> socket.socket:
    """Return a listening socket at `path`, however long, replacing one of a broker before."""
    with suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    directory, name = os.path.split(path)
    holder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(path if len(os.fsencode(path)) <= _SUN_PATH_BYTES else f"/proc/self/fd/{holder}/{name}")
        # The client may have another uid; who can reach the directory is decided by where it is mounted.
        os.chmod(path, 0o666)
        listener.listen(16)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(holder)
    listener.setblocking(False)
    return listener


def _answer(peer: socket.socket, message: dict[str, Any], fd: int | None = None) -> None:
    with suppress(BrokenPipeError, ConnectionResetError, BlockingIOError):
        socket.send_fds(peer, [json.dumps(message).encode()], [] if fd is None else [fd])


def _log(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
