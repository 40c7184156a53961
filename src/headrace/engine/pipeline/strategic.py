"""Strategic merge patches: merge patches that know which lists are sets and by which key their items are told apart.

Directives: `$patch: replace|delete|merge` in objects and list items, `$deleteFromPrimitiveList/<field>`,
`$setElementOrder/<field>`, `$retainKeys`. Nothing given is changed. Source: apimachinery
`pkg/util/strategicpatch/patch.go`, and the document
https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from headrace.engine.openapi.merge_keys import MergeStrategy, merge_strategy
from headrace.engine.pipeline.refusals import BadRequest
from headrace.spec.kind import Json, Kind

_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_DELETE_FROM = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"
Path = tuple[str, ...]
Strategies = Callable[[Sequence[str]], MergeStrategy]


def strategic_merge(current: Json, patch: Json, kind: Kind[Any]) -> Json:
    """Return what `patch` makes of `current`. Raises BadRequest for a directive that cannot be read."""
    return _Merge(lambda path: merge_strategy(kind, path)).object(current, patch, ())


class _Merge:
    def __init__(self, strategies: Strategies) -> None:
        self._strategies = strategies

    def object(self, current: Json, patch: Json, path: Path) -> Json:
        match patch.get(_DIRECTIVE):
            case "replace":
                return {key: value for key, value in patch.items() if key != _DIRECTIVE}
            case "delete":
                return {}
            case None | "merge":
                pass
            case other:
                raise BadRequest(f"The patch's directive {_DIRECTIVE}: {other!r} is not known.")
        result = self._retained(current, patch)
        fields = [key for key in patch if not key.startswith("$")]
        listed = [key.partition("/")[2] for key in patch if key.startswith((_DELETE_FROM, _ORDER))]
        for field in dict.fromkeys([*fields, *listed]):
            self._field(result, patch, field, (*path, field))
        return result

    def _retained(self, current: Json, patch: Json) -> Json:
        if _RETAIN not in patch:
            return dict(current)
        kept = patch[_RETAIN]
        if not isinstance(kept, list):
            raise BadRequest(f"The patch's {_RETAIN} must be a list of field names.")
        return {key: value for key, value in current.items() if key in kept}

    def _field(self, result: Json, patch: Json, field: str, path: Path) -> None:
        removed, order = patch.get(_DELETE_FROM + field), patch.get(_ORDER + field)
        before = result.get(field)
        if field in patch and patch[field] is None:
            result.pop(field, None)
        elif isinstance(patch.get(field), dict):
            result[field] = self.object(before if isinstance(before, dict) else {}, patch[field], path)
        elif isinstance(patch.get(field), list):
            result[field] = self._list(before, patch[field], path)
        elif field in patch:
            result[field] = patch[field]
        if removed is not None and isinstance(result.get(field), list):
            result[field] = [item for item in result[field] if item not in removed]
        if order is not None and isinstance(result.get(field), list):
            if not isinstance(order, list):
                raise BadRequest(f"The patch's {_ORDER}{field} must be a list.")
            result[field] = self._ordered(result[field], order, before, self._strategies(path).key)

    def _list(self, current: Any, patch: list[Any], path: Path) -> list[Any]:
        strategy = self._strategies(path)
        plain = [item for item in patch if not (isinstance(item, dict) and item.keys() == {_DIRECTIVE})]
        if not strategy.merges or any(item == {_DIRECTIVE: "replace"} for item in patch):
            return [self._without_directives(item) for item in plain]
        before = current if isinstance(current, list) else []
        if not strategy.key:
            added = [item for item in plain if item not in before]
            return self._ordered([*before, *added], plain, before, "")
        merged = self._by_key(before, plain, strategy.key, path)
        kept = [item for item in plain if item.get(_DIRECTIVE) != "delete"]
        return self._ordered(merged, kept, before, strategy.key)

    def _by_key(self, current: list[Any], patch: list[Any], key: str, path: Path) -> list[Any]:
        result = list(current)
        for item in patch:
            if not isinstance(item, dict) or key not in item:
                raise BadRequest(f"An item of {'.'.join(path)} in the patch lacks its key {key}.")
            places = [i for i, old in enumerate(result) if isinstance(old, dict) and old.get(key) == item[key]]
            if item.get(_DIRECTIVE) == "delete":
                result = [old for i, old in enumerate(result) if i not in places]
            elif places:
                result[places[0]] = self.object(result[places[0]], item, path)
            else:
                result.append(self._without_directives(item))
        return result

    def _without_directives(self, value: Any) -> Any:
        if isinstance(value, dict):
            if value.get(_DIRECTIVE) == "delete":
                return {}
            return {k: self._without_directives(inner) for k, inner in value.items() if not k.startswith("$")}
        return [self._without_directives(item) for item in value] if isinstance(value, list) else value

    @staticmethod
    def _ordered(merged: list[Any], wanted: list[Any], before: Any, key: str) -> list[Any]:
        """Order the items that `wanted` names as it does, and the others as they stood, each as far forward as
        its old place allows (strategicpatch `normalizeElementOrder`)."""

        def identity(item: Any) -> Any:
            return item.get(key) if key and isinstance(item, dict) else item

        order = [identity(item) for item in wanted]
        old = [identity(item) for item in before] if isinstance(before, list) else []
        named = sorted((item for item in merged if identity(item) in order), key=lambda i: order.index(identity(i)))
        others = [item for item in merged if identity(item) not in order]
        result: list[Any] = []
        while named and others:
            left, right = identity(others[0]), identity(named[0])
            is_before = left in old and right in old and old.index(left) < old.index(right)
            result.append(others.pop(0) if is_before else named.pop(0))
        return result + others + named
