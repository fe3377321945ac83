"""The same call for several places at once: a slow place does not hold up the others, a broken one stops none."""

from __future__ import annotations

__all__ = ["each"]

from collections.abc import Callable, Sequence
from typing import TypeVar

from wif.errors import WifError

T = TypeVar("T")
R = TypeVar("R")

MAX_THREADS = 8


def each(call: Callable[[T], R], items: Sequence[T]) -> list[R | WifError]:
    """The results in the order of the items; a :class:`~wif.errors.WifError` in place of a result that failed."""

    def one(item: T) -> R | WifError:
        try:
            return call(item)
        except WifError as error:
            return error

    if len(items) < 2:
        return [one(item) for item in items]
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  # most runs have one target

    with ThreadPoolExecutor(max_workers=min(MAX_THREADS, len(items)), thread_name_prefix="wif-issuer") as pool:
        return list(pool.map(one, items))
