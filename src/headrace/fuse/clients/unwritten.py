"""What a client has taken from apps and not written to the storage yet: it must be, before the client ends.

rclone uploads a file seconds after it was closed, and forgets what waits when it is asked to end ("will be uploaded next time
rclone is run", `rclone mount`, VFS file caching): its cache ends with the pod. So it is asked first, over a socket that nobody
else reaches, and told not to wait any longer.

Standard library only.
"""

from __future__ import annotations

import http.client
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from headrace.fuse.counters import UnixConnection

_MAX_BYTES = 8 << 20


@dataclass(frozen=True)
class Uploads:
    """Those of an rclone whose remote control listens on the Unix socket `path`."""

    path: str

    def hurry(self) -> int | None:
        """Have everything that waits uploaded now; return how many files are not yet, None when it does not say."""
        try:
            cache = self._ask("vfs/stats").get("diskCache") or {}
            left = int(cache.get("uploadsQueued", 0)) + int(cache.get("uploadsInProgress", 0))
        except (OSError, ValueError, http.client.HTTPException):
            return None
        if left:
            with suppress(OSError, ValueError, KeyError, http.client.HTTPException):  # rclone before 1.69 waits
                for item in self._ask("vfs/queue")["queue"]:
                    if not item["uploading"] and item["expiry"] > 0:
                        self._ask("vfs/queue-set-expiry", id=item["id"], expiry=0)
        return left

    def _ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        connection = UnixConnection(self.path)
        try:
            connection.request("POST", f"/{what}", json.dumps(arguments), {"Content-Type": "application/json"})
            found: dict[str, Any] = json.loads(connection.getresponse().read(_MAX_BYTES))
            return found
        finally:
            connection.close()
