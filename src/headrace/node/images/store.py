"""The images of one node on disk: layers by the digest of their content, and a note for each image.

    <directory>/layers/<algorithm>-<hex>/tree      one layer's files, shared by all images that have it
    <directory>/layers/<algorithm>-<hex>/layer.json
    <directory>/images/<algorithm>-<hex>.json      one image, by the digest of its configuration
    <directory>/staging/…                          whatever is under way; thrown away at start

What is under `layers` and `images` is whole: it was made in `staging` and renamed. An image's note is written when all
of its layers are on the disk for good (`sync`), and a layer that no note names is thrown away at start: so nothing that
a crash of the machine has cut short is ever used. Methods that say so block and run in worker threads.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from headrace.errors import QuotaExceeded
from headrace.ids import name_suffix
from headrace.node.images import layers
from headrace.node.images.layers import Layer
from headrace.node.images.manifest import ImageConfig
from headrace.node.removal import remove
from headrace.sandbox import syscalls
from headrace.telemetry import logger

IMAGE_BROKEN = "image.broken"
IMAGE_REMOVED = "image.removed"

_USED_STEP_S = 60.0
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})
_ACCOUNT_FILE_BYTES = 2**20

_log = logger(component="images")


class Access(msgspec.Struct):
    """Who has shown that they may pull from a repository: everybody, or those with one of these credentials."""

    everybody: bool = False
    fingerprints: list[str] = []


class Image(msgspec.Struct):
    """One image, unpacked.

    Attributes:
        id: digest of its configuration.
        names: `repository:tag` by which it was pulled, each with the digest of the manifest that the tag named then.
        manifests: digests of manifests and indexes that lead here.
        repo_digests: `repository@digest` by which it was pulled.
        layers: digests of its layers' content, lowest first.
        passwd, group: the image's own, where names of users are looked up.
        access: by repository.
        used_at: wall seconds, for throwing away what was not used for long.
    """

    id: str
    config: ImageConfig
    layers: list[str]
    size_bytes: int = 0
    names: dict[str, str] = {}
    manifests: list[str] = []
    repo_digests: list[str] = []
    passwd: str = ""
    group: str = ""
    access: dict[str, Access] = {}
    used_at: float = 0.0

    @property
    def shown_names(self) -> list[str]:
        """All names, those by digest first, as Node.status.images has them."""
        return [*self.repo_digests, *self.names]


class Store:
    """See the module. One agent uses a directory at a time; its event loop is the only caller of what does not block."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._layers = directory / "layers"
        self._images = directory / "images"
        self._staging = directory / "staging"
        self._by_id: dict[str, Image] = {}
        self._known_layers: dict[str, Layer] = {}
        self._pins: dict[str, int] = {}

    def open(self) -> None:
        """Read what is there and throw away what was never finished. Blocks for a moment; idempotent."""
        for place in (self._layers, self._images, self._staging):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self._staging.iterdir():
            remove(left)
        self._known_layers = {digest: layer for place in self._layers.iterdir() for digest, layer in _read_layer(place)}
        for file in self._images.glob("*.json"):
            image = _read_image(file)
            if image is not None and all(digest in self._known_layers for digest in image.layers):
                self._by_id[image.id] = image
            else:
                _log.warning(IMAGE_BROKEN, file=str(file))
                file.unlink()
        for place in self.unneeded():
            remove(place)

    # -- looking up ------------------------------------------------------------------------------------------------------

    @property
    def images(self) -> list[Image]:
        """Every image there is."""
        return list(self._by_id.values())

    def get(self, id: str) -> Image | None:
        """Return an image by the digest of its configuration."""
        return self._by_id.get(id)

    def named(self, name: str) -> Image | None:
        """Return the image that `repository:tag` named when it was pulled last."""
        return next((image for image in self._by_id.values() if name in image.names), None)

    def at(self, digest: str) -> Image | None:
        """Return the image that a manifest or index of this digest leads to, from whatever repository it came."""
        return next((image for image in self._by_id.values() if digest in image.manifests), None)

    def layer(self, digest: str) -> Layer | None:
        """Return what is known of an unpacked layer."""
        return self._known_layers.get(digest)

    def tree(self, digest: str) -> str:
        """Return the directory of a layer's files."""
        return str(self._layers / _file_name(digest) / "tree")

    # -- adding ----------------------------------------------------------------------------------------------------------

    def staged(self, suffix: str) -> Path:
        """Return a place for something under way; nothing is there."""
        return self._staging / f"{name_suffix(12)}{suffix}"

    def pin(self, digest: str) -> None:
        """Keep a layer although no image needs it yet; `unpin` as often."""
        self._pins[digest] = self._pins.get(digest, 0) + 1

    def unpin(self, digest: str) -> None:
        """Take back a `pin`."""
        self._pins[digest] -= 1
        if not self._pins[digest]:
            del self._pins[digest]

    def unpack(self, blob: Path, digest: str, check: Callable[[], None]) -> Layer:
        """Unpack a layer and return it; it is there, whole, or not at all. Blocks; see `layers.unpack`.

        Raises:
            InvalidSpec: the layer is broken.
            QuotaExceeded: the disk is full.
        """
        staged = self.staged(".layer")
        try:
            staged.mkdir(mode=0o700)
            layer = layers.unpack(blob, digest, staged / "tree", check)
            (staged / "layer.json").write_bytes(msgspec.json.encode(layer))
            target = self._layers / _file_name(digest)
            if not target.exists():
                os.rename(staged, target)
        except OSError as error:
            raise self.trouble(error) from error
        finally:
            remove(staged)
        return layer

    def sync(self) -> None:
        """Put everything to disk that was unpacked. Blocks, as long as the machine has much to write."""
        fd = os.open(self._layers, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syscalls.sync_file_system(fd)
        except OSError as error:
            raise self.trouble(error) from error
        finally:
            os.close(fd)

    def add_layer(self, digest: str, layer: Layer) -> None:
        """Take note of a layer that was unpacked."""
        self._known_layers[digest] = layer

    def adopt(self, image: Image) -> list[Image]:
        """Take in an image; return whatever has changed and is to be written: a name it has now is nobody else's."""
        changed = [image]
        for other in self.images:
            if other.id != image.id and (taken := other.names.keys() & image.names.keys()):
                for name in taken:
                    del other.names[name]
                changed.append(other)
        self._by_id[image.id] = image
        return changed

    def touch(self, image: Image, now: float) -> bool:
        """The image is used now. Tells whether that is worth writing: once a minute."""
        is_new = now - image.used_at >= _USED_STEP_S
        if is_new:
            image.used_at = now
        return is_new

    def note(self, image: Image) -> tuple[Path, bytes]:
        """Return what `write` is to write of an image as it is now."""
        return self._images / f"{_file_name(image.id)}.json", msgspec.json.encode(image)

    def write(self, file: Path, content: bytes) -> None:
        """Replace an image's note. Blocks.

        Raises:
            QuotaExceeded: the disk is full.
        """
        staged = self.staged(".json")
        try:
            with staged.open("wb") as target:
                target.write(content)
                target.flush()
                os.fsync(target.fileno())
            os.rename(staged, file)
        except OSError as error:
            staged.unlink(missing_ok=True)
            raise self.trouble(error) from error

    def trouble(self, error: OSError) -> Exception:
        """Return what is said of a failed write."""
        if error.errno not in _DISK:
            return error
        free = shutil.disk_usage(self.directory).free
        return QuotaExceeded(
            f"The disk of this node is full: {free // 2**20} MiB are free at {self.directory}.",
            hint="Free space there; images that no pod uses are thrown away when the disk is above 85 %.",
            code="DiskFull",
        )

    def account_files(self, image_layers: Collection[str]) -> tuple[str, str]:
        """Return /etc/passwd and /etc/group as a container of these layers sees them. Blocks for a moment."""
        trees = [self.tree(digest) for digest in image_layers]
        return tuple(_read_merged(trees, name) for name in ("passwd", "group"))  # type: ignore[return-value]

    # -- removing --------------------------------------------------------------------------------------------------------

    def forget(self, image: Image) -> None:
        """Forget an image. Its layers are not needed any more then, unless others have them too."""
        self._by_id.pop(image.id, None)
        self.note(image)[0].unlink(missing_ok=True)
        _log.info(IMAGE_REMOVED, image=image.id, names=image.shown_names)

    def unneeded(self) -> list[Path]:
        """Move layers that nothing needs out of the way and return where they are, to be removed."""
        needed = {digest for image in self._by_id.values() for digest in image.layers} | self._pins.keys()
        found = []
        for digest in [digest for digest in self._known_layers if digest not in needed]:
            del self._known_layers[digest]
            staged = self.staged(".old")
            with suppress(FileNotFoundError):
                os.rename(self._layers / _file_name(digest), staged)
                found.append(staged)
        return found

    def disk_used(self) -> float:
        """Return how full the store's disk is, 0 to 1, as an ordinary user sees it."""
        disk = os.statvfs(self.directory)
        used = disk.f_blocks - disk.f_bfree
        return used / max(1, used + disk.f_bavail)


def _file_name(digest: str) -> str:
    return digest.replace(":", "-")


def _read_layer(place: Path) -> Iterable[tuple[str, Layer]]:
    algorithm, _, text = place.name.partition("-")
    try:
        yield f"{algorithm}:{text}", msgspec.json.decode((place / "layer.json").read_bytes(), type=Layer)
    except (OSError, msgspec.DecodeError):
        remove(place)


def _read_image(file: Path) -> Image | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Image)
    except (OSError, msgspec.DecodeError):
        return None


def _read_merged(trees: list[str], name: str) -> str:
    """Read `/etc/<name>` from the uppermost layer that says anything about it; empty where it is hidden or not there."""
    from headrace.node.images.tree import OPAQUE

    for tree in reversed(trees):
        root = os.open(tree, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = syscalls.open_in_root(root, f"etc/{name}", os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            with suppress(OSError):
                if os.getxattr(f"{tree}/etc", OPAQUE) == b"y":
                    return ""
            continue
        except OSError:
            return ""  # a whiteout, or something that is no file
        finally:
            os.close(root)
        with os.fdopen(fd, "rb") as file:
            if os.path.isfile(f"/proc/self/fd/{file.fileno()}"):
                return file.read(_ACCOUNT_FILE_BYTES).decode("utf-8", "replace")
            return ""
    return ""
