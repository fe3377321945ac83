"""Where a subject token comes from: a projected file, the TokenRequest API, a callable, a program.

Each source gives the token of now and keeps none. What it returns is not verified here.
"""

from __future__ import annotations

__all__ = [
    "CallableSource",
    "JsonFieldFile",
    "ProjectedFile",
    "TokenRequestSource",
    "as_source",
]

import errno
import json
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from wif.core.freshness import MAX_SUBJECT_TOKEN_BYTES
from wif.core.token import TokenSource
from wif.edges.files import NotRegular, read_bounded
from wif.errors import ConfigurationError, TokenError, WifError

if TYPE_CHECKING:
    from wif.edges.kube import KubeClient
    from wif.edges.token_request import BoundObject

_SLACK_BYTES = 1024
"""White space around a token of the largest size."""
_PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""This machine's own trouble, and none of the file's."""


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


class JsonFieldFile:
    """A file that holds a JSON object with the token in one member, as ``external_account`` files name one.

    Args:
        path: the file.
        field: the member's name.
    """

    __slots__ = ("_field", "_path")

    def __init__(self, path: str | os.PathLike[str], field: str) -> None:
        self._path = os.fspath(path)
        self._field = field

    @property
    def origin(self) -> str:
        """The file's path and the member's name."""
        return f"{self._path} ({self._field})"

    def __repr__(self) -> str:
        return f"JsonFieldFile({self._path!r}, {self._field!r})"

    def read(self) -> str:
        """The member's text, without the white space around it.

        Raises:
            TokenError: as :meth:`ProjectedFile.read`; token-malformed where the file is no JSON object or the member
                no text.
        """
        try:
            document = json.loads(_read_file(self._path, 3 * MAX_SUBJECT_TOKEN_BYTES))
        except (ValueError, RecursionError):  # not chained: the error holds the file's whole text
            document = None
        if not isinstance(document, dict):
            raise TokenError(f"the token file {self._path} does not hold a JSON object", code="token-malformed")
        value = document.get(self._field)
        if not isinstance(value, str):
            raise TokenError(
                f"the token file {self._path} has no text in the member {self._field!r}", code="token-malformed"
            )
        return _token_text(value.encode(errors="replace"), self.origin)


def _read_file(path: str, limit_bytes: int = MAX_SUBJECT_TOKEN_BYTES + _SLACK_BYTES) -> bytes:
    try:
        data = read_bounded(path, limit_bytes)
    except FileNotFoundError as error:
        raise TokenError(f"the token file {path} is not there", code="token-missing") from error
    except NotRegular as error:
        raise TokenError(f"the token file {path} is no regular file", code="token-unreadable") from error
    except (OSError, ValueError) as error:
        reason = (error.strerror or "unusable path") if isinstance(error, OSError) else "the path holds a zero byte"
        raise TokenError(
            f"the token file {path} cannot be read: {reason}",
            code="token-unreadable",
            retryable=isinstance(error, OSError) and error.errno in _PASSING,
        ) from error
    if len(data) > limit_bytes:
        raise TokenError(
            f"the token file {path} has more than {limit_bytes} bytes; no cloud accepts a token of more than "
            f"{MAX_SUBJECT_TOKEN_BYTES}",
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


class TokenRequestSource:
    """A token from the Kubernetes API, asked for anew for each exchange (TokenRequest, ``serviceaccounts/token``).

    The API server is the cluster's own inside a pod, else the one of the kubeconfig; it is looked up at the first
    read.

    Args:
        namespace, service_account: whose token.
        audience: one audience or several; empty leaves it to the API server.
        expiration_seconds: the lifetime asked for, at least 600; the server may shorten it.
        bound_object: the Pod, Secret or Node with which the token ends.
        kubeconfig, context: a kubeconfig file and one of its contexts; None is what the process finds.
        client: a client to ask, in place of all that.
    """

    def __init__(
        self,
        *,
        namespace: str,
        service_account: str,
        audience: str | Sequence[str] = (),
        expiration_seconds: int = 3600,
        bound_object: BoundObject | None = None,
        kubeconfig: str | os.PathLike[str] | None = None,
        context: str | None = None,
        client: KubeClient | None = None,
    ) -> None:
        from wif.edges.token_request import TokenRequest  # noqa: PLC0415  # most processes read a file

        self._request = TokenRequest(
            namespace=namespace,
            service_account=service_account,
            audiences=(audience,) if isinstance(audience, str) else tuple(audience),
            expiration_seconds=expiration_seconds,
            bound_object=bound_object,
        )
        self._kubeconfig = kubeconfig
        self._context = context
        self._client = client

    @property
    def origin(self) -> str:
        """``TokenRequest NAMESPACE/NAME``."""
        return f"TokenRequest {self._request.namespace}/{self._request.service_account}"

    def __repr__(self) -> str:
        return f"TokenRequestSource({self.origin!r})"

    def read(self) -> str:
        """A new token.

        Raises:
            ConfigurationError: no way to an API server is configured, or the extra ``kubernetes`` is missing.
            TokenError: token-request-refused.
            UnavailableError: cluster-unavailable.
        """
        if self._client is None:  # two threads may both make one; the last stays
            from wif.edges.kube import KubeClient  # noqa: PLC0415  # with urllib3

            self._client = KubeClient.find(self._kubeconfig, context=self._context)
        return self._client.request_token(self._request).token


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
