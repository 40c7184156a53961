"""Who submitted it: stamped at CREATE, kept for ever."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.admission.authorship import Authorship
from headrace.engine.pipeline.request import AdmissionRequest, User
from headrace.errors import Denied
from headrace.spec.kind import Json, Kind
from headrace.spec.kinds import CONFIG_MAP, DATASET, POD, POOL, TRAIN_JOB

pytestmark = pytest.mark.anyio
KEY = "headrace.io/submitted-by"
ADMITTER = Authorship({"system:headrace"})


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def body(author: str | None = None) -> Json:
    annotations = {"a": "b"} if author is None else {"a": "b", KEY: author}
    return {"metadata": {"name": "x", "namespace": "n", "annotations": annotations}}


async def admitted(user: str, operation: str, new: Json | None, old: Json | None = None, **more: Any) -> Json | None:
    kind: Kind[Any] = more.pop("kind", TRAIN_JOB)
    request = AdmissionRequest(
        user=User(user),
        operation=operation,  # type: ignore[arg-type]
        kind=kind,
        namespace="n",
        name="x",
        object=new,
        old=old,
        **more,
    )
    return await ADMITTER.admit(request)


@pytest.mark.parametrize(
    ("user", "said", "stamped"),
    [
        ("ann", None, "ann"),
        ("ann", "bob", "ann"),
        ("ann", "ann", None),
        ("system:headrace", "ann", None),
        ("system:headrace", None, "system:headrace"),
    ],
)
async def test_create(user: str, said: str | None, stamped: str | None) -> None:
    new = body(said)
    result = await admitted(user, "CREATE", new)
    if stamped is None:
        assert result is None
    else:
        assert result is not None
        assert result["metadata"]["annotations"] == {"a": "b", KEY: stamped}
    assert new == body(said)


@pytest.mark.parametrize(
    ("user", "before", "said", "outcome"),
    [
        ("bob", "ann", "ann", "left"),
        ("bob", "ann", None, "kept"),
        ("bob", "ann", "bob", "refused"),
        ("bob", None, "bob", "refused"),
        ("system:headrace", None, "ann", "left"),
        ("system:headrace", "ann", "bob", "refused"),
    ],
)
async def test_update(user: str, before: str | None, said: str | None, outcome: str) -> None:
    if outcome == "refused":
        with pytest.raises(Denied, match="submitted-by"):
            await admitted(user, "UPDATE", body(said), body(before))
        return
    result = await admitted(user, "UPDATE", body(said), body(before))
    if outcome == "left":
        assert result is None
    else:
        assert result is not None
        assert result["metadata"]["annotations"][KEY] == "ann"


async def test_what_is_stamped() -> None:
    stamped: list[Kind[Any]] = [TRAIN_JOB, DATASET, POD]
    for kind in stamped:
        assert await admitted("ann", "CREATE", body(), kind=kind) is not None
    left: list[Kind[Any]] = [POOL, CONFIG_MAP]
    for kind in left:
        assert await admitted("ann", "CREATE", body(), kind=kind) is None
    assert await admitted("ann", "UPDATE", body(), body(), subresource="status") is None
    assert await admitted("ann", "DELETE", None, body("bob")) is None
