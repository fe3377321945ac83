"""Settings of the command line as typed values: from flags, ``WIF_*`` variables and ``wif.yaml``, in this order.

A setting has one name everywhere: ``role_arn`` below ``aws`` in the file is ``WIF_AWS_ROLE_ARN`` in the environment,
``--role-arn`` of ``wif exchange aws``, and the argument of ``wif.aws``. What is set nowhere is None or empty; the
webhooks' own variables then decide, as in the library.

The section ``issuers`` of the file is for the publisher and stands in :mod:`wif.config.issuers`; it is passed over
here, so that an exchange loads nothing for it.
"""

from __future__ import annotations

__all__ = [
    "ISSUERS",
    "AwsSettings",
    "AzureSettings",
    "GcpSettings",
    "Layer",
    "Settings",
    "from_document",
    "from_variables",
    "merged",
    "unknown_variables",
]

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

from wif.errors import ConfigurationError

Layer = Mapping[str, Any]
"""Dotted names, ``aws.role_arn``, and checked values."""

ISSUERS = "issuers"
"""The section that :func:`wif.config.issuers.load_issuers` reads."""
WEBHOOK = "webhook"
"""The section that :func:`wif.config.webhook.load_webhook` reads."""
SIDECAR = "sidecar"
"""The section that :func:`wif.config.sidecar.load_sidecar` reads."""


class AwsSettings(NamedTuple):
    """What ``wif.aws`` is called with."""

    role_arn: str | None = None
    token_file: str | None = None
    audience: str | None = None
    region: str | None = None
    session_name: str | None = None
    duration_seconds: int | None = None
    policy: str | None = None
    policy_arns: tuple[str, ...] = ()
    endpoint_url: str | None = None
    chain: tuple[str, ...] = ()
    """Roles to assume afterwards: ARNs, or JSON objects with the arguments of a chained role."""


class GcpSettings(NamedTuple):
    """What ``wif.gcp`` is called with."""

    provider: str | None = None
    service_account: str | None = None
    token_file: str | None = None
    audience: str | None = None
    scopes: tuple[str, ...] = ()
    region: str | None = None
    universe_domain: str | None = None
    delegates: tuple[str, ...] = ()
    lifetime_seconds: int | None = None
    token_url: str | None = None
    project_id: str | None = None
    quota_project_id: str | None = None


class AzureSettings(NamedTuple):
    """What ``wif.azure`` is called with."""

    tenant_id: str | None = None
    client_id: str | None = None
    token_file: str | None = None
    audience: str | None = None
    authority_host: str | None = None
    scope: str | None = None
    subscription_id: str | None = None
    """Only Terraform's block has it."""


class Settings(NamedTuple):
    """All settings of one run."""

    aws: AwsSettings
    gcp: GcpSettings
    azure: AzureSettings
    token_file: str | None = None
    """For every cloud that has no file of its own."""
    allow_hosts: tuple[str, ...] = ()
    propagation_seconds: int | None = None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value and "\0" not in value else None


