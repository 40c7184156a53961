"""What is rendered here is what the clients' entry points read."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.data.client import ClientTools
from headrace.data.runtime.order import order_for_volume
from headrace.fuse.clients.contract import read_contract
from headrace.spec.kind import Json

PROFILE: Json = {
    "metadata": {"name": "juicefs"},
    "spec": {
        "fileSystemType": "juicefs",
        "fuse": {"image": "host", "command": ["x"], "options": {"cache-size": "100"}},
    },
}


@pytest.mark.parametrize("read_only", [True, False])
def test_an_order_is_understood(tmp_path: Path, read_only: bool) -> None:
    order = order_for_volume(
        "digits",
        {"profile": "juicefs", "mountPoint": "juicefs://digits", "option.subdir": "/train"},
        PROFILE,
        secrets={"metaurl": b"redis://meta\n"},
        mount_options=("noatime", "open-cache=5"),
        read_only=read_only,
        tools=ClientTools(),
    )
    places = {}
    for name, content in order.files.items():
        place = tmp_path / name.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.replace(b"/etc/fluid/secrets", str(tmp_path / "etc/fluid/secrets").encode()))
        places[name] = str(place)
    contract = read_contract(
        config_file=places["/etc/fluid/config/config.json"],
        secrets_directory=str(tmp_path / "etc/fluid/secrets"),
        environment=order.env,
    )
    assert contract.target_path == order.target_path
    assert contract.read_only is read_only
    mount = contract.only("JuiceFS")
    assert mount.point == "juicefs://digits"
    assert mount.options == {
        "cache-size": "100",
        "open-cache": "5",
        "subdir": "/train",
        "metaurl": "redis://meta",
    }
