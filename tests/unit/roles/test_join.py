"""What a joined node keeps of itself, what may change when it is started again, and what it tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.errors import Conflict, InvalidSpec
from headrace.roles import join, joined_file, said
from headrace.roles.join import Wishes
from headrace.roles.joined_file import JoinedNode
from headrace.roles.up import purge
from headrace.settings import Home

NODE = JoinedNode(name="vm", pool="cloud", server="https://10.0.0.1:6443", address="10.0.0.7", port=10250)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path / "nodes" / "vm")
    found.root.mkdir(parents=True)
    joined_file.write(found, NODE)
    return found


def test_started_again_it_is_what_it_was(home: Home) -> None:
    assert join.adjust(home, NODE, Wishes()) == NODE
    assert join.adjust(home, NODE, Wishes(name="vm", pool="cloud", address="10.0.0.7")) == NODE
    changed = join.adjust(home, NODE, Wishes(cpu="2", memory="4Gi"))
    assert (changed.cpu, changed.memory, changed.port) == ("2", "4Gi", 10250)
    assert joined_file.read(home) == changed


@pytest.mark.parametrize(
    ("wishes", "error", "why"),
    [
        (Wishes(pool="own"), Conflict, "has the pool cloud, not own"),
        (Wishes(name="other"), Conflict, "has the name vm, not other"),
        (Wishes(address="10.0.0.8"), InvalidSpec, "--address was agreed when the node joined"),
        (Wishes(persistent_volumes=True), InvalidSpec, "--persistent-volumes was agreed"),
    ],
)
def test_what_the_cluster_agreed_to_needs_an_operator(
    home: Home, wishes: Wishes, error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        join.adjust(home, NODE, wishes)
    assert joined_file.read(home) == NODE


@pytest.mark.parametrize(
    "wishes",
    [Wishes(name="Big_Name"), Wishes(name="x" * 64), Wishes(pool="../x"), Wishes(cpu="many"), Wishes(memory="0")],
)
def test_wishes_that_cannot_be_are_refused_first(wishes: Wishes) -> None:
    with pytest.raises(InvalidSpec):
        join.check(wishes)


def test_the_only_node_of_a_machine_needs_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    assert join.only_home() is None
    for name in ("one", "two"):
        home = join.usual_home(name)
        home.root.mkdir(parents=True)
        joined_file.write(home, NODE)
        found = join.only_home()
        assert (found is not None and found.root == home.root) is (name == "one")


def test_its_kubeconfig_holds_no_secret_and_leads_to_its_certificate() -> None:
    config = joined_file.kubeconfig(NODE, "QQ==", is_insecure=False)
    (user,) = config["users"]
    assert user["name"] == "system:node:vm"
    assert set(user["user"]) == {"client-certificate", "client-key"}
    assert user["user"]["client-key"] == "identity/client.pem"
    assert config["clusters"][0]["cluster"] == {"server": NODE.server, "certificate-authority-data": "QQ=="}


def test_what_is_waited_for_can_be_read_until_it_is_over(tmp_path: Path) -> None:
    file = tmp_path / "run" / "said.json"
    assert said.read(file) == {}
    telling = said.Said(file)
    telling.say("cluster", "It is away.")
    telling.say("endpoint", "Nobody approves.")
    assert said.read(file) == {"cluster": "It is away.", "endpoint": "Nobody approves."}
    telling.say("cluster", "")
    assert said.read(file) == {"endpoint": "Nobody approves."}


def test_purging_the_embedded_engine_leaves_nodes_of_other_clusters_alone(tmp_path: Path) -> None:
    engine = Home(tmp_path / "home")
    (engine.nodes / "vm" / "identity").mkdir(parents=True)
    (engine.root / "control").mkdir()
    (engine.root / "up.json").write_text("{}")
    purge(engine)
    assert [path.name for path in engine.root.iterdir()] == ["nodes"]
    assert (engine.nodes / "vm" / "identity").is_dir()
