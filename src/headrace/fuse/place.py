"""One place of a volume where clients are mounted, each new one on top of the dead ones before it.

The rules come from experiments on real nodes: a mount that is stacked on top reaches containers that run already,
unmounting first does not; an unserved connection is aborted, never unmounted, so that no app can start on the empty
directory beneath; no descriptor of a connection is kept, else a dead client would be a hang instead of an error.
Standard library only.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from headrace.fuse import mounts, served
from headrace.fuse.loop import Loop

State = Literal["empty", "waiting", "served", "failing", "stalled", "dead"]
DIRECTORY = "ds"
"""Clients are mounted here in the data directory, or beneath; never on the data directory itself."""
_DEAD = (errno.ENOTCONN, errno.ECONNABORTED)
_MOST_COMPONENTS = 8


class PlaceRefused(Exception):
    """A request that the rules forbid, in one sentence for who asked."""


@dataclass(frozen=True)
class Deadlines:
    """How long what may take, in seconds.

    Args:
        start_s: from the mount to the first listing; then the connection is aborted.
        stall_s: how long a mount that was served may leave a look unanswered; then the connection is aborted.
        look_every_s: time between looks at a mount that is served.
    """

    start_s: float = 120.0
    stall_s: float = 300.0
    look_every_s: float = 10.0


@dataclass(frozen=True)
class Limits:
    """What one volume may make of the kernel's mounts."""

    stacked: int = 64
    places: int = 16
    mounts_a_minute: int = 30


def check_place(place: str) -> str:
    """Return `place` normalised; raises PlaceRefused unless it is `ds` or below it."""
    parts = place.split("/")
    if parts[0] != DIRECTORY or any(part in ("", ".", "..") for part in parts) or len(parts) > _MOST_COMPONENTS:
        raise PlaceRefused(
            f"{place!r} is not in this volume's {DIRECTORY} directory; mount on targetPath or beneath it"
        )
    return place


