"""Dataset and ThinRuntime: verdicts, objects, statuses, endings."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from headrace.data.act import Action, Create, Delete, Patch, Plan, Tell
from headrace.data.runtime.judge import Parts, judge
from headrace.data.runtime.plan import TOGETHER_WITHIN_S, Observed, plan
from headrace.data.runtime.volume import claim_body, volume_body, volume_name
from headrace.data.wrapper.objects import dataset_name
from headrace.spec.conditions import find_condition
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import CONFIG_MAP, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, SECRET


def plain(make: Any, **changes: Any) -> Parts:
    defaults = {"dataset": make.dataset(), "runtime": make.runtime(), "profile": make.profile()}
    return Parts(**{**defaults, **changes})


def wrapped(make: Any, **changes: Any) -> Parts:
    defaults = {
        "dataset": make.wrapped(),
        "runtime": make.wrapped_runtime(),
        "profile": make.profile(),
        "claims": {"starfs": make.claim()},
        "volumes": {"starfs": make.volume()},
    }
    return Parts(**{**defaults, **changes})


def secret(make: Any, name: str, *keys: str) -> Doc[Any]:
    doc: Doc[Any] = make.doc(SECRET, name, data=dict.fromkeys(keys, "eA=="))
    return doc


def test_a_plain_dataset_is_bound(make: Any) -> None:
    verdict = judge(plain(make))
    assert (verdict.phase, verdict.status, verdict.reason) == ("Bound", "True", "DatasetReady")
    assert verdict.resolved is not None
    assert verdict.resolved.claim == "demo"
    assert verdict.resolved.config_map == "demo-fuse-conf"


def test_a_wrapped_dataset_is_used_by_the_users_claim(make: Any) -> None:
    verdict = judge(wrapped(make))
    assert verdict.resolved is not None
    assert verdict.resolved.claim == "starfs"
    assert not verdict.resolved.read_only
    assert verdict.config is not None
    assert json.loads(verdict.config.text)["mounts"][0]["mountPoint"] == "juicefs://starfs"


def test_a_missing_profile_lists_those_there_are_nearest_first(make: Any) -> None:
    parts = plain(make, runtime=make.runtime(profile="juicfs"), profile=None, profiles=("rclone", "juicefs", "alluxio"))
    verdict = judge(parts)
    assert (verdict.phase, verdict.reason) == ("NotBound", "ProfileNotFound")
    assert "found: juicefs, " in verdict.message
    assert "found: none." in judge(plain(make, profile=None)).message


@pytest.mark.parametrize(
    ("change", "phase", "reason", "says"),
    [
        ({"runtime": None}, "NotBound", "RuntimeNotFound", "Make one"),
        ({"claims": {"starfs": None}}, "NotBound", "ClaimNotFound", "starfs"),
        ({"unbound": ""}, "Pending", "ClaimPending", "describe pvc"),
        ({"unbound": "WaitForFirstConsumer"}, "Pending", "ClaimPending", "nothing is wrong"),
        ({"lost": True}, "Failed", "ClaimLost", "anew"),
        ({"nfs": True}, "Failed", "InvalidSpec", "nfs volume"),
        ({"restrict": {"namespaces": ["other"]}}, "Failed", "Denied", "namespace vision"),
        ({"restrict": {"drivers": ["csi.other"]}}, "Failed", "Denied", "fuse.headrace.io"),
        ({"restrict": {"attributes": {"profile": "x"}}}, "Failed", "Denied", "profile=x"),
        (
            {"restrict": {"attributes": {"profile": "juicefs"}, "drivers": ["fuse.headrace.io"]}},
            "Bound",
            "DatasetReady",
            "",
        ),
    ],
)
def test_verdicts_of_wrapped_claims(make: Any, change: dict[str, Any], phase: str, reason: str, says: str) -> None:
    changes: dict[str, Any] = {key: change[key] for key in ("runtime", "claims") if key in change}
    if "unbound" in change:
        changes = {
            "claims": {"starfs": make.claim(status={"phase": "Pending"}, spec={"volumeName": ""})},
            "volumes": {"starfs": None},
            "binding": {"starfs": change["unbound"]},
        }
    if "lost" in change:
        changes = {"claims": {"starfs": make.claim(status={"phase": "Lost"})}}
    if "nfs" in change:
        changes = {"volumes": {"starfs": make.doc(PERSISTENT_VOLUME, "pv", spec={"nfs": {"server": "x"}})}}
    if "restrict" in change:
        changes = {"profile": make.profile(restrict=change["restrict"])}
    verdict = judge(wrapped(make, **changes))
    assert (verdict.phase, verdict.reason) == (phase, reason)
    assert says in verdict.message
    assert (verdict.config is not None) is (phase == "Bound")


def test_secret_options_must_be_there(make: Any) -> None:
    option = {"name": "key", "valueFrom": {"secretKeyRef": {"name": "s3", "key": "acess"}}}
    dataset = make.dataset(spec={"mounts": [{"mountPoint": "s3://b", "encryptOptions": [option]}]})
    missing = judge(plain(make, dataset=dataset, secrets={"s3": None}))
    assert (missing.reason, missing.phase) == ("SecretNotFound", "Failed")
    misspelt = judge(plain(make, dataset=dataset, secrets={"s3": secret(make, "s3", "secret", "access")}))
    assert "it has: access, secret" in misspelt.message
    assert judge(plain(make, dataset=dataset, secrets={"s3": secret(make, "s3", "acess")})).phase == "Bound"


def test_the_drivers_secret_is_shown_by_name_only(make: Any) -> None:
    csi = {**make.volume().spec["csi"], "nodePublishSecretRef": {"name": "jfs", "namespace": "storage"}}
    volumes = {"starfs": make.volume(csi=csi)}
    there = judge(wrapped(make, volumes=volumes, secrets={"jfs": secret(make, "jfs", "metaurl")}))
    assert there.resolved is not None
    assert there.resolved.secrets == ("jfs",)
    absent = judge(wrapped(make, volumes=volumes, secrets={"jfs": None}))
    assert absent.phase == "Bound"
    assert "never copied" in absent.message


def test_a_runtime_without_profile_is_a_reference_dataset(make: Any) -> None:
    assert judge(plain(make, runtime=make.runtime(profile=""))).reason == "Unsupported"


# -- the plan --------------------------------------------------------------------------------------------------------


def of(actions: tuple[Action, ...], type: type[Any], kind: str) -> list[Any]:
    return [action for action in actions if isinstance(action, type) and action.kind.name == kind]


def status_of(actions: tuple[Action, ...], kind: str) -> Json:
    status: Json = next(a for a in of(actions, Patch, kind) if a.subresource == "status").body["status"]
    return status


def test_a_plain_dataset_gets_config_volume_and_claim(make: Any) -> None:
    parts = plain(make)
    actions = plan(Observed(parts=parts, runtime=parts.runtime), make.now).actions
    config = of(actions, Create, "ConfigMap")[0].body
    assert config["metadata"]["name"] == "demo-fuse-conf"
    assert json.loads(config["data"]["config.json"])["mounts"] == [{"mountPoint": "s3://bucket", "name": "b"}]
    assert config["metadata"]["ownerReferences"][0]["kind"] == "ThinRuntime"
    volume, claim = (
        of(actions, Create, "PersistentVolume")[0].body,
        of(actions, Create, "PersistentVolumeClaim")[0].body,
    )
    assert volume["spec"]["csi"] == {
        "driver": "fuse.headrace.io",
        "volumeHandle": "vision-demo",
        "volumeAttributes": {"dataset": "demo", "namespace": "vision"},
    }
    assert claim["metadata"]["name"] == "demo"
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
    assert volume["spec"]["claimRef"]["name"] == "demo"
    assert volume["spec"]["accessModes"] == claim["spec"]["accessModes"] == ["ReadOnlyMany"]
    status = status_of(actions, "Dataset")
    assert status["phase"] == "Bound"
    assert status["observedGeneration"] == 1
    assert status["runtimes"] == [{"name": "demo", "namespace": "vision", "category": "Accelerate", "type": "thin"}]
    assert status_of(actions, "ThinRuntime")["fusePhase"] == "Ready"
    assert [a.reason for a in actions if isinstance(a, Tell)] == ["DatasetReady"]


def test_a_wrapped_dataset_gets_no_volume_and_claim(make: Any) -> None:
    parts = wrapped(make)
    actions = plan(Observed(parts=parts, runtime=parts.runtime), make.now).actions
    assert not of(actions, Create, "PersistentVolume")
    assert not of(actions, Create, "PersistentVolumeClaim")
    assert of(actions, Create, "ConfigMap")[0].body["metadata"]["name"] == f"{dataset_name('starfs')}-fuse-conf"
    owners = [a.body["metadata"] for a in of(actions, Patch, "ThinRuntime") if not a.subresource]
    assert all("ownerReferences" not in meta for meta in owners)


def test_both_are_held_and_the_runtime_goes_with_its_dataset(make: Any) -> None:
    parts = plain(make)
    actions = plan(Observed(parts=parts, runtime=parts.runtime), make.now).actions
    held = [a.body["metadata"].get("finalizers") for a in of(actions, Patch, "Dataset") if not a.subresource]
    assert held == [["fluid-dataset-controller-finalizer"]]
    (runtime,) = (a.body["metadata"] for a in of(actions, Patch, "ThinRuntime") if not a.subresource)
    assert runtime["finalizers"] == ["thin-runtime-controller-finalizer"]
    assert runtime["ownerReferences"][0]["uid"] == "dataset-demo"


def settled(make: Any, **spec: Any) -> Observed:
    """Everything there and said already."""
    finalizers = {"finalizers": ["fluid-dataset-controller-finalizer"]}
    dataset = make.dataset(metadata=finalizers, spec=spec)
    owners = [dataset.owner_reference(controller=False, block_deletion=False)]
    meta = {"finalizers": ["thin-runtime-controller-finalizer"], "ownerReferences": owners}
    runtime = make.runtime(metadata=meta)
    parts = Parts(dataset=dataset, runtime=runtime, profile=make.profile())
    first = plan(Observed(parts=parts, runtime=runtime), make.now).actions
    dataset = Doc(dataset.kind, {**dataset.raw, "status": status_of(first, "Dataset")})
    runtime = Doc(runtime.kind, {**runtime.raw, "status": status_of(first, "ThinRuntime")})
    return Observed(
        parts=Parts(dataset=dataset, runtime=runtime, profile=make.profile()),
        runtime=runtime,
        config_map=Doc(CONFIG_MAP, of(first, Create, "ConfigMap")[0].body),
        volume=Doc(PERSISTENT_VOLUME, volume_body(dataset)),
        claim=Doc(PERSISTENT_VOLUME_CLAIM, claim_body(dataset)),
    )


def test_a_settled_dataset_is_left_alone(make: Any) -> None:
    assert plan(settled(make), make.now).actions == ()


def changed(observed: Observed, **changes: Any) -> Observed:
    fields = {name: getattr(observed, name) for name in ("parts", "runtime", "config_map", "volume", "claim", "users")}
    return Observed(**{**fields, **changes})


def test_an_edit_rolls_out(make: Any) -> None:
    observed = settled(make)
    assert observed.parts is not None
    meta = {**observed.parts.dataset.meta, "generation": 2}
    spec = {"mounts": [{"mountPoint": "s3://bucket", "name": "b"}, {"mountPoint": "s3://more", "name": "m"}]}
    dataset = Doc(observed.parts.dataset.kind, {**observed.parts.dataset.raw, "metadata": meta, "spec": spec})
    parts = Parts(dataset=dataset, runtime=observed.runtime, profile=make.profile())
    actions = plan(changed(observed, parts=parts), make.now).actions
    patch = of(actions, Patch, "ConfigMap")[0]
    assert len(json.loads(patch.body["data"]["config.json"])["mounts"]) == 2
    assert status_of(actions, "Dataset")["observedGeneration"] == 2


def test_an_edit_that_cannot_follow_is_said(make: Any) -> None:
    observed = settled(make)
    assert observed.parts is not None
    raw = observed.parts.dataset.raw
    dataset = Doc(observed.parts.dataset.kind, {**raw, "spec": {**raw["spec"], "accessModes": ["ReadWriteMany"]}})
    parts = Parts(dataset=dataset, runtime=observed.runtime, profile=make.profile())
    actions = plan(changed(observed, parts=parts), make.now).actions
    said = find_condition(status_of(actions, "Dataset")["conditions"], "Unsupported")
    assert said is not None
    assert "spec.accessModes" in said["message"]


def test_fields_that_are_not_carried_out_are_said_by_path(make: Any) -> None:
    parts = plain(make, dataset=make.dataset(spec={"owner": {"uid": 1}}))
    actions = plan(Observed(parts=parts, runtime=parts.runtime), make.now).actions
    said = find_condition(status_of(actions, "Dataset")["conditions"], "Unsupported")
    assert said is not None
    assert "spec.owner" in said["message"]


@pytest.mark.parametrize("foreign", ["claim", "volume"])
def test_names_of_others_are_not_taken(make: Any, foreign: str) -> None:
    parts = plain(make)
    there = {
        "claim": make.doc(PERSISTENT_VOLUME_CLAIM, "demo", spec={}),
        "volume": make.doc(PERSISTENT_VOLUME, "vision-demo", spec={}),
    }
    actions = plan(Observed(parts=parts, runtime=parts.runtime, **{foreign: there[foreign]}), make.now).actions
    status = status_of(actions, "Dataset")
    assert status["phase"] == "Failed"
    assert find_condition(status["conditions"], "Ready")["reason"] == "NameTaken"  # type: ignore[index]
    assert not of(actions, Create, "PersistentVolume")


def test_a_dataset_in_use_stays(make: Any) -> None:
    observed = settled(make)
    assert observed.parts is not None
    meta = {**observed.parts.dataset.meta, "deletionTimestamp": "2026-01-01T00:00:00Z"}
    dataset = Doc(observed.parts.dataset.kind, {**observed.parts.dataset.raw, "metadata": meta})
    parts = Parts(dataset=dataset, runtime=observed.runtime, profile=make.profile())
    busy = plan(changed(observed, parts=parts, users=("a", "b")), make.now).actions
    assert "a, b" in find_condition(status_of(busy, "Dataset")["conditions"], "Ready")["message"]  # type: ignore[index]
    assert not [a for a in busy if isinstance(a, Delete)]
    free = plan(changed(observed, parts=parts), make.now).actions
    assert [a.kind.name for a in free if isinstance(a, Delete)] == ["PersistentVolumeClaim", "PersistentVolume"]
    last = plan(changed(observed, parts=parts, volume=None, claim=None), make.now).actions
    assert [a.body["metadata"]["finalizers"] for a in of(last, Patch, "Dataset")] == [[]]


def test_a_deleted_dataset_leaves_what_is_not_its_own(make: Any) -> None:
    meta = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["fluid-dataset-controller-finalizer"]}
    parts = Parts(dataset=make.dataset(metadata=meta))
    foreign = make.doc(PERSISTENT_VOLUME_CLAIM, "demo", spec={})
    actions = plan(Observed(parts=parts, claim=foreign), make.now).actions
    assert not [a for a in actions if isinstance(a, Delete)]
    assert of(actions, Patch, "Dataset")


def test_one_that_was_just_made_is_given_time_for_the_other(make: Any) -> None:
    alone = Observed(parts=plain(make, runtime=None))
    decided = plan(alone, make.now)
    assert decided.again_after_s == TOGETHER_WITHIN_S
    (hold,) = decided.actions
    assert isinstance(hold, Patch)
    assert "finalizers" in hold.body["metadata"]
    later = plan(alone, make.now + dt.timedelta(seconds=TOGETHER_WITHIN_S))
    assert status_of(later.actions, "Dataset")["phase"] == "NotBound"
    assert later.again_after_s is None
    known = make.dataset(status={"conditions": [{"type": "Ready", "status": "True"}]})
    lost = plan(Observed(parts=plain(make, dataset=known, runtime=None)), make.now)
    assert status_of(lost.actions, "Dataset")["phase"] == "NotBound", "its runtime was there and is gone"
    runtime = Observed(runtime=make.runtime())
    assert plan(runtime, make.now) == Plan((), TOGETHER_WITHIN_S)


def test_good_news_of_a_wrapped_dataset_is_told_of_its_claim(make: Any) -> None:
    for profile, told in ((make.profile(), []), (None, ["Warning"])):
        observed = Observed(parts=wrapped(make, profile=profile), runtime=make.wrapped_runtime())
        actions = plan(observed, make.now).actions
        assert [action.severity for action in actions if isinstance(action, Tell)] == told


def test_a_runtime_alone_says_what_it_misses(make: Any) -> None:
    actions = plan(Observed(runtime=make.runtime()), make.now + dt.timedelta(seconds=TOGETHER_WITHIN_S)).actions
    said = find_condition(status_of(actions, "ThinRuntime")["conditions"], "Ready")
    assert said is not None
    assert said["reason"] == "DatasetNotFound"
    ours = make.runtime(metadata={"labels": {"headrace.io/wraps": "claim-uid"}})
    assert plan(Observed(runtime=ours), make.now).actions == (), "its Dataset is being made"


def test_a_runtime_that_goes_is_let_go_when_nobody_uses_it(make: Any) -> None:
    meta = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["thin-runtime-controller-finalizer", "x"]}
    going = make.runtime(metadata=meta)
    assert plan(Observed(runtime=going, users=("pod",)), make.now).actions == ()
    actions = plan(Observed(runtime=going), make.now).actions
    assert of(actions, Patch, "ThinRuntime")[0].body["metadata"]["finalizers"] == ["x"]


def test_volume_names_cannot_meet() -> None:
    assert volume_name(Ref("vision", "demo")) == "vision-demo"
    assert volume_name(Ref("a-b", "c")) != volume_name(Ref("a", "b-c"))


def test_the_capacity_can_be_said(make: Any) -> None:
    dataset = make.dataset(metadata={"annotations": {"pvc.fluid.io/resources.requests.storage": "5Gi"}})
    assert volume_body(dataset)["spec"]["capacity"] == {"storage": "5Gi"}
    assert claim_body(dataset)["spec"]["resources"]["requests"] == {"storage": "5Gi"}
    assert volume_body(make.dataset())["spec"]["capacity"] == {"storage": "100Pi"}
