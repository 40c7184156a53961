"""Starts programs in the world's own namespaces, with the world's capabilities: services, and short commands."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence

from headrace.sandbox import process
from headrace.sandbox.loop import Loop, fork
from headrace.sandbox.wire import Refusal

_READ_BYTES = 65536


class Program:
    """A process started from the loop without ever waiting for it.

    Args:
        streams: (stdin, stdout, stderr) for it; the caller closes them.
        on_started: called with None once the program runs, or with the Refusal that says why it does not.
        on_ended: called with the wait status once it has ended, in either case.
    """

    def __init__(
        self,
        loop: Loop,
        argv: Sequence[str],
        env: Mapping[str, str],
        streams: tuple[int, int, int],
        on_started: Callable[[Refusal | None], None],
        on_ended: Callable[[int], None],
    ) -> None:
        words, words_end = os.pipe2(os.O_CLOEXEC)
        try:
            self.pid = fork(lambda: _become(argv, env, streams, words_end), (*streams, words_end))
        except OSError:
            os.close(words)
            raise
        finally:
            os.close(words_end)
        self._has_ended = False
        said = bytearray()
        heard = False

        def hear() -> None:
            nonlocal heard
            data = os.read(words, _READ_BYTES)
            said.extend(data)
            if not data:
                heard = True
                loop.forget(words)
                os.close(words)
                on_started(Refusal(**json.loads(bytes(said))) if said else None)

        def ended(status: int) -> None:
            self._has_ended = True
            with contextlib.suppress(ProcessLookupError):  # what it left running in its group ends with it
                os.killpg(self.pid, signal.SIGKILL)
            while not heard:
                hear()
            on_ended(status)

        loop.on_readable(words, hear)
        loop.on_exit(self.pid, ended)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to it and all of its process group; nothing when it has ended."""
        if not self._has_ended:
            with contextlib.suppress(ProcessLookupError):  # it has no group of its own in its first microseconds
                os.killpg(self.pid, number)
            os.kill(self.pid, number)


def _become(argv: Sequence[str], env: Mapping[str, str], streams: tuple[int, int, int], words: int) -> int:
    try:
        process.use_streams(streams)
        process.execute(argv, env, "/", where="on this machine")
    except Refusal as refusal:
        os.write(words, json.dumps(refusal.to_json()).encode())
    return 127
