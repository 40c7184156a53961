"""The pipeline around the store: order of its steps, field validation, admission, streams, failed commits, restarts."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from headrace.clock import FakeClock
from headrace.engine.pipeline import Pipeline
from headrace.engine.pipeline.refusals import BadRequest, MethodNotAllowed, UnsupportedMediaType
from headrace.engine.pipeline.request import (
    LOOPBACK,
    SYSTEM,
    AdmissionRequest,
    Answer,
    Attributes,
    IssuedToken,
    Preconditions,
    Request,
    User,
    WatchStream,
)
from headrace.engine.pipeline.seeding import builtin_registry, seed
from headrace.engine.pipeline.status import from_error
from headrace.engine.store.database import Database, NotSaved
from headrace.engine.store.store import Store
from headrace.errors import AlreadyExists, Conflict, Denied, EngineFailed, Expired, InvalidSpec, NotFound, Unsupported
from headrace.spec.kind import Json
from headrace.spec.kinds import CONFIG_MAP, CRD, DATASET, NAMESPACE, POD, SERVICE_ACCOUNT, TRAIN_JOB

pytestmark = pytest.mark.anyio
Open = Callable[..., AbstractAsyncContextManager[Pipeline]]


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    @asynccontextmanager
    async def opened(**more: Any) -> AsyncIterator[Pipeline]:
        async with Store(tmp_path / "objects.db", bookmark_s=0.02) as store:
            pipeline = Pipeline(store, builtin_registry(), clock=FakeClock(), **more)
            await seed(pipeline)
            yield pipeline

    return opened


@pytest.fixture
async def pipeline(opened: Open) -> AsyncIterator[Pipeline]:
    async with opened() as pipeline:
        yield pipeline


def config_map(name: str = "x", **more: Any) -> Json:
    return {"metadata": {"name": name}, **more}


async def ask(pipeline: Pipeline, verb: Any, name: str = "", **more: Any) -> Answer:
    user = more.pop("user", SYSTEM)
    request = {"kind": CONFIG_MAP, "namespace": "default", "name": name, **more}
    return await pipeline.handle(user, Request(verb=verb, **request))


async def create(pipeline: Pipeline, body: Any, **more: Any) -> Json:
    kind = more.get("kind")
    if kind is not None and isinstance(body, dict):  # a custom resource has to bring its own
        body = {"apiVersion": kind.api_version, "kind": kind.name, **body}
    return (await ask(pipeline, "create", body=body, **more)).body


# -- what comes in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [None, b"", b"{", b"[]", b"null", b'{"metadata": 1}', b'{"data": NaN}', b"\xff", "text"]
)
async def test_a_body_that_is_no_object_is_a_bad_request(pipeline: Pipeline, body: Any) -> None:
    with pytest.raises(BadRequest):
        await create(pipeline, body)


POD_WITH_TYPO = b'{"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i", "imag": 1}]}}'
TWICE = b'{"metadata": {"name": "p"}, "data": {"a": "1", "a": "2"}}'


@pytest.mark.parametrize(
    ("kind", "body", "sentence"),
    [
        (POD, POD_WITH_TYPO, 'unknown field "spec.containers[0].imag"'),
        (CONFIG_MAP, TWICE, 'duplicate field "a"'),
    ],
)
async def test_field_validation(pipeline: Pipeline, kind: Any, body: bytes, sentence: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        await create(pipeline, body, kind=kind, field_validation="Strict")
    assert sentence in str(refusal.value)
    warned = await ask(pipeline, "create", kind=kind, body=body, dry_run=True)
    assert warned.warnings == (sentence,)
    silent = await ask(pipeline, "create", kind=kind, body=body, dry_run=True, field_validation="Ignore")
    assert silent.warnings == ()
    assert b"imag:" not in msgspec.json.encode(silent.body)


async def test_accepted_fields_that_do_nothing_are_told(pipeline: Pipeline) -> None:
    spec = {
        "containers": [{"name": "c", "image": "i"}],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}],
    }
    answer = await ask(pipeline, "create", kind=POD, body=config_map(spec=spec))
    assert [warning for warning in answer.warnings if warning.startswith("spec.topologySpreadConstraints")]


@pytest.mark.parametrize(
    ("metadata", "request_more"),
    [
        ({"name": "x", "namespace": "other"}, {}),
        ({"name": "x", "resourceVersion": "5"}, {}),
        ({"name": "x"}, {"namespace": ""}),
    ],
)
async def test_a_create_must_agree_with_itself(pipeline: Pipeline, metadata: Json, request_more: Json) -> None:
    with pytest.raises(BadRequest):
        await create(pipeline, {"metadata": metadata}, **request_more)


async def test_the_servers_metadata_cannot_be_given(pipeline: Pipeline) -> None:
    given = {"name": "x", "uid": "mine", "creationTimestamp": "2000-01-01T00:00:00Z", "managedFields": [{}]}
    made = await create(pipeline, {"metadata": {**given, "deletionTimestamp": "2000-01-01T00:00:00Z"}})
    assert made["metadata"]["uid"] != "mine"
    assert made["metadata"]["creationTimestamp"] == "2026-01-01T00:00:00Z"
    assert not {"managedFields", "deletionTimestamp", "generation"} & made["metadata"].keys()


async def test_names_are_generated_until_one_is_free(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    suffixes = iter(["aaaaa", "aaaaa", "aaaaa", "bbbbb"])
    monkeypatch.setattr("headrace.ids.name_suffix", lambda length=5: next(suffixes))
    body = {"metadata": {"generateName": "x-"}}
    assert (await create(pipeline, body))["metadata"]["name"] == "x-aaaaa"
    assert (await create(pipeline, body))["metadata"]["name"] == "x-bbbbb"


# -- put and patch -----------------------------------------------------------------------------------------------------


async def test_a_put_replaces_and_compares(pipeline: Pipeline) -> None:
    made = await create(pipeline, config_map(data={"a": "1", "b": "2"}))
    put = await ask(pipeline, "update", "x", body=made | {"data": {"c": "3"}})
    assert put.body["data"] == {"c": "3"}
    with pytest.raises(Conflict, match="the object has been modified"):
        await ask(pipeline, "update", "x", body=made)
    await ask(pipeline, "update", "x", body=config_map(data={}))
    with pytest.raises(BadRequest, match="does not match the name on the URL"):
        await ask(pipeline, "update", "x", body=config_map("y"))
    with pytest.raises(NotFound):
        await ask(pipeline, "update", "y", body=config_map("y"))


async def test_a_put_of_a_custom_resource_names_its_version(pipeline: Pipeline) -> None:
    body = config_map(spec={"mounts": [{"mountPoint": "s3://b/a", "name": "a"}]})
    made = await create(pipeline, body, kind=DATASET)
    assert (await ask(pipeline, "update", "x", kind=DATASET, body=made)).body == made
    body |= {"apiVersion": DATASET.api_version, "kind": DATASET.name}
    with pytest.raises(InvalidSpec, match="must be specified"):
        await ask(pipeline, "update", "x", kind=DATASET, body=body)
    for missing in ("apiVersion", "kind"):
        with pytest.raises(BadRequest, match=f"{missing} is missing"):
            await ask(pipeline, "update", "x", kind=DATASET, body={**made, missing: ""})


async def test_strategic_merge_is_for_core_kinds(pipeline: Pipeline) -> None:
    await create(pipeline, config_map(data={"a": "1"}))
    patch = {"data": {"$patch": "replace", "b": "2"}}
    assert (await ask(pipeline, "patch", "x", body=patch, patch_type="strategic")).body["data"] == {"b": "2"}
    await create(pipeline, config_map("j", spec={"command": ["true"]}), kind=TRAIN_JOB)
    with pytest.raises(UnsupportedMediaType):
        await ask(pipeline, "patch", "j", kind=TRAIN_JOB, body={}, patch_type="strategic")


@pytest.mark.parametrize("body", [{"op": "add"}, [{"op": "shout", "path": "/a"}], [{"path": "/data"}], [1]])
async def test_what_is_no_json_patch_is_a_bad_request(pipeline: Pipeline, body: Any) -> None:
    await create(pipeline, config_map())
    with pytest.raises(BadRequest):
        await ask(pipeline, "patch", "x", body=body, patch_type="json")


async def test_a_json_patch_that_does_not_apply_is_invalid(pipeline: Pipeline) -> None:
    await create(pipeline, config_map())
    with pytest.raises(InvalidSpec) as refusal:
        await ask(pipeline, "patch", "x", body=[{"op": "remove", "path": "/data/none"}], patch_type="json")
    assert refusal.value.http_status == 422


async def test_a_patch_cannot_make_something_else_of_an_object(pipeline: Pipeline) -> None:
    await create(pipeline, config_map())
    with pytest.raises(BadRequest):
        await ask(pipeline, "patch", "x", body={"kind": "Secret"})
    with pytest.raises(BadRequest):
        await ask(pipeline, "patch", "x", body=[{"op": "replace", "path": "", "value": 3}], patch_type="json")


# -- deletion of many --------------------------------------------------------------------------------------------------


async def test_a_collection_is_deleted_by_selector(pipeline: Pipeline) -> None:
    await create(pipeline, {"metadata": {"name": "a", "labels": {"go": "yes"}}})
    await create(pipeline, {"metadata": {"name": "b", "labels": {"go": "yes"}, "finalizers": ["e.org/hold"]}})
    await create(pipeline, config_map("c"))
    gone = await ask(pipeline, "deletecollection", labels="go=yes")
    assert [item["metadata"]["name"] for item in gone.body["items"]] == ["a", "b"]
    left = (await ask(pipeline, "list", fields="metadata.name!=kube-root-ca.crt")).body["items"]
    assert [(item["metadata"]["name"], "deletionTimestamp" in item["metadata"]) for item in left] == [
        ("b", True),
        ("c", False),
    ]


async def test_a_deletion_answers_with_a_status_or_with_what_is_left(pipeline: Pipeline) -> None:
    made = await create(pipeline, config_map())
    tried = await ask(pipeline, "delete", "x", dry_run=True)
    assert tried.body["status"] == "Success"
    with pytest.raises(Conflict, match="UID in precondition"):
        await ask(pipeline, "delete", "x", preconditions=Preconditions(uid="other"))
    done = await ask(pipeline, "delete", "x")
    assert done.body["details"] == {"name": "x", "kind": "configmaps", "uid": made["metadata"]["uid"]}
    await create(pipeline, {"metadata": {"name": "y", "finalizers": ["e.org/hold"]}})
    assert (await ask(pipeline, "delete", "y")).body["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:00Z"


# -- authorisation and admission ---------------------------------------------------------------------------------------


class Only:
    """Lets one verb through and notes what was asked."""

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self.asked: list[Attributes] = []

    def refusal(self, user: User, attributes: Attributes) -> str:
        self.asked.append(attributes)
        return "" if user in (SYSTEM, LOOPBACK) or attributes.verb == self.verb else "only reading is allowed"


async def test_who_may_not_is_told_before_anything_else(opened: Open) -> None:
    only = Only("list")
    async with opened(authoriser=only) as pipeline:
        user = User("eve")
        await ask(pipeline, "list", user=user)
        with pytest.raises(Denied, match='User "eve" cannot create resource "configmaps" in API group ""') as refusal:
            await pipeline.handle(
                user, Request(verb="create", kind=CONFIG_MAP, namespace="default", body=b"not even JSON")
            )
        assert from_error(refusal.value, CONFIG_MAP)["code"] == 403
        assert only.asked[-1] == Attributes(verb="create", resource="configmaps", namespace="default")
        with pytest.raises(Denied):
            await pipeline.connect(
                user, Request(verb="get", kind=POD, namespace="default", name="p", subresource="log"), {}
            )


class Recording:
    """Notes what it sees; changes or refuses on demand."""

    def __init__(self) -> None:
        self.seen: list[AdmissionRequest] = []
        self.answer: Callable[[AdmissionRequest], Json | None] = lambda _: None

    async def admit(self, request: AdmissionRequest) -> Json | None:
        if request.kind is not CONFIG_MAP and request.kind is not POD:
            return None
        self.seen.append(request)
        return self.answer(request)


def labelled(label: str) -> Callable[[AdmissionRequest], Json | None]:
    def label_it(request: AdmissionRequest) -> Json | None:
        if request.object is None:
            return None
        metadata = request.object["metadata"]
        labels = (metadata.get("labels") or {}) | {label: str(len(metadata.get("labels") or {}))}
        return request.object | {"metadata": metadata | {"labels": labels}}

    return label_it


async def test_admitters_see_the_defaulted_object_one_after_the_other(opened: Open) -> None:
    first, second = Recording(), Recording()
    first.answer, second.answer = labelled("first"), labelled("second")
    async with opened(admitters=[first, second]) as pipeline:
        made = await create(pipeline, config_map(spec={"containers": [{"name": "c", "image": "i"}]}), kind=POD)
        assert made["metadata"]["labels"] == {"first": "0", "second": "1"}
        (seen,) = first.seen
        assert (seen.operation, seen.name, seen.namespace, seen.old) == ("CREATE", "x", "default", None)
        assert seen.object is not None
        assert seen.object["spec"]["restartPolicy"] == "Always"
        await ask(pipeline, "delete", "x", kind=POD, dry_run=True)
        assert (first.seen[-1].operation, first.seen[-1].dry_run, first.seen[-1].object) == ("DELETE", True, None)


async def test_what_admission_makes_is_validated(opened: Open) -> None:
    admitter = Recording()
    admitter.answer = lambda request: {**(request.object or {}), "data": {"bad key!": "1"}}
    async with opened(admitters=[admitter]) as pipeline:
        with pytest.raises(InvalidSpec):
            await create(pipeline, config_map())
        with pytest.raises(NotFound):
            await ask(pipeline, "get", "x")


async def test_an_admitter_refuses_with_its_sentence(opened: Open) -> None:
    admitter = Recording()

    def refuse(_: AdmissionRequest) -> Json | None:
        raise Denied("Not on a Monday.")

    admitter.answer = refuse
    async with opened(admitters=[admitter]) as pipeline:
        with pytest.raises(Denied, match="Not on a Monday"):
            await create(pipeline, config_map())


async def test_an_admitter_cannot_move_an_object_elsewhere(opened: Open) -> None:
    admitter = Recording()
    admitter.answer = lambda request: (request.object or {}) | {"metadata": {"name": "other", "namespace": "default"}}
    async with opened(admitters=[admitter]) as pipeline:
        with pytest.raises(EngineFailed, match="Recording changed what identifies"):
            await create(pipeline, config_map())


async def test_warnings_of_admitters_reach_the_caller(opened: Open) -> None:
    admitter = Recording()
    admitter.answer = lambda request: request.warnings.append("mind the step")
    async with opened(admitters=[admitter]) as pipeline:
        assert (await ask(pipeline, "create", body=config_map())).warnings == ("mind the step",)


async def test_a_connection_is_admitted_with_its_options(opened: Open) -> None:
    admitter = Recording()
    async with opened(admitters=[admitter]) as pipeline:
        await create(pipeline, config_map("p", spec={"containers": [{"name": "c", "image": "i"}]}), kind=POD)
        request = Request(verb="create", kind=POD, namespace="default", name="p", subresource="exec")
        found = await pipeline.connect(SYSTEM, request, {"container": "c", "command": ["sh"]})
        assert found["metadata"]["name"] == "p"
        seen = admitter.seen[-1]
        assert (seen.operation, seen.subresource, seen.options["container"]) == ("CONNECT", "exec", "c")
        assert seen.old == found


# -- lists and streams -------------------------------------------------------------------------------------------------


async def test_a_list_counts_what_remains_and_tells_its_version(pipeline: Pipeline) -> None:
    for name in "abc":
        await create(pipeline, config_map(name))
    page = (await ask(pipeline, "list", limit=1)).body
    assert page["kind"] == "ConfigMapList"
    assert page["metadata"]["remainingItemCount"] == 2
    exact = (await ask(pipeline, "list", version=page["metadata"]["resourceVersion"], version_match="Exact")).body
    assert len(exact["items"]) == 3
    await create(pipeline, config_map("d"))
    again = (await ask(pipeline, "list", version=page["metadata"]["resourceVersion"], version_match="Exact")).body
    assert len(again["items"]) == 3
    with pytest.raises(Expired):
        await ask(pipeline, "list", version="999999999")
    with pytest.raises(BadRequest):
        await ask(pipeline, "list", version="soon")


async def events(stream: WatchStream | None, count: int) -> list[tuple[str, Json]]:
    assert stream is not None
    found: list[tuple[str, Json]] = []
    with anyio.fail_after(5):
        async for event in stream:
            found.append((event.type, event.object))
            if len(found) == count:
                break
    return found


async def test_a_streaming_list_ends_with_a_marked_bookmark(pipeline: Pipeline) -> None:
    await create(pipeline, config_map())
    stream = (await ask(pipeline, "watch", send_initial_events=True)).stream
    (first, added), (second, bookmark) = await events(stream, 2)
    assert (first, added["metadata"]["name"], second) == ("ADDED", "x", "BOOKMARK")
    assert bookmark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert (bookmark["kind"], bookmark["apiVersion"]) == ("ConfigMap", "v1")


async def test_bookmarks_come_only_to_those_who_ask(pipeline: Pipeline) -> None:
    version = (await ask(pipeline, "list")).body["metadata"]["resourceVersion"]
    silent = (await ask(pipeline, "watch", version=version)).stream
    marked = (await ask(pipeline, "watch", version=version, bookmarks=True)).stream
    assert [kind for kind, _ in await events(marked, 1)] == ["BOOKMARK"]
    await create(pipeline, config_map())
    assert [kind for kind, _ in await events(silent, 1)] == ["ADDED"]


# -- subresources ------------------------------------------------------------------------------------------------------


class Issuer:
    bound_to: Json | None = None

    def issue(self, **asked: Any) -> IssuedToken:
        self.bound_to = asked["bound_to"]
        return IssuedToken(
            f"{asked['namespace']}/{asked['service_account']}/{asked['lifetime_s']}", "2026-01-01T01:00:00Z"
        )


async def test_tokens_are_issued_for_accounts_that_exist(opened: Open) -> None:
    async with opened(tokens=Issuer()) as pipeline:
        await create(pipeline, config_map("robot"), kind=SERVICE_ACCOUNT)
        token = {"kind": SERVICE_ACCOUNT, "subresource": "token"}
        answer = await ask(pipeline, "create", "robot", body={"spec": {"expirationSeconds": 600}}, **token)
        assert answer.status == 201
        assert answer.body["status"]["token"] == "default/robot/600"
        with pytest.raises(InvalidSpec):
            await ask(pipeline, "create", "robot", body={"spec": {"expirationSeconds": 5}}, **token)
        with pytest.raises(NotFound):
            await ask(pipeline, "create", "nobody", body={}, **token)


async def test_tokens_are_bound_to_objects_that_exist(opened: Open) -> None:
    issuer = Issuer()
    async with opened(tokens=issuer) as pipeline:
        await create(pipeline, config_map("robot"), kind=SERVICE_ACCOUNT)
        made = await create(pipeline, config_map("p", spec={"containers": [{"name": "c", "image": "i"}]}), kind=POD)
        token = {"kind": SERVICE_ACCOUNT, "subresource": "token"}

        async def bind(**reference: str) -> None:
            await ask(pipeline, "create", "robot", body={"spec": {"boundObjectRef": reference}}, **token)

        await bind(kind="Pod", name="p")
        assert issuer.bound_to == {"kind": "Pod", "name": "p", "uid": made["metadata"]["uid"]}
        with pytest.raises(NotFound):
            await bind(kind="Pod", name="q")
        with pytest.raises(Conflict):
            await bind(kind="Pod", name="p", uid="other")
        with pytest.raises(InvalidSpec):
            await bind(kind="ConfigMap", name="p")


async def test_without_an_issuer_tokens_are_unsupported(pipeline: Pipeline) -> None:
    with pytest.raises(Unsupported):
        await ask(pipeline, "create", "x", kind=SERVICE_ACCOUNT, subresource="token", body={})


@pytest.mark.parametrize(("verb", "subresource", "error"), [
    ("get", "nothing", NotFound),
    ("create", "status", MethodNotAllowed),
    ("delete", "status", MethodNotAllowed),
    ("get", "log", MethodNotAllowed),
    ("patch", "ephemeralcontainers", Unsupported),
    ("patch", "resize", Unsupported),
])  # fmt: skip
async def test_what_a_subresource_does_not_do(pipeline: Pipeline, verb: Any, subresource: str, error: Any) -> None:
    with pytest.raises(error):
        await ask(pipeline, verb, "p", kind=POD, subresource=subresource, body={})


def scaled(**more: Any) -> Json:
    schema = {
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    scale = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}, "scale": scale | {"labelSelectorPath": ".status.selector"}},
    }
    spec = {
        "group": "e.org",
        "scope": "Namespaced",
        "names": {"kind": "Fleet", "plural": "fleets"},
        "versions": [version],
    }
    return {"metadata": {"name": "fleets.e.org"}, "spec": spec | more}


async def test_custom_resources_are_scaled(pipeline: Pipeline) -> None:
    await create(pipeline, scaled(), kind=CRD, namespace="")
    fleet = pipeline.registry.find("e.org", "v1", "fleets").kind
    await create(pipeline, config_map("f", spec={"replicas": 2}), kind=fleet)
    scale = (await ask(pipeline, "get", "f", kind=fleet, subresource="scale")).body
    assert (scale["kind"], scale["spec"], scale["status"]) == (
        "Scale",
        {"replicas": 2},
        {"replicas": 0, "selector": ""},
    )
    patch = {"spec": {"replicas": 5}}
    scale = (await ask(pipeline, "patch", "f", kind=fleet, subresource="scale", body=patch)).body
    assert scale["spec"] == {"replicas": 5}
    assert (await ask(pipeline, "get", "f", kind=fleet)).body["metadata"]["generation"] == 2
    with pytest.raises(InvalidSpec):
        await ask(pipeline, "patch", "f", kind=fleet, subresource="scale", body={"spec": {"replicas": -1}})


async def test_versions_of_an_object_share_what_has_not_changed(pipeline: Pipeline) -> None:
    body = {"metadata": {"name": "p", "labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    made = await create(pipeline, body, kind=POD)
    status = {"status": {"phase": "Running"}}
    changed = (await ask(pipeline, "patch", "p", kind=POD, subresource="status", body=status)).body
    assert changed["spec"] is made["spec"]
    assert changed["metadata"]["labels"] is made["metadata"]["labels"]
    assert changed["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]


# -- definitions -------------------------------------------------------------------------------------------------------


def schemas(**spec: Any) -> Json:
    body = scaled()
    body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"] = spec
    return body


COLUMN = {"name": "Size", "type": "integer"}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (schemas(a={"description": "no type"}), "schema.openAPIV3Schema.properties[spec].properties[a].type"),
        (schemas(a={"type": "array"}), "schema.openAPIV3Schema.properties[spec].properties[a].items"),
        (
            schemas(a={"type": "string", "pattern": "("}),
            "schema.openAPIV3Schema.properties[spec].properties[a].pattern",
        ),
    ],
)
async def test_a_definition_that_cannot_be_served_is_refused(pipeline: Pipeline, body: Json, path: str) -> None:
    with pytest.raises(InvalidSpec) as refusal:
        await create(pipeline, body, kind=CRD, namespace="")
    assert [where for where, _ in refusal.value.causes] == [f"spec.versions[0].{path}"]


async def test_a_definition_without_what_its_columns_and_scale_need_is_refused(pipeline: Pipeline) -> None:
    body = scaled()
    version = body["spec"]["versions"][0]
    version["additionalPrinterColumns"] = [COLUMN]
    version["subresources"]["scale"] = {"specReplicasPath": ".spec.replicas"}
    with pytest.raises(InvalidSpec) as refusal:
        await create(pipeline, body, kind=CRD, namespace="")
    assert [path for path, _ in refusal.value.causes] == [
        "spec.versions[0].additionalPrinterColumns[0].jsonPath",
        "spec.versions[0].subresources.scale.statusReplicasPath",
    ]


async def test_what_a_definition_asks_in_vain_is_told(pipeline: Pipeline) -> None:
    body = schemas(a={"type": "string", "x-kubernetes-validations": [{"rule": "self != ''"}]})
    warnings = (await ask(pipeline, "create", body=body, kind=CRD, namespace="")).warnings
    assert [warning for warning in warnings if "x-kubernetes-validations is not evaluated" in warning]


async def test_versions_of_a_kind_show_the_same_objects(pipeline: Pipeline) -> None:
    body = scaled()
    second = body["spec"]["versions"][0] | {"name": "v2", "storage": False}
    body["spec"]["versions"].append(second)
    await create(pipeline, body, kind=CRD, namespace="")
    v1, v2 = (pipeline.registry.find("e.org", version, "fleets").kind for version in ("v1", "v2"))
    made = await create(pipeline, config_map("f"), kind=v2)
    assert made["apiVersion"] == "e.org/v2"
    assert (await ask(pipeline, "get", "f", kind=v1)).body["apiVersion"] == "e.org/v1"
    stream = (await ask(pipeline, "watch", kind=v2)).stream
    assert [each["apiVersion"] for _, each in await events(stream, 1)] == ["e.org/v2"]
    changed = await ask(pipeline, "patch", "f", kind=v2, body={"spec": {"replicas": 1}})
    assert changed.body["apiVersion"] == "e.org/v2"


async def test_definitions_are_served_after_a_restart(opened: Open) -> None:
    async with opened() as pipeline:
        await create(pipeline, scaled(), kind=CRD, namespace="")
        fleet = pipeline.registry.find("e.org", "v1", "fleets").kind
        await create(pipeline, config_map("f"), kind=fleet)
    async with opened() as pipeline:
        fleet = pipeline.registry.find("e.org", "v1", "fleets").kind
        assert (await ask(pipeline, "get", "f", kind=fleet)).body["kind"] == "Fleet"


async def test_a_definition_that_goes_takes_no_more_objects_and_then_its_kind(pipeline: Pipeline) -> None:
    made = await create(pipeline, scaled(), kind=CRD, namespace="")
    assert made["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
    fleet = pipeline.registry.find("e.org", "v1", "fleets").kind
    crd = {"kind": CRD, "namespace": ""}
    await ask(pipeline, "delete", "fleets.e.org", **crd)
    with pytest.raises(MethodNotAllowed):
        await create(pipeline, config_map("f"), kind=fleet)
    await ask(pipeline, "patch", "fleets.e.org", body={"metadata": {"finalizers": None}}, **crd)
    with pytest.raises(NotFound):
        await ask(pipeline, "list", kind=fleet)


async def test_a_definition_that_is_only_labelled_is_the_same_kind(pipeline: Pipeline) -> None:
    await create(pipeline, scaled(), kind=CRD, namespace="")
    fleet, revision = pipeline.registry.find("e.org", "v1", "fleets").kind, pipeline.registry.revision
    label = {"metadata": {"labels": {"a": "b"}}}
    await ask(pipeline, "patch", "fleets.e.org", kind=CRD, namespace="", body=label)
    assert (pipeline.registry.find("e.org", "v1", "fleets").kind, pipeline.registry.revision) == (fleet, revision)


async def test_a_version_no_longer_served_is_gone(pipeline: Pipeline) -> None:
    body = scaled()
    body["spec"]["versions"].append(body["spec"]["versions"][0] | {"name": "v2", "storage": False})
    await create(pipeline, body, kind=CRD, namespace="")
    revision = pipeline.registry.revision
    patch = {"spec": {"versions": body["spec"]["versions"][:1]}}
    await ask(pipeline, "patch", "fleets.e.org", kind=CRD, namespace="", body=patch)
    with pytest.raises(NotFound):
        pipeline.registry.find("e.org", "v2", "fleets")
    assert pipeline.registry.revision > revision


async def test_users_cannot_change_definitions_of_our_kinds(pipeline: Pipeline) -> None:
    user = User("eve", ("system:masters",))
    patch = {"spec": {"names": {"shortNames": ["mine"]}}}
    with pytest.raises(Denied, match="served by Headrace itself"):
        await ask(pipeline, "patch", DATASET.resource, user=user, kind=CRD, namespace="", body=patch)
    labels = {"metadata": {"labels": {"a": "b"}}}
    await ask(pipeline, "patch", DATASET.resource, user=user, kind=CRD, namespace="", body=labels)


# -- the disk ----------------------------------------------------------------------------------------------------------


async def test_a_full_disk_refuses_clearly_and_nothing_has_happened(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await create(pipeline, config_map(data={"a": "1"}))
    honest = Database.commit

    def full(*_: Any) -> None:
        raise NotSaved("The change was not saved: the disk is full.", hint="Free space.", retry_after_s=5)

    monkeypatch.setattr(Database, "commit", full)
    with pytest.raises(NotSaved) as refusal:
        await ask(pipeline, "patch", "x", body={"data": {"a": "2"}})
    status = from_error(refusal.value, CONFIG_MAP, "x")
    assert (status["code"], status["reason"]) == (507, "InsufficientStorage")
    assert status["details"]["retryAfterSeconds"] == 5
    with pytest.raises(NotSaved):
        await create(pipeline, config_map("y"))
    with pytest.raises(NotSaved):
        await ask(pipeline, "delete", "x")
    monkeypatch.setattr(Database, "commit", honest)
    assert (await ask(pipeline, "get", "x")).body == made
    await create(pipeline, config_map("y"))


async def test_a_refusal_waits_for_what_it_rests_on(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """AlreadyExists because of an object that was then not saved would be a lie: the second create succeeds instead."""
    honest = Database.commit
    failures = iter([True])

    def fails_once(self: Database, rows: Any, version: int) -> None:
        if next(failures, False):
            anyio.from_thread.run(both_are_waiting.wait)
            raise NotSaved("full")
        honest(self, rows, version)

    both_are_waiting = anyio.Event()
    outcomes: list[str] = []

    async def attempt() -> None:
        try:
            await create(pipeline, config_map())
        except (NotSaved, AlreadyExists) as error:
            outcomes.append(error.code)
        else:
            outcomes.append("created")

    monkeypatch.setattr(Database, "commit", fails_once)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(attempt)
        tasks.start_soon(attempt)
        await anyio.wait_all_tasks_blocked()
        both_are_waiting.set()
    assert sorted(outcomes) == ["InsufficientStorage", "created"]


async def test_seeding_again_changes_nothing(opened: Open) -> None:
    async with opened() as pipeline:
        version = pipeline.store.version
        await seed(pipeline)
        assert pipeline.store.version == version
        found = (await ask(pipeline, "list", kind=NAMESPACE, namespace="")).body["items"]
        assert {"default", "kube-system", "kube-node-lease"} <= {item["metadata"]["name"] for item in found}


def test_statuses_have_reasons_codes_and_causes() -> None:
    invalid = InvalidSpec("Pod x is invalid.", causes=(("spec.a", "must be b"),))
    assert from_error(invalid, POD, "x") == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "Pod x is invalid.",
        "reason": "Invalid",
        "details": {
            "name": "x",
            "kind": "Pod",
            "causes": [{"reason": "FieldValueInvalid", "message": "must be b", "field": "spec.a"}],
        },
        "code": 422,
    }
    assert from_error(NotFound("no"), TRAIN_JOB, "j")["details"] == {
        "name": "j",
        "group": "headrace.io",
        "kind": "trainjobs",
    }


def test_the_fake_clock_starts_where_these_tests_think() -> None:
    assert FakeClock().now() == dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
