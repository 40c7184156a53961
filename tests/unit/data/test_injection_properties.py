"""Injection, for any pod: it changes nothing when called again, changes all or nothing, and leaves the rest alone."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.data.client import Client, ClientTools, ResolvedDataset
from headrace.data.injection import inject
from headrace.data.modes.mode import Capabilities
from headrace.errors import HeadraceError
from headrace.spec.kind import Json

CLIENT = Client(
    profile="p", file_system_type="rclone", image="rclone:1", image_pull_secrets=("r",), materialise=("copy",)
)
DATASETS = {
    name: ResolvedDataset(
        namespace="ns", name=f"{name}-ds", claim=name, client=CLIENT, config_map=f"{name}-conf", read_only=read_only
    )
    for name, read_only in (("one", False), ("two", True))
}
CAPABILITIES = Capabilities(tools=ClientTools(), native_nodes=({"key": "pool", "operator": "In", "values": ["own"]},))
CLAIMS = ("one", "two", "ordinary")

claim_volumes = st.fixed_dictionaries(
    {
        "persistentVolumeClaim": st.fixed_dictionaries(
            {"claimName": st.sampled_from(CLAIMS)}, optional={"readOnly": st.booleans()}
        )
    }
)
other_volumes: st.SearchStrategy[Json] = st.just({"emptyDir": {}})


def named(sources: list[Json]) -> list[Json]:
    return [{"name": f"v{number}", **source} for number, source in enumerate(sources)]


volumes = st.lists(claim_volumes | other_volumes, max_size=4).map(named)


@st.composite
def containers(draw: st.DrawFn, prefix: str, names: list[str], least: int) -> list[Json]:
    mounts = st.lists(
        st.fixed_dictionaries(
            {"name": st.sampled_from(names)} if names else {},
            optional={
                "subPath": st.sampled_from(["a", "a/b"]),
                "readOnly": st.booleans(),
                "recursiveReadOnly": st.sampled_from(["IfPossible", "Disabled"]),
                "mountPropagation": st.sampled_from(["None", "HostToContainer", "Bidirectional"]),
            },
        ),
        max_size=3 if names else 0,
    )
    result: list[Json] = []
    for number in range(draw(st.integers(least, 3))):
        places = [{"mountPath": f"/m{place}", **mount} for place, mount in enumerate(draw(mounts))]
        result.append({"name": f"{prefix}{number}", "image": "x", "volumeMounts": places})
    return result


@st.composite
def pods(draw: st.DrawFn) -> Json:
    chosen = draw(volumes)
    names = [str(volume["name"]) for volume in chosen]
    spec: Json = {"containers": draw(containers("c", names, 1)), "volumes": chosen}
    init = draw(containers("i", names, 0))
    if init:
        spec["initContainers"] = init
    if draw(st.booleans()):
        spec["terminationGracePeriodSeconds"] = draw(st.integers(0, 90))
    return {"metadata": {"name": "p", "namespace": "ns"}, "spec": spec}


modes = st.sampled_from(["native", "broker", "materialise"])


def attempt(pod: Json, mode: str) -> Json | None:
    try:
        return inject(pod, DATASETS, mode, CAPABILITIES)
    except HeadraceError:
        return None


def dataset_volumes(pod: Json) -> set[str]:
    claims = {v["name"]: v.get("persistentVolumeClaim", {}).get("claimName") for v in pod["spec"]["volumes"]}
    return {name for name, claim in claims.items() if claim in DATASETS}


def all_containers(pod: Json) -> list[Json]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


@given(pods(), modes)
@settings(max_examples=150, deadline=None)
def test_injecting_twice_changes_nothing_and_the_input_is_never_touched(pod: Json, mode: str) -> None:
    before = copy.deepcopy(pod)
    once = attempt(pod, mode)
    assert pod == before
    if once is not None:
        frozen = copy.deepcopy(once)
        assert inject(once, DATASETS, mode, CAPABILITIES) is once
        assert once == frozen


@given(pods(), st.sampled_from(["broker", "materialise"]))
@settings(max_examples=150, deadline=None)
def test_a_result_is_whole(pod: Json, mode: str) -> None:
    result = attempt(pod, mode)
    if result is None:
        return
    claimed = dataset_volumes(pod)
    assert not [m for c in all_containers(result) for m in c["volumeMounts"] if m["name"] in claimed]
    names = [volume["name"] for volume in result["spec"]["volumes"]]
    assert len(names) == len(set(names))
    assert result["spec"]["volumes"][: len(pod["spec"]["volumes"])] == pod["spec"]["volumes"]
    for container in all_containers(result):
        paths = [mount["mountPath"] for mount in container["volumeMounts"]]
        assert len(paths) == len(set(paths))
        assert {mount["name"] for mount in container["volumeMounts"]} <= set(names)


def without_dataset_mounts(container: Json, claimed: set[str]) -> tuple[Any, ...]:
    kept = [m for m in container["volumeMounts"] if m["name"] not in claimed]
    return ({**container, "volumeMounts": kept}, [m["mountPath"] for m in container["volumeMounts"]])


@given(pods(), modes)
@settings(max_examples=150, deadline=None)
def test_the_users_containers_are_otherwise_unchanged(pod: Json, mode: str) -> None:
    result = attempt(pod, mode)
    if result is None:
        return
    claimed = dataset_volumes(pod)
    ours = {f"fluid-fuse-{n}-data" for n in range(9)} | {f"fluid-materialise-{n}-data" for n in range(9)}
    own = [c for c in all_containers(result) if not c["name"].startswith("fluid-")]
    expected = [without_dataset_mounts(c, claimed) for c in all_containers(pod)]
    assert [without_dataset_mounts(c, claimed | ours) for c in own] == expected
    known = {"containers", "initContainers", "volumes", "imagePullSecrets", "terminationGracePeriodSeconds", "affinity"}
    assert {k: v for k, v in result["spec"].items() if k not in known} == {
        k: v for k, v in pod["spec"].items() if k not in known
    }