class Place:
    """A directory of a volume, what is stacked on it, and whether its top is served.

    Args:
        data: the volume's data directory.
        name: relative to it, checked by `check_place`.
        changed: called after every change of `state`.
        last_resort: ends the client when its connection can be aborted in no other way.
    """

    def __init__(
        self,
        data: str,
        name: str,
        loop: Loop,
        *,
        deadlines: Deadlines,
        limits: Limits,
        changed: Callable[[], None],
        last_resort: Callable[[], None],
    ) -> None:
        self.point = os.path.join(data, name)
        self.state: State = "empty"
        self.message = ""
        self._data = data
        self._name = name
        self._loop = loop
        self._deadlines = deadlines
        self._limits = limits
        self._changed = changed
        self._last_resort = last_resort
        self._look: served.Look | None = None
        self._was_served = True
        self._round = 0
        self._recent: list[float] = []

    def adopt(self) -> None:
        """Begin to watch what is mounted here already, after a restart of the broker."""
        if self.stack():
            self._set("waiting", "")
            self._begin(self._deadlines.start_s)

    def stack(self) -> list[mounts.Mount]:
        """Return the FUSE mounts here, bottom first."""
        return [mount for mount in mounts.stack_at(self.point, mounts.read_mounts()) if mount.is_fuse]

    def mount(self, wish: mounts.Wish) -> int:
        """Mount a new connection on top and return its only descriptor, which the caller closes after passing it on.

        Raises:
            PlaceRefused: too many mounts, or no directory of the volume.
            OSError: the kernel refused.
        """
        self._limit_rate()
        self._clear_top()
        depth = len(self.stack())
        if depth >= self._limits.stacked:
            raise PlaceRefused(f"{depth} dead mounts lie on each other here; restart the pod to begin anew")
        target = self._open_target()
        try:
            fd = os.open(mounts.DEVICE, os.O_RDWR | os.O_CLOEXEC)
            try:
                mounts.mount_fuse(fd, target, wish, uid=os.geteuid(), gid=os.getegid())
            except BaseException:
                os.close(fd)
                raise
        finally:
            os.close(target)
        self._was_served = False
        self._set("waiting", "")
        return fd

    def watch(self) -> None:
        """Begin to watch the new mount; called once its descriptor is with the client and closed here.

        The look waits in the kernel until the client serves, before any other request, so nothing is polled.
        """
        self._begin(self._deadlines.start_s)

    def abort(self, why: str) -> None:
        """End the connection on top, so that everything that waits in it fails at once. Idempotent."""
        if not self.stack():
            return
        try:
            mounts.abort(self.point)
        except OSError as error:
            if error.errno != errno.EPERM:
                raise
            self._last_resort()
        self._stop_looking()
        self._set("dead", why)

    def clear(self) -> None:
        """Abort and unmount everything stacked here."""
        self._stop_looking()
        mounts.unmount_all(self.point)
        self._set("empty", "")

    def _limit_rate(self) -> None:
        now = time.monotonic()
        self._recent = [moment for moment in self._recent if now - moment < 60]
        if len(self._recent) >= self._limits.mounts_a_minute:
            raise PlaceRefused(
                f"more than {self._limits.mounts_a_minute} mounts in a minute; the client restarts too fast"
            )
        self._recent.append(now)

    def _clear_top(self) -> None:
        """End the connection before. One that was never served is nobody's root, so it is unmounted where another lies
        beneath it: a client that crashes at each start does not pile up mounts. The first always stays."""
        stack = self.stack()
        if not stack:
            return
        self.abort("a new client took its place")
        if not self._was_served and len(stack) > 1:
            mounts.unmount(self.point, mounts.MNT_DETACH)

    def _open_target(self) -> int:
        """Open the directory, going through nothing but plain directories of the data volume itself."""
        resolve = mounts.RESOLVE_BENEATH | mounts.RESOLVE_NO_SYMLINKS | mounts.RESOLVE_NO_MAGICLINKS
        parent_name, name = os.path.split(self._name)
        try:
            data = mounts.open_directory(self._data)
            try:
                strict = resolve | mounts.RESOLVE_NO_XDEV
                parent = mounts.open_directory(parent_name or ".", directory=data, resolve=strict)
            finally:
                os.close(data)
            try:
                return mounts.open_directory(name, directory=parent, resolve=resolve)
            finally:
                os.close(parent)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise PlaceRefused(
                f"{self._name} is no directory of this volume that may be mounted on: {reason}"
            ) from error

    def _begin(self, deadline_s: float) -> None:
        self._stop_looking()
        self._round += 1
        number = self._round
        look = self._look = served.Look(self.point)
        self._loop.on_readable(look.pidfd, lambda: self._answered(look))
        self._loop.later(deadline_s, lambda: self._expired(number, deadline_s))

    def _answered(self, look: served.Look) -> None:
        fd = look.pidfd
        self._loop.forget(fd)
        number = look.result()
        if look is not self._look or number is None:
            return
        self._look = None
        message = served.sentence(self.point, number)
        if number in _DEAD:
            self._set("dead", message)
            return
        self._was_served = True
        self._set("failing" if number else "served", message)
        here = self._round
        self._loop.later(self._deadlines.look_every_s, lambda: self._look_again(here))

    def _look_again(self, number: int) -> None:
        if number != self._round or self.state not in ("served", "failing"):
            return
        self._begin(self._deadlines.stall_s)
        here = self._round
        self._loop.later(min(self._deadlines.look_every_s, self._deadlines.stall_s), lambda: self._stalled(here))

    def _stalled(self, number: int) -> None:
        if number == self._round and self._look is not None:
            self._set("stalled", f"The client of {self.point} does not answer.")

    def _expired(self, number: int, deadline_s: float) -> None:
        if number == self._round and self._look is not None:
            self.abort(
                f"The client of {self.point} did not serve it for {deadline_s:g} s, so its connection was ended."
            )

    def _stop_looking(self) -> None:
        """Leave a look behind; its descriptor stays watched until the child can be collected."""
        if self._look is not None:
            self._look.abandon()
            self._look = None
        self._round += 1

    def _set(self, state: State, message: str) -> None:
        if (state, message) != (self.state, self.message):
            self.state, self.message = state, message
            self._changed()


def make_directory(data: str, *, uid: int = -1, gid: int = -1) -> None:
    """Make the `ds` directory of a data volume, owned by who runs the client. Idempotent; asks no FUSE client."""
    holder = mounts.open_directory(data)
    try:
        with suppress(FileExistsError):
            os.mkdir(DIRECTORY, 0o755, dir_fd=holder)
            if uid >= 0 or gid >= 0:
                os.chown(DIRECTORY, uid, gid, dir_fd=holder, follow_symlinks=False)
    finally:
        os.close(holder)
