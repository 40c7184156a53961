"""Manifests, indexes and configurations of images, as registries send them. Pure.

Source: OCI image specification 1.1 (`manifest.md`, `image-index.md`, `config.md`) and Docker's "Image Manifest V 2,
Schema 2". Whatever is not an image that Linux can run is refused with a sentence that says what it is.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from headrace.errors import InvalidSpec, NotFound, Unsupported
from headrace.node.images.reference import DIGEST

MOST_MANIFEST_BYTES = 4 * 2**20  # what registries must take at most (distribution specification)
MOST_CONFIG_BYTES = 8 * 2**20
MOST_LAYERS = 256

_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
ACCEPT = ", ".join((*_INDEXES, *_MANIFESTS))
_CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
_LAYERS = ("application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_BASE_VARIANTS = {"amd64": ("", "v1"), "arm64": ("", "v8")}

T = TypeVar("T")


class Platform(msgspec.Struct, frozen=True):
    """What a program is built for."""

    architecture: str = ""
    os: str = ""
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    """A piece of content by digest."""

    digest: str
    size: int
    media_type: str = ""
    platform: Platform | None = None


class _Document(msgspec.Struct, rename="camel"):
    schema_version: int = 0
    media_type: str = ""
    manifests: list[Descriptor] | None = None
    config: Descriptor | None = None
    layers: list[Descriptor] | None = None


class Manifest(msgspec.Struct, frozen=True):
    """One image: its configuration and its layers, lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


class ImageConfig(msgspec.Struct, frozen=True, rename="pascal"):
    """What an image says about how it is run."""

    user: str = ""
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = ""
    stop_signal: str = ""
    volumes: tuple[str, ...] = ()


class Configuration(msgspec.Struct, frozen=True):
    """An image's configuration and the digests of its layers' tar streams, lowest first."""

    config: ImageConfig
    diff_ids: tuple[str, ...]
    platform: Platform


def this_platform() -> Platform:
    """Return what this machine runs."""
    return Platform(_ARCHITECTURES.get(platform.machine(), platform.machine()), "linux")


def parse(body: bytes, content_type: str) -> Manifest | list[Descriptor]:
    """Read a manifest, or an index as its list of manifests.

    Raises:
        InvalidSpec: it is neither.
        Unsupported: it is something else that registries keep, or of Docker's first schema.
    """
    document = _decode(body, _Document, "manifest")
    kind = document.media_type or content_type.partition(";")[0].strip()
    if document.schema_version == 1 or kind.startswith("application/vnd.docker.distribution.manifest.v1"):
        raise Unsupported(
            "The image has a manifest of Docker's schema 1.", hint="Push it again with any tool of 2017 or newer."
        )
    if document.manifests is not None and kind in {*_INDEXES, "application/json", ""}:
        return document.manifests
    if document.config is None or document.layers is None:
        raise InvalidSpec(
            f"The registry sent a manifest of type {kind or 'unknown'} that names no configuration or no layers."
        )
    if document.config.media_type not in _CONFIGS:
        raise Unsupported(
            f"This is no image but an artifact of type {document.config.media_type}.", hint="Name an image."
        )
    foreign = [layer.media_type for layer in document.layers if not layer.media_type.startswith(_LAYERS)]
    if foreign:
        raise Unsupported(f"The image has a layer of type {foreign[0]}, which is no file system.")
    if len(document.layers) > MOST_LAYERS:
        raise Unsupported(
            f"The image has {len(document.layers)} layers; {MOST_LAYERS} are supported.", hint="Squash it."
        )
    _check_digests([document.config, *document.layers])
    return Manifest(document.config, tuple(document.layers))


def choose(manifests: Iterable[Descriptor], wanted: Platform) -> Descriptor:
    """Return the manifest for a platform; raises NotFound that names those there are."""
    offered = list(manifests)
    _check_digests(offered)
    fitting = [
        one
        for one in offered
        if one.platform is not None
        and (one.platform.os, one.platform.architecture) == (wanted.os, wanted.architecture)
        and one.platform.variant in _BASE_VARIANTS.get(wanted.architecture, ("",))
    ]
    if not fitting:
        there = sorted({str(one.platform) for one in offered if one.platform and one.platform.os != "unknown"})
        raise NotFound(
            f"The image is not made for {wanted}, only for {', '.join(there) or 'nothing'}.",
            hint="Build it for this node too.",
        )
    return fitting[0]


def parse_config(body: bytes, manifest: Manifest, wanted: Platform) -> Configuration:
    """Read an image's configuration; raises InvalidSpec, or NotFound for another platform."""
    raw: dict[str, Any] = _decode(body, dict, "configuration")
    made_for = Platform(str(raw.get("architecture") or ""), str(raw.get("os") or ""))
    if (made_for.os or "linux") != wanted.os or (made_for.architecture or wanted.architecture) != wanted.architecture:
        raise NotFound(f"The image is made for {made_for}; this node is {wanted}.", hint="Build it for this node.")
    said = {str(key): value for key, value in (raw.get("config") or {}).items() if value is not None}
    said["Volumes"] = sorted(said.get("Volumes") or {})
    try:
        config = msgspec.convert(said, ImageConfig)
        diff_ids = msgspec.convert((raw.get("rootfs") or {}).get("diff_ids") or [], tuple[str, ...])
    except msgspec.ValidationError as error:
        raise InvalidSpec(f"The image's configuration cannot be read: {error}.") from error
    if len(diff_ids) != len(manifest.layers) or not all(DIGEST.fullmatch(one) for one in diff_ids):
        raise InvalidSpec(
            f"The image's configuration names {len(diff_ids)} layers, its manifest {len(manifest.layers)}."
        )
    return Configuration(config, diff_ids, made_for)


def _check_digests(descriptors: Iterable[Descriptor]) -> None:
    for one in descriptors:
        if not DIGEST.fullmatch(one.digest) or one.size < 0:
            raise InvalidSpec(f"The registry's manifest names content by {one.digest!r}, which is no digest.")


def _decode(body: bytes, type: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(body, type=type)
    except msgspec.DecodeError as error:
        raise InvalidSpec(f"The image's {what} cannot be read: {error}.") from error
