"""Who owns what after writes and applies: by table where a real server's recordings do not reach, and as laws."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.managedfields.applying import Applied, ApplyConflict, Unfit, applied
from headrace.managedfields.fieldset import has, paths
from headrace.managedfields.ownership import MAX_UPDATERS, Ownership, Reset
from headrace.managedfields.schemas import custom_type
from headrace.spec.kind import Json

TEXT: Json = {"type": "string"}
ITEM: Json = {"type": "object", "properties": {"name": TEXT, "value": TEXT}}
SCHEMA: Json = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "text": TEXT,
                "both": TEXT,
                "map": {"type": "object", "additionalProperties": TEXT},
                "set": {"type": "array", "items": TEXT, "x-kubernetes-list-type": "set"},
                "items": {
                    "type": "array",
                    "items": ITEM,
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                },
                "list": {"type": "array", "items": TEXT},
                "inner": {"type": "object", "properties": {"a": TEXT, "b": TEXT}},
            },
        },
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}
TYPE = custom_type(SCHEMA)
VERSION = "example.org/v1"
BARE: Json = {"apiVersion": VERSION, "kind": "Thing"}
RULES = Ownership(
    version=VERSION,
    types=lambda version: TYPE if version == VERSION else None,
    reset=Reset(fields=frozenset({"status"})),
)
STATUS = Ownership(
    version=VERSION, types=RULES.types, subresource="status", reset=Reset(fields=frozenset({"spec", "metadata"}))
)
NAMES = st.sampled_from("abc")
TEXTS = st.sampled_from(["", "1", "2"])
SPECS = st.fixed_dictionaries(
    {"both": st.just("shared")},
    optional={
        "text": TEXTS,
        "map": st.dictionaries(NAMES, TEXTS, max_size=3),
        "set": st.lists(NAMES, unique=True, min_size=1, max_size=3),  # an empty one, as in Kubernetes, is nobody's
        "items": st.dictionaries(NAMES, TEXTS, min_size=1, max_size=3).map(
            lambda found: [{"name": name, "value": value} for name, value in found.items()]
        ),
        "list": st.lists(TEXTS, max_size=2),
        "inner": st.fixed_dictionaries({}, optional={"a": TEXTS, "b": TEXTS}),
    },
)


def config(spec: Json) -> Json:
    return {**BARE, "metadata": {"name": "x"}, "spec": spec}


def apply(live: Json, spec: Json, manager: str, *, force: bool = False, now: str = "t") -> Json:
    return stored(applied(RULES, live, config(spec), manager, force=force, now=now))


def stored(found: Applied) -> Json:
    return {**found.raw, "metadata": {**found.raw["metadata"], "managedFields": found.entries}}


def said(spec: Json) -> Json:
    """Return a spec without what says nothing: as in Kubernetes, a map that loses all its entries is null."""
    return {key: value for key, value in spec.items() if value}


def fields_of(raw: Json, manager: str, operation: str = "Apply") -> Json:
    entries = raw["metadata"]["managedFields"]
    found: list[Json] = [e["fieldsV1"] for e in entries if (e["manager"], e["operation"]) == (manager, operation)]
    return found[0] if found else {}


# -- laws --------------------------------------------------------------------------------------------------------------


@given(SPECS, SPECS)
def test_applying_twice_is_applying_once(first: Json, spec: Json) -> None:
    once = apply(apply(BARE, first, "other"), spec, "me", force=True)
    twice = apply(once, spec, "me", now="later")
    assert twice == once, "no value, no owner and no time"


@given(SPECS, SPECS)
def test_appliers_who_do_not_meet_may_come_in_any_order(left: Json, right: Json) -> None:
    right = {key: value for key, value in right.items() if key == "both" or key not in left}
    one = apply(apply(BARE, left, "left"), right, "right")
    other = apply(apply(BARE, right, "right"), left, "left")
    assert one["spec"] == other["spec"]
    assert all(fields_of(one, who) == fields_of(other, who) for who in ("left", "right"))


@given(SPECS, SPECS)
def test_what_one_alone_owned_goes_when_it_is_named_no_more(first: Json, second: Json) -> None:
    left, anew = (apply(live, second, "me")["spec"] for live in (apply(BARE, first, "me"), BARE))
    assert said(left) == said(anew)


@given(SPECS, SPECS)
def test_force_takes_ownership_and_leaves_no_conflict(theirs: Json, mine: Json) -> None:
    taken = apply(apply(BARE, theirs, "they"), mine, "me", force=True)
    apply(taken, mine, "me")
    own, others = fields_of(taken, "me"), fields_of(taken, "they")
    assert set(paths(own)) == set(paths(fields_of(apply(BARE, mine, "me"), "me")))
    changed = {path for path in paths(others) if has(own, path)}
    for path in changed:  # shared, so both want the same
        apply(taken, mine, "they", force=True)
        assert path in set(paths(own))


@given(SPECS, SPECS)
def test_an_update_owns_what_it_changes_and_nobody_else_does(first: Json, second: Json) -> None:
    live = apply(BARE, first, "applier")
    entries = RULES.after_update(live, {**live, "spec": second}, None, "updater", "t")
    raw = {**live, "spec": second, "metadata": {"managedFields": entries}}
    mine, theirs = (set(paths(fields_of(raw, *who))) for who in (("updater", "Update"), ("applier",)))
    assert not mine & theirs
    if first == second:
        assert not mine


@given(SPECS)
def test_what_is_made_is_owned_by_who_makes_it(spec: Json) -> None:
    entries = RULES.after_update(None, config(spec), None, "maker", "t")
    assert [entry["manager"] for entry in entries] == ["maker"], "f:spec at least"
    assert not has(entries[0]["fieldsV1"], ("f:metadata", "f:name"))


# -- cases -------------------------------------------------------------------------------------------------------------


def test_a_conflict_names_owner_and_field_as_kubernetes_words_it() -> None:
    live = apply(BARE, {"text": "1", "items": [{"name": "a", "value": "1"}]}, "first")
    with pytest.raises(ApplyConflict) as one:
        apply(live, {"text": "2"}, "second")
    assert one.value.what == 'Apply failed with 1 conflict: conflict with "first": .spec.text'
    with pytest.raises(ApplyConflict) as two:
        apply(live, {"text": "2", "items": [{"name": "a", "value": "2"}]}, "second")
    assert two.value.what == (
        'Apply failed with 2 conflicts: conflicts with "first":\n- .spec.text\n- .spec.items[name="a"].value'
    )
    assert two.value.causes == (
        (".spec.text", 'conflict with "first"'),
        ('.spec.items[name="a"].value', 'conflict with "first"'),
    )
    assert two.value.http_status == 409


def test_a_conflict_with_an_update_names_version_and_subresource() -> None:
    made = config({}) | {"status": {"phase": "A"}}
    live = {**made, "metadata": {"managedFields": STATUS.after_update(None, made, None, "updater", "t")}}
    with pytest.raises(ApplyConflict) as error:
        applied(STATUS, live, BARE | {"status": {"phase": "B"}}, "me", force=False, now="t")
    assert error.value.what.endswith(
        'conflict with "updater" with subresource "status" using example.org/v1: .status.phase'
    )


def test_status_and_object_have_managers_of_their_own() -> None:
    live = apply(BARE, {"text": "1"}, "me")
    live = stored(
        applied(STATUS, live, BARE | {"status": {"phase": "A"}, "spec": {"text": "2"}}, "me", force=False, now="t")
    )
    entries = live["metadata"]["managedFields"]
    assert [(entry.get("subresource", ""), list(entry["fieldsV1"])) for entry in entries] == [
        ("", ["f:spec"]),
        ("status", ["f:status"]),
    ]


def test_who_was_there_before_the_first_apply_is_kept() -> None:
    live = config({"text": "1", "map": {"a": "1"}})
    with pytest.raises(ApplyConflict, match=r'"before-first-apply" using example\.org/v1: \.spec\.text'):
        apply(live, {"text": "2"}, "me")
    found = apply(live, {"map": {"b": "1"}}, "me")
    assert found["spec"] == {"text": "1", "map": {"a": "1", "b": "1"}}
    assert has(fields_of(found, "before-first-apply", "Update"), ("f:spec", "f:map", "f:a"))


def test_nobody_is_followed_where_nobody_was() -> None:
    live = config({"text": "1"})
    assert RULES.after_update(live, config({"text": "2"}), None, "me", "t") == []


@pytest.mark.parametrize("forgets", [[], [{}], [{"manager": "", "time": None}]])
def test_owners_are_forgotten(forgets: Any) -> None:
    live = apply(BARE, {"text": "1"}, "me")
    assert RULES.after_update(live, live, forgets, "you", "t") == []


@pytest.mark.parametrize(
    "given_", [None, "no list", [1], [{"manager": "x"}], [{"operation": "Update", "apiVersion": VERSION}]]
)
def test_owners_that_are_none_are_not_taken(given_: Any) -> None:
    live = apply(BARE, {"text": "1"}, "me")
    assert RULES.after_update(live, live, given_, "you", "t") == live["metadata"]["managedFields"]


def test_a_subresource_takes_no_owners_from_a_request() -> None:
    live = apply(BARE, {"text": "1"}, "me")
    assert STATUS.after_update(live, live, [{}], "you", "t") == live["metadata"]["managedFields"]


def test_the_oldest_updaters_become_one() -> None:
    live = config({"map": {}})
    live["metadata"]["managedFields"] = RULES.after_update(None, live, None, "maker", "00")
    for count in range(1, MAX_UPDATERS + 5):
        spec = {"map": {**live["spec"]["map"], f"k{count}": "1"}}
        entries = RULES.after_update(live, {**live, "spec": spec}, None, f"m{count:02}", f"{count:02}")
        live = {**live, "spec": spec, "metadata": {"managedFields": entries}}
    names = [entry["manager"] for entry in live["metadata"]["managedFields"]]
    assert len(names) == MAX_UPDATERS
    assert names[0] == "ancient-changes"
    assert names[-1] == "m14"
    ancient = fields_of(live, "ancient-changes", "Update")
    assert {f"f:k{count}" for count in range(1, 6)} <= ancient["f:spec"]["f:map"].keys()


def test_owners_in_a_version_that_is_served_no_more_go() -> None:
    live = apply(BARE, {"text": "1"}, "me")
    old = [entry | {"apiVersion": "example.org/v0"} for entry in live["metadata"]["managedFields"]]
    live["metadata"]["managedFields"] = old
    found = apply(live, {"text": "2"}, "you")
    assert [entry["manager"] for entry in found["metadata"]["managedFields"]] == ["you"]


def test_what_has_not_changed_is_shared_with_what_is_stored() -> None:
    live = apply(BARE, {"text": "1"}, "me")
    entries = RULES.after_update(live, {**live, "spec": {"text": "1", "map": {"a": "1"}}}, None, "you", "t")
    assert entries[0] is live["metadata"]["managedFields"][0]


def test_a_configuration_that_does_not_fit() -> None:
    with pytest.raises(Unfit, match=r"^\.spec\.txt: field not declared in schema$"):
        apply(BARE, {"txt": "1"}, "me")
