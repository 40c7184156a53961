"""Where in a volume a client may ask for its mount."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.fuse.place import PlaceRefused, check_place, make_directory


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
