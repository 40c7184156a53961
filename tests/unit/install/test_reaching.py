"""The API server is led to a controller outside by the first way that works, told why none does, and forgets it all."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.cluster.fake import FakeCluster
from headrace.errors import NotFound, Unavailable
from headrace.install import reaching
from headrace.install.kinds import API_SERVICE, ENDPOINT_SLICE
from headrace.install.names import CONTROLLER, READS_API_SERVICE
from headrace.install.outside import ways
from headrace.spec.kind import Kind, Ref
from headrace.spec.kinds import SERVICE

pytestmark = pytest.mark.anyio
HOME = "ai"
FOUND = ways(["10.0.0.7", "127.0.0.1"], 8443)
LEADING: tuple[tuple[Kind[Any], Ref], ...] = (
    (API_SERVICE, Ref("", READS_API_SERVICE)),
    (SERVICE, Ref(HOME, CONTROLLER)),
    (ENDPOINT_SLICE, Ref(HOME, CONTROLLER)),
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaching, "_ANSWERS_WITHIN_S", 0.05)
    monkeypatch.setattr(reaching, "_LOOK_EVERY_S", 0.01)


def api_server(works: str) -> FakeCluster:
    """A server whose APIService is available once its Service is an ExternalName of `works`, or routed to it."""
    made = FakeCluster()
    get = made.get

    async def judged(kind: Kind[Any], ref: Ref) -> Any:
        doc = await get(kind, ref)
        if kind is API_SERVICE:
            service = await get(SERVICE, Ref(HOME, CONTROLLER))
            to = service.raw["spec"].get("externalName") or "routed"
            condition = {"type": "Available", "status": str(to == works), "message": f"no answer by {to}"}
            doc.raw["status"] = {"conditions": [condition]}
        return doc

    made.get = judged  # type: ignore[method-assign]
    return made


async def there(cluster: FakeCluster) -> list[str]:
    found = []
    for kind, ref in LEADING:
        try:
            await cluster.get(kind, ref)
            found.append(kind.name)
        except NotFound:
            continue
    return found


@pytest.mark.parametrize(("works", "number"), [("routed", 0), ("10.0.0.7", 1), ("127.0.0.1", 2)])
async def test_the_first_way_that_works_is_taken(works: str, number: int) -> None:
    cluster = api_server(works)
    await reaching.announce(cluster, HOME, FOUND[0])
    assert await reaching.reach(cluster, HOME, FOUND) == FOUND[number]
    assert (ENDPOINT_SLICE.name in await there(cluster)) == (works == "routed")


async def test_where_none_works_it_is_said_of_each_why() -> None:
    cluster = api_server("elsewhere")
    await reaching.announce(cluster, HOME, FOUND[0])
    with pytest.raises(Unavailable, match=r"no answer by routed.* no answer by 10\.0\.0\.7.* no answer by 127"):
        await reaching.reach(cluster, HOME, FOUND)


async def test_afterwards_nothing_leads_here() -> None:
    cluster = api_server("routed")
    await reaching.announce(cluster, HOME, FOUND[0])
    assert await there(cluster) == [kind.name for kind, _ in LEADING]
    await reaching.withdraw(cluster, HOME)
    await reaching.withdraw(cluster, HOME)
    assert await there(cluster) == []
