"""Names of images: `[host[:port]/]path[:tag][@digest]`, with Docker Hub's short names written out. Pure.

Source: github.com/distribution/reference (the grammar, and `ParseNormalizedNamed`), which containerd and kubelet use.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from headrace.errors import InvalidSpec

DOCKER_HUB = "docker.io"
_OFFICIAL = "library"
_DEFAULT_TAG = "latest"
_LONGEST_NAME = 255

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_BARE_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Reference:
    """One image by name. With a digest the tag is only a remark: the digest decides."""

    host: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        """Host and path, such as `docker.io/library/busybox`."""
        return f"{self.host}/{self.path}"

    @property
    def name(self) -> str:
        """What statuses call the image: repository and tag, or the digest where that is all there is."""
        return f"{self.repository}:{self.tag}" if self.tag else f"{self.repository}@{self.digest}"

    @property
    def version(self) -> str:
        """What a registry is asked for: the digest, else the tag."""
        return self.digest or self.tag

    def at(self, digest: str) -> Reference:
        """The same repository at a digest."""
        return replace(self, tag="", digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.repository}{tag}{f'@{self.digest}' if self.digest else ''}"


def parse(image: str) -> Reference:
    """Read a name as people write it.

    Raises:
        InvalidSpec: it is none; the sentence says which part.
    """
    rest, at, digest = image.partition("@")
    if at and not DIGEST.fullmatch(digest):
        raise _wrong(image, f"its digest {digest!r} is none", "Write sha256: and 64 hexadecimal digits.")
    name, tag = _split_tag(rest)
    host, path = _split_host(name)
    if not path or not _HOST.fullmatch(host):
        raise _wrong(image, f"{name!r} names no repository", "Write registry/path:tag.")
    if path.lower() != path:
        raise _wrong(image, "repositories are written in lower case", "Write it so; only tags may have capitals.")
    if not _PATH.fullmatch(path) or len(host) + len(path) >= _LONGEST_NAME:
        raise _wrong(
            image, f"{path!r} is no path of a repository", "Use letters, digits and single . _ - between them."
        )
    if _BARE_DIGEST.fullmatch(path.removeprefix(f"{_OFFICIAL}/")) and host == DOCKER_HUB:
        raise _wrong(image, "a bare digest names no repository", f"Write repository@sha256:{rest}.")
    if tag and not _TAG.fullmatch(tag):
        raise _wrong(image, f"{tag!r} is no tag", "Use letters, digits, '_', '.' and '-', 128 at most.")
    if not tag and rest.endswith(":"):
        raise _wrong(image, "its tag is empty", "Write a tag after the colon, or no colon.")
    return Reference(host, path, tag if tag or digest else _DEFAULT_TAG, digest)


def _split_tag(text: str) -> tuple[str, str]:
    """A colon after the last slash separates a tag; one before it, a port."""
    head, slash, last = text.rpartition("/")
    name, _, tag = last.partition(":")
    return f"{head}{slash}{name}", tag


def _split_host(name: str) -> tuple[str, str]:
    """The first part is a host if it looks like one (docker: a dot, a port, or `localhost`)."""
    first, slash, rest = name.partition("/")
    if slash and (first == "localhost" or any(sign in first for sign in ".:") or first.lower() != first):
        host, path = first, rest
    else:
        host, path = DOCKER_HUB, name
    if host == "index.docker.io":
        host = DOCKER_HUB
    if host == DOCKER_HUB and "/" not in path and path:
        path = f"{_OFFICIAL}/{path}"
    return host, path


def _wrong(image: str, why: str, cure: str) -> InvalidSpec:
    return InvalidSpec(f"{image!r} is no image name: {why}.", hint=cure)
