"""Files for programs that only read files: kept, each rewritten before what it holds expires.

A reader sees the old content or the new, never a part. Where no new credential comes in time, the file stays as it
is and this process says so: on the log, in its readiness and in its metrics. Nothing is ever removed: a program that
has lost its file stops in worse ways than one whose credential has expired.
"""

from __future__ import annotations

__all__ = ["SidecarFiles"]

import asyncio
import logging
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from wif.clouds.aws_credentials_file import foreign_profiles, secrets_in, with_profiles
from wif.edges.files import NotRegular, read_bounded, replace_file
from wif.errors import ConfigurationError, WifError
from wif.exchange.clocks import SYSTEM, Clocks
from wif.serve.after_refresh import Afterwards

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from wif.config.sidecar import FileOutput, SidecarSettings
    from wif.core.credentials import AwsCredentials
    from wif.serve.keeper import Keeper
    from wif.serve.sidecar_identities import AnyServed, Identities

_LOGGER = logging.getLogger("wif.serve")

LOOK_SECONDS = 2.0
"""How often the subject tokens and the files themselves are looked at; new credentials are written at once."""
MAX_SHARED_BYTES = 1024 * 1024
"""Of a credentials file that others write as well."""
_AWS = "aws-credentials"
_FEDERATED = "federated-token"
_HINT = "mount a memory-backed emptyDir there, and have its group be this process' (fsGroup)"


class _Content(NamedTuple):
    """What belongs into a file now."""

    text: str
    """A token; for AWS' shared credentials what tells two credentials apart. A secret."""
    expires_at: float
    """Unix seconds."""
    keys: AwsCredentials | None = None

    def secrets(self) -> tuple[str, ...]:
        """What no log may show."""
        return (self.text,) if self.keys is None else (self.keys.secret_access_key, self.keys.session_token)


