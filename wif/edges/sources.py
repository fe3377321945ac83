"""Where a subject token comes from: a projected file, the TokenRequest API, a callable, a program.

Each source gives the token of now and keeps none. What it returns is not verified here.
"""

from __future__ import annotations

__all__ = ["CallableSource", "ProjectedFile", "as_source"]

import os
from collections.abc import Callable

from wif.core.freshness import MAX_SUBJECT_TOKEN_BYTES
from wif.core.token import TokenSource
from wif.edges.files import NotRegular, read_bounded
from wif.errors import ConfigurationError, TokenError, WifError

_SLACK_BYTES = 1024
"""White space around a token of the largest size."""


class ProjectedFile:
    """The file of a projected ServiceAccount token, read anew each time.

    Args:
        path: the file, as the kubelet mounts it.
    """

    __slots__ = ("_path",)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)

    @property
    def origin(self) -> str:
        """The file's path."""
        return self._path

    def __repr__(self) -> str:
        return f"ProjectedFile({self._path!r})"

    def read(self) -> str:
        """The token, without the white space around it.

        Raises:
            TokenError: token-missing, token-unreadable, token-too-large, token-malformed, token-empty.
        """
        return _token_text(_read_file(self._path), self._path)


def _read_file(path: str) -> bytes:
    try:
        data = read_bounded(path, MAX_SUBJECT_TOKEN_BYTES + _SLACK_BYTES)
    except FileNotFoundError as error:
        raise TokenError(f"the token file {path} is not there", code="token-missing") from error
    except NotRegular as error:
        raise TokenError(f"the token file {path} is no regular file", code="token-unreadable") from error
    except (OSError, ValueError) as error:
        reason = (error.strerror or "unusable path") if isinstance(error, OSError) else "the path holds a zero byte"
        raise TokenError(f"the token file {path} cannot be read: {reason}", code="token-unreadable") from error
    if len(data) > MAX_SUBJECT_TOKEN_BYTES + _SLACK_BYTES:
        raise TokenError(
            f"the token file {path} has more than {MAX_SUBJECT_TOKEN_BYTES} bytes, the most that any cloud accepts",
            code="token-too-large",
        )
    return data


def _token_text(data: bytes, origin: str) -> str:
    try:
        text = data.decode("ascii").strip()
    except UnicodeDecodeError:  # not chained: its text would show bytes of the token
        raise TokenError(
            f"the token of {origin} holds binary data, expected a JWT of ASCII letters", code="token-malformed"
        ) from None
    if not text:
        raise TokenError(f"the token of {origin} is empty, expected a JWT", code="token-empty")
    return text


class CallableSource:
    """A token from the caller's own function, called for every exchange, on the exchange's thread.

    Args:
        function: returns the token as str or bytes.
        name: what messages call it; default the function's own name.
    """

    __slots__ = ("_function", "_name")

    def __init__(self, function: Callable[[], str | bytes], *, name: str | None = None) -> None:
        self._function = function
        self._name = name or f"callable {getattr(function, '__qualname__', type(function).__qualname__)}"

    @property
    def origin(self) -> str:
        """The name given, or the function's."""
        return self._name

    def __repr__(self) -> str:
        return f"CallableSource({self._name!r})"

    def read(self) -> str:
        """The token that the function returns.

        Raises:
            TokenError: token-source-failed where the function raises, or returns something else; its own
                :class:`~wif.errors.WifError` come through as they are.
        """
        try:
            value: object = self._function()
        except WifError:
            raise
        except Exception as error:  # the caller's code may raise anything
            raise TokenError(
                f"the token source {self._name} raised {type(error).__name__}", code="token-source-failed"
            ) from error
        if isinstance(value, bytes | bytearray):
            return _token_text(bytes(value), self._name)
        if not isinstance(value, str):
            raise TokenError(
                f"the token source {self._name} returned {type(value).__name__}, expected str or bytes",
                code="token-source-failed",
            )
        return value


def as_source(source: TokenSource | str | os.PathLike[str] | Callable[[], str | bytes]) -> TokenSource:
    """A token source from what callers write: a source itself, the path of a file, or a function.

    Raises:
        ConfigurationError: config-invalid where it is none of these.
    """
    if isinstance(source, str | os.PathLike):
        return ProjectedFile(source)
    if isinstance(source, TokenSource):
        return source
    if callable(source):
        return CallableSource(source)
    raise ConfigurationError(
        f"source= is a {type(source).__name__}, expected a path, a function or an object with origin and read()",
        code="config-invalid",
    )
