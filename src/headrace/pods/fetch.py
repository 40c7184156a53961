"""Runs in a worker's init container: fetches a code archive, checks its digest, unpacks it.

`python -m headrace.pods.fetch URL sha256:<hex> DIRECTORY`; the cluster's CA is in `$HEADRACE_CA`, a file's name or PEM text.
Standard library only, so that it starts quickly. Unpacking refuses paths and links that leave the directory.
"""

from __future__ import annotations

import hashlib
import io
import os
import ssl
import sys
import tarfile
import time
import urllib.error
import urllib.request

_ATTEMPTS = 20
_PAUSE_S = 0.5


def main(url: str, digest: str, directory: str) -> int:
    authority = os.environ.get("HEADRACE_CA", "")
    is_text = authority.startswith("-----BEGIN")
    context = ssl.create_default_context(
        cafile=None if is_text else authority or None, cadata=authority if is_text else None
    )
    content = b""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with urllib.request.urlopen(url, timeout=30, context=context) as answer:
                content = answer.read()
            break
        except urllib.error.HTTPError as error:
            return _fail(f"the code {digest} could not be fetched: the server said {error.code} {error.reason}")
        except OSError as error:
            if attempt == _ATTEMPTS:
                return _fail(f"the code {digest} could not be fetched from {url.partition('?')[0]}: {error}")
            time.sleep(_PAUSE_S)
    found = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if found != digest:
        return _fail(f"the code that came has digest {found}, not {digest}; it was not unpacked")
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive.getmembers():
                _check(member)
            archive.extraction_filter = getattr(tarfile, "tar_filter", None)  # checked above; 3.12 warns without one
            archive.extractall(directory)  # noqa: S202 every member was checked
    except (OSError, tarfile.TarError) as error:
        return _fail(f"the code {digest} could not be unpacked: {error}")
    return 0


def _check(member: tarfile.TarInfo) -> None:
    """Refuse what could leave the directory or is no file. (tarfile's own filter needs Python 3.11.4.)"""
    kept = os.path.normpath(member.name)
    target = os.path.normpath(os.path.join(os.path.dirname(kept), member.linkname)) if member.issym() else kept
    is_inside = not any(path.startswith(("/", "..")) for path in (kept, target)) and not member.linkname.startswith("/")
    if not is_inside or not (member.isreg() or member.isdir() or member.issym()):
        raise tarfile.TarError(f"{member.name!r} would leave the directory or is no file")
    member.mode &= 0o755


def _fail(sentence: str) -> int:
    sys.stderr.write(f"headrace: {sentence}\n")
    try:
        with open("/dev/termination-log", "w") as log:
            log.write(sentence)
    except OSError:
        pass  # the sentence is in the container's log
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
