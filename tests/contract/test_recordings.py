"""The engine answers the recorded sequences as a real kube-apiserver did (recordings/record.py)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import anyio.from_thread
import anyio.to_thread
import httpx2
import pytest
from tests.contract.recordings.making import GADGET_DEFINITION, WIDGET_DEFINITION
from tests.contract.recordings.record import ALL, ANSWERS
from tests.contract.recordings.steps import Step, play

from headrace.clock import FakeClock
from headrace.engine.facade.app import build_app
from headrace.engine.facade.authoriser import GroupAuthoriser
from headrace.engine.pipeline import Pipeline
from headrace.engine.pipeline.seeding import builtin_registry, seed
from headrace.engine.store.store import Store
from headrace.engine.tokens import StaticTokens

pytestmark = pytest.mark.anyio
Json = dict[str, Any]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@cache
def recorded() -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = json.loads(ANSWERS.read_text())["answers"]
    return found


@asynccontextmanager
async def opened(directory: Path, clock: FakeClock) -> AsyncIterator[httpx2.AsyncClient]:
    """The façade as a program, without a socket, with the definition that the sequences need."""
    tokens = StaticTokens(directory / "tokens.csv")
    headers = {"authorization": f"Bearer {tokens.ensure('admin', ('system:masters',))}"}
    async with Store(directory / "objects.db") as store:
        pipeline = Pipeline(store, builtin_registry(), clock=clock, authoriser=GroupAuthoriser())
        await seed(pipeline)
        transport = httpx2.ASGITransport(app=build_app(pipeline, static=tokens, accounts=None, clock=clock))
        async with httpx2.AsyncClient(transport=transport, base_url="https://engine", headers=headers) as client:
            for definition in (WIDGET_DEFINITION, GADGET_DEFINITION):
                await client.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", json=definition)
            await client.post("/api/v1/namespaces", json={"metadata": {"name": "sequence"}})
            yield client


async def replayed(directory: Path, steps: list[Step]) -> list[Json]:
    clock = FakeClock()
    async with opened(directory, clock) as client:

        async def ask(step: Step, content: bytes | None) -> tuple[int, Any]:
            clock.advance(1)
            headers = {"content-type": step.content_type, "user-agent": step.agent}
            answer = await client.request(step.method, step.path, content=content, headers=headers)
            return answer.status_code, answer.json()

        def send(step: Step, content: bytes | None) -> tuple[int, Any]:
            return anyio.from_thread.run(ask, step, content)

        return await anyio.to_thread.run_sync(play, steps, "sequence", send)


def comparable(answer: Json) -> Json:
    """Return an answer without what the engine words, or fills in, otherwise on purpose."""
    body: Json = _without_nulls(answer["body"])
    if body.get("kind") == "Status":
        return {"status": answer["status"], "body": _comparable_refusal(body)}
    for path in _FILLED_IN.get(body["kind"], ()):
        inner = body
        for name in path[:-1]:
            inner = inner.get(name, {})
        inner.pop(path[-1], None)
    return {"status": answer["status"], "body": body}


_FILLED_IN: dict[str, tuple[tuple[str, ...], ...]] = {
    # by admission plugins that the engine has not, and an alias of an older name
    "Pod": (("spec", "priority"), ("spec", "preemptionPolicy"), ("spec", "tolerations"), ("spec", "serviceAccount")),
    # a Go struct shows them empty
    "Event": (("reportingComponent",), ("reportingInstance",)),
    # addresses are not given here
    "Service": (("spec", "clusterIPs"), ("spec", "ipFamilies"), ("spec", "ipFamilyPolicy")),
    # by an admission plugin that is the engine's too, but not a part of the pipeline
    "PersistentVolumeClaim": (("metadata", "finalizers"),),
}
_YAML = "error decoding YAML"


def _comparable_refusal(status: Json) -> Json:
    """Validation has sentences of its own; what is compared is the fields it names. So have readers of YAML."""
    details: Json = dict(status.get("details") or {})
    details.pop("hint", None)
    message = status.get("message", "")
    if status.get("reason") == "Invalid" and details.get("kind") != "PatchOptions":
        fields = {cause["field"] for cause in details["causes"]}
        details["causes"] = sorted("metadata.labels" if f.startswith("metadata.labels") else f for f in fields)
        message = ""
    elif "causes" in details:
        details["causes"] = [
            cause | ({"reason": ""} if status["reason"] == "Invalid" else {}) for cause in details["causes"]
        ]
    if message.startswith(_YAML):
        message = _YAML
    return status | {"message": message, "details": details}


def _without_nulls(value: Any) -> Any:
    """Go's structs show times that were never set as null."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", ALL)
async def test_the_engine_answers_as_the_real_server_did(name: str, tmp_path: Path) -> None:
    steps = ALL[name]
    answers = await replayed(tmp_path, steps)
    for place, (step, answer, expected) in enumerate(zip(steps, answers, recorded()[name], strict=True), 1):
        assert comparable(answer) == comparable(expected), f"step {place}: {step.method} {step.path}"


def test_every_sequence_is_recorded() -> None:
    assert recorded().keys() == ALL.keys()
    assert all(len(recorded()[name]) == len(steps) for name, steps in ALL.items())
