"""Microsoft Entra's refusals: how each is recognised and what it means here."""

from __future__ import annotations

__all__ = ["ROWS"]

from wif.clouds.answers import Row

ROWS: tuple[Row, ...] = ()
"""The first row that fits wins."""
