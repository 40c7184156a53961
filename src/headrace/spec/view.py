"""The base of all typed views: frozen, camelCase on the wire, unknown fields ignored on read.

Conventions, so that readers need not look twice: a missing string is `""`, a missing list `()`, a missing map `{}`;
`None` stands only where "not said" differs from the zero value. Times stay RFC 3339 text (see `headrace.clock`).
"""

from __future__ import annotations

from typing import Any

import msgspec

Quantity = str | int | float
"""A Kubernetes quantity as written; `headrace.units.parse_quantity` gives its exact value."""

IntOrString = int | str
"""A port number or a named port; a count or a percentage."""


class View(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of every typed view."""


def without_nulls(value: Any) -> Any:
    """Return JSON without the keys whose value is null: Kubernetes reads those as absent."""
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_nulls(inner) for inner in value]
    return value
