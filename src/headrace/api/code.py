"""Code archives, content-addressed: stored once, fetched by workers with a token that is good for one digest only."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import tempfile
from pathlib import Path

from headrace.errors import EngineFailed, InvalidSpec, NotFound
from headrace.pods.worker import CodeSource

_DIGEST = re.compile(r"[0-9a-f]{64}")


class CodeStore:
    """A directory with one file a digest.

    Args:
        directory: made when missing.
        key: secret of this installation; tokens are derived from it, so they need no storage and survive restarts.
        base_url: how workers reach `/code/`.
    """

    def __init__(self, directory: Path, key: bytes, base_url: str, *, python: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._key = key
        self._base_url = base_url.rstrip("/")
        self._python = python

    def has(self, digest: str) -> bool:
        return self._path(digest).is_file()

    def put(self, digest: str, content: bytes) -> None:
        """Store an archive under the digest it must have. Idempotent; durable when it returns.

        Raises InvalidSpec when content and digest differ, EngineFailed when it cannot be written.
        """
        path = self._path(digest)
        found = hashlib.sha256(content).hexdigest()
        if found != digest:
            raise InvalidSpec(f"The archive has digest {found}, not {digest}.", hint="Pack and send it again.")
        if path.is_file():
            return
        try:
            with tempfile.NamedTemporaryFile(dir=self._directory, delete=False) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(file.name).replace(path)
        except OSError as error:
            Path(file.name).unlink(missing_ok=True)
            raise EngineFailed(
                f"The code archive could not be stored: {error.strerror}.", hint=f"Free space below {self._directory}."
            ) from error

    def open(self, digest: str, token: str) -> Path:
        """Return the file of a digest for the holder of its token; raises NotFound for a wrong one as for none."""
        path = self._path(digest)
        if not hmac.compare_digest(token, self.token(digest)) or not path.is_file():
            raise NotFound(f"There is no code archive {digest}.", hint="Submit the job again; its code is packed anew.")
        return path

    def token(self, digest: str) -> str:
        return hmac.new(self._key, digest.encode(), hashlib.sha256).hexdigest()

    def source(self, _namespace: str, digest: str) -> CodeSource:
        """Return what a worker's init container needs to fetch `sha256:<hex>`."""
        bare = digest.removeprefix("sha256:")
        return CodeSource(f"{self._base_url}/code/{bare}?token={self.token(bare)}", digest, self._python)

    def _path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise InvalidSpec(f"{digest!r} is no SHA-256 digest.", hint="Give 64 hexadecimal digits.")
        return self._directory / digest
