"""A client that costs little itself: one kept HTTPS connection, and threads that share a list of requests."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]
MERGE = "application/merge-patch+json"
_TIMEOUT_S = 60.0


class Caller:
    """One connection to one server. Not for several threads."""

    def __init__(self, url: str, tls: ssl.SSLContext, token: str = "") -> None:
        place = urlsplit(url)
        self._connection = http.client.HTTPSConnection(
            place.hostname or "", place.port, context=tls, timeout=_TIMEOUT_S
        )
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def send(self, method: str, path: str, content: bytes | None = None, content_type: str = "") -> tuple[int, bytes]:
        """Send a request; return status and body."""
        headers = {**self._headers, "Content-Type": content_type} if content_type else self._headers
        self._connection.request(method, path, content, headers)
        with self._connection.getresponse() as answer:
            return answer.status, answer.read()

    def call(self, method: str, path: str, body: Json | None = None, content_type: str = "") -> Json:
        """Send JSON and return the JSON of the answer; ends the program on an error, with what the server said."""
        content = None if body is None else json.dumps(body).encode()
        status, answer = self.send(method, path, content, content_type)
        if status >= 400:
            raise SystemExit(f"{method} {path} was answered {status}: {answer.decode(errors='replace')[:2000]}")
        found: Json = json.loads(answer)
        return found

    def events(self, path: str) -> Iterator[Json]:
        """Yield the events of a watch as they come, until the server ends it or the connection is closed."""
        self._connection.request("GET", path, headers=self._headers)
        answer = self._connection.getresponse()
        while line := answer.readline():
            yield json.loads(line)

    def close(self) -> None:
        self._connection.close()


def at_once(callers: list[Caller], work: Callable[[Caller, Any], object], items: Iterable[Any]) -> float:
    """Have each caller take the next item until none is left; return the seconds that all took together."""
    rest, lock = iter(items), threading.Lock()
    failed: list[BaseException] = []

    def run(caller: Caller) -> None:
        try:
            while not failed:
                with lock:
                    item = next(rest, None)
                if item is None:
                    return
                work(caller, item)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(caller,)) for caller in callers]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return time.perf_counter() - began