class _Output:
    """One output and what is known of it."""

    def __init__(self, settings: FileOutput) -> None:
        self.settings = settings
        self.written: _Content | None = None
        self.problem: str | None = "pending"
        """Code of what is wrong, None where all is well."""
        self.expired = False

    @property
    def holds_valid(self) -> bool:
        """Whether the file holds something that is still valid."""
        return self.written is not None and not self.expired


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
        self._outputs = [_Output(file) for file in identities.settings.files]
        self.writes = 0
        """Times that a file was written."""
        self.failures = 0
        """Times that one could not be written, or its credential could not be had."""
        keeper.on_change(self._changed)

    # -- for the service ---------------------------------------------------------------------------------------

    def check(self, settings: SidecarSettings) -> Sequence[ConfigurationError]:
        """What is wrong with the places of these files, before anything is asked of a cloud.

        Returns:
            file-unusable where a directory is not there or may not be written to, config-foreign where a profile that
            somebody else wrote would be lost.
        """
        found: list[ConfigurationError] = []
        for path, files in _by_path(settings.files).items():
            try:
                _check_place(path, files)
            except ConfigurationError as error:
                found.append(error)
        return found

    def start(self) -> None:
        """Begin, on the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(_say_ended)

    def replace(self, settings: SidecarSettings) -> None:
        """Keep other files from now on; those that are no longer named stay as they are."""
        before = {output.settings: output for output in self._outputs}
        self._outputs = [before.pop(file) if file in before else _Output(file) for file in settings.files]
        for gone in before:
            _LOGGER.warning("%s is not kept any more: what it holds will expire", gone.path)
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
            counted["valid" if output.holds_valid else "nothing" if output.written is None else "expired"] += 1
        return counted

    def register_metrics(self, registry: CollectorRegistry) -> None:
        """Have a registry show the files."""
        from wif.serve.file_metrics import FileMetrics  # noqa: PLC0415 - an extra

        registry.register(FileMetrics(self))

    async def write_all(self) -> None:
        """Write every file once, for ``--init``; nothing is signalled or run.

        Raises:
            WifError: why the first of those that failed holds nothing.
        """
        failures = await self._look(is_first=True)
        if failures:
            raise failures[0]

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

    async def _look(self, *, is_first: bool = False) -> list[WifError]:
        """Bring every file up to date; what went wrong."""
        failures: list[WifError] = []
        kept = {output.settings: output for output in self._outputs}
        for path, files in _by_path(kept).items():
            outputs = [kept[file] for file in files]
            contents: dict[int, _Content | WifError | None] = {}
            for output in outputs:
                if output.settings.kind != _FEDERATED:
                    contents[id(output)] = self._held(output.settings)
            changed = await asyncio.to_thread(self._sync, path, outputs, contents)
            for output in outputs:
                content = contents[id(output)]
                self._note(output, content, written=output in changed)
                if isinstance(content, WifError):
                    failures.append(content)
                elif output in changed and not is_first and isinstance(content, _Content):
                    self.afterwards.begin(output.settings)
        return failures

    def _held(self, file: FileOutput) -> _Content | WifError | None:
        """What the exchanger holds now; it is the keeper who asks the cloud."""
        served = self._identities.get(file.identity)
        if served is None:
            return None
        standing = served.standing(file.scope)
        if standing.value is None:
            return standing.failure
        return _content(standing.value)

    def _sync(self, path: str, outputs: Sequence[_Output], contents: dict[int, Any]) -> list[_Output]:
        """Write one file where it is not as it should be, in a thread; those whose part of it changed."""
        for output in outputs:
            if output.settings.kind == _FEDERATED:
                contents[id(output)] = self._subject_token(output.settings)
        right = {id(output): content for output in outputs if isinstance(content := contents[id(output)], _Content)}
        if not right:
            return []
        there = _is_file(path)
        changed = [
            output
            for output in outputs
            if id(output) in right
            and (not there or output.written is None or output.written.text != right[id(output)].text)
        ]
        if not changed:
            return []
        held = [each for output in outputs for each in (right.get(id(output)), output.written) if each is not None]
        secrets = [secret for each in held for secret in each.secrets()]
        try:
            there_already = secrets_in(_shared_text(path)) if outputs[0].settings.kind == _AWS else ()
            self.afterwards.know(path, (*secrets, *there_already))  # before a command can read them
            _write(path, outputs, right)
        except WifError as error:
            failure = error
        except OSError as error:
            failure = ConfigurationError(
                f"{path} cannot be written: {error.strerror}", code="file-unusable", hint=_HINT
            )
        else:
            return changed
        for output in changed:
            contents[id(output)] = failure
        return []

    def _subject_token(self, file: FileOutput) -> _Content | WifError | None:
        served = self._identities.get(file.identity)
        if served is None:
            return None
        try:
            token = served.exchanger.subject_token()
        except WifError as error:
            return error
        return _Content(token.raw, token.expires_at)

    def _note(self, output: _Output, content: _Content | WifError | None, *, written: bool) -> None:
        """Remember, and say what changed."""
        file, fields = output.settings, {"identity": output.settings.identity, "kind": output.settings.kind}
        if isinstance(content, WifError):
            if output.problem != content.code:
                self.failures += 1
                _LOGGER.warning("%s is not renewed: %s", file.path, content.message, extra={"wif": fields})
            output.problem = content.code
        elif isinstance(content, _Content):
            output.problem = None
        if written and isinstance(content, _Content):
            self.writes += 1
            output.written, output.expired = content, False
            _LOGGER.info("%s is written", file.path, extra={"wif": fields})
        held, had_expired = output.written, output.expired
        # looked at anew each time: a clock that was wrong may be right again
        output.expired = held is not None and self._clocks.wall() >= held.expires_at
        if output.expired:
            output.problem = output.problem or "expired"
            if not had_expired:
                _LOGGER.error("%s holds what has expired, and there is nothing new", file.path, extra={"wif": fields})


def _say_ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _LOGGER.critical("files are not kept any more: an unexpected %s, a defect of wif", type(error).__name__)


def _content(credential: Any) -> _Content:
    expires_at = credential.expires_at.timestamp()
    if hasattr(credential, "token"):
        return _Content(credential.token, expires_at)
    return _Content(f"{credential.access_key_id} {credential.session_token}", expires_at, credential)


def _write(path: str, outputs: Sequence[_Output], right: Mapping[int, _Content]) -> None:
    file = outputs[0].settings
    if file.kind == _AWS:
        profiles = {
            output.settings.profile: keys
            for output in outputs
            if (content := right.get(id(output))) is not None and (keys := content.keys) is not None
        }
        data = with_profiles(_shared_text(path), profiles).encode()
    else:  # no newline at the end: most readers send the file as it is
        data = right[id(outputs[0])].text.encode("ascii")
    replace_file(path, data, mode=file.mode)


def _by_path(files: Iterable[FileOutput]) -> dict[str, list[FileOutput]]:
    """Those that share a file come together."""
    found: dict[str, list[FileOutput]] = {}
    for file in files:
        found.setdefault(file.path, []).append(file)
    return found


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _shared_text(path: str) -> str:
    """What a credentials file says now; empty where there is none.

    Raises:
        ConfigurationError: file-unusable.
    """
    try:
        data = read_bounded(path, MAX_SHARED_BYTES)
    except FileNotFoundError:
        return ""
    except NotRegular as error:
        raise ConfigurationError(f"{path} is no regular file", code="file-unusable") from error
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}", code="file-unusable") from error
    if len(data) > MAX_SHARED_BYTES:
        raise ConfigurationError(f"{path} is larger than {MAX_SHARED_BYTES} bytes", code="file-unusable")
    try:
        return data.decode()
    except UnicodeDecodeError:  # not chained: its text would show bytes of the file
        raise ConfigurationError(f"{path} is no text in UTF-8", code="file-unusable") from None


def _check_place(path: str, files: Sequence[FileOutput]) -> None:
    directory = os.path.dirname(path)  # noqa: PTH120  # no pathlib in a small process
    if not os.path.isdir(directory):  # noqa: PTH112
        what = "is not there or is no directory"
    elif not os.access(directory, os.W_OK | os.X_OK):
        what = "may not be written to by this user"
    elif os.path.isdir(path):  # noqa: PTH112
        raise ConfigurationError(f"{path} is a directory, expected a file or nothing", code="file-unusable")
    else:
        foreign = (
            foreign_profiles(_shared_text(path), [file.profile for file in files]) if files[0].kind == _AWS else ()
        )
        if foreign:
            raise ConfigurationError(
                f"{path} already has a profile {foreign[0]!r} that this program did not write",
                code="config-foreign",
                hint="choose another profile or another file: those keys would be lost",
            )
        return
    raise ConfigurationError(f"the directory of {path} {what}", code="file-unusable", hint=_HINT)
