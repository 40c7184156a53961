"""What a storage client says that it fetched over the line, against a proxy that counts.

The proxy stands between the client and the object store and counts every byte that the server sends, HTTP headers
included. With 20 objects of 1 MiB of random data those are less than 0.1 % of it (some 500 bytes a response), so the
payload is known well within the 2 % that the client's counter may differ.
"""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from tests.integration.stack import objects
from tests.integration.stack.stack import Stack, mount, program
from tests.storage import READ, digest_of, juicefs_volume, s3_bucket

from headrace.fuse.counters import parse_message
from headrace.spec.kind import Ref
from headrace.spec.kinds import POD

pytestmark = [pytest.mark.fuse, pytest.mark.usefixtures("fuse")]

MIB = 1 << 20
FILES = {f"{i:02}.bin": random.Random(i).randbytes(MIB) for i in range(20)}


class CountingProxy:
    """Forwards TCP connections on loopback; `sent_bytes` is what the server has sent through it."""

    def __init__(self, server_port: int) -> None:
        self.sent_bytes = 0
        self._server = ("127.0.0.1", server_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = [self._listener]
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            pairs = [(client, server, False), (server, client, True)]
            threads = [threading.Thread(target=self._pump, args=pair) for pair in pairs]
            with self._lock:
                self._sockets += [client, server]
                self._threads += threads
            for thread in threads:
                thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if counts:
                    with self._lock:
                        self.sent_bytes += len(data)
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        with self._lock:
            for each in self._sockets:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for each in self._sockets:
            each.close()


@contextmanager
def counted(server_port: int) -> Iterator[CountingProxy]:
    proxy = CountingProxy(server_port)
    try:
        yield proxy
    finally:
        proxy.close()


@pytest.mark.parametrize("client", ["juicefs", "rclone"])
def test_the_clients_counter_is_what_came_over_the_line(
    stack: Stack, tmp_path_factory: pytest.TempPathFactory, client: str
) -> None:
    claim = Ref("default", client)
    with ExitStack() as running:
        if client == "juicefs":
            volume = running.enter_context(juicefs_volume(tmp_path_factory.mktemp("jfs"), FILES))
            proxy = running.enter_context(counted(volume.blocks.port))
            through = f"http://127.0.0.1:{proxy.port}/{volume.blocks.name}"
            bodies = objects.juicefs_claim(claim, volume, subdir="/data", bucket=through)
        else:
            bucket = running.enter_context(s3_bucket(tmp_path_factory.mktemp("s3")))
            bucket.put(FILES)
            proxy = running.enter_context(counted(bucket.port))
            bodies = objects.s3_claim(claim, bucket, endpoint=f"http://127.0.0.1:{proxy.port}")
        stack.apply(objects.profile(client, client), *bodies)
        stack.share(claim, client)
        stack.verified(claim)

        before = proxy.sent_bytes
        stack.submit(client, program(READ, "/data"), pools=["cloud"], mounts=[mount(claim.name, "/data")])
        stack.ended(client)
        came_bytes = proxy.sent_bytes - before
        assert digest_of(FILES) in stack.log(client)
        assert came_bytes >= len(FILES) * MIB
        said = fetched_bytes(stack, client)
        assert abs(said - came_bytes) <= 0.02 * came_bytes, (said, came_bytes)
        stack.share(claim, None)


def fetched_bytes(stack: Stack, job: str) -> int:
    """Return what the sidecar left as its termination message."""
    (pod,) = stack.client.list(POD, labels=f"headrace.io/job={job}")
    (sidecar,) = [entry for entry in pod.status["initContainerStatuses"] if entry["name"] == "fluid-fuse-0"]
    counters = parse_message(sidecar["state"]["terminated"]["message"])
    assert counters is not None
    assert counters.fetched_bytes is not None
    return counters.fetched_bytes
