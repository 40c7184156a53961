"""Short work that may hang (a path on a dead mount), done in a child process with a deadline so that pid 1 never waits."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable

from headrace.sandbox.loop import Loop, fork
from headrace.sandbox.server import Call
from headrace.sandbox.wire import Message, Refusal

_READ_BYTES = 65536


def answer_from_child(
    loop: Loop,
    call: Call,
    work: Callable[[], Message],
    *,
    timeout_s: float,
    finish: Callable[[Message], Message] = lambda result: result,
) -> None:
    """Run `work` in a child with this process's namespaces and capabilities; its result or Refusal answers `call`.

    Args:
        finish: makes the answer of the result, in this process.
    """
    receive, send = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(send, True)
    pid = fork(lambda: _work(work, send), (send,))
    loop.on_exit(pid, lambda _status: None)
    os.close(send)
    said = bytearray()

    def listen() -> None:
        data = os.read(receive, _READ_BYTES)
        said.extend(data)
        if not data:
            loop.forget(receive)
            os.close(receive)
            deadline.cancel()
            _answer(call, bytes(said), finish)

    def too_slow() -> None:
        op = call.request["op"]
        call.fail(
            Refusal(
                "Timeout", f"{op} took longer than {timeout_s:g} s and was given up; does a mount on its path hang?"
            )
        )
        loop.forget(receive)
        os.close(receive)
        os.kill(pid, signal.SIGKILL)

    deadline = loop.later(timeout_s, too_slow)
    loop.on_readable(receive, listen)


def _work(work: Callable[[], Message], send: int) -> None:
    try:
        result = {"ok": work()}
    except Refusal as refusal:
        result = {"refused": refusal.to_json()}
    except OSError as error:
        result = {"refused": {"code": "Failed", "message": error.strerror or str(error)}}
    data = json.dumps(result).encode()
    while data:
        data = data[os.write(send, data) :]


def _answer(call: Call, said: bytes, finish: Callable[[Message], Message]) -> None:
    result = (
        json.loads(said) if said else {"refused": {"code": "Failed", "message": f"{call.request['op']} was killed"}}
    )
    if "ok" in result:
        call.ok(**finish(result["ok"]))
    else:
        call.fail(Refusal(**result["refused"]))
