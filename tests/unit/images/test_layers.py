"""Layers become files and nothing else: no name, link or order of entries leads out of the directory."""

from __future__ import annotations

import gzip
import os
import stat
import subprocess
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.images import digest, directory, entry, layer, link, packed

from headrace.errors import InvalidSpec
from headrace.node.images import layers
from headrace.node.images.layers import Layer
from headrace.node.images.tree import OPAQUE
from headrace.node.removal import remove


def never() -> None:
    """Do not interrupt."""


def unpack(tar: bytes, place: Path, *, compress: str = "", diff_id: str = "") -> Layer:
    blob = place / "blob"
    blob.write_bytes(packed(tar, compress))
    return layers.unpack(blob, diff_id or digest(tar), place / "tree", never)


def seen(place: Path) -> dict[str, str]:
    """Every file beneath `place` as what it is."""
    found = {}
    for path in sorted(place.rglob("*")):
        name = str(path.relative_to(place))
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_dir():
            found[name] = "/"
        elif path.is_file():
            found[name] = path.read_text()
        else:
            found[name] = "?"
    return found


@pytest.mark.parametrize("compress", ["", "gzip", "zstd"])
def test_files_directories_and_links(tmp_path: Path, compress: str) -> None:
    long = "d/" + "x" * 200
    tar = layer(
        directory("./"),
        directory("./d", 0o555),
        entry("d/a", b"one", mode=0o4755, uid=1000, gid=7, mtime=1_000_000),
        link("d/hard", "d/a", hard=True),
        link("l", "/d/a"),
        entry("/absolute", b"two", mode=0),
        entry("missing/parents/b", b"three"),
        entry(long, b"long"),
        entry("l2", b"x"),
        entry("dev/sda", type=tarfile.BLKTYPE),
        entry("dev/null", type=tarfile.CHRTYPE),
        entry("pipe", type=tarfile.FIFOTYPE),
    )
    known = unpack(tar, tmp_path, compress=compress)
    tree = tmp_path / "tree"
    assert seen(tree) == {
        "d": "/",
        "d/a": "one",
        "d/hard": "one",
        "l": "-> /d/a",
        "absolute": "two",
        long: "long",
        "l2": "x",
        "missing": "/",
        "missing/parents": "/",
        "missing/parents/b": "three",
        "pipe": "?",
    }
    info = (tree / "d/a").stat()
    assert (info.st_mtime, info.st_nlink, info.st_uid) == (1_000_000, 2, os.getuid())
    assert [oct(stat.S_IMODE((tree / name).stat().st_mode)) for name in ("d", "d/a", "absolute")] == [
        "0o755",
        "0o755",
        "0o600",
    ]
    assert known.dropped == ["dev/sda", "dev/null"]
    assert (known.owners["1000:7"], known.size_bytes) == (1, 16)
    remove(tree)
    assert not tree.exists()


def test_later_entries_take_the_place_of_earlier_ones(tmp_path: Path) -> None:
    tar = layer(
        entry("a", b"old"),
        entry("a", b"new"),
        directory("d"),
        entry("d/x", b"1"),
        entry("d", b"a file now"),
        link("e", "a"),
        directory("e"),
        entry("e/y", b"2"),
        link("f", "nowhere"),
        entry("f/z", b"3"),
    )
    unpack(tar, tmp_path)
    assert seen(tmp_path / "tree") == {"a": "new", "d": "a file now", "e": "/", "e/y": "2", "f": "/", "f/z": "3"}


def test_sparse_files_keep_their_holes(tmp_path: Path) -> None:
    source = tmp_path / "s"
    with source.open("wb") as file:
        file.seek(50 * 2**20)
        file.write(b"end")
    tar = subprocess.run(["tar", "-S", "-cf", "-", "s"], cwd=tmp_path, capture_output=True, check=True).stdout
    assert len(tar) < 2**20
    unpack(tar, tmp_path)
    info = (tmp_path / "tree/s").stat()
    assert (info.st_size, info.st_blocks * 512 < 2**20) == (50 * 2**20 + 3, True)
    assert (tmp_path / "tree/s").read_bytes()[-4:] == b"\0end"


def test_what_hides_lower_layers_is_marked_whatever_the_order(tmp_path: Path) -> None:
    tar = layer(
        entry("gone/.wh.a"),
        entry("both/.wh.d"),
        directory("both/d"),
        entry("both/kept", b"kept"),
        entry("both/.wh.kept"),
        directory("fresh"),
        entry("fresh/.wh..wh..opq"),
        entry("fresh/new", b"new"),
        entry(".wh..wh.plnk/1"),
    )
    known = unpack(tar, tmp_path)
    tree = tmp_path / "tree"
    assert (known.whiteouts, known.opaques) == (["gone/a", "both/d", "both/kept"], ["fresh"])
    if not known.is_marked:
        pytest.skip("NO EXTENDED ATTRIBUTES HERE, OVERLAYS ARE NOT TESTED")
    assert os.lstat(tree / "gone/a").st_rdev == 0
    assert stat.S_ISCHR(os.lstat(tree / "gone/a").st_mode)
    assert os.getxattr(tree / "both/d", OPAQUE) == os.getxattr(tree / "fresh", OPAQUE) == b"y"
    assert (tree / "both/kept").read_text() == "kept"


