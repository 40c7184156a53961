"""The images of a node on disk: what is there is whole, what nobody needs goes, and views of it are nobody else's."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from tests.images import digest as digest_of
from tests.images import directory, entry, layer, link

from headrace.errors import QuotaExceeded
from headrace.node.images import views
from headrace.node.images.layers import Layer
from headrace.node.images.manifest import ImageConfig
from headrace.node.images.store import Image, Store
from headrace.node.removal import remove
from headrace.spec.kind import Json

LOWER = layer(
    directory("etc"),
    entry("etc/passwd", b"root:x:0:0::/:\n"),
    entry("etc/group", b"lower:x:1:\n"),
    entry("bin/tool", b"tool", mode=0o555),
    link("bin/same", "bin/tool", hard=True),
    link("sbin", "/bin"),
    directory("var/log", 0o1777),
    entry("var/old", b"old"),
    entry("data/a", b"a"),
    entry("data/b", b"b"),
)
UPPER = layer(
    directory("etc"),
    entry("etc/group", b"upper:x:2:\n"),
    entry("var/.wh.old"),
    entry("data/.wh..wh..opq"),
    entry("data/c", b"c"),
    entry("bin/tool", b"new"),
)


def never() -> None:
    """Do not interrupt."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "images")
    made.open()
    return made


def add(store: Store, *tars: bytes, name: str = "reg/x:1", used_at: float = 0.0) -> Image:
    for tar in tars:
        blob = store.staged(".blob")
        blob.write_bytes(tar)
        store.add_layer(digest_of(tar), store.unpack(blob, digest_of(tar), never))
        blob.unlink()
    digests = [digest_of(tar) for tar in tars]
    passwd, group = store.account_files(digests)
    identity = digest_of("".join(digests).encode())
    image = Image(id=identity, config=ImageConfig(), layers=digests, passwd=passwd, group=group, names={name: identity})
    image.used_at = used_at
    for changed in store.adopt(image):
        store.write(*store.note(changed))
    return image


def test_what_was_saved_is_there_again_and_nothing_else(store: Store) -> None:
    image = add(store, LOWER, UPPER)
    lost = store.staged(".blob")
    lost.write_bytes(b"half")
    store.staged(".layer").mkdir()
    add_unneeded = layer(entry("x"))
    blob = store.staged(".b")
    blob.write_bytes(add_unneeded)
    store.unpack(
        blob, digest_of(add_unneeded), never
    )  # whole, but no image names it: perhaps never on the disk for good
    (store.directory / "images" / "sha256-broken.json").write_text("{")
    again = Store(store.directory)
    again.open()
    assert [found.id for found in again.images] == [image.id]
    assert again.named("reg/x:1") == image
    assert not list((store.directory / "staging").iterdir())
    assert len(list((store.directory / "layers").iterdir())) == 2
    assert len(list((store.directory / "images").iterdir())) == 1


def test_an_image_without_one_of_its_layers_is_forgotten(store: Store) -> None:
    image = add(store, LOWER, UPPER)
    remove(Path(store.tree(image.layers[1])).parent)
    again = Store(store.directory)
    again.open()
    assert again.images == []
    assert not list((store.directory / "layers").iterdir())


def test_users_are_read_as_a_container_sees_them(store: Store) -> None:
    image = add(store, LOWER, UPPER)
    assert (image.passwd, image.group) == ("root:x:0:0::/:\n", "upper:x:2:\n")
    hidden = add(store, LOWER, layer(directory("etc"), entry("etc/.wh..wh..opq")), name="reg/y:1")
    assert hidden.passwd == ""
    secret = store.directory / "secret"
    secret.write_text("mine")
    leads_out = add(store, layer(directory("etc"), link("etc/passwd", str(secret))), name="reg/z:1")
    assert leads_out.passwd == ""


