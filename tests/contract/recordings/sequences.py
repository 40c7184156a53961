"""Sequences about owners as such: appliers, updaters, `managedFields` by hand, and refusals.

Answers of a real server to these, to those about kinds, and to those by chance are beside this file.
"""

from __future__ import annotations

from tests.contract.recordings.making import (
    CONFIG_MAP,
    CORE,
    Json,
    apply,
    config_map,
    create,
    force,
    made,
    patch,
    path,
    read,
    update,
    widget,
    widget_status,
)
from tests.contract.recordings.steps import PATCH, STRATEGIC, Step

_FORGET: Json = {"metadata": {"managedFields": [{}]}}
_MANY = [patch(CONFIG_MAP, {"data": {f"k{i}": str(i)}}, agent=f"agent-{i:02}/1") for i in range(12)]

OF_OWNERS: dict[str, list[Step]] = {
    # -- one applier --------------------------------------------------------------------------------------------------
    "apply creates": [apply(CONFIG_MAP), read(CONFIG_MAP)],
    "apply changes, leaves out and adds": [
        apply(config_map({"labels": {"l": "1"}, "annotations": {"n": "1"}}, a="1", b="2")),
        apply(config_map({"labels": {"l": "2"}}, a="3", c="4")),
        apply(config_map()),
    ],
    "apply of the same changes nothing": [apply(CONFIG_MAP), apply(CONFIG_MAP), read(CONFIG_MAP)],
    "apply of yaml": [
        apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  a: '1'\n", at=path(CONFIG_MAP)),
    ],
    "apply in a dry run": [
        apply(CONFIG_MAP, query="dryRun=All"),
        read(CONFIG_MAP),
        apply(CONFIG_MAP),
        apply(config_map(a="2"), query="dryRun=All"),
        read(CONFIG_MAP),
    ],
    "apply after a deletion creates anew": [
        apply(CONFIG_MAP),
        Step("DELETE", path(CONFIG_MAP)),
        apply(CONFIG_MAP),
    ],
    # -- several ------------------------------------------------------------------------------------------------------
    "a conflict with an applier": [apply(CONFIG_MAP), apply(config_map(a="2"), "two"), read(CONFIG_MAP)],
    "a conflict with an updater": [create(CONFIG_MAP), apply(config_map(a="2"), "two"), read(CONFIG_MAP)],
    "conflicts with several": [
        apply(config_map(a="1", b="1")),
        patch(CONFIG_MAP, {"data": {"c": "1"}, "metadata": {"labels": {"l": "1"}}}),
        create(config_map(z="1")),
        apply(config_map({"labels": {"l": "2"}}, a="2", b="2", c="2"), "two"),
    ],
    "force takes over": [
        apply(CONFIG_MAP),
        force(config_map(a="2"), "two"),
        apply(CONFIG_MAP),
        apply(config_map(), "one"),
    ],
    "the same value is shared": [
        apply(CONFIG_MAP),
        apply(CONFIG_MAP, "two"),
        apply(config_map(a="2"), "two"),
        apply(config_map(), "one"),
        apply(config_map(a="2"), "two"),
        apply(config_map(), "two"),
    ],
    "appliers of different fields": [
        apply(CONFIG_MAP),
        apply(config_map(b="1"), "two"),
        apply(config_map(a="2")),
        apply(config_map(), "two"),
        apply(config_map(), "one"),
    ],
    "what an updater added stays": [
        apply(config_map(a="1", b="1")),
        patch(CONFIG_MAP, {"data": {"c": "1"}}),
        apply(config_map()),
    ],
    "what an updater changed is its own": [
        apply(config_map(a="1", b="1")),
        patch(CONFIG_MAP, {"data": {"a": "2"}}),
        apply(config_map(a="1", b="1")),
        apply(config_map(b="1")),
        force(config_map(a="1", b="1")),
    ],
    "what an updater removed is nobody's": [
        apply(config_map(a="1", b="1")),
        patch(CONFIG_MAP, {"data": {"a": None}}),
        apply(config_map(a="1", b="1")),
    ],
    # -- updates ------------------------------------------------------------------------------------------------------
    "who creates, updates and patches": [
        create(config_map({"labels": {"l": "1"}}, a="1"), "fieldManager=named"),
        update(config_map({"labels": {"l": "2"}}, a="1", b="1")),
        patch(CONFIG_MAP, {"data": {"b": "2"}}),
        patch(CONFIG_MAP, [{"op": "add", "path": "/data/c", "value": "1"}], sort=PATCH),
        patch(CONFIG_MAP, {"data": {"d": "1"}}, sort=STRATEGIC, query="fieldManager=strategist"),
        patch(CONFIG_MAP, {"data": {"d": "1"}}),
        patch(CONFIG_MAP, {"data": {"a": None, "b": None}}, agent="creator/2.0"),
    ],
    "an update that changes nothing": [create(CONFIG_MAP), update(CONFIG_MAP), patch(CONFIG_MAP, {"data": {"a": "1"}})],
    "agents without a name and with an odd one": [
        create(CONFIG_MAP, agent=""),
        patch(CONFIG_MAP, {"data": {"b": "1"}}, agent="Mozilla/5.0 (X11; Linux)"),
        patch(CONFIG_MAP, {"data": {"c": "1"}}, agent="a program (of mine)/2"),
    ],
    "one manager in many ways": [
        create(CONFIG_MAP, "fieldManager=me"),
        apply(config_map(b="1"), "me"),
        apply(config_map(a="2"), "me"),
        force(config_map(a="2"), "me"),
        patch(CONFIG_MAP, {"data": {"a": "3"}}, query="fieldManager=me"),
    ],
    "no more than ten updaters": [create(CONFIG_MAP), *_MANY, patch(CONFIG_MAP, {"data": {"k0": "x"}}, agent="late/1")],
    # -- managedFields by hand ----------------------------------------------------------------------------------------
    "forgetting everybody, and the first apply after it": [
        create(CONFIG_MAP),
        patch(CONFIG_MAP, _FORGET),
        patch(CONFIG_MAP, {"data": {"b": "1"}}),
        apply(config_map(a="2"), "one"),
        apply(config_map(a="1", c="1"), "one"),
        read(CONFIG_MAP),
    ],
    "forgetting with an empty list": [
        create(CONFIG_MAP),
        patch(CONFIG_MAP, {"metadata": {"managedFields": []}}),
        apply(config_map(a="1")),
    ],
    "forgetting and changing at once": [create(CONFIG_MAP), patch(CONFIG_MAP, {"data": {"b": "1"}, **_FORGET})],
    "an update without managedFields keeps them": [apply(CONFIG_MAP), update(config_map(a="1", b="2"))],
    "managedFields are taken as they are given": [
        create(CONFIG_MAP),
        patch(
            CONFIG_MAP,
            [
                {
                    "op": "replace",
                    "path": "/metadata/managedFields",
                    "value": [
                        {
                            "manager": "two",
                            "operation": "Apply",
                            "apiVersion": "v1",
                            "time": "2026-01-01T00:00:00Z",
                            "fieldsType": "FieldsV1",
                            "fieldsV1": {"f:data": {"f:a": {}}},
                        }
                    ],
                }
            ],
            sort=PATCH,
        ),
        apply(config_map(a="2"), "one"),
        apply(config_map(), "two"),
    ],
    "managedFields that are none are left as they were": [
        create(CONFIG_MAP),
        patch(
            CONFIG_MAP, {"metadata": {"managedFields": [{"manager": "m", "operation": "Watch", "apiVersion": "v1"}]}}
        ),
        patch(
            CONFIG_MAP, {"metadata": {"managedFields": [{"manager": "m", "operation": "Update", "apiVersion": "v1"}]}}
        ),
        patch(
            CONFIG_MAP,
            {
                "metadata": {
                    "managedFields": [
                        {
                            "manager": "m",
                            "operation": "Update",
                            "apiVersion": "v1",
                            "fieldsType": "FieldsV1",
                            "fieldsV1": {"nonsense": {}},
                        }
                    ]
                }
            },
        ),
    ],
    "managedFields of versions that are not there": [
        create(CONFIG_MAP),
        patch(
            CONFIG_MAP,
            {
                "metadata": {
                    "managedFields": [
                        {
                            "manager": "m",
                            "operation": "Update",
                            "apiVersion": "v7",
                            "fieldsType": "FieldsV1",
                            "fieldsV1": {"f:data": {"f:a": {}}},
                        }
                    ]
                }
            },
        ),
        apply(config_map(a="2")),
    ],
    "creating with managedFields": [
        create(config_map({"managedFields": [{}]}, a="1")),
        apply(config_map({"name": "y"}, a="1"), at=f"{CORE}/configmaps/y"),
    ],
    "managedFields as they were read": [
        apply(CONFIG_MAP),
        update(config_map({"managedFields": "{managed}", "labels": {"l": "1"}}, a="1", b="1")),
        update(config_map({"managedFields": "{managed}"}, a="2")),
        apply(CONFIG_MAP),
    ],
    # -- refusals -----------------------------------------------------------------------------------------------------
    "apply without a manager": [apply(CONFIG_MAP, ""), apply(CONFIG_MAP, "m" * 129), apply(CONFIG_MAP, "a%07b")],
    "force without apply": [create(CONFIG_MAP), patch(CONFIG_MAP, {"data": {"a": "2"}}, query="force=true")],
    "apply with managedFields": [
        apply(config_map({"managedFields": []}, a="1")),
        apply(
            config_map(
                {
                    "managedFields": [
                        {
                            "manager": "one",
                            "operation": "Apply",
                            "apiVersion": "v1",
                            "fieldsType": "FieldsV1",
                            "fieldsV1": {"f:data": {}},
                        }
                    ]
                },
                a="1",
            )
        ),
    ],
    "apply with a version": [
        apply(config_map({"resourceVersion": "1"}, a="1")),
        apply(CONFIG_MAP),
        apply(config_map({"resourceVersion": "{version}"}, a="2")),
        apply(config_map({"resourceVersion": "1"}, a="3")),
    ],
    "apply with a uid": [
        apply(config_map({"uid": "00000000-0000-0000-0000-000000000000"}, a="1")),
        apply(CONFIG_MAP),
        apply(config_map({"uid": "{uid}"}, a="2")),
        apply(config_map({"uid": "00000000-0000-0000-0000-000000000000"}, a="3")),
    ],
    "apply where no namespace is": [apply(CONFIG_MAP, at="/api/v1/namespaces/no-such-namespace/configmaps/x")],
    "apply of another kind, name and namespace": [
        apply(made("Secret", "v1", {}, None), at=path(CONFIG_MAP)),
        apply({"metadata": {"name": "x"}}, at=path(CONFIG_MAP)),
        apply(made("ConfigMap", "v7", {}, None), at=path(CONFIG_MAP)),
        apply(config_map({"name": "y"}, a="1"), at=path(CONFIG_MAP)),
        apply(config_map({"namespace": "default"}, a="1")),
        apply({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1"}}, at=path(CONFIG_MAP)),
    ],
    "apply of what is no object": [
        apply("[]", at=path(CONFIG_MAP)),
        apply("a: b: c", at=path(CONFIG_MAP)),
        apply("", at=path(CONFIG_MAP)),
    ],
    "apply of fields that are not there": [
        apply(made("ConfigMap", "v1", {"dta": {"a": "1"}}, None)),
        apply(made("ConfigMap", "v1", {"data": {"a": 1}}, None)),
        apply(made("ConfigMap", "v1", {"data": ["a"]}, None)),
        apply(made("ConfigMap", "v1", {"immutable": "yes"}, None)),
        apply(made("ConfigMap", "v1", {"data": {"a": 1, "b": 2}}, None)),
        apply(widget(txt="a")),
        apply(widget(replicas="a")),
        apply(widget(items=[{"name": "a"}, {"name": "a"}])),
        apply(widget(items=[{"value": 1}])),
        apply(widget(set=["a", "a"])),
    ],
    "apply of a value that is not valid": [
        apply(config_map({"labels": {"l": "not a label"}}, a="1")),
        apply(CONFIG_MAP),
        apply(config_map({"labels": {"l": "not a label"}}, a="2")),
    ],
    "apply of the status of nothing": [apply(widget_status(replicas=1), sub="status")],
}