def pax(name: str, **headers: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, pax_headers=headers)


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([entry("../x")], "leads out of the image"),
        ([entry("a/../../x")], "leads out of the image"),
        ([link("a", "../../x", hard=True)], "leads out of the image"),
        ([link("a", "/etc/passwd", hard=True)], "no directory|does not have"),
        ([entry("a", b"x"), entry("a/b", b"y")], "is no directory"),
        ([link("a", "a"), entry("a/b")], "is no directory"),
        ([entry(".wh...")], "hides nothing"),
        ([entry("/".join("d" * 200))], "directories deep"),
        ([entry("x" * 300)], "File name too long"),
        ([entry("/")], "replace the image's root"),
        ([pax("a", path="b" * 2**21)], "header of"),
        ([pax("a", path="b\0c")], "leads out of the image|null"),
    ],
)
def test_entries_that_cannot_be_right_are_refused(tmp_path: Path, entries: list[Any], why: str) -> None:
    with pytest.raises(InvalidSpec, match=why):
        unpack(layer(*entries), tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no tar at all" * 100,
        gzip.compress(b"x" * 2000)[:-9],
        b"\x28\xb5\x2f\xfdrubbish",
        layer(entry("a", b"x" * 9999))[:5000],
    ],
    ids=["empty", "no-tar", "cut-gzip", "no-zstd", "cut-tar"],  # gzip writes the time into what it compresses
)
def test_what_is_no_layer_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InvalidSpec, match=r"no tar that can be read"):
        unpack(content, tmp_path)


def test_content_is_what_its_digest_says(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="the image's configuration says"):
        unpack(layer(entry("a")), tmp_path, diff_id=digest(b"other"))


def test_a_cancelled_unpacking_ends_between_entries(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Stop

    tar = layer(*(entry(f"f{n}", b"x") for n in range(100)))
    (tmp_path / "blob").write_bytes(tar)
    with pytest.raises(Stop):
        layers.unpack(tmp_path / "blob", digest(tar), tmp_path / "tree", check)
    assert len(list((tmp_path / "tree").iterdir())) < 5


PARTS = st.sampled_from(["a", "b", "..", ".", "", "etc", ".wh.a", ".wh..wh..opq", "l"])
NAMES = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
TARGETS = st.one_of(
    NAMES, NAMES.map(lambda n: f"/{n}"), st.just("OUTSIDE"), st.just("OUTSIDE/victim"), st.just("../" * 12 + "OUTSIDE")
)
ENTRIES = st.lists(st.tuples(st.sampled_from(["file", "dir", "sym", "hard", "fifo"]), NAMES, TARGETS), max_size=10)
TYPES = {"dir": tarfile.DIRTYPE, "sym": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "fifo": tarfile.FIFOTYPE}


@settings(max_examples=120, deadline=None)
@given(ENTRIES)
def test_nothing_is_ever_written_outside(entries: list[tuple[str, str, str]]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        place, outside = Path(temporary, "in"), Path(temporary, "outside")
        place.mkdir()
        outside.mkdir(mode=0o755)
        (outside / "victim").write_text("untouched")
        before = os.lstat(outside / "victim")
        made = []
        for kind, name, target in entries:
            target = target.replace("OUTSIDE", str(outside).lstrip("/") if target.startswith("..") else str(outside))
            if kind == "file":
                made.append(entry(name, b"written", mode=0o4777))
            else:
                made.append(
                    entry(name, type=TYPES[kind], linkname=target if kind in {"sym", "hard"} else "", mode=0o7777)
                )
        with suppress(InvalidSpec):
            unpack(layer(*made), place)
        after = os.lstat(outside / "victim")
        assert seen(outside) == {"victim": "untouched"}
        assert (after.st_mode, after.st_nlink, after.st_mtime_ns) == (before.st_mode, 1, before.st_mtime_ns)
        assert sorted(os.listdir(temporary)) == ["in", "outside"]
        assert set(os.listdir(place)) <= {"blob", "tree"}
        for path, names, files in os.walk(place / "tree"):
            for one in (*names, *files):
                info = os.lstat(os.path.join(path, one))
                assert not info.st_mode & (stat.S_ISUID | stat.S_ISGID)
                assert not stat.S_ISBLK(info.st_mode)
                assert not (stat.S_ISCHR(info.st_mode) and info.st_rdev)
        remove(place / "tree")
