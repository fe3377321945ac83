"""One cloud at run time: the requests of its token service, what its answers mean, and its config documents.

Pure: every function takes ``now`` and what it needs as arguments, and network work is a flow
(:mod:`wif.core.flow`). The modules of two clouds never import each other.
"""

from __future__ import annotations

__all__ = ["rows"]

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wif.clouds.answers import Row


def rows() -> tuple[Row, ...]:
    """Every refusal of every cloud that is known here, as data: how it is recognised and its code."""
    from wif.clouds import aws_errors, azure_errors, gcp_errors  # noqa: PLC0415  # only tests and docs list them all

    return (*aws_errors.ROWS, *gcp_errors.ROWS, *azure_errors.ROWS)
