"""JSON that somebody else wrote, read without its ambiguities, and the one thing no published key may carry.

``json.loads`` silently takes the last of two members of one name, reads NaN and Infinity, and keeps half a
surrogate pair that nothing can encode again; what another program understood may then differ from what is read here.
"""

from __future__ import annotations

__all__ = ["parse_json", "private_members"]

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})
"""RFC 7518 sections 6.2.2, 6.3.2 and 6.4.1; ``priv`` of the kind AKP, which ML-DSA keys have."""


def private_members(jwk: Mapping[str, Any]) -> tuple[str, ...]:
    """The members of a JWK that must never be published, sorted."""
    return tuple(sorted(_PRIVATE_MEMBERS.intersection(jwk)))


def parse_json(data: bytes) -> Any:
    """JSON without its ambiguities: no member twice, no NaN, no infinity, no lone surrogate, UTF-8 only.

    Raises:
        ValueError: with a message that quotes at most the name of a member.
    """
    try:
        text = data.decode("utf-8")
        value = _DECODER.decode(text)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at position {error.pos}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if "\\u" in text and not _encodable(value):
        raise ValueError("half a surrogate pair")
    return value


def _encodable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the member {twice[:64]!r} twice")
    return result


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number out of range")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"the constant {name}")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant)
