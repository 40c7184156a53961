"""Watches over real connections that are cut, fall silent, expire or speak nonsense, and the cache on top of them."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec
import pytest

from headrace.cluster import reflector
from headrace.cluster.backoff import Backoff
from headrace.cluster.cache import Cache
from headrace.cluster.protocol import Change, Scope
from headrace.cluster.remote import RemoteCluster
from headrace.errors import Denied, Expired, Unavailable
from headrace.spec.kind import Json, Ref
from headrace.spec.kinds import CONFIG_MAP

pytestmark = [
    pytest.mark.anyio,
    # httpcore2 leaves its inner generators to the collector when a stream is left early; only Trio minds
    pytest.mark.filterwarnings("ignore:Async generator 'httpcore2:ResourceWarning"),
]


def config(name: str, version: int, value: str = "") -> Json:
    meta = {"name": name, "namespace": "vision", "uid": name, "resourceVersion": str(version)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"value": value}}


def bookmark(version: int) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"resourceVersion": str(version)}}


async def collect(remote: RemoteCluster, changes: list[Change[Any]], **options: Any) -> None:
    where = options.pop("where", Scope())
    async with remote.watch(CONFIG_MAP, where, since="5", **options) as stream:
        async for change in stream:  # what came before an error counts, so no comprehension
            changes += [change]


async def test_events_come_as_they_are_sent_and_the_end_is_the_servers(server: Any, remote: RemoteCluster) -> None:
    async def respond(exchange: Any) -> None:
        await exchange.begin()
        await exchange.event("ADDED", config("a", 6))
        await exchange.event("BOOKMARK", bookmark(8))
        await exchange.chunk(b"")

    server.script(respond)
    changes: list[Change[Any]] = []
    await collect(remote, changes, where=Scope("vision", labels="a=b"))
    assert [(change.type, change.doc.version) for change in changes] == [("ADDED", "6"), ("BOOKMARK", "8")]
    query = server.last.query
    assert 300 <= int(query.pop("timeoutSeconds")) <= 600
    assert query == {"labelSelector": "a=b", "watch": "1", "allowWatchBookmarks": "1", "resourceVersion": "5"}
    assert server.last.path == "/api/v1/namespaces/vision/configmaps"
    assert server.last.headers["accept-encoding"] == "identity"


async def test_events_may_be_split_and_joined_anywhere(server: Any, remote: RemoteCluster) -> None:
    lines = b"".join(
        msgspec.json.encode({"type": "ADDED", "object": config(f"c{n}", n, "ü" * 3000)}) + b"\n" for n in range(6, 26)
    )

    async def respond(exchange: Any) -> None:
        await exchange.begin()
        for start in range(0, len(lines), 997):
            await exchange.chunk(lines[start : start + 997])
        await exchange.chunk(b"\n")
        await exchange.chunk(b"")

    server.script(respond)
    changes: list[Change[Any]] = []
    await collect(remote, changes)
    assert [change.doc.name for change in changes] == [f"c{n}" for n in range(6, 26)]
    assert all(change.doc.raw["data"]["value"] == "ü" * 3000 for change in changes)


async def test_410_before_and_within_a_stream(server: Any, remote: RemoteCluster) -> None:
    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version: 5 (9)"}

    async def within(exchange: Any) -> None:
        await exchange.begin()
        await exchange.event("ADDED", config("a", 6))
        await exchange.event("ERROR", gone)
        await anyio.sleep_forever()

    server.answers(410, gone)
    server.script(within)
    changes: list[Change[Any]] = []
    with pytest.raises(Expired, match="too old resource version"):
        await collect(remote, changes)
    with pytest.raises(Expired, match="too old resource version"):
        await collect(remote, changes)
    assert len(changes) == 1


@pytest.mark.parametrize("rest", [b'{"type":"ADDED","object":{"metadata":{"na', b""])
async def test_a_cut_mid_object_or_between_is_unavailable(server: Any, remote: RemoteCluster, rest: bytes) -> None:
    async def respond(exchange: Any) -> None:
        await exchange.begin()
        await exchange.event("ADDED", config("a", 6))
        if rest:
            await exchange.chunk(rest)
        await exchange.cut()

    server.script(respond)
    changes: list[Change[Any]] = []
    with pytest.raises(Unavailable, match="was lost"):
        await collect(remote, changes)
    assert len(changes) == 1


async def test_an_orderly_end_mid_object_is_noticed_too(server: Any, remote: RemoteCluster) -> None:
    async def respond(exchange: Any) -> None:
        await exchange.begin()
        await exchange.chunk(b'{"type":"ADDED","obj')
        await exchange.chunk(b"")

    server.script(respond)
    with pytest.raises(Unavailable, match="cut in the middle"):
        await collect(remote, [])


async def test_silence_ends_at_its_deadline_even_before_the_first_byte(server: Any, remote: RemoteCluster) -> None:
    async def after_one(exchange: Any) -> None:
        await exchange.begin()
        await exchange.event("ADDED", config("a", 6))
        await anyio.sleep_forever()

    server.script(after_one, lambda _: anyio.sleep_forever())
    for _ in range(2):
        with anyio.fail_after(5), pytest.raises(Unavailable, match=r"said nothing .* for 0\.1 s"):
            await collect(remote, [], idle_timeout_s=0.1)


async def test_nonsense_is_unavailable(server: Any, remote: RemoteCluster) -> None:
    async def respond(exchange: Any) -> None:
        await exchange.begin()
        await exchange.chunk(b"<html>\n")

    server.script(respond)
    with pytest.raises(Unavailable, match="not what a Kubernetes API sends"):
        await collect(remote, [])


async def test_a_watch_that_is_refused(server: Any, remote: RemoteCluster) -> None:
    server.answers(403, {"kind": "Status", "code": 403, "reason": "Forbidden", "message": "may not watch"})
    with pytest.raises(Denied, match="may not watch"):
        await collect(remote, [])


async def test_what_the_reader_raises_comes_through_unchanged(server: Any, remote: RemoteCluster) -> None:
    async def respond(exchange: Any) -> None:
        await exchange.begin()
        await exchange.event("ADDED", config("a", 6))
        await anyio.sleep_forever()

    server.script(respond)
    with pytest.raises(TimeoutError):
        with anyio.fail_after(0.05):
            await collect(remote, [])

    async def break_off() -> None:
        async with remote.watch(CONFIG_MAP, since="5") as changes:
            async for _ in changes:
                raise KeyError

    with pytest.raises(KeyError):
        await break_off()


async def test_the_cache_survives_it_all(server: Any, remote: RemoteCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """500, 429 with Retry-After, a list, a cut mid-object, silence, 409-ish nonsense, 410, and a new list."""
    monkeypatch.setattr(reflector, "BACKOFF", Backoff(first_s=0.001, cap_s=0.01))
    monkeypatch.setattr(reflector, "IDLE_TIMEOUT_S", 0.1)

    def listing(version: int, *items: Json) -> Json:
        return {"metadata": {"resourceVersion": str(version)}, "items": list(items)}

    async def cut_mid_object(exchange: Any) -> None:
        await exchange.begin()
        await exchange.event("MODIFIED", config("a", 11, "2"))
        await exchange.chunk(b'{"type":"DELETED","object":{"metadata":{"name":"b"')
        await exchange.cut()

    async def silent(exchange: Any) -> None:
        await exchange.begin()
        await exchange.event("ADDED", config("c", 12))
        await anyio.sleep_forever()

    async def expired(exchange: Any) -> None:
        await exchange.begin()
        await exchange.event("ERROR", {"kind": "Status", "code": 410, "message": "too old"})

    async def well(exchange: Any) -> None:
        await exchange.begin()
        await exchange.event("ADDED", config("d", 31))
        await anyio.sleep_forever()

    server.answers(500, {"kind": "Status", "code": 500, "message": "broken"})
    server.answers(429, {"kind": "Status", "code": 429, "message": "slow down"}, retry_after="0")
    server.answers(200, listing(10, config("a", 5, "1"), config("b", 6)))
    server.script(cut_mid_object, silent)
    server.answers(200, b"<html>")
    server.script(expired)
    server.answers(200, listing(30, config("a", 11, "2"), config("c", 29, "new")))
    server.script(well)

    told: list[str] = []
    done = anyio.Event()
    cache = Cache(remote)

    def hear(old: Any, new: Any) -> None:
        told.append(("+" if old is None else "-" if new is None else "~") + (new or old).name)
        if told[-1] == "+d":
            done.set()

    cache.subscribe(CONFIG_MAP, hear)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cache.run)
        with anyio.fail_after(10):
            await done.wait()
        tasks.cancel_scope.cancel()
    assert told == ["+a", "+b", "~a", "+c", "~c", "-b", "+d"]
    assert {doc.name for doc in cache.reader(CONFIG_MAP).list()} == {"a", "c", "d"}
    watched = [seen.query["resourceVersion"] for seen in server.seen if "watch" in seen.query]
    assert watched == ["10", "11", "12", "12", "30"]
    assert cache.reader(CONFIG_MAP).get(Ref("vision", "b")) is None
