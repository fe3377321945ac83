"""The warm answer of ``wif exchange aws --format credential-process --cache``, before click is imported.

This module reads the arguments as far as the cache's key needs them. What it does not know, it leaves to the command
itself, which computes the key by the same functions: so the two can never mean different entries.
"""

from __future__ import annotations

__all__ = ["CacheRequest", "cache_directory", "cache_key", "cache_request", "warm_answer"]

import binascii
import json
import os
import time

from wif.edges.credential_cache import CredentialCache, encode_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_KEYED = (
    "--role-arn",
    "--audience",
    "--region",
    "--session-name",
    "--duration-seconds",
    "--policy",
    "--policy-arn",
    "--endpoint-url",
    "--chain",
    "--allow-host",
)
"""Options that change what is asked for: part of the key."""

_UNKEYED = ("--file", "--token-file", "--format", "--cache-dir", "--config-file", "--timeout", "--propagation-seconds")
"""Options with a value that change only how it is asked for."""

_VARIABLES = (
    *(f"WIF_AWS_{option[2:].upper().replace('-', '_')}" for option in _KEYED[:6]),
    "WIF_AWS_POLICY_ARNS",
    "WIF_AWS_ENDPOINT_URL",
    "WIF_AWS_CHAIN",
    "WIF_ALLOW_HOSTS",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL_STS",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    # who answers for the endpoint's name: keys of the local STS must never be served where its proxy is not set
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "AWS_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
"""Variables that change what is asked for, or who answers."""

_MAX_TOKEN_BYTES = 20_000
_MAX_CONFIG_BYTES = 65_536


class CacheRequest:
    """What the arguments and the environment say about the cache."""

    __slots__ = ("directory", "inputs", "token_file")

    def __init__(self, *, directory: str, inputs: tuple[str, ...], token_file: str | None) -> None:
        self.directory = directory
        self.inputs = inputs
        """Part of the key: names and values in turn."""
        self.token_file = token_file
        """None where only ``wif.yaml`` can name it."""


def cache_directory(environ: Mapping[str, str], named: str | None = None) -> str:
    """Where entries are kept: the directory that the caller names, one below ``XDG_RUNTIME_DIR``, or one of this user.

    All three are checked when they are opened.
    """
    chosen = named or environ.get("WIF_CACHE_DIR")
    if chosen:
        return chosen
    runtime = environ.get("XDG_RUNTIME_DIR")
    if runtime and os.path.isabs(runtime):  # noqa: PTH117  # pathlib costs 5 ms
        return f"{runtime.rstrip('/')}/wif"
    user = os.geteuid() if hasattr(os, "geteuid") else 0
    return f"{environ.get('TMPDIR', '').rstrip('/') or '/tmp'}/wif-{user}"  # noqa: S108  # owner and mode are checked


def cache_request(arguments: Sequence[str], environ: Mapping[str, str]) -> CacheRequest | None:
    """Read the arguments after ``wif exchange aws``; None where they do not ask for a cached answer."""
    values: dict[str, list[str]] = {}
    flags: set[str] = set()
    rest = iter(arguments)
    for argument in rest:
        name, sign, value = argument.partition("=")
        if name in _KEYED or name in _UNKEYED:
            given = value if sign else next(rest, None)
            if given is None:
                return None
            values.setdefault(name, []).append(given)
        elif argument == "--cache":
            flags.add(argument)
        else:
            return None  # another flag, or a mistake: not ours to judge
    if "--cache" not in flags or values.get("--format", [""])[-1] != "credential-process":
        return None
    files = values.get("--file", []) + values.get("--token-file", [])
    if "-" in files or len(files) > 1:
        return None
    config, has_config = _config_text(values.get("--config-file", [None])[-1] or environ.get("WIF_CONFIG_FILE"))
    token_file = files[-1] if files else environ.get("WIF_AWS_TOKEN_FILE") or None
    if token_file is None and not has_config:  # else wif.yaml may name one that goes first
        token_file = environ.get("WIF_TOKEN_FILE") or environ.get("AWS_WEB_IDENTITY_TOKEN_FILE") or None
    inputs = ["wif.yaml", config]
    for option in _KEYED:
        for value in values.get(option, ()):
            inputs += [option, value]
    for variable in _VARIABLES:
        if environ.get(variable):
            inputs += [variable, environ[variable]]
    directory = cache_directory(environ, values.get("--cache-dir", [None])[-1])
    return CacheRequest(directory=directory, inputs=tuple(inputs), token_file=token_file)


def cache_key(request: CacheRequest, *, issuer: str, subject: str, uid: str, pod: str) -> str:
    """The key of an entry: whose token it is (the pod names the session), and all that was asked for."""
    return encode_key(("aws", issuer, subject, uid, pod, *request.inputs))


def warm_answer(arguments: Sequence[str], environ: Mapping[str, str] | None = None) -> str | None:
    """The answer of a warm entry as JSON text, or None: then the command itself runs, and says why."""
    variables = os.environ if environ is None else environ
    request = cache_request(arguments, variables)
    if request is None or request.token_file is None:
        return None
    identity = _identity(request.token_file)
    if identity is None:
        return None
    try:
        with CredentialCache(request.directory) as cache:
            return cache.read(cache_key(request, **identity), time.time())
    except OSError:  # not there, or unusable: the command itself says why
        return None


def _identity(path: str) -> dict[str, str] | None:
    """Whose token a file holds, as the library reads it; None where it would refuse it or ask further."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except (OSError, ValueError):
        return None
    try:
        data = os.read(descriptor, _MAX_TOKEN_BYTES + 1)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    parts = data.strip().split(b".")
    if len(parts) != 3 or not all(parts) or len(data) > _MAX_TOKEN_BYTES:
        return None
    try:
        text = binascii.a2b_base64(parts[1].translate(_URL_SAFE) + b"=" * (-len(parts[1]) % 4), strict_mode=True)
        claims = json.loads(text, object_pairs_hook=_unique)
        kubernetes = claims.get("kubernetes.io")
        kubernetes = kubernetes if isinstance(kubernetes, dict) else {}
        issuer, subject = claims["iss"], claims["sub"]
        account, pod = kubernetes.get("serviceaccount"), kubernetes.get("pod")
    except (ValueError, KeyError, AttributeError, RecursionError):
        return None
    if not isinstance(issuer, str) or not isinstance(subject, str) or not issuer or not subject:
        return None
    return {"issuer": issuer, "subject": subject, "uid": _member(account, "uid"), "pod": _member(pod, "name")}


_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError
    return members


def _member(value: object, name: str) -> str:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def _config_text(named: str | None) -> tuple[str, bool]:
    """The text of the settings file that will be read, and whether there is one."""
    try:
        descriptor = os.open(named or "wif.yaml", os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return "", bool(named)
    try:
        return os.read(descriptor, _MAX_CONFIG_BYTES).decode("utf-8", "surrogateescape"), True
    except OSError:
        return "", True
    finally:
        os.close(descriptor)
