"""Runs in a worker's init container: fetches a code archive, checks its digest, unpacks it.

`python -m headrace.pods.fetch URL sha256:<hex> DIRECTORY`; the cluster's CA is read from `$HEADRACE_CA`. Standard library
only, so that it starts quickly. Unpacking refuses paths and links that leave the directory (tarfile's data filter).
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
    context = ssl.create_default_context(cafile=os.environ.get("HEADRACE_CA") or None)
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
            archive.extractall(directory, filter="data")
    except (OSError, tarfile.TarError) as error:
        return _fail(f"the code {digest} could not be unpacked: {error}")
    return 0


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
