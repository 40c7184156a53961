"""Where in a volume a client may ask for its mount."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from headrace.fuse import mounts
from headrace.fuse.loop import Loop
from headrace.fuse.place import Deadlines, Limits, Place, PlaceRefused, check_place, make_directory


@pytest.mark.parametrize("place", ["ds", "ds/a", "ds/a/b.c"])
def test_the_directory_and_what_is_beneath(place: str) -> None:
    assert check_place(place) == place


@pytest.mark.parametrize(
    "place", ["", "/", "/ds", "dsx", "data/ds", "ds/../other", "ds//a", "ds/", "../ds", "ds/" + "a/" * 8 + "b"]
)
def test_nothing_else(place: str) -> None:
    with pytest.raises(PlaceRefused, match="not in this volume"):
        check_place(place)


def test_making_the_directory_twice_is_making_it_once(tmp_path: Path) -> None:
    make_directory(str(tmp_path))
    (tmp_path / "ds" / "kept").mkdir()
    make_directory(str(tmp_path))
    assert (tmp_path / "ds" / "kept").is_dir()


class _Kernel:
    """FUSE mounts on one place, without a kernel."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, depth: int, aborts: int = 0) -> None:
        self.error = aborts
        mount = mounts.Mount(1, 0, "0:9", "/", "/d/ds", "rw", "fuse", "x", "rw")
        monkeypatch.setattr(mounts, "read_mounts", lambda: [mount] * depth)
        monkeypatch.setattr(mounts, "stack_at", lambda _point, found: list(found))
        monkeypatch.setattr(mounts, "abort", self._abort)

    def _abort(self, _point: str) -> str:
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        return "force"


def _place(killed: list[str], limits: Limits | None = None) -> Place:
    return Place(
        "/d",
        "ds",
        Loop(),
        deadlines=Deadlines(),
        limits=limits or Limits(),
        changed=lambda: None,
        last_resort=lambda: killed.append("client"),
    )


def test_where_a_connection_cannot_be_aborted_its_client_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[str] = []
    place = _place(killed)
    _Kernel(monkeypatch, 1, aborts=errno.EPERM)
    place.abort("deadline")
    assert (killed, place.state, place.message) == (["client"], "dead", "deadline")


def test_where_it_can_nobody_is(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[str] = []
    place = _place(killed)
    _Kernel(monkeypatch, 1)
    place.abort("deadline")
    assert (killed, place.state) == ([], "dead")


def test_nothing_mounted_is_nothing_to_abort(monkeypatch: pytest.MonkeyPatch) -> None:
    place = _place([])
    _Kernel(monkeypatch, 0)
    place.abort("deadline")
    assert place.state == "empty"


def test_too_many_mounts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    place = _place([], Limits(stacked=3))
    _Kernel(monkeypatch, 3)
    with pytest.raises(PlaceRefused, match="3 dead mounts lie on each other"):
        place.mount(mounts.Wish())


def test_too_many_mounts_in_a_minute_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    place = _place([], Limits(stacked=0, mounts_a_minute=2))
    _Kernel(monkeypatch, 0)
    for _ in range(2):
        with pytest.raises(PlaceRefused, match="0 dead mounts"):
            place.mount(mounts.Wish())
    with pytest.raises(PlaceRefused, match="restarts too fast"):
        place.mount(mounts.Wish())
