"""Addresses instead of names where pods have no hosts file of their own."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from headrace.node.addressing import read_hosts, with_addresses

pytestmark = pytest.mark.anyio
HOSTS = "127.0.0.1 localhost\n127.64.0.2\ta-0.gang a-0.gang.ns  # leader\n\n127.64.0.3 a-1.gang\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_the_first_line_with_a_name_counts() -> None:
    assert read_hosts(HOSTS + "9.9.9.9 a-0.gang\n")["a-0.gang"] == "127.64.0.2"


async def test_names_of_the_subdomain_become_addresses_and_nothing_else(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(HOSTS)
    variables = {"MASTER_ADDR": "a-0.gang", "URL": "http://a-0.gang/x", "OTHER": "a.example", "PORT": "1"}
    found = await with_addresses(variables, "gang", hosts)
    assert found == {**variables, "MASTER_ADDR": "127.64.0.2"}


async def test_a_name_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n")
    found: dict[str, str] = {}

    async def ask() -> None:
        found.update(await with_addresses({"MASTER_ADDR": "a-0.gang"}, "gang", hosts))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        hosts.write_text(HOSTS)
    assert found == {"MASTER_ADDR": "127.64.0.2"}
