"""Files for programs that only read files: kept, each rewritten before what it holds expires.

A reader sees the old content or the new, never a part. Where no new credential comes in time, the file stays as it
is and this process says so: on the log, in its readiness and in its metrics. Nothing is ever removed: a program that
has lost its file stops in worse ways than one whose credential has expired.
"""

from __future__ import annotations

__all__ = ["SidecarFiles"]

import asyncio
import functools
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from wif.errors import ConfigurationError, TransportError, WifError
from wif.exchange.clocks import SYSTEM, Clocks
from wif.serve.after_refresh import Afterwards
from wif.serve.file_place import Content, FilePlace, require_place
from wif.serve.threads import NoThread, in_thread

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from wif.config.sidecar import FileOutput, SidecarSettings
    from wif.core.freshness import Lifetime
    from wif.serve.keeper import Keeper
    from wif.serve.sidecar_identities import AnyServed, Identities

_LOGGER = logging.getLogger("wif.serve")

LOOK_SECONDS = 2.0
"""How often the subject tokens and the files themselves are looked at; new credentials are written at once."""
_THREADS_HINT = "look at the pod's limit of processes (podPidsLimit), and at who uses them up"
_AWS = "aws-credentials"
_FEDERATED = "federated-token"
_Key = tuple[str, str, str, str, str | None]


class _Output:
    """One output and what is known of it."""

    def __init__(self, settings: FileOutput, place: FilePlace) -> None:
        self.settings = settings
        self.place = place
        """Of the path, which several outputs may share."""
        self.written: Content | None = None
        self.problem: str | None = "pending"
        """Code of what is wrong, None where all is well."""
        self.expired = False
        self.in_place = False
        """Whether the file was as it must be at the last look; a thread may be at the next one."""

    @property
    def holds_valid(self) -> bool:
        """Whether the file was there at the last look, and holds something that is still valid."""
        return self.written is not None and not self.expired and self.in_place


def _key(file: FileOutput) -> _Key:
    """What makes two outputs the same one: where something stands and what it is, not how."""
    return file.path, file.profile, file.identity, file.kind, file.scope


