"""In-process logs and commands of pods: the same way to a node's agent that the façade takes for people."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from headrace.cluster.protocol import ExecResult, ExecStream
from headrace.engine.facade.node_proxy import NodeProxy
from headrace.engine.facade.pods import choose_container
from headrace.errors import Unsupported
from headrace.spec.kind import Json

_QUERY = {"tailLines": "tailLines", "sinceSeconds": "sinceSeconds", "timestamps": "timestamps", "previous": "previous"}


class AgentStreams:
    """Satisfies `engine.client.PodStreams` for our own controllers, which read logs and run no commands."""

    def __init__(self, proxy: NodeProxy) -> None:
        self._proxy = proxy

    @asynccontextmanager
    async def logs(self, pod: Json, options: Json) -> AsyncIterator[AsyncIterator[bytes]]:
        container = choose_container(pod, options.get("container", ""))
        query = [(key, _text(options[key])) for key in _QUERY if options.get(key) not in {None, False}]
        async with self._proxy.logs(pod, container, query, follow=bool(options.get("follow"))) as chunks:
            yield chunks

    async def exec(self, pod: Json, command: Sequence[str], *, container: str, stdin: bytes) -> ExecResult:
        raise self._refusal(pod, command, container, stdin)

    def attach_exec(
        self, pod: Json, command: Sequence[str], *, container: str, tty: bool
    ) -> AbstractAsyncContextManager[ExecStream]:
        raise self._refusal(pod, command, container, tty)

    @staticmethod
    def _refusal(pod: Json, *_asked: object) -> Unsupported:
        name = pod["metadata"]["name"]
        return Unsupported(f"Controllers run no commands in pods, so not in {name}.", hint="Use the API server.")


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
