"""The first credential of every identity, or why there is none: for who must not begin without them."""

from __future__ import annotations

__all__ = ["first_credentials", "prepare_files"]

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from wif.errors import ConfigurationError, TransportError, WifError

if TYPE_CHECKING:
    from wif.config.sidecar import SidecarSettings
    from wif.serve.sidecar_identities import AnyServed, Identities

_PAUSE_SECONDS = 0.5
"""Between two questions to an exchanger that has failed: how soon it asks its cloud again is its own business."""


async def first_credentials(identities: Identities, *, wait_seconds: float) -> None:
    """Wait until every identity that is served has a credential.

    Args:
        identities: those of their settings that some interface or file needs.
        wait_seconds: for all of them together. A refusal ends the wait at once, an outage does not.

    Raises:
        WifError: what the cloud said to the first one that was refused, or last before the time was over.
    """
    wanted = [each for name in identities.settings.served if (each := identities.get(name)) is not None]
    ends = asyncio.get_running_loop().time() + wait_seconds
    tasks = [asyncio.ensure_future(_first(each, scope, ends)) for each in wanted for scope in each.scopes]
    if not tasks:
        return
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:  # in the order of the settings
            if task in done:
                task.result()
    finally:
        await _cancelled(tasks)


async def prepare_files(settings: SidecarSettings, *, environ: Mapping[str, str], wait_seconds: float) -> int:
    """Write every file once, as ``wif sidecar serve --init`` does; how many outputs there are.

    Raises:
        ConfigurationError: before anything is asked of a cloud, where a file could not be written.
        WifError: as :func:`first_credentials`.
    """
    from wif.serve.keeper import Keeper  # noqa: PLC0415  # not for the wait alone
    from wif.serve.sidecar_files import SidecarFiles  # noqa: PLC0415  # not for the wait alone
    from wif.serve.sidecar_identities import Identities  # noqa: PLC0415  # not for the wait alone

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


async def _first(served: AnyServed, scope: str | None, ends: float) -> None:
    loop = asyncio.get_running_loop()
    last: WifError | None = None
    while (left := ends - loop.time()) > 0:
        try:
            async with asyncio.timeout(left):
                await served.exchanger.kept(scope)
        except TimeoutError:
            break
        except WifError as error:
            if not error.retryable:
                raise
            last = error
            await asyncio.sleep(max(0.0, min(_PAUSE_SECONDS, ends - loop.time())))
        else:
            return
    raise last or TransportError(
        f"the identity {served.name!r} has no credential yet: its cloud has not answered in time",
        code="timeout",
        hint="look at the network and the cloud's state, or wait longer: --wait",
    )


async def _cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError, WifError):
            await task