def test_a_name_is_one_images_only(store: Store) -> None:
    first, second = add(store, LOWER), add(store, UPPER)
    assert store.named("reg/x:1") == second
    assert first.names == {}
    again = Store(store.directory)
    again.open()
    assert {image.id: list(image.names) for image in again.images} == {first.id: [], second.id: ["reg/x:1"]}


def test_layers_stay_while_anybody_needs_them(store: Store) -> None:
    first, second = add(store, LOWER), add(store, UPPER, name="reg/y:1")
    store.forget(second)
    store.pin(second.layers[0])
    assert store.unneeded() == []
    store.unpin(second.layers[0])
    gone = store.unneeded()
    assert len(gone) == 1
    assert [store.layer(one) is not None for one in (*first.layers, *second.layers)] == [True, False]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real, left = os.write, [3]

    def write(fd: int, data: Any) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data)

    blob = store.directory / "blob"
    blob.write_bytes(LOWER)
    monkeypatch.setattr(os, "write", write)
    with pytest.raises(QuotaExceeded, match=r"The disk of this node is full: \d+ MiB are free at"):
        store.unpack(blob, digest_of(LOWER), never)
    assert not list((store.directory / "staging").iterdir())
    assert not list((store.directory / "layers").iterdir())


# -- views -------------------------------------------------------------------------------------------------------------


def known(store: Store, image: Image) -> list[tuple[str, Layer]]:
    return [(store.tree(one), layer_) for one in image.layers if (layer_ := store.layer(one)) is not None]


def test_a_copy_is_what_the_layers_come_to(store: Store, tmp_path: Path) -> None:
    image = add(store, LOWER, UPPER)
    root = views.copied(tmp_path / "view", known(store, image), ["/data"], never)
    tree = tmp_path / "view" / "tree"
    assert root == {"directory": str(tmp_path / "view"), "layers": [], "volumes": ["/data"]}
    assert sorted(os.listdir(tree / "data")) == ["c"]
    assert not (tree / "var/old").exists()
    assert (tree / "bin/tool").read_text() == "new"
    assert (tree / "bin/same").read_text() == "tool"
    assert os.readlink(tree / "sbin") == "/bin"
    (tree / "bin/same").write_text("written")
    assert (Path(store.tree(image.layers[0])) / "bin/same").read_text() == "tool"


def test_a_root_that_is_made_again_keeps_what_runs_on_it(store: Store, tmp_path: Path) -> None:
    image = add(store, LOWER)

    def make(copies: bool) -> Json:
        if copies:
            return views.copied(tmp_path / "copy", known(store, image), [], never)
        return views.layered(tmp_path / "laid", [store.tree(one) for one in image.layers], [])

    for copies in (True, False):
        first = make(copies)
        written = Path(first["directory"], "tree" if copies else "upper", "written")
        written.write_text("x")
        assert make(copies) == first
        assert written.exists()


def test_a_copy_keeps_links_within_itself(store: Store, tmp_path: Path) -> None:
    image = add(store, LOWER)
    views.copied(tmp_path / "view", known(store, image), [], never)
    info = (tmp_path / "view/tree/bin/tool").stat()
    assert (info.st_nlink, info.st_mode & 0o777) == (2, 0o755)
    assert (tmp_path / "view/tree/var/log").stat().st_mode & 0o7777 == 0o1777


def test_a_copy_that_cannot_be_finished_leaves_nothing(store: Store, tmp_path: Path) -> None:
    image = add(store, LOWER)

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        views.copied(tmp_path / "view", known(store, image), [], stop)
    assert not (tmp_path / "view").exists()


def test_trees_that_nobody_may_enter_can_be_removed(tmp_path: Path) -> None:
    place = tmp_path / "a"
    (place / "work/work").mkdir(parents=True)
    (place / "work/work/x").write_text("x")
    (place / "link").symlink_to(tmp_path)
    (place / "work/work").chmod(0)
    (place / "work").chmod(0o500)
    remove(place)
    remove(place)
    assert list(tmp_path.iterdir()) == []
