"""The wrapper's plan: what stands behind a claim, case by case."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from headrace.data.act import Action, Create, Delete, Patch, Plan, Tell
from headrace.data.wrapper.objects import dataset_name
from headrace.data.wrapper.plan import SAID_AFTER_S, Observed, plan
from headrace.ids import is_dns_1035_label
from headrace.spec.conditions import find_condition
from headrace.spec.kind import Doc, Json

CONDITION = "headrace.io/DatasetReady"


def condition_of(actions: tuple[Action, ...]) -> Json:
    patch = next(a for a in actions if isinstance(a, Patch) and a.subresource == "status")
    found = find_condition(patch.body["status"]["conditions"], CONDITION)
    assert found is not None
    return found


def kinds(actions: tuple[Action, ...], type: type[Any]) -> list[str]:
    return [a.kind.name if hasattr(a, "kind") else a.about.kind.name for a in actions if isinstance(a, type)]


@pytest.mark.parametrize(
    "claim", ["starfs-pvc", "0numbers.first", "dots.in.name", "x" * 63, "x" * 253, "UPPER-is-not-allowed-but-safe"]
)
def test_names_are_dns_1035_and_never_the_claims_own(claim: str) -> None:
    name = dataset_name(claim)
    assert is_dns_1035_label(name)
    assert name != claim
    assert name == dataset_name(claim)


def test_names_of_different_claims_differ() -> None:
    assert len({dataset_name(claim) for claim in ("a.b", "a-b", "a--b", "ab")}) == 4


def test_a_labelled_claim_gets_both(make: Any) -> None:
    decided = plan(Observed(claim=make.claim()), make.now)
    actions = decided.actions
    runtime, dataset = (a.body for a in actions if isinstance(a, Create))
    assert dataset["spec"] == {
        "mounts": [{"mountPoint": "pvc://starfs", "name": "starfs", "path": "/"}],
        "accessModes": ["ReadWriteMany"],
    }
    assert runtime["spec"] == {"profileName": "juicefs"}
    assert dataset["metadata"]["finalizers"] == ["fluid-dataset-controller-finalizer"]
    assert runtime["metadata"]["finalizers"] == ["thin-runtime-controller-finalizer"]
    for body in (dataset, runtime):
        assert body["metadata"]["name"] == dataset_name("starfs")
        assert body["metadata"]["labels"] == {"headrace.io/wraps": "persistentvolumeclaim-starfs"}
        owner = body["metadata"]["ownerReferences"][0]
        assert (owner["kind"], owner["uid"]) == ("PersistentVolumeClaim", "persistentvolumeclaim-starfs")
    assert len(actions) == 2
    assert decided.again_after_s == SAID_AFTER_S


def test_that_it_is_being_wrapped_is_said_when_that_takes_long(make: Any) -> None:
    observed = Observed(claim=make.claim(), dataset=make.wrapped(), runtime=make.wrapped_runtime())
    assert plan(observed, make.now) == Plan((), SAID_AFTER_S)
    actions = plan(observed, make.now + dt.timedelta(seconds=SAID_AFTER_S)).actions
    assert condition_of(actions)["reason"] == "Wrapping"
    assert not kinds(actions, Tell)


def test_an_ordinary_claim_is_left_alone(make: Any) -> None:
    assert plan(Observed(claim=make.claim(profile=None)), make.now).actions == ()


def ready(status: str = "True", reason: str = "DatasetReady", message: str = "fine") -> Json:
    return {"conditions": [{"type": "Ready", "status": status, "reason": reason, "message": message}]}


@pytest.mark.parametrize(
    ("status", "reason", "severity"),
    [
        ("True", "DatasetReady", "Normal"),
        ("False", "ProfileNotFound", "Warning"),
        ("Unknown", "ClaimPending", "Normal"),
    ],
)
def test_the_claim_says_what_its_dataset_says(make: Any, status: str, reason: str, severity: str) -> None:
    observed = Observed(
        claim=make.claim(), dataset=make.wrapped(status=ready(status, reason)), runtime=make.wrapped_runtime()
    )
    actions = plan(observed, make.now).actions
    said = condition_of(actions)
    assert (said["status"], said["reason"], said["message"]) == (status, reason, "fine")
    told = next(a for a in actions if isinstance(a, Tell))
    assert (told.severity, told.reason, told.about.name) == (severity, reason, "starfs")


def test_nothing_is_said_twice(make: Any) -> None:
    conditions = [{"type": CONDITION, "status": "True", "reason": "DatasetReady", "message": "fine"}]
    conditions[0]["lastTransitionTime"] = "2026-01-01T00:00:00Z"
    claim = make.claim(status={"conditions": conditions})
    observed = Observed(claim=claim, dataset=make.wrapped(status=ready()), runtime=make.wrapped_runtime())
    assert plan(observed, make.now).actions == ()


MOUNTED = "headrace.io/MountVerified"


def mounting(status: str) -> Json:
    return {"type": "MountVerified", "status": status, "reason": "NotServed", "message": "cloud: no such host"}


@pytest.mark.parametrize(
    ("status", "known", "said", "severity"),
    [
        ("True", False, "True", "Normal"),
        ("False", False, "False", "Warning"),
        ("Unknown", False, None, None),
        ("Unknown", True, "Unknown", None),
    ],
)
def test_the_claim_says_whether_its_data_was_really_listed(
    make: Any, status: str, known: bool, said: str | None, severity: str | None
) -> None:
    conditions = [{**ready()["conditions"][0], "type": CONDITION, "lastTransitionTime": "2026-01-01T00:00:00Z"}]
    conditions += [{**mounting("True"), "type": MOUNTED}] if known else []
    behind = {"conditions": [*ready()["conditions"], mounting(status)]}
    observed = Observed(
        claim=make.claim(status={"conditions": conditions}),
        dataset=make.wrapped(status=behind),
        runtime=make.wrapped_runtime(),
    )
    actions = plan(observed, make.now).actions
    patched = [find_condition(a.body["status"]["conditions"], MOUNTED) for a in actions if isinstance(a, Patch)]
    assert [each and each["status"] for each in patched] == ([said] if said else [])
    assert [(a.severity, a.reason) for a in actions if isinstance(a, Tell)] == (
        [(severity, "NotServed")] if severity else []
    )
    unlabelled = plan(Observed(claim=make.claim(profile=None, status={"conditions": conditions})), make.now).actions
    left = next(a for a in unlabelled if isinstance(a, Patch)).body["status"]["conditions"]
    assert not [each for each in left if each["type"].startswith("headrace.io/")]


def test_other_conditions_of_the_claim_stay(make: Any) -> None:
    claim = make.claim(status={"conditions": [{"type": "Resizing", "status": "True"}]})
    observed = Observed(claim=claim, dataset=make.wrapped(status=ready()), runtime=make.wrapped_runtime())
    patch = next(a for a in plan(observed, make.now).actions if isinstance(a, Patch))
    assert find_condition(patch.body["status"]["conditions"], "Resizing")
    assert patch.body["metadata"] == {"resourceVersion": "7"}


def test_another_profile_rewraps(make: Any) -> None:
    observed = Observed(
        claim=make.claim(profile="rclone"), dataset=make.wrapped(status=ready()), runtime=make.wrapped_runtime()
    )
    actions = plan(observed, make.now).actions
    patch = next(a for a in actions if isinstance(a, Patch) and not a.subresource)
    assert (patch.kind.name, patch.body) == ("ThinRuntime", {"spec": {"profileName": "rclone"}})
    assert not kinds(actions, Delete)
    assert any(isinstance(a, Tell) and a.reason == "Rewrapped" for a in actions)


def test_what_the_wrapper_keeps_is_put_back_and_the_rest_is_the_users(make: Any) -> None:
    dataset = make.wrapped(status=ready())
    changed = Doc(
        dataset.kind, {**dataset.raw, "spec": {**dataset.spec, "accessModes": [], "sharedOptions": {"a": "b"}}}
    )
    observed = Observed(claim=make.claim(), dataset=changed, runtime=make.wrapped_runtime())
    patch = next(a for a in plan(observed, make.now).actions if isinstance(a, Patch) and not a.subresource)
    assert patch.body == {"spec": {"accessModes": ["ReadWriteMany"]}}


@pytest.mark.parametrize("profile", [None, ""])
def test_taking_the_label_away_unwraps(make: Any, profile: str | None) -> None:
    conditions = [{"type": CONDITION, "status": "True"}, {"type": "Resizing", "status": "True"}]
    observed = Observed(
        claim=make.claim(profile=profile, status={"conditions": conditions}),
        dataset=make.wrapped(),
        runtime=make.wrapped_runtime(),
    )
    actions = plan(observed, make.now).actions
    assert kinds(actions, Delete) == ["Dataset", "ThinRuntime"]
    patch = next(a for a in actions if isinstance(a, Patch))
    left = [condition["type"] for condition in patch.body["status"]["conditions"]]
    assert left == (["Resizing"] if profile is None else [CONDITION, "Resizing"])


def test_an_empty_label_lists_the_profiles(make: Any) -> None:
    actions = plan(Observed(claim=make.claim(profile=""), profiles=("juicefs", "rclone")), make.now).actions
    assert "juicefs, rclone" in condition_of(actions)["message"]
    assert not kinds(actions, Create)


def test_a_claim_that_goes_keeps_its_objects_until_it_is_gone(make: Any) -> None:
    going = make.claim(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    behind = {"dataset": make.wrapped(), "runtime": make.wrapped_runtime()}
    assert plan(Observed(claim=going, **behind), make.now).actions == ()
    assert kinds(plan(Observed(claim=None, **behind), make.now).actions, Delete) == ["Dataset", "ThinRuntime"]


def test_objects_of_an_earlier_claim_are_replaced(make: Any) -> None:
    old = {"labels": {"headrace.io/wraps": "another-uid"}}
    observed = Observed(claim=make.claim(), dataset=make.wrapped(metadata=old), runtime=make.wrapped_runtime())
    actions = plan(observed, make.now).actions
    assert kinds(actions, Delete) == ["Dataset"]
    assert not kinds(actions, Create)
    assert condition_of(actions)["reason"] == "Replacing"


def test_objects_that_are_going_are_waited_for(make: Any) -> None:
    going = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    observed = Observed(claim=make.claim(), dataset=make.wrapped(metadata=going), runtime=make.wrapped_runtime())
    actions = plan(observed, make.now).actions
    assert not kinds(actions, Delete)
    assert not kinds(actions, Create)
    assert condition_of(actions)["status"] == "Unknown"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"owner": "demo"}, "AlreadyDataset"),
        ({"taken": True}, "NameTaken"),
        ({"block": True}, "BlockVolume"),
    ],
)
def test_claims_that_cannot_be_wrapped(make: Any, change: dict[str, Any], reason: str) -> None:
    spec = {"volumeMode": "Block"} if change.get("block") else {}
    dataset = make.wrapped(metadata={"labels": {}}) if change.get("taken") else None
    observed = Observed(claim=make.claim(spec=spec), dataset=dataset, owner=change.get("owner", ""))
    actions = plan(observed, make.now).actions
    assert condition_of(actions)["reason"] == reason
    assert condition_of(actions)["status"] == "False"
    assert not kinds(actions, Create)
    assert not kinds(actions, Delete)


def test_the_claim_itself_is_never_patched_but_its_status(make: Any) -> None:
    for profile in ("juicefs", "rclone", "", None):
        for dataset in (None, make.wrapped(status=ready())):
            observed = Observed(claim=make.claim(profile=profile), dataset=dataset, runtime=make.wrapped_runtime())
            for action in plan(observed, make.now).actions:
                if isinstance(action, Patch) and action.kind.name == "PersistentVolumeClaim":
                    assert action.subresource == "status"
                    assert set(action.body) == {"metadata", "status"}
                    assert set(action.body["metadata"]) == {"resourceVersion"}
