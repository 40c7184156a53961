"""What kubectl prints: statuses of pods above all, then each kind's cells, custom columns and ages."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import pytest

from headrace.engine.tables.elapsed import age, human
from headrace.engine.tables.jsonpath import compiled
from headrace.engine.tables.pods import pod_state
from headrace.engine.tables.table import partial_list, table
from headrace.spec.kind import Column, Json, Kind

NOW = dt.datetime(2026, 1, 2, 0, 0, tzinfo=dt.UTC)
CREATED = "2026-01-01T00:00:00Z"


class Anything(msgspec.Struct):
    """A view that reads nothing."""


def kind(name: str, group: str = "", columns: tuple[Column, ...] = ()) -> Kind[Anything]:
    return Kind(group=group, version="v1", name=name, plural=f"{name.lower()}s", view=Anything, columns=columns)


def container(name: str = "main", *, ready: bool = False, restarts: int = 0, **state: Json) -> Json:
    return {"name": name, "ready": ready, "restartCount": restarts, "state": state}


RUNNING: Json = {"startedAt": CREATED}


def ended(code: int, reason: str = "") -> Json:
    return {"exitCode": code, **({"reason": reason} if reason else {})}


def pod(phase: str, *statuses: Json, init: tuple[Json, ...] = (), sidecars: tuple[str, ...] = (), **extra: Any) -> Json:
    names = [status["name"] for status in init]
    return {
        "metadata": {"name": "p", "creationTimestamp": CREATED, **extra.get("metadata", {})},
        "spec": {
            "containers": [{"name": s["name"]} for s in statuses] or [{"name": "main"}],
            "initContainers": [{"name": n, **({"restartPolicy": "Always"} if n in sidecars else {})} for n in names],
        },
        "status": {
            "phase": phase,
            "containerStatuses": list(statuses),
            "initContainerStatuses": list(init),
            **extra.get("status", {}),
        },
    }


DELETING = {"deletionTimestamp": CREATED}
INITIALISED = {"conditions": [{"type": "Initialized", "status": "True"}]}


@pytest.mark.parametrize(
    ("given", "ready", "status"),
    [
        (pod("Pending"), "0/1", "Pending"),
        (pod("Pending", container(waiting={"reason": "ContainerCreating"})), "0/1", "ContainerCreating"),
        (pod("Running", container(ready=True, running=RUNNING)), "1/1", "Running"),
        (pod("Running", container(running=RUNNING)), "0/1", "Running"),
        (pod("Running", container(waiting={"reason": "CrashLoopBackOff"}, restarts=3)), "0/1", "CrashLoopBackOff"),
        (pod("Succeeded", container(terminated=ended(0, "Completed"))), "0/1", "Completed"),
        (pod("Failed", container(terminated=ended(1, "Error"))), "0/1", "Error"),
        (pod("Failed", container(terminated=ended(137))), "0/1", "ExitCode:137"),
        (pod("Failed", container(terminated={"exitCode": 1, "signal": 9})), "0/1", "Signal:9"),
        (pod("Failed", status={"reason": "Evicted"}), "0/1", "Evicted"),
        (pod("Running", container(ready=True, running=RUNNING), metadata=DELETING), "1/1", "Terminating"),
        (pod("Succeeded", container(terminated=ended(0, "Completed")), metadata=DELETING), "0/1", "Completed"),
        (pod("Running", metadata=DELETING, status={"reason": "NodeLost"}), "0/1", "Unknown"),
        (
            pod("Pending", status={"conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}),
            "0/1",
            "SchedulingGated",
        ),
        (pod("Pending", container(), init=(container("a", running=RUNNING),)), "0/1", "Init:0/1"),
        (
            pod("Pending", container(), init=(container("a", terminated=ended(0)), container("b", waiting={}))),
            "0/1",
            "Init:1/2",
        ),
        (pod("Pending", init=(container("a", terminated=ended(2)),)), "0/1", "Init:ExitCode:2"),
        (pod("Pending", init=(container("a", terminated=ended(2, "Error")),)), "0/1", "Init:Error"),
        (
            pod("Pending", init=(container("a", waiting={"reason": "CrashLoopBackOff"}),)),
            "0/1",
            "Init:CrashLoopBackOff",
        ),
        (pod("Pending", init=(container("a", waiting={"reason": "PodInitializing"}),)), "0/1", "Init:0/1"),
        (
            pod(
                "Running",
                container(ready=True, running=RUNNING),
                init=({**container("s", ready=True, running=RUNNING), "started": True},),
                sidecars=("s",),
            ),
            "2/2",
            "Running",
        ),
        (
            pod("Pending", container(), init=(container("s", running=RUNNING),), sidecars=("s",)),
            "0/2",
            "Init:0/1",
        ),
        (
            pod(
                "Running",
                container("a", terminated=ended(0, "Completed")),
                container("b", ready=True, running=RUNNING),
            ),
            "1/2",
            "NotReady",
        ),
        (
            pod(
                "Running",
                container("a", terminated=ended(0, "Completed")),
                container("b", ready=True, running=RUNNING),
                status={"conditions": [{"type": "Ready", "status": "True"}]},
            ),
            "1/2",
            "Running",
        ),
        (
            pod(
                "Failed",
                container("a", terminated=ended(0, "Completed")),
                container("b", terminated=ended(1, "OOMKilled")),
            ),
            "0/2",
            "OOMKilled",
        ),
        (
            pod(
                "Running",
                container(ready=True, running=RUNNING),
                init=(container("a", running=RUNNING),),
                status=INITIALISED,
            ),
            "1/1",
            "Init:0/1",
        ),
    ],
)
def test_a_pods_status_is_kubectls(given: Json, ready: str, status: str) -> None:
    state = pod_state(given)
    assert (f"{state.ready}/{state.total}", state.status) == (ready, status)


def test_restarts_tell_when() -> None:
    crashed = container(ready=True, running=RUNNING, restarts=2)
    crashed["lastState"] = {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T23:58:30Z"}}
    rows = table(kind("Pod"), pod("Running", crashed), NOW)["rows"]
    assert rows[0]["cells"][:5] == ["p", "1/1", "Running", "2 (90s ago)", "24h"]


def test_restarts_of_init_containers_no_longer_count_once_they_are_done() -> None:
    given = pod("Running", container(restarts=1), init=(container("a", terminated=ended(0), restarts=5),))
    assert pod_state(given).restarts == 1


def cells(of: Kind[Anything], raw: Json) -> list[Any]:
    body = {"metadata": {"name": "x", "creationTimestamp": CREATED}} | raw
    printed = table(of, body, NOW)
    found: list[Any] = printed["rows"][0]["cells"]
    assert len(found) == len(printed["columnDefinitions"])
    return found


def test_core_kinds_have_kubectls_cells() -> None:
    assert cells(kind("Namespace"), {"status": {"phase": "Active"}}) == ["x", "Active", "24h"]
    assert cells(kind("Secret"), {"type": "Opaque", "data": {"a": "", "b": ""}}) == ["x", "Opaque", 2, "24h"]
    assert cells(kind("ConfigMap"), {"data": {"a": ""}, "binaryData": {"b": ""}}) == ["x", 2, "24h"]
    assert cells(kind("Lease", "coordination.k8s.io"), {"spec": {"holderIdentity": "me"}}) == ["x", "me", "24h"]
    assert cells(kind("StorageClass", "storage.k8s.io"), {"provisioner": "p"})[:5] == [
        *("x", "p", "Delete", "Immediate"),
        False,
    ]
    service = {"spec": {"type": "ClusterIP", "clusterIP": "None", "ports": [{"port": 80}], "selector": {"a": "b"}}}
    assert cells(kind("Service"), service) == ["x", "ClusterIP", "None", "<none>", "80/TCP", "24h", "a=b"]


def test_nodes_tell_readiness_roles_and_addresses() -> None:
    node = {
        "metadata": {"name": "own", "labels": {"node-role.kubernetes.io/worker": ""}, "creationTimestamp": CREATED},
        "spec": {"unschedulable": True},
        "status": {
            "conditions": [{"type": "Ready", "status": "Unknown"}],
            "nodeInfo": {"kubeletVersion": "v1.36.0", "kernelVersion": "6.18", "architecture": "amd64"},
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        },
    }
    found = cells(kind("Node"), node)
    assert found[:5] == ["own", "NotReady,SchedulingDisabled", "worker", "24h", "v1.36.0"]
    assert found[5:9] == ["127.0.0.1", "<none>", "<unknown>", "6.18 (amd64)"]


def test_a_claim_shows_its_volume_only_when_bound() -> None:
    spec = {"storageClassName": "local-path", "accessModes": ["ReadWriteMany"]}
    status = {"phase": "Pending", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"]}
    claim = kind("PersistentVolumeClaim")
    assert cells(claim, {"spec": spec, "status": status})[1:6] == ["Pending", "", "", "", "local-path"]
    bound = {"spec": {**spec, "volumeName": "v"}, "status": {**status, "phase": "Bound"}}
    assert cells(claim, bound)[1:6] == ["Bound", "v", "1Gi", "RWX", "local-path"]


def test_events_tell_the_last_time_and_the_object() -> None:
    event = {
        "metadata": {"name": "e"},
        "type": "Warning",
        "reason": "Failed",
        "message": " why \n",
        "involvedObject": {"kind": "Pod", "name": "p"},
        "firstTimestamp": CREATED,
        "lastTimestamp": "2026-01-01T23:59:00Z",
        "count": 4,
        "source": {"component": "kubelet", "host": "own"},
    }
    assert cells(kind("Event"), event) == [
        *("60s", "Warning", "Failed", "pod/p", "", "kubelet, own", "why", "24h", "4", "e"),
    ]


def test_custom_columns_are_typed() -> None:
    columns = (
        Column("Phase", ".status.phase"),
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Workers", ".spec.workers", type="integer"),
        Column("Started", ".status.startTime", type="date"),
        Column("Paths", ".spec.mounts[*].path", wide=True),
    )
    raw = {
        "spec": {"workers": 2, "mounts": [{"path": "/a"}, {"path": "/b"}]},
        "status": {
            "conditions": [{"type": "Other", "status": "x"}, {"type": "Ready", "status": "True"}],
            "startTime": CREATED,
        },
    }
    of = kind("TrainJob", "headrace.io", columns)
    assert cells(of, raw) == ["x", None, "True", 2, "24h", "/a /b"]
    assert table(of, raw, NOW)["columnDefinitions"][5]["priority"] == 1


def test_kinds_without_columns_print_name_and_age() -> None:
    assert cells(kind("Thing", "example.org"), {}) == ["x", "24h"]


def test_a_list_keeps_its_version_and_its_token() -> None:
    body = {"kind": "PodList", "metadata": {"resourceVersion": "7", "continue": "c"}, "items": [pod("Running")]}
    found = table(kind("Pod"), body, NOW, include="None", headers=False)
    assert found["metadata"] == {"resourceVersion": "7", "continue": "c"}
    assert found["columnDefinitions"] is None
    assert found["rows"][0]["cells"][0] == "p"
    assert "object" not in found["rows"][0]


def test_rows_carry_what_is_asked_of_their_object() -> None:
    raw = pod("Succeeded")
    metadata = table(kind("Pod"), raw, NOW)["rows"][0]
    assert metadata["object"] == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": raw["metadata"],
    }
    assert metadata["conditions"][0]["type"] == "Completed"
    whole = table(kind("Pod"), raw, NOW, include="Object")["rows"][0]["object"]
    assert whole == {"kind": "Pod", "apiVersion": "v1", **raw}
    assert partial_list({"metadata": {}, "items": [raw]})["items"] == [metadata["object"]]


@pytest.mark.parametrize(
    ("seconds", "printed"),
    [
        (-5, "<invalid>"),
        (-1.5, "0s"),
        (0.4, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (599, "9m59s"),
        (600, "10m"),
        (3 * 3600 - 1, "179m"),
        (3 * 3600 + 60, "3h1m"),
        (8 * 3600, "8h"),
        (48 * 3600 + 3600, "2d1h"),
        (8 * 86400, "8d"),
        (800 * 86400, "2y70d"),
        (9 * 365 * 86400, "9y"),
    ],
)
def test_ages_are_kubectls(seconds: float, printed: str) -> None:
    assert human(seconds) == printed


def test_an_age_needs_a_moment() -> None:
    assert age(None, NOW) == "<unknown>"
    assert age("yesterday", NOW) == "<invalid>"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".a.b", [1]),
        ("a.b", [1]),
        ("{.a.b}", [1]),
        (r".m.x\.y/z", ["dotted"]),
        (".m['x.y/z']", ["dotted"]),
        (".l[0].v", [1]),
        (".l[-1].v", [2]),
        (".l[5].v", []),
        (".l[*].v", [1, 2]),
        ('.l[?(@.n=="two")].v', [2]),
        (".l[?(@.ok==true)].v", [2]),
        (".a.b.c", []),
        (".nothing", []),
    ],
)
def test_jsonpath_of_columns(path: str, found: list[Any]) -> None:
    raw = {"a": {"b": 1}, "m": {"x.y/z": "dotted"}, "l": [{"n": "one", "v": 1}, {"n": "two", "v": 2, "ok": True}]}
    assert compiled(path)(raw) == found


@pytest.mark.parametrize("path", [".a[", ".a[?(@.b)]", ".a..b", "]"])
def test_a_path_that_could_never_print_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="JSONPath"):
        compiled(path)
