"""Both databases that a ledger can be kept in, one after the other, for every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.postgres import Postgres, postgres

from headrace.ledger.database import file_url
from headrace.ledger.store import Ledger


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield file_url(tmp_path / "ledger" / "ledger.db")
        return
    server: Postgres = request.getfixturevalue("server")
    with server.database() as database:
        yield database


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    opened = Ledger(url)
    try:
        yield opened
    finally:
        opened.close()