class SidecarFiles:
    """The files of one configuration; a part of the sidecar's service.

    Args:
        identities: whose credentials; their settings name the files.
        keeper: says when there is a new one.
        environ: of the commands that are run after a refresh.
    """

    def __init__(
        self,
        identities: Identities,
        keeper: Keeper,
        *,
        environ: Mapping[str, str],
        clocks: Clocks = SYSTEM,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._identities = identities
        self._clocks = clocks
        self._look_seconds = look_seconds
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.afterwards = Afterwards(environ)
        """What is done after a refresh."""
        self._places: dict[str, FilePlace] = {}
        self._outputs: list[_Output] = []
        self._take(identities.settings.files)
        self._looking = asyncio.Lock()
        """Two looks at once would each take the other's writing for somebody else's."""
        self.writes = 0
        """Times that a file was written."""
        self.failures = 0
        """Times that a file began not to be renewed, or not to be for another reason than before."""
        keeper.on_change(self._changed)

    # -- for the service ---------------------------------------------------------------------------------------

    def check(self, settings: SidecarSettings) -> Sequence[ConfigurationError]:
        """What is wrong with the places of these files, before anything is asked of a cloud.

        Of other settings than those in force only places that are new are looked at: who may write to a directory could
        else keep every change from coming into force. What is wrong with the others is among the problems.

        Returns:
            file-unusable where a directory is not there or may not be written to, config-foreign where a profile that
            somebody else wrote would be lost.
        """
        found: list[ConfigurationError] = []
        kept = () if settings == self._identities.settings else self._places
        for path, files in _by_path(settings.files).items():
            if path in kept:
                continue
            try:
                require_place(path, [file.profile for file in files if file.kind == _AWS])
            except ConfigurationError as error:
                found.append(error)
        return found

    def start(self) -> None:
        """Begin, on the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(_say_ended)

    def replace(self, settings: SidecarSettings) -> None:
        """Keep other files from now on; those that are no longer named stay as they are."""
        before = list(self._places)
        self._take(settings.files)
        for gone in before:
            if gone not in self._places:
                _LOGGER.warning("%s is not kept any more: what it holds will expire", gone)
        self._wake.set()

    def problems(self) -> Sequence[str]:
        """Why a file holds nothing that is valid: numbers and codes, without names."""
        if self._task is not None and self._task.done():
            return ["files are not kept any more"]
        codes = sorted({str(output.problem) for output in self._outputs if not output.holds_valid})
        number = sum(not output.holds_valid for output in self._outputs)
        return [f"{number} of {len(self._outputs)} files hold no valid credential: {', '.join(codes)}"] if codes else []

    def counts(self) -> Mapping[str, int]:
        """For metrics: files by what they hold: ``valid``, ``expired``, or ``nothing``."""
        counted = {"valid": 0, "expired": 0, "nothing": 0}
        for output in self._outputs:
            counted["valid" if output.holds_valid else "expired" if output.expired else "nothing"] += 1
        return counted

    def register_metrics(self, registry: CollectorRegistry) -> None:
        """Have a registry show the files."""
        from wif.serve.file_metrics import FileMetrics  # noqa: PLC0415 - an extra

        registry.register(FileMetrics(self))

    async def write_all(self) -> None:
        """Write every file once, for ``--init``; nothing is signalled or run.

        Raises:
            WifError: why the first of those that hold nothing valid does not.
        """
        failures = await self._look(is_first=True)
        for output in self._outputs:
            if not output.holds_valid:
                file = output.settings
                raise failures.get(output) or TransportError(
                    f"{file.path} holds no valid credential of the identity {file.identity!r} yet",
                    code="timeout",
                    hint="look at the network and the cloud's state, or wait longer: --wait",
                )

    # -- inside ------------------------------------------------------------------------------------------------

    def _changed(self, _: AnyServed) -> None:
        self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            await self._look()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._look_seconds if self._outputs else None):
                    await self._wake.wait()

    def _take(self, files: Sequence[FileOutput]) -> None:
        """Make these the outputs; what is known of those that were there already stays known."""
        paths = dict.fromkeys(file.path for file in files)
        self._places = {path: self._places.get(path) or self._new_place(path) for path in paths}
        before = {_key(output.settings): output for output in self._outputs}
        self._outputs = []
        for file in files:
            output = before.get(_key(file)) or _Output(file, self._places[file.path])
            output.settings = file
            self._outputs.append(output)

    def _new_place(self, path: str) -> FilePlace:
        return FilePlace(path, know=functools.partial(self.afterwards.know, path))

    async def _look(self, *, is_first: bool = False) -> Mapping[_Output, WifError]:
        """Bring every file up to date; what went wrong."""
        failures: dict[_Output, WifError] = {}
        async with self._looking:
            by_path: dict[str, list[_Output]] = {}
            for output in self._outputs:
                by_path.setdefault(output.settings.path, []).append(output)
            for outputs in by_path.values():
                found: dict[_Output, Content | WifError | None] = {
                    output: self._held(output.settings) for output in outputs if output.settings.kind != _FEDERATED
                }
                written: Mapping[_Output, Content] = {}
                try:
                    written = await in_thread(functools.partial(self._sync, outputs, found))
                except NoThread as error:
                    failure = ConfigurationError(
                        f"{outputs[0].settings.path} cannot be looked at: {error}",
                        code="file-unusable",
                        hint=_THREADS_HINT,
                    )
                    found.update({each: failure for each in outputs if not isinstance(found.get(each), WifError)})
                for output in outputs:
                    content = found[output]
                    self._note(output, content, written.get(output))
                    if isinstance(content, WifError):
                        failures[output] = content
                    if output in written and not is_first:
                        self.afterwards.begin(output.settings)
        return failures

    def _held(self, file: FileOutput) -> Content | WifError | None:
        """What the exchanger holds now; it is the keeper who asks the cloud."""
        served = self._identities.get(file.identity)
        if served is None:
            return None
        standing = served.standing(file.scope)
        if standing.value is None:
            return standing.failure
        return _content(standing.value, served.exchanger.lifetime(standing.value))

    def _sync(
        self, outputs: Sequence[_Output], found: dict[_Output, Content | WifError | None]
    ) -> Mapping[_Output, Content]:
        """Have one file be as it should, in a thread; what was written for whom.

        Args:
            outputs: those that share the file.
            found: what the exchangers hold; completed here.
        """
        for output in outputs:
            if output.settings.kind == _FEDERATED:
                found[output] = self._subject_token(output.settings)
        wanted: dict[_Output, Content] = {}
        for output in outputs:
            content = found[output]
            if isinstance(content, Content):
                wanted[output] = content
            elif output.written is not None and not output.expired:  # for the file that somebody has removed
                wanted[output] = output.written
        if not wanted:
            return {}
        place = outputs[0].place
        new = [each for each in wanted if each.written is None or each.written.text != wanted[each].text]
        try:
            is_written = place.settle(
                {output.settings.profile: content for output, content in wanted.items()},
                mode=outputs[0].settings.mode,
                is_new=bool(new),
                secrets=[secret for each in outputs if each.written is not None for secret in each.written.secrets()],
            )
        except ConfigurationError as error:
            found.update(dict.fromkeys(new if place.in_place else wanted, error))
            return {}
        if not is_written:
            return {}
        return {output: wanted[output] for output in new or wanted}

    def _subject_token(self, file: FileOutput) -> Content | WifError | None:
        served = self._identities.get(file.identity)
        if served is None:
            return None
        try:
            token = served.exchanger.subject_token()
        except WifError as error:
            return error
        return Content(token.raw, token.expires_at)

    def _note(self, output: _Output, content: Content | WifError | None, written: Content | None) -> None:
        """Remember, and say what changed."""
        file, fields = output.settings, {"identity": output.settings.identity, "kind": output.settings.kind}
        if isinstance(content, WifError):
            if output.problem != content.code:
                self.failures += 1
                _LOGGER.warning("%s is not renewed: %s", file.path, content.message, extra={"wif": fields})
            output.problem = content.code
        elif isinstance(content, Content):
            output.problem = None
        if written is not None:
            self.writes += 1
            output.written, output.expired = written, False
            _LOGGER.info("%s is written", file.path, extra={"wif": fields})
        output.in_place = output.place.in_place
        if output.problem is None and output.written is not None and not output.in_place:
            output.problem = "displaced"
        held, had_expired = output.written, output.expired
        # looked at anew each time: a clock that was wrong may be right again
        output.expired = held is not None and held.is_over(self._clocks)
        if output.expired:
            output.problem = output.problem or "expired"
            if not had_expired:
                _LOGGER.error("%s holds what has expired, and there is nothing new", file.path, extra={"wif": fields})


def _say_ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _LOGGER.critical("files are not kept any more: an unexpected %s, a defect of wif", type(error).__name__)


def _content(credential: Any, plan: Lifetime) -> Content:
    expires_at = credential.expires_at.timestamp()
    if hasattr(credential, "token"):
        return Content(credential.token, expires_at, plan=plan)
    return Content(f"{credential.access_key_id} {credential.session_token}", expires_at, credential, plan)


def _by_path(files: Iterable[FileOutput]) -> dict[str, list[FileOutput]]:
    """Those that share a file come together."""
    found: dict[str, list[FileOutput]] = {}
    for file in files:
        found.setdefault(file.path, []).append(file)
    return found
