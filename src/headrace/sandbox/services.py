"""Services, which run in the world's own namespaces with its capabilities, and short commands run there.

A service is for what holds mounts for pods, such as a FUSE broker. Its log has the format of containers' logs.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from headrace.sandbox import orders
from headrace.sandbox.journal import Journal
from headrace.sandbox.launch import Program
from headrace.sandbox.logs import LogWriter
from headrace.sandbox.loop import Loop, exit_code
from headrace.sandbox.server import Call, Handler
from headrace.sandbox.wire import Message, Refusal

_READ_BYTES = 65536
_FIRST_RESTART_S, _LAST_RESTART_S = 0.1, 5.0


class _Service:
    def __init__(self, call: Call) -> None:
        request = call.request
        self.name = orders.text(request, "service")
        self.argv = orders.argv(request)
        self.env = orders.environment(request)
        self.log_order = orders.log(request)
        self.restarts = orders.flag(request, "restart", False)
        self.delay_s = _FIRST_RESTART_S
        self.program: Program | None = None
        self.finish: list[Callable[[], None]] = []
        self.stops: list[Call] = []

    def to_json(self) -> Message:
        running = self.program is not None
        return {
            "service": self.name,
            "argv": self.argv,
            "state": "running" if running else "waiting",
            "pid": self.program.pid if self.program else 0,
        }


class Services:
    """The orders about services, and `run`."""

    def __init__(self, loop: Loop, journal: Journal) -> None:
        self._loop = loop
        self._journal = journal
        self._services: dict[str, _Service] = {}
        self.handlers: dict[str, Handler] = {"service.start": self._start, "service.stop": self._stop, "run": self._run}

    def to_json(self) -> list[Message]:
        """Return the state of all services."""
        return [service.to_json() for service in self._services.values()]

    def _start(self, call: Call) -> None:
        wanted = _Service(call)
        known = self._services.get(wanted.name)
        if known is None:
            self._services[wanted.name] = wanted
            self._launch(wanted, call)
        elif known.argv != wanted.argv or known.stops:
            raise Refusal("Conflict", f"service {known.name} runs another command or is being stopped; stop it first")
        else:
            call.ok(pid=known.program.pid if known.program else 0)

    def _launch(self, service: _Service, call: Call | None) -> None:
        log = LogWriter(**service.log_order)
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        stdout, stdout_end = os.pipe2(os.O_CLOEXEC)
        stderr, stderr_end = os.pipe2(os.O_CLOEXEC)

        def started(refusal: Refusal | None) -> None:
            if refusal is not None and call is not None:
                service.restarts = False
                call.fail(refusal)
            elif call is not None:
                call.ok(pid=program.pid)

        program = Program(
            self._loop,
            service.argv,
            service.env,
            (null, stdout_end, stderr_end),
            started,
            lambda status: self._ended(service, status),
        )
        service.program = program
        for fd in (null, stdout_end, stderr_end):
            os.close(fd)
        service.finish = [
            pump(self._loop, stdout, lambda data: log.write("stdout", data)),
            pump(self._loop, stderr, lambda data: log.write("stderr", data)),
            log.close,
        ]

    def _ended(self, service: _Service, status: int) -> None:
        service.program = None
        for finish in service.finish:
            finish()
        code, number = exit_code(status)
        self._journal.note({"type": "service-exited", "service": service.name, "exit_code": code, "signal": number})
        if service.restarts and not service.stops:
            self._loop.later(service.delay_s, lambda: self._relaunch(service))
            service.delay_s = min(_LAST_RESTART_S, service.delay_s * 2)
            return
        del self._services[service.name]
        for call in service.stops:
            call.ok()

    def _relaunch(self, service: _Service) -> None:
        if self._services.get(service.name) is service:
            self._launch(service, None)

    def _stop(self, call: Call) -> None:
        service = self._services.get(orders.text(call.request, "service"))
        grace_s = orders.number(call.request, "grace_s", 5)
        if service is None or service.program is None:
            self._services.pop(orders.text(call.request, "service"), None)
            call.ok()
            return
        service.stops.append(call)
        program = service.program
        program.kill(signal.SIGTERM)
        self._loop.later(grace_s, program.kill)

    def _run(self, call: Call) -> None:
        argv, env = orders.argv(call.request), orders.environment(call.request)
        timeout_s = orders.number(call.request, "timeout_s", 30)
        most_bytes = orders.whole(call.request, "max_output_bytes", 65536)
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        output, output_end = os.pipe2(os.O_CLOEXEC)
        said = bytearray()
        failure: list[Refusal] = []

        def ended(status: int) -> None:
            deadline.cancel()
            finish()  # what it left running may hold the pipe open; what was said until now is the answer
            if failure:
                call.fail(failure[0])
                return
            call.ok(exit_code=exit_code(status)[0], output=text(), truncated=len(said) > most_bytes)

        def text() -> str:
            return bytes(said[:most_bytes]).decode("utf-8", "replace")

        def too_slow() -> None:
            failure.append(
                Refusal(
                    "Timeout",
                    f"{argv[0]} did not end within {timeout_s:g} s and was killed; it said: {text()[-500:]!r}",
                )
            )
            program.kill()

        program = Program(
            self._loop,
            argv,
            env,
            (null, output_end, output_end),
            lambda refusal: failure.extend([refusal] if refusal else []),
            ended,
        )
        deadline = self._loop.later(timeout_s, too_slow)
        for fd in (null, output_end):
            os.close(fd)
        finish = pump(self._loop, output, lambda data: said.extend(data[: most_bytes + 1 - len(said)]))


def pump(loop: Loop, fd: int, take: Callable[[bytes], None]) -> Callable[[], None]:
    """Give `take` whatever comes on `fd`, to its end; return what takes the rest that is there and closes `fd`."""
    os.set_blocking(fd, False)
    is_open = True

    def move() -> bool:
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            take(data)
        else:
            close()
        return bool(data)

    def close() -> None:
        nonlocal is_open
        is_open = False
        loop.forget(fd)
        os.close(fd)

    def finish() -> None:
        while is_open and move():
            continue
        if is_open:
            close()

    loop.on_readable(fd, move)
    return finish