def _integer(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _texts(value: object) -> tuple[str, ...] | None:
    """A list, or words with white space between them."""
    items = value.split() if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not items or not all(_text(item) for item in items):
        return None
    return tuple(items)


_Kind = tuple[Callable[[object], Any], str]
_TEXT: _Kind = (_text, "a text")
_INTEGER: _Kind = (_integer, "a whole number")
_TEXTS: _Kind = (_texts, "a list of texts")

_KINDS: Mapping[str, _Kind] = {
    "token_file": _TEXT,
    "allow_hosts": _TEXTS,
    "propagation_seconds": _INTEGER,
    "aws.role_arn": _TEXT,
    "aws.token_file": _TEXT,
    "aws.audience": _TEXT,
    "aws.region": _TEXT,
    "aws.session_name": _TEXT,
    "aws.duration_seconds": _INTEGER,
    "aws.policy": _TEXT,
    "aws.policy_arns": _TEXTS,
    "aws.endpoint_url": _TEXT,
    "aws.chain": _TEXTS,
    "gcp.provider": _TEXT,
    "gcp.service_account": _TEXT,
    "gcp.token_file": _TEXT,
    "gcp.audience": _TEXT,
    "gcp.scopes": _TEXTS,
    "gcp.region": _TEXT,
    "gcp.universe_domain": _TEXT,
    "gcp.delegates": _TEXTS,
    "gcp.lifetime_seconds": _INTEGER,
    "gcp.token_url": _TEXT,
    "gcp.project_id": _TEXT,
    "gcp.quota_project_id": _TEXT,
    "azure.tenant_id": _TEXT,
    "azure.client_id": _TEXT,
    "azure.token_file": _TEXT,
    "azure.audience": _TEXT,
    "azure.authority_host": _TEXT,
    "azure.scope": _TEXT,
    "azure.subscription_id": _TEXT,
}

_NAMES_HOSTS = ("allow_hosts", "aws.endpoint_url", "gcp.token_url", "gcp.universe_domain", "azure.authority_host")
"""Settings that let a token go to another host: only from a file that the caller named."""

_CLOUDS = ("aws", "gcp", "azure")


def from_document(document: object, *, origin: str, is_named: bool) -> Layer:
    """Check the content of a ``wif.yaml``, but for the sections of issuers, webhook and sidecar.

    Args:
        document: what the YAML says.
        origin: the file's path, for messages.
        is_named: whether the caller named the file; one that merely lay there may name no hosts.

    Raises:
        ConfigurationError: config-invalid for an unknown name or a wrong value, host-not-allowed.
    """
    if document is None:
        return {}
    layer: dict[str, Any] = {}
    for name, value in _members(document, origin, "").items():
        if name in (ISSUERS, WEBHOOK, SIDECAR):
            continue
        if name in _CLOUDS:
            layer |= {f"{name}.{inner}": item for inner, item in _members(value, origin, name).items()}
        else:
            layer[name] = value
    for name in layer:
        if name not in _KINDS:
            _invalid(f"{origin} has the setting {name!r}, which is not known")
        if name in _NAMES_HOSTS and not is_named:
            raise ConfigurationError(
                f"{origin} was found in the current directory and sets {name}, which names hosts for the token",
                code="host-not-allowed",
                hint=f"if the file is yours, name it: --config-file {origin}",
            )
    return {name: _value(name, value, f"{origin} has {name} =") for name, value in layer.items()}


def from_variables(environ: Mapping[str, str]) -> Layer:
    """The settings of ``WIF_*`` variables; an empty variable is one that is not set.

    Raises:
        ConfigurationError: config-invalid.
    """
    found = {}
    for name in _KINDS:
        variable = _variable(name)
        if environ.get(variable):
            found[name] = _value(name, environ[variable], f"{variable} is")
    return found


def unknown_variables(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Variables of a cloud's prefix, ``WIF_AWS_…``, that no setting has; the caller reports them."""
    known = set(map(_variable, _KINDS))
    prefixes = tuple(f"WIF_{cloud.upper()}_" for cloud in _CLOUDS)
    return tuple(sorted(name for name in environ if name.startswith(prefixes) and name not in known))


def merged(*layers: Layer) -> Settings:
    """One value for each setting: the first layer that has it wins."""
    all_values: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            if name not in _KINDS:
                raise AssertionError(f"{name} is no setting")
            all_values.setdefault(name, value)

    def of(cloud: str) -> dict[str, Any]:
        start = f"{cloud}."
        return {name[len(start) :]: value for name, value in all_values.items() if name.startswith(start)}

    common = {name: value for name, value in all_values.items() if "." not in name}
    return Settings(
        aws=AwsSettings(**of("aws")), gcp=GcpSettings(**of("gcp")), azure=AzureSettings(**of("azure")), **common
    )


def _variable(name: str) -> str:
    return f"WIF_{name.replace('.', '_').upper()}"


def _members(value: object, origin: str, name: str) -> Mapping[str, object]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        _invalid(f"{origin} has {name or 'a document'} that is not a mapping of names")
    return value


def _value(name: str, value: object, what: str) -> Any:
    read, kind = _KINDS[name]
    checked = read(value)
    if checked is None:
        # a collection is not written out: a few lines of YAML with aliases make one without end
        is_short = isinstance(value, str | int | float | None) and len(repr(value)) < 100
        shown = repr(value) if is_short else f"a {type(value).__name__}"
        _invalid(f"{what} {shown}, expected {kind}")
    return checked


def _invalid(what: str) -> NoReturn:
    raise ConfigurationError(what, code="config-invalid")
