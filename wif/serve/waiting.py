"""How many requests may wait for one identity's first credential: a client that asks without end takes no more."""

from __future__ import annotations

__all__ = ["PLACES", "WaitingRoom"]

from types import TracebackType

PLACES = 64
"""For each identity. Who comes later is not kept waiting: it gets what is there, or is told to come again."""


class WaitingRoom:
    """Counts those who wait for one identity. ::

        with room:
            credentials = await exchanger.acredentials(timeout=room.seconds(1.5))

    With a timeout of 0 an exchanger still hands out what is valid, so a full room turns nobody away who need not wait.
    """

    __slots__ = ("_places", "_taken")

    def __init__(self, places: int = PLACES) -> None:
        self._places = places
        self._taken = 0

    @property
    def taken(self) -> int:
        """Who is in it now."""
        return self._taken

    def seconds(self, wanted: float) -> float:
        """How long who is in the room may wait: as long as is wanted, or not at all where it is overfull."""
        return wanted if self._taken <= self._places else 0.0

    def __enter__(self) -> None:
        self._taken += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._taken -= 1
