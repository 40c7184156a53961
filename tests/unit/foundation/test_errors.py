"""The tree of errors: stable codes, one sentence, causes by path."""

from __future__ import annotations

import pytest

from headrace import errors


def _tree(root: type[errors.HeadraceError]) -> list[type[errors.HeadraceError]]:
    return [root, *(error for child in root.__subclasses__() for error in _tree(child))]


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (errors.InvalidSpec, "Invalid", 422),
        (errors.NotFound, "NotFound", 404),
        (errors.Conflict, "Conflict", 409),
        (errors.AlreadyExists, "AlreadyExists", 409),
        (errors.Denied, "Forbidden", 403),
        (errors.QuotaExceeded, "QuotaExceeded", 403),
        (errors.Unavailable, "ServiceUnavailable", 503),
        (errors.Expired, "Expired", 410),
        (errors.Unsupported, "Unsupported", 501),
        (errors.EngineFailed, "InternalError", 500),
    ],
)
def test_codes_are_stable(error: type[errors.HeadraceError], code: str, status: int) -> None:
    raised = error("What happened.", hint="Try this.")
    assert (raised.code, raised.http_status) == (code, status)
    assert str(raised) == "What happened. Try this."


def test_every_error_has_a_code_of_its_own_and_a_docstring() -> None:
    tree = [error for error in _tree(errors.HeadraceError) if error.__module__ == "headrace.errors"]
    assert len({error.code for error in tree}) == len(tree)
    assert all(error.__doc__ for error in tree)


def test_a_code_can_be_narrowed_for_one_error_only() -> None:
    assert errors.Denied("No.", code="Unauthorized").code == "Unauthorized"
    assert errors.Denied("No.").code == "Forbidden"


def test_details() -> None:
    assert errors.InvalidSpec("Bad.", causes=(("spec.workers", "must be 1 or more"),)).causes[0][0] == "spec.workers"
    assert errors.Unavailable("Later.", retry_after_s=2).retry_after_s == 2
