"""Container logs in the CRI's format, rotated: `<RFC 3339 with nanoseconds> stdout|stderr F|P <line>`.

`P` is a part of a line that goes on in the next record, as kubelet and every log shipper read it. The current file
is `path`; older ones are `path.1` (newest) to `path.<max_files - 1>`.
Source: Kubernetes KEP "CRI log", kubelet `pkg/kubelet/kuberuntime/logs`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time

_LONGEST_PART_BYTES = 16 * 1024  # containerd's default max_container_log_line_size


class LogWriter:
    """Writes one container's streams to one file. Holds descriptors only, so it goes on after a change of root.

    Args:
        path: the file; its directory is made if missing.
        max_bytes: size after which the file is rotated; 0 for never.
        max_files: how many files to keep, the current one included.
    """

    def __init__(self, path: str, *, max_bytes: int = 0, max_files: int = 1) -> None:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        self._directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._name = os.path.basename(path)
        self._max_bytes = max_bytes
        self._max_files = max(1, max_files)
        self._rest: dict[str, bytes] = {}
        self._told_full = False
        self._open()

    @property
    def fds(self) -> tuple[int, int]:
        """The descriptors held, for who closes all others."""
        return self._directory, self._fd

    def write(self, stream: str, data: bytes) -> None:
        """Add bytes of `stream` ("stdout" or "stderr"); whole lines are written at once, the rest is kept for later."""
        lines = (self._rest.get(stream, b"") + data).split(b"\n")
        self._rest[stream] = lines.pop()
        head = f"{_timestamp()} {stream} ".encode()
        records = []
        for line in lines:
            while len(line) > _LONGEST_PART_BYTES:
                records.append(head + b"P " + line[:_LONGEST_PART_BYTES] + b"\n")
                line = line[_LONGEST_PART_BYTES:]
            records.append(head + b"F " + line + b"\n")
        rest = self._rest[stream]
        while len(rest) >= _LONGEST_PART_BYTES:
            records.append(head + b"P " + rest[:_LONGEST_PART_BYTES] + b"\n")
            rest = rest[_LONGEST_PART_BYTES:]
        self._rest[stream] = rest
        self._put(records)

    def finish(self, stream: str) -> None:
        """Write what `stream` ended with if that was no whole line."""
        rest = self._rest.pop(stream, b"")
        if rest:
            self._put([f"{_timestamp()} {stream} F ".encode() + rest + b"\n"])

    def close(self) -> None:
        """Finish both streams and let go of the files."""
        for stream in tuple(self._rest):
            self.finish(stream)
        os.close(self._fd)
        os.close(self._directory)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(self._name, flags, 0o640, dir_fd=self._directory)
        self._size_bytes = os.fstat(self._fd).st_size

    def _put(self, records: list[bytes]) -> None:
        """Append; where the disk is full the lines are lost and the program is not: it may not stop because of its log."""
        try:
            batch: list[bytes] = []
            batch_bytes = 0
            for record in records:
                if self._max_bytes and 0 < self._size_bytes + batch_bytes > self._max_bytes - len(record):
                    self._append(b"".join(batch))
                    self._rotate()
                    batch, batch_bytes = [], 0
                batch.append(record)
                batch_bytes += len(record)
            self._append(b"".join(batch))
            self._told_full = False
        except OSError as error:
            if not self._told_full:
                self._told_full = True
                with contextlib.suppress(OSError):  # stderr may be a file on the same disk
                    print(f"log {self._name}: lines are lost: {error}", file=sys.stderr, flush=True)  # noqa: T201

    def _append(self, data: bytes) -> None:
        size_bytes = self._size_bytes
        try:
            while data:
                written = os.write(self._fd, data)
                self._size_bytes += written
                data = data[written:]
        except OSError:
            os.ftruncate(self._fd, size_bytes)  # the next record must not begin in the middle of half a one
            self._size_bytes = size_bytes
            raise

    def _rotate(self) -> None:
        names = [self._name, *(f"{self._name}.{number}" for number in range(1, self._max_files))]
        for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            try:
                os.rename(newer, older, src_dir_fd=self._directory, dst_dir_fd=self._directory)
            except FileNotFoundError:
                continue
        if self._max_files == 1:
            os.unlink(self._name, dir_fd=self._directory)
        os.close(self._fd)
        self._open()


def _timestamp() -> str:
    wall_ns = time.time_ns()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(wall_ns // 10**9))}.{wall_ns % 10**9:09d}Z"
