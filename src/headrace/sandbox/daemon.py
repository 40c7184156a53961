"""Going to the background: a process of its own session that no terminal reaches and whose caller knows that it began."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from headrace.sandbox.wire import Message


def daemonise(serve: Callable[[], None], log: str) -> int:
    """Run `serve` in the background; return in the caller, with an exit code, once it has said its `last_word`.

    Stdin is /dev/null there, stderr goes to the file `log`, and what `serve` says reaches the caller's stdout.
    """
    words, words_end = os.pipe2(os.O_CLOEXEC)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            _be_daemon(serve, log, words_end)
        os._exit(0)
    os.close(words_end)
    os.wait()
    with open(words, "rb") as file:
        said = file.read()
    os.write(1, said)
    if not said:
        print(f"it ended at once; see {log}", file=sys.stderr)  # noqa: T201
    return 0 if said else 1


def last_word(message: Message) -> None:
    """Tell whoever started us, on stdout; nothing can be said there afterwards."""
    os.write(1, json.dumps(message).encode() + b"\n")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def _be_daemon(serve: Callable[[], None], log: str, words: int) -> NoReturn:
    code = 1
    try:
        os.chdir("/")
        log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        null = os.open(os.devnull, os.O_RDONLY)
        for number, fd in enumerate((null, words, log_fd)):
            os.dup2(fd, number)
        for fd in (null, words, log_fd):
            os.close(fd)
        serve()
        code = 0
    except BaseException:  # noqa: BLE001 - the last chance to say why
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
