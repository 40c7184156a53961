"""Orders are completed with defaults, or refused with the key at fault."""

from typing import Any

import pytest

from headrace.sandbox import orders
from headrace.sandbox.wire import Refusal

LEAST: dict[str, Any] = {"pod": "p", "container": "c", "argv": ["true"], "log": {"path": "/logs/c"}}


def test_the_least_order_is_completed() -> None:
    order = orders.container(LEAST)
    assert order["env"]["PATH"].startswith("/usr/local/sbin:")
    assert (order["uid"], order["gid"], order["cwd"], order["root"], order["read_only_root"]) == (
        65534,
        65534,
        "/",
        "host",
        True,
    )
    assert order["log"] == {"path": "/logs/c", "max_bytes": 10 << 20, "max_files": 5}
    assert order["limits"] == {"core": 0}
    assert (order["mounts"], order["masks"], order["etc_hosts"], order["oom_score_adj"]) == ([], [], None, None)


def test_the_host_is_always_read_only() -> None:
    assert orders.container({**LEAST, "root": "host", "read_only_root": False})["read_only_root"]
    assert not orders.container({**LEAST, "root": "/image", "read_only_root": False})["read_only_root"]


def test_mounts_are_completed_and_paths_made_plain() -> None:
    order = orders.container(
        {**LEAST, "mounts": [{"target": "//data/./x/", "source": "/a/../b"}, {"target": "/t", "tmpfs": {}}]}
    )
    assert order["mounts"] == [
        {
            "target": "/data/x",
            "read_only": False,
            "propagation": "none",
            "recursive": True,
            "source": "/b",
            "sub_path": "",
        },
        {
            "target": "/t",
            "read_only": False,
            "propagation": "none",
            "recursive": True,
            "tmpfs": {"mode": 0o1777, "size_bytes": 0},
        },
    ]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"pod": ""}, "pod must be a non-empty string"),
        ({"argv": "true"}, "argv must be a list"),
        ({"argv": [""]}, r"argv\[0\] is empty"),
        ({"argv": ["a\0b"]}, "argv must be a list"),
        ({"env": {"A=B": "x"}}, "env 'A=B' is no variable"),
        ({"env": {"A": 1}}, "env 'A' is no variable"),
        ({"env": ["x"]}, "env must be an object"),
        ({"cwd": "here"}, "cwd must be an absolute path"),
        ({"root": "relative"}, "root must be an absolute path"),
        ({"uid": -1}, "uid must be a number of at least 0"),
        ({"uid": True}, "uid must be a number"),
        ({"uid": 1.5}, "uid must be a whole number"),
        ({"attempt": "1"}, "attempt must be a number"),
        ({"log": None}, "log must be an object"),
        ({"log": {"path": "/l", "max_files": 0}}, "max_files must be a number of at least 1"),
        ({"limits": {"memory_bytes": "1Gi"}}, "memory_bytes must be a number"),
        ({"masks": ["x"]}, "masks must be an absolute path"),
        ({"mounts": [{"target": "/", "tmpfs": {}}]}, "nothing can be mounted on /"),
        ({"mounts": [{"target": "/a/..", "tmpfs": {}}]}, "nothing can be mounted on /"),
        ({"mounts": [{"target": "/x"}]}, "must have either a source or a tmpfs"),
        ({"mounts": [{"target": "/x", "tmpfs": {}, "source": "/y"}]}, "must have either a source or a tmpfs"),
        (
            {"mounts": [{"target": "/x", "source": "/y", "propagation": "Bidirectional"}]},
            "propagation 'Bidirectional' of /x is not supported",
        ),
        ({"mounts": ["x"]}, "mounts must be a list of objects"),
        ({"etc_hosts": 1}, "etc_hosts must be text"),
        ({"oom_score_adj": "high"}, "oom_score_adj must be a number"),
    ],
)
def test_what_cannot_be_right_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Refusal, match=sentence) as refused:
        orders.container({**LEAST, **change})
    assert refused.value.code in ("Invalid", "Unsupported")
