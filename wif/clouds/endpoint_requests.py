"""What a client of a local credential endpoint sent: its query and its headers, read strictly."""

from __future__ import annotations

__all__ = ["Headers", "header_values", "parameters", "seconds_left"]

from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from urllib.parse import parse_qsl

from wif.core.credentials import AccessToken
from wif.errors import ConfigurationError

Headers = Iterable[tuple[bytes, bytes]]
"""As ASGI has them: names in lower case."""

_MAX_PARAMETERS = 16
"""The most that a known client sends is four."""


@lru_cache(maxsize=64)  # clients ask for the same few things always; a query holds no secret
def parameters(query: bytes) -> Mapping[str, str]:
    """A query's parameters, each of which may stand there once: of two, every reader would take another one.

    Raises:
        ConfigurationError: parameter-invalid; the message shows no value.
    """
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS
        )
    except ValueError as error:
        raise ConfigurationError("the query cannot be read", code="parameter-invalid", hint="") from error
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ConfigurationError("the query names a parameter twice", code="parameter-invalid", hint="")
    return MappingProxyType(found)


def header_values(headers: Headers, name: bytes) -> tuple[bytes, ...]:
    """All values of a header, without white space around them."""
    return tuple(value.strip() for each, value in headers if each == name)


def seconds_left(credential: AccessToken, now: float) -> int:
    """Whole seconds that a token has left: never more than it ever had, should the clock have been set back."""
    left = min(credential.expires_at.timestamp() - now, credential.lifetime_seconds)
    return max(0, int(left))
