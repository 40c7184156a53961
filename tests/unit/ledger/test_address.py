"""Which addresses a ledger takes; what it refuses shows no password."""

from __future__ import annotations

import sys

import pytest

from headrace.errors import InvalidSpec
from headrace.ledger.store import Ledger


@pytest.mark.parametrize("url", ["", "ledger.db", "sqlite://", "sqlite:///:memory:", "mysql://ann:hush@db/headrace"])
def test_other_addresses_are_refused_with_an_example(url: str) -> None:
    with pytest.raises(InvalidSpec, match=r"postgresql://headrace:PASSWORD@host") as caught:
        Ledger(url)
    assert "hush" not in str(caught.value)


def test_a_missing_driver_is_said_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InvalidSpec, match=r"pip install 'headrace\[postgresql\]'"):
        Ledger("postgresql://ann@db/headrace")
