"""Code archives, content-addressed: stored once, fetched by workers with a token that is good for one digest only."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterator

from headrace.api.archives import Archives
from headrace.errors import InvalidSpec, NotFound
from headrace.pods.worker import HOST_IMAGE, CodeSource

_DIGEST = re.compile(r"[0-9a-f]{64}")


class CodeStore:
    """Checks digests and tokens, and says how workers fetch.

    Args:
        archives: where contents are.
        key: secret of this installation; tokens are derived from it, so they need no storage and survive restarts.
        base_url: how workers reach `/code/`.
        python: interpreter in `image`, the image of the init container that fetches.
        authority: returns the PEM certificates that `base_url` is trusted by; empty where it is the cluster's own.
    """

    def __init__(
        self,
        archives: Archives,
        key: bytes,
        base_url: str,
        *,
        python: str,
        image: str = HOST_IMAGE,
        authority: Callable[[], str] = lambda: "",
    ) -> None:
        self._archives = archives
        self._key = key
        self._base_url = base_url.rstrip("/")
        self._python = python
        self._image = image
        self._authority = authority

    def has(self, digest: str) -> bool:
        return self._archives.has(_checked(digest))

    def put(self, digest: str, content: bytes) -> None:
        """Store an archive under the digest it must have. Idempotent; durable when it returns.

        Raises InvalidSpec when content and digest differ, EngineFailed when it cannot be written.
        """
        found = hashlib.sha256(content).hexdigest()
        if found != _checked(digest):
            raise InvalidSpec(f"The archive has digest {found}, not {digest}.", hint="Pack and send it again.")
        self._archives.put(digest, content)

    def open(self, digest: str, token: str) -> Iterator[bytes]:
        """Return the parts of a digest for the holder of its token; raises NotFound for a wrong one as for none."""
        is_meant = hmac.compare_digest(token.encode(), self.token(_checked(digest)).encode())
        parts = self._archives.read(digest) if is_meant else iter(())
        first = next(parts, None)
        if first is None:
            raise NotFound(f"There is no code archive {digest}.", hint="Submit the job again; its code is packed anew.")
        return _joined(first, parts)

    def token(self, digest: str) -> str:
        return hmac.new(self._key, digest.encode(), hashlib.sha256).hexdigest()

    def source(self, _namespace: str, digest: str) -> CodeSource:
        """Return what a worker's init container needs to fetch `sha256:<hex>`."""
        bare = digest.removeprefix("sha256:")
        url = f"{self._base_url}/code/{bare}?token={self.token(bare)}"
        return CodeSource(url, digest, self._python, self._image, self._authority())


def _joined(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _checked(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise InvalidSpec(f"{digest!r} is no SHA-256 digest.", hint="Give 64 hexadecimal digits.")
    return digest
