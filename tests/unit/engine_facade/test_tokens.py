"""Static tokens last, service accounts' tokens end, and forged ones are refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from headrace.clock import FakeClock
from headrace.engine import kubeconfig
from headrace.engine.pipeline.request import IssuedToken, User
from headrace.engine.tokens import DEFAULT_AUDIENCE, AccountTokens, StaticTokens
from headrace.errors import Denied, EngineFailed


def test_a_static_token_is_made_once_and_known_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "pki" / "tokens.csv"
    token = StaticTokens(path).ensure("admin", ("system:masters",))
    again = StaticTokens(path)
    assert again.ensure("admin", ("system:masters",)) == token
    found = again.user(token)
    assert found is not None
    assert (found.name, found.groups) == ("admin", ("system:masters", "system:authenticated"))
    assert again.user(token + "x") is None
    assert path.stat().st_mode & 0o777 == 0o600


def test_changed_groups_change_the_token(tmp_path: Path) -> None:
    tokens = StaticTokens(tmp_path / "tokens.csv")
    old = tokens.ensure("u", ("a",))
    new = tokens.ensure("u", ("a", "b"))
    assert tokens.user(old) is None
    assert tokens.user(new) == User("u", ("a", "b", "system:authenticated"), tokens.user(new).uid)  # type: ignore[union-attr]


def test_a_broken_token_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tokens.csv"
    path.write_text("only-a-token\n")
    with pytest.raises(EngineFailed, match=r"Token 1 in .*tokens\.csv"):
        StaticTokens(path)


def issue(tokens: AccountTokens, lifetime_s: int = 3600) -> IssuedToken:
    return tokens.issue(
        namespace="vision",
        service_account="trainer",
        uid="u-1",
        audiences=(),
        lifetime_s=lifetime_s,
        bound_to={"kind": "Pod", "name": "p", "uid": "u-2"},
    )


def test_an_accounts_token_says_whose_it_is(tmp_path: Path) -> None:
    tokens = AccountTokens(tmp_path / "sa.key", FakeClock())
    issued = issue(tokens)
    assert issued.expires == "2026-01-01T01:00:00Z"
    found = AccountTokens(tmp_path / "sa.key", FakeClock()).verify(issued.token)
    assert found.user.name == "system:serviceaccount:vision:trainer"
    assert "system:serviceaccounts:vision" in found.user.groups
    assert found.audiences == (DEFAULT_AUDIENCE,)
    assert found.bound == ("Pod", "p", "u-2")
    assert found.user.extra["authentication.kubernetes.io/pod-name"] == ("p",)


def test_an_accounts_token_ends(tmp_path: Path) -> None:
    clock = FakeClock()
    tokens = AccountTokens(tmp_path / "sa.key", clock)
    token = issue(tokens, lifetime_s=1).token
    clock.advance(599)
    tokens.verify(token)
    clock.advance(2)
    with pytest.raises(Denied, match="expired") as caught:
        tokens.verify(token)
    assert caught.value.code == "Unauthorized"


def test_forged_tokens_are_refused(tmp_path: Path) -> None:
    clock = FakeClock()
    ours = AccountTokens(tmp_path / "sa.key", clock)
    theirs = AccountTokens(tmp_path / "other.key", clock)
    elsewhere = AccountTokens(tmp_path / "sa.key", clock, issuer="https://elsewhere")
    unsigned = jwt.encode(
        {"alg": "ES256"}, {"sub": "system:serviceaccount:vision:trainer"}, ECKey.generate_key("P-256")
    )
    head, body, signature = issue(ours).token.split(".")
    for token in (
        issue(theirs).token,
        issue(elsewhere).token,
        unsigned,
        f"{head}.{body}.",
        f"{head}.{body[:-4]}AAAA.{signature}",
        "no.such.token",
        "",
    ):
        with pytest.raises(Denied):
            ours.verify(token)


def test_a_kubeconfig_is_private_and_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "kubeconfig"
    kubeconfig.write(path, server="https://127.0.0.1:6443", authority="PEM", token="t0k", user="admin")
    assert path.stat().st_mode & 0o777 == 0o600
    content = msgspec.yaml.decode(path.read_bytes())
    assert content["clusters"][0]["cluster"] == {
        "server": "https://127.0.0.1:6443",
        "certificate-authority-data": "UEVN",
    }
    assert content["users"] == [{"name": "admin", "user": {"token": "t0k"}}]
    assert content["current-context"] == content["contexts"][0]["name"]
