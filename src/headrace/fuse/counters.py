"""What a FUSE client has read and fetched, from its own counters. What a client does not count stays unknown.

A client's entry point looks every few seconds and writes what it saw to `FILE` in the container; asked to end, it
looks a last time and leaves the counters as the container's termination message. So there are two ways to them:

    python -m headrace.fuse.counters        in the running container (exec): looks now, prints JSON
    parse_message(message)                  of a container that has ended

Standard library only.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import sys
import time
import urllib.parse
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

FILE = "/tmp/headrace-fuse-counters.json"
_TIMEOUT_S = 2.0
_MAX_BYTES = 8 << 20
_SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ([^ ]+)(?: \d+)?")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, kw_only=True)
class Counters:
    """Since the client started. None is unknown, and never shown as 0.

    Args:
        client: `juicefs`, `rclone`.
        fetched_bytes: payload that came over the line from the storage; metadata and protocol are not counted.
        sent_bytes: payload that went over the line to the storage.
        read_bytes: what apps read through the mount.
        hit_ratio: of the bytes looked for in the client's cache, the share that was there.
        at_s: when, in seconds of the epoch.
    """

    client: str
    fetched_bytes: int | None = None
    sent_bytes: int | None = None
    read_bytes: int | None = None
    hit_ratio: float | None = None
    at_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "client": self.client,
            "fetchedBytes": self.fetched_bytes,
            "sentBytes": self.sent_bytes,
            "readBytes": self.read_bytes,
            "hitRatio": self.hit_ratio,
            "atSeconds": self.at_s,
        }


def parse_message(message: str) -> Counters | None:
    """Return the counters in a termination message or in what the command printed; None when there are none."""
    try:
        found = json.loads(message)
        return Counters(
            client=str(found["client"]),
            fetched_bytes=found["fetchedBytes"],
            sent_bytes=found.get("sentBytes"),
            read_bytes=found["readBytes"],
            hit_ratio=found["hitRatio"],
            at_s=float(found.get("atSeconds", 0.0)),
        )
    except (ValueError, KeyError, TypeError):
        return None


class Metrics:
    """Samples of one scrape in the Prometheus text format."""

    def __init__(self, text: str) -> None:
        self._samples: list[tuple[str, dict[str, str], float]] = []
        for line in text.splitlines():
            match = _SAMPLE.fullmatch(line)
            if match is not None:
                with suppress(ValueError):
                    self._samples.append((match[1], dict(_LABEL.findall(match[2] or "")), float(match[3])))

    def total(self, name: str, **labels: str) -> float | None:
        """Return the sum of a metric's samples with these labels, or None when there is none."""
        values = [v for n, have, v in self._samples if n == name and labels.items() <= have.items()]
        return sum(values) if values else None


def of_juicefs(text: str) -> Counters | None:
    """Return the counters of `juicefs mount --metrics`; None when the text is not its."""
    metrics = Metrics(text)
    if metrics.total("juicefs_uptime") is None:
        return None
    hit = metrics.total("juicefs_blockcache_hit_bytes")
    miss = metrics.total("juicefs_blockcache_miss_bytes")
    looked = (hit or 0.0) + (miss or 0.0)
    return Counters(
        client="juicefs",
        # A series appears with its first request: none means that nothing was fetched, not that it is unknown.
        fetched_bytes=int(metrics.total("juicefs_object_request_data_bytes", method="GET") or 0),
        sent_bytes=int(metrics.total("juicefs_object_request_data_bytes", method="PUT") or 0),
        read_bytes=_whole(metrics.total("juicefs_fuse_read_size_bytes_sum")),
        hit_ratio=round((hit or 0.0) / looked, 4) if looked else None,
        at_s=time.time(),
    )


def of_rclone(text: str, *, read_only: bool) -> Counters | None:
    """Return the counters of `rclone --metrics-addr`; None when the text is not its.

    rclone has one number for both directions, so it tells about fetching only where nothing can be sent; it counts
    neither what apps read nor cache hits.
    """
    transferred = Metrics(text).total("rclone_bytes_transferred_total")
    if transferred is None:
        return None
    if not read_only:
        return Counters(client="rclone", at_s=time.time())
    return Counters(client="rclone", fetched_bytes=int(transferred), sent_bytes=0, at_s=time.time())


READERS: Mapping[str, Callable[[str], Counters | None]] = {
    "juicefs": of_juicefs,
    "rclone": lambda text: of_rclone(text, read_only=False),
    "rclone-ro": lambda text: of_rclone(text, read_only=True),
}


@dataclass(frozen=True)
class Source:
    """Where a running client shows its metrics: `http://127.0.0.1:PORT/metrics` or `unix:PATH`, and how to read them."""

    reader: str
    address: str

    def look(self) -> Counters | None:
        """Return the counters now, or None when the client does not show them."""
        with suppress(OSError, http.client.HTTPException):
            return READERS[self.reader](_fetch(self.address))
        return None


class UnixConnection(http.client.HTTPConnection):
    """A connection to a server that listens on a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(self._path)


def _fetch(address: str) -> str:
    if address.startswith("unix:"):
        connection: http.client.HTTPConnection = UnixConnection(address.removeprefix("unix:"))
    else:
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(address).netloc, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read(_MAX_BYTES).decode("utf-8", "replace")
    finally:
        connection.close()


def keep(counters: Counters | None, source: Source, path: str = FILE) -> None:
    """Write what was seen last, and where to look, for `python -m headrace.fuse.counters`."""
    content = {"reader": source.reader, "address": source.address, "last": counters.to_json() if counters else None}
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(content, file)
    os.rename(f"{path}.new", path)


def main(path: str = FILE) -> int:
    """Print the counters as JSON; exit code 1 with a sentence when there are none."""
    try:
        with open(path, encoding="utf-8") as file:
            kept = json.load(file)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"no counters here: {error}\n")
        return 1
    counters = Source(kept["reader"], kept["address"]).look()
    answer = counters.to_json() if counters else kept["last"]
    if answer is None:
        sys.stderr.write("the client shows no counters yet\n")
        return 1
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


if __name__ == "__main__":
    sys.exit(main())
