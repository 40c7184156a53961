"""Speaking to the FUSE broker of a world: started there as a service, ordered about over its control socket.

Every order has a connection of its own: nothing has to be remembered when the broker is restarted, and an order that
waits holds up no other.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import anyio
from anyio.abc import UNIXSocketStream

from headrace.csi.world import World
from headrace.errors import EngineFailed, HeadraceError, Unavailable
from headrace.fuse.broker import CONTROL_NAME
from headrace.spec.kind import Json

SERVICE = "fuse-broker"
_RETRY_S = 0.05
_MAX_ANSWER_BYTES = 4 << 20


class BrokerRefused(HeadraceError):
    """The broker understood an order and does not carry it out; `code` is its own (`NotFound`, `Limit`, …)."""

    http_status = 409


class Broker:
    """One world's broker.

    Args:
        directory: the broker's own, which world and driver see at the same path.
        python: the interpreter the world starts it with.
        options: more words of its command line.
    """

    def __init__(
        self, world: World, directory: str, *, python: str = sys.executable, options: Sequence[str] = ()
    ) -> None:
        self._world = world
        self._directory = directory
        self._argv = [python, "-m", "headrace.fuse.broker", "--directory", directory, *options]

    @property
    def _log(self) -> str:
        return os.path.join(self._directory, "broker.log")

    async def why_not_ready(self, answer_within_s: float = 5.0) -> str:
        """Return the sentence why it cannot mount, empty when it can; raises Unavailable when it does not answer."""
        return str((await self.order("hello", answer_within_s=answer_within_s))["device"])

    async def start(self) -> None:
        """Have the world run the broker and keep it running. Idempotent; replaces one of an older installation."""
        order: dict[str, Any] = {
            "service": SERVICE,
            "argv": self._argv,
            "log": {"path": self._log},
            "restart": True,
        }
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        try:
            await self._world.request("service.start", **order)
        except HeadraceError as error:
            if error.code != "Conflict":
                raise
            await self._world.request("service.stop", service=SERVICE)
            await self._world.request("service.start", **order)

    async def register(self, volume_id: str, *, data_dir: str, socket_dir: str, **more: Any) -> Json:
        """Register a volume (see `headrace.fuse.volume.Registration`). Idempotent."""
        return await self.order("register", id=volume_id, data_dir=data_dir, socket_dir=socket_dir, **more)

    async def unregister(self, volume_id: str) -> None:
        """Abort and unmount all that is mounted in a volume, and forget it. Idempotent."""
        await self.order("unregister", id=volume_id)

    async def abort(self, volume_id: str) -> None:
        """End the connections of a volume's clients; their mounts stay. Idempotent."""
        await self.order("abort", id=volume_id)

    async def state(self, volume_id: str) -> Json | None:
        """Return a volume's state, None when it is not registered."""
        try:
            return await self.order("state", id=volume_id)
        except BrokerRefused as error:
            if error.code == "NotFound":
                return None
            raise

    async def list(self) -> list[Json]:
        """Return the states of all volumes."""
        found: list[Json] = (await self.order("list"))["volumes"]
        return found

    async def wait(self, volume_id: str, timeout_s: float, until: Sequence[str]) -> Json:
        """Return a volume's state once it is one of `until`, or after `timeout_s`."""
        return await self.order(
            "wait", id=volume_id, timeout_s=timeout_s, until=list(until), answer_within_s=timeout_s + 10
        )

    async def order(self, op: str, *, answer_within_s: float = 20.0, **fields: Any) -> Json:
        """Give one order, again when the broker went away at it: all orders are idempotent.

        Raises:
            BrokerRefused: with the broker's sentence.
            Unavailable: no broker, or no answer in time; the order may have been carried out.
        """
        frame = json.dumps({"op": op, **fields}).encode() + b"\n"
        line = None
        try:
            with anyio.fail_after(answer_within_s):
                while line is None:
                    line = await self._ask(frame)
        except TimeoutError as error:
            raise Unavailable(
                f"The FUSE broker did not answer {op} within {answer_within_s:.0f} s.",
                hint=f"Its log is {self._log if os.path.exists(self._log) else 'in that of the driver'}.",
            ) from error
        answer: Json = json.loads(line)
        if not answer.get("ok"):
            raise BrokerRefused(str(answer.get("error", "refused")), code=str(answer.get("code", "Failed")))
        return answer

    async def _ask(self, frame: bytes) -> bytes | None:
        """Return the broker's answer, None when it does not listen now or went away."""
        line = b""
        try:
            async with await self._connect() as stream:
                await stream.send(frame)
                while not line.endswith(b"\n"):
                    line += await stream.receive(65536)
                    if len(line) > _MAX_ANSWER_BYTES:
                        raise EngineFailed("The FUSE broker's answer has no end.")
        except (anyio.EndOfStream, anyio.BrokenResourceError, OSError):
            await anyio.sleep(_RETRY_S)
            return None
        return line

    async def _connect(self) -> UNIXSocketStream:
        """Connect; the path may be longer than a socket address."""
        holder = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return await anyio.connect_unix(f"/proc/self/fd/{holder}/{CONTROL_NAME}")
        finally:
            os.close(holder)
