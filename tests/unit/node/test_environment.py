"""Environment, expansion, downward API, resources, images, security: the pure parts of starting a container."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import InvalidSpec, NotFound, Unsupported
from headrace.node import env, resources, security
from headrace.node.downward import PodFacts, field_value
from headrace.node.expansion import expand, expand_strictly
from headrace.node.images import local
from headrace.node.images.accounts import Account
from headrace.node.podspec import PodSpec

MakePod = Callable[..., dict[str, Any]]
FACTS = PodFacts(node="own", host_ip="127.0.0.1", pod_ip="127.64.0.9")


def around(objects: Mapping[env.Reference, dict[str, Any] | None] | None = None, **services: str) -> env.Around:
    return env.Around(
        base={"PATH": "/bin"}, services=services, pod=FACTS, allocatable={"cpu": "4"}, objects=objects or {}
    )


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("$(A)$(B)", "1two"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(NO)", "$(NO)"),
        ("$A ${A} $(A", "$A ${A} $(A"),
        ("$(R)", "$(A)"),
        ("", ""),
        ("a$", "a$"),
    ],
)
def test_expansion(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1", "B": "two", "R": "$(A)"}) == expanded


def test_strict_expansion_names_what_is_missing() -> None:
    assert expand_strictly("x/$(A)", {"A": "1"}, "p") == "x/1"
    with pytest.raises(InvalidSpec, match=r"p: .*'B'"):
        expand_strictly("x/$(B)", {"A": "1"}, "p")


def test_order_of_sources_and_expansion(make_pod: MakePod) -> None:
    objects = {
        env.Reference("ConfigMap", "c"): {"metadata": {"name": "c"}, "data": {"X": "c", "Y": "c", "bad=name": "no"}},
        env.Reference("Secret", "s"): {
            "metadata": {"name": "s"},
            "data": {"Y": base64.b64encode(b"s").decode(), "K": base64.b64encode(b"key").decode()},
        },
    }
    raw = make_pod(
        {
            "name": "app",
            "envFrom": [{"configMapRef": {"name": "c"}}, {"prefix": "P_", "secretRef": {"name": "s"}}],
            "env": [
                {"name": "X", "value": "$(Y)-$(P_Y)-$(LATER)-$(DB_SERVICE_HOST)"},
                {"name": "LATER", "value": "l"},
                {"name": "DUP", "value": "$(X)"},
                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "K"}}},
                {"name": "GONE", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "no", "optional": True}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "EMPTY"},
            ],
        }
    )
    pod = PodSpec(raw)
    container = pod.apps[0]
    assert env.references(container) == set(objects)
    result = env.build(pod, container, around(objects, DB_SERVICE_HOST="10.0.0.1"))
    assert result.variables == {
        "PATH": "/bin",
        "HOSTNAME": "p",
        "DB_SERVICE_HOST": "10.0.0.1",
        "X": "c-s-$(LATER)-10.0.0.1",
        "Y": "c",
        "P_Y": "s",
        "P_K": "key",
        "LATER": "l",
        "DUP": "c-s-$(LATER)-10.0.0.1",
        "KEY": "key",
        "IP": "127.64.0.9",
        "EMPTY": "",
    }
    assert result.skipped == ["bad=name"]


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"secretKeyRef": {"name": "none", "key": "k"}}, 'secret "none" not found in namespace ns'),
        ({"configMapKeyRef": {"name": "c", "key": "k"}}, "couldn't find key k in ConfigMap ns/c"),
    ],
)
def test_missing_sources(make_pod: MakePod, entry: dict[str, Any], sentence: str) -> None:
    pod = PodSpec(make_pod({"name": "app", "env": [{"name": "A", "valueFrom": entry}]}))
    objects = {env.Reference("ConfigMap", "c"): {"metadata": {"name": "c"}}, env.Reference("Secret", "none"): None}
    with pytest.raises(NotFound, match=sentence):
        env.build(pod, pod.apps[0], around(objects))


def test_unknown_value_source_names_its_path(make_pod: MakePod) -> None:
    pod = PodSpec(make_pod({"name": "app", "env": [{"name": "A", "valueFrom": {"fileKeyRef": {}}}]}))
    with pytest.raises(Unsupported, match=r"spec\.containers\[0\]\.env\[0\]\.valueFrom\.fileKeyRef"):
        env.build(pod, pod.apps[0], around())


def test_downward_fields(make_pod: MakePod) -> None:
    raw = make_pod("app", serviceAccountName="robot")
    raw["metadata"]["labels"] = {"b": 'say "hi"', "a": "1"}
    pod = PodSpec(raw)

    def value(path: str) -> str:
        return field_value(pod, path, FACTS, "where")

    assert value("metadata.labels['a']") == "1"
    assert value("metadata.annotations['none']") == ""
    assert value("metadata.labels") == 'a="1"\nb="say \\"hi\\""'
    assert [value(f) for f in ("metadata.name", "metadata.namespace", "metadata.uid")] == ["p", "ns", "uid-1"]
    assert [value(f) for f in ("spec.nodeName", "spec.serviceAccountName", "status.hostIP")] == [
        "own",
        "robot",
        "127.0.0.1",
    ]
    with pytest.raises(Unsupported, match=r"where asks for the field 'spec\.volumes'"):
        value("spec.volumes")


def test_resource_fields(make_pod: MakePod) -> None:
    pod = PodSpec(
        make_pod({"name": "app", "resources": {"limits": {"memory": "1Gi"}, "requests": {"cpu": "250m"}}}, "bare")
    )
    app, bare = pod.apps

    def value(container: Any, resource: str, divisor: str = "1") -> str:
        return resources.field_value(pod, container, {"resource": resource, "divisor": divisor}, {"cpu": "3500m"})

    assert value(app, "limits.memory", "1Mi") == "1024"
    assert value(app, "requests.memory") == str(2**30)
    assert value(app, "requests.cpu") == "1"
    assert value(app, "requests.cpu", "1m") == "250"
    assert value(bare, "limits.cpu") == "4"
    with pytest.raises(InvalidSpec, match="unknown"):
        value(app, "cpu")


def test_world_limits_leave_room_above_the_watched_limit(make_pod: MakePod) -> None:
    pod = PodSpec(make_pod({"name": "app", "resources": {"limits": {"memory": "1Gi", "cpu": "2"}}}))
    limits = resources.world_limits(pod.apps[0])
    assert limits["memory_bytes"] == 2**30
    assert limits["data_bytes"] > 2 * 2**30
    assert resources.oom_score_adj(pod) == 0


def test_local_images(tmp_path: Path) -> None:
    assert local.root_of("") == local.root_of("host") == "host"
    assert local.root_of(f"dir:{tmp_path}") == str(tmp_path)
    assert not local.is_local("hosted")
    for image, reason in (("dir:relative", "InvalidImageName"), (f"dir:{tmp_path}/no", "ErrImagePull")):
        with pytest.raises(local.ImageTrouble) as caught:
            local.root_of(image)
        assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"hostPID": True}, "spec.hostPID"),
        ({"securityContext": {"privileged": True}}, r"spec.containers\[0\].securityContext.privileged"),
        ({"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}, "capabilities.add"),
        ({"volumeDevices": [{}]}, "volumeDevices"),
    ],
)
def test_refused_fields_are_named(make_pod: MakePod, changes: dict[str, Any], path: str) -> None:
    on_pod = "hostPID" in changes
    raw = make_pod("app", **changes) if on_pod else make_pod({"name": "app", **changes})
    assert re.search(path, security.refusal(PodSpec(raw)))


def test_fields_without_effect_are_named(make_pod: MakePod) -> None:
    restricted = {
        "runAsNonRoot": True,
        "runAsUser": 65534,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    pod = PodSpec(make_pod({"name": "app", "securityContext": restricted, "tty": True}, hostNetwork=True))
    assert security.refusal(pod) == ""
    told = security.unsupported(pod)
    assert "spec.containers[0].securityContext.seccompProfile.type" in told
    assert "spec.containers[0].tty" in told
    assert "capabilities" not in told
    assert security.unsupported(PodSpec(make_pod("app"))) == ""


def test_identity(make_pod: MakePod) -> None:
    raw = make_pod(
        {"name": "app", "securityContext": {"runAsUser": 5}}, securityContext={"runAsGroup": 7, "runAsUser": 1}
    )
    pod = PodSpec(raw)
    assert security.identity(pod, pod.apps[0], None) == Account(5, 7)
    refused = PodSpec(make_pod("app", securityContext={"runAsNonRoot": True}))
    with pytest.raises(InvalidSpec, match="runAsNonRoot"):
        security.identity(refused, refused.apps[0], None)
