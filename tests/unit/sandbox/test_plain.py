"""Without namespaces: paths that lead elsewhere, and what a plain process cannot have."""

import json
from pathlib import Path

import pytest

from headrace.sandbox import orders, plain
from headrace.sandbox.wire import Refusal

RELOCATED = {"/data": "/v/1", "/data/deep": "/v/2", "/o.t": "/v/3"}


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("/data", "/v/1"),
        ("/data/x", "/v/1/x"),
        ("/data/", "/v/1/"),
        ("/data/deep/x", "/v/2/x"),
        ("/data/deeper", "/v/1/deeper"),
        ("--data=/data/x", "--data=/v/1/x"),
        ("/data:/o.t:/usr", "/v/1:/v/3:/usr"),
        ("cat '/data/a b' \"/data\"; ls /data;", "cat '/v/1/a b' \"/v/1\"; ls /v/1;"),
        ("/database", "/database"),
        ("/mnt/data", "/mnt/data"),
        ("/oxt", "/oxt"),
        ("data", "data"),
        ("", ""),
    ],
)
def test_paths_are_led_to_where_the_mount_is(text: str, there: str) -> None:
    assert plain.relocate(text, RELOCATED) == there


def test_nothing_is_led_anywhere_without_mounts() -> None:
    assert plain.relocate("/data", {}) == "/data"


def test_an_order_is_settled(tmp_path: Path) -> None:
    order = orders.container(
        {
            "pod": "p",
            "container": "c",
            "argv": ["cat", "/data/file", "/memory/x"],
            "env": {"WHERE": "/data", "PATH": "/bin"},
            "cwd": "/data",
            "log": {"path": "/l"},
            "mounts": [{"target": "/data", "source": "/v", "sub_path": "ds"}, {"target": "/memory", "tmpfs": {}}],
            "termination_message_path": "/dev/termination-log",
        }
    )
    scratch = tmp_path / "scratch"
    settled = plain.settle(order, str(scratch))
    assert settled["relocated"] == {
        "/data": "/v/ds",
        "/memory": f"{scratch}/1",
        "/dev/termination-log": f"{scratch}/termination-message",
    }
    assert settled["argv"] == ["cat", "/v/ds/file", f"{scratch}/1/x"]
    assert json.loads(settled["env"].pop("HEADRACE_RELOCATED")) == settled["relocated"]
    assert (settled["env"], settled["cwd"]) == ({"WHERE": "/v/ds", "PATH": "/bin"}, "/v/ds")
    assert settled["termination_message_path"] == f"{scratch}/termination-message"
    assert sorted(path.name for path in scratch.iterdir()) == ["1", "termination-message"]
    plain.forget(str(scratch))
    assert not scratch.exists()
    with pytest.raises(Refusal, match="needs user namespaces"):
        plain.settle({**order, "root": "/image"}, str(scratch))
