"""A subject token that a command prints, kept in a file as the kubelet keeps a projected one.

For machines where no kubelet is: a laptop asks its cluster (``wif token request``), a CI job its runner.
"""

from __future__ import annotations

__all__ = ["TokenCommand"]

import asyncio
import functools
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from wif.core.freshness import LIMITS, MAX_SUBJECT_TOKEN_BYTES
from wif.core.token import read_token
from wif.edges.files import write_atomically
from wif.errors import ConfigurationError, TokenError, WifError
from wif.exchange.clocks import SYSTEM, Clocks
from wif.serve.commands import CommandFailed, run_command
from wif.serve.threads import NoThread, in_thread

if TYPE_CHECKING:
    from wif.config.sidecar import SidecarSettings

_LOGGER = logging.getLogger("wif.serve")

COMMAND_SECONDS = 30.0
"""For one token."""
_SHORTEST_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
"""Between two tries while the command fails."""
_LONGEST_SLEEP_SECONDS = 5.0
"""After which the clocks are looked at anew: in a suspend of the machine the event loop's stands still."""
_SLACK_BYTES = 1024
"""White space around a token of the largest size."""


class TokenCommand:
    """Runs the command and writes what it prints; a part of the sidecar's service.

    Args:
        command: the program with its arguments, run without a shell.
        path: of the file, which exchangers read.
        environ: of the command.
        longest_sleep_seconds: after which it looks at the clocks again, whatever it was waiting for.
    """

    def __init__(
        self,
        command: Sequence[str],
        path: str,
        *,
        environ: Mapping[str, str],
        clocks: Clocks = SYSTEM,
        longest_sleep_seconds: float = _LONGEST_SLEEP_SECONDS,
    ) -> None:
        self._command = tuple(command)
        self._path = path
        self._environ = environ
        self._clocks = clocks
        self._longest_sleep = longest_sleep_seconds
        self._task: asyncio.Task[None] | None = None
        self._expires_at = 0.0
        self._problem: str | None = None

    async def renew(self) -> None:
        """Get one token and write it.

        Raises:
            TokenError: token-source-failed, or what is wrong with the token.
        """
        program = self._command[0]
        try:
            status, printed = await run_command(
                self._command,
                environ=self._environ,
                limit_bytes=MAX_SUBJECT_TOKEN_BYTES + _SLACK_BYTES,
                timeout_seconds=COMMAND_SECONDS,
            )
        except CommandFailed as error:
            raise TokenError(f"the token command {program!r} {error}", code="token-source-failed") from error
        if status != 0:
            raise TokenError(f"the token command {program!r} ended with status {status}", code="token-source-failed")
        token = read_token(printed, origin=f"token command {program}", now=self._clocks.wall())
        try:
            await in_thread(functools.partial(write_atomically, self._path, token.raw.encode("ascii")))
        except NoThread as error:
            raise TokenError(f"the token of {program!r} is not written: {error}", code="token-source-failed") from error
        self._expires_at = token.expires_at

    def start(self) -> None:
        """Begin to renew it ahead of its end, on the running event loop; once."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep())
            self._task.add_done_callback(_say_ended)

    def check(self, settings: SidecarSettings) -> Sequence[ConfigurationError]:  # noqa: ARG002 - a part's
        """Nothing of it is in the settings."""
        return ()

    def replace(self, settings: SidecarSettings) -> None:
        """Nothing of it is in the settings."""

    def problems(self) -> Sequence[str]:
        """Why there is no token, once the last one has expired, or why there will be none."""
        if self._task is not None and self._task.done():
            return ["the subject token is not renewed any more"]
        is_over = self._problem is not None and self._clocks.wall() >= self._expires_at
        return [f"no subject token: {self._problem}"] if is_over else []

    async def _keep(self) -> None:
        pause = _SHORTEST_SECONDS
        while True:
            left = self._expires_at - self._clocks.wall()
            await self._sleep(max(_SHORTEST_SECONDS, left * LIMITS.refresh_fraction))
            while True:
                try:
                    await self.renew()
                except WifError as error:
                    self._problem = error.code
                    _LOGGER.warning("no new subject token: %s", error.message)
                    await self._sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
                else:
                    self._problem, pause = None, _SHORTEST_SECONDS
                    break

    async def _sleep(self, seconds: float) -> None:
        """Until so much time has passed by the wall clock or by the steady one, which both go on in a suspend."""
        wall, steady = self._clocks.wall() + seconds, self._clocks.steady() + seconds
        while (left := min(wall - self._clocks.wall(), steady - self._clocks.steady())) > 0:
            await asyncio.sleep(min(left, self._longest_sleep))


def _say_ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _LOGGER.critical("the subject token is not renewed any more: an unexpected %s, a defect", type(error).__name__)
