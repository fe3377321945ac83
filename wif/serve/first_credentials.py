"""The first credential of every identity, or why there is none: for who must not begin without them."""

from __future__ import annotations

__all__ = ["first_credentials", "prepare_files"]

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from wif.errors import ConfigurationError, TransportError, WifError

if TYPE_CHECKING:
    from wif.config.sidecar import SidecarSettings
    from wif.serve.sidecar_identities import AnyServed, Identities

_LOGGER = logging.getLogger("wif.serve")

_PAUSE_SECONDS = 0.5
"""Between two questions to an exchanger that has failed: how soon it asks its cloud again is its own business."""


async def first_credentials(identities: Identities, *, wait_seconds: float) -> None:
    """Wait until every identity that is served has a credential.

    Args:
        identities: those of their settings that some interface or file needs.
        wait_seconds: for all of them together. A refusal ends the wait at once, an outage does not; 0 asks each once
            and takes what comes of that.

    Raises:
        WifError: what the cloud said to the first one that was refused, or last before the time was over.
    """
    wanted = [each for name in identities.settings.served if (each := identities.get(name)) is not None]
    ends = asyncio.get_running_loop().time() + wait_seconds if wait_seconds else None
    tasks = [asyncio.ensure_future(_first(each, scope, ends)) for each in wanted for scope in each.scopes]
    if not tasks:
        return
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:  # in the order of the settings
            if task in done:
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def prepare_files(settings: SidecarSettings, *, environ: Mapping[str, str], wait_seconds: float) -> int:
    """Write every file once, as ``wif sidecar serve --init`` does; how many outputs there are.

    Raises:
        ConfigurationError: before anything is asked of a cloud, where a file could not be written.
        WifError: as :func:`first_credentials`.
    """
    from wif.serve.keeper import Keeper  # noqa: PLC0415  # not for the wait alone
    from wif.serve.sidecar_files import SidecarFiles  # noqa: PLC0415  # not for the wait alone
    from wif.serve.sidecar_identities import Identities  # noqa: PLC0415  # not for the wait alone

    if not settings.files:
        _LOGGER.warning("the settings name no files: nothing is written, and credentials end with this process")
    identities = Identities(settings, environ=environ)
    try:
        files = SidecarFiles(identities, Keeper(identities), environ=environ)
        wrong = files.check(settings)
        if wrong:
            raise ConfigurationError.of_all(wrong)
        await first_credentials(identities, wait_seconds=wait_seconds)
        await files.write_all()
    finally:
        identities.close()
    return len(settings.files)


async def _first(served: AnyServed, scope: str | None, ends: float | None) -> None:
    """Ask until there is an answer that is no outage, or until it is over; None asks once."""
    loop = asyncio.get_running_loop()
    last: WifError | None = None
    while last is None or (ends is not None and loop.time() < ends):
        try:
            async with asyncio.timeout_at(ends):
                await served.exchanger.kept(scope)
        except TimeoutError:
            break
        except WifError as error:
            if not error.retryable:
                raise
            last = error
            if ends is not None:
                await asyncio.sleep(max(0.0, min(_PAUSE_SECONDS, ends - loop.time())))
        else:
            return
    raise served.standing(scope).failure or last or _silence(served)


def _silence(served: AnyServed) -> WifError:
    """The first exchange is still going on: what is known of it."""
    requests = served.exchanger.statistics.requests
    what = (
        f"{requests} requests to its cloud have brought none in time"
        if requests > 1
        else "its cloud has not answered in time"
    )
    return TransportError(
        f"the identity {served.name!r} has no credential yet: {what}",
        code="timeout",
        hint="look at the network and the cloud's state, or wait longer: --wait",
    )
