"""The section ``issuers`` of ``wif.yaml``: what is published, from which sources, to which targets.

One entry for each issuer, by a name of the user's choice::

    issuers:
      production:
        issuer: https://oidc.example.com/production
        to:
          - url: s3://bucket/production
            region: eu-central-1

The values are those of the options of ``wif issuer publish``. Read strictly: an unknown member is an error.
"""

from __future__ import annotations

__all__ = ["Cloud", "IssuerSettings", "TargetSettings", "issuers_schema", "load_issuers"]

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NoReturn

import msgspec
from msgspec import Meta

from wif.config import ISSUERS
from wif.errors import ConfigurationError

Cloud = Literal["aws", "gcp", "azure"]

# No control character: what is in here comes into HTTP headers, paths and terminals.
_Text = Annotated[str, Meta(min_length=1, max_length=2048, pattern=r"^(?![\s\S]*[\x00-\x1f\x7f])")]
_Seconds = Annotated[int, Meta(ge=0, le=10 * 365 * 24 * 3600)]


class TargetSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One place that documents are published to."""

    url: Annotated[
        _Text,
        Meta(description="file:///dir, s3://bucket/prefix, gs://…, az://…, gcp-provider:…, gke-fleet:…, configmap:…"),
    ]
    endpoint: Annotated[_Text | None, Meta(description="Another address of the store than the cloud's own.")] = None
    region: Annotated[_Text | None, Meta(description="Region of an S3 bucket.")] = None
    ca_file: Annotated[
        _Text | None, Meta(description="PEM file of authorities that are trusted for the store besides the system's.")
    ] = None
    clouds: Annotated[
        tuple[Cloud, ...],
        Meta(min_length=1, description="Who reads this target: keys that none of them verifies stay out."),
    ] = ("aws", "gcp", "azure")
    single_writer: Annotated[
        bool, Meta(description="Nobody else writes there, so a store without conditional writes will do.")
    ] = False
    second_way_in: Annotated[
        _Text | None,
        Meta(description="How the target is repaired when the issuer's own federation is broken, e.g. standard-chain."),
    ] = None
    allow_http: Annotated[bool, Meta(description="The endpoint may be plain http.")] = False


class IssuerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One issuer: where its keys come from, where its documents go, how long a rotation waits."""

    issuer: Annotated[
        _Text | None, Meta(description="The issuer, byte for byte as iss. Default: the one that the API servers write.")
    ] = None
    former_issuer: Annotated[
        bool, Meta(description="The API servers accept this issuer but do not (or not yet) write it: a migration.")
    ] = False
    jwks_uri: Annotated[_Text | None, Meta(description="Default: /openid/v1/jwks below the issuer.")] = None
    kubeconfig: Annotated[_Text | None, Meta(description="Path; the default is kubectl's, or the pod's own.")] = None
    context: Annotated[_Text | None, Meta(description="Context of the kubeconfig.")] = None
    api_servers: Annotated[
        tuple[_Text, ...], Meta(description="URLs of all API servers, where EndpointSlices cannot be used.")
    ] = ()
    public_keys: Annotated[tuple[_Text, ...], Meta(description="Paths of PEM files with public keys.")] = ()
    jwks: Annotated[tuple[_Text, ...], Meta(description="Paths or https URLs of key sets that vouch for keys.")] = ()
    to: Annotated[tuple[TargetSettings, ...], Meta(description="Where the documents are published.")] = ()
    state: Annotated[
        _Text | None, Meta(description="The trusted state: configmap:NAMESPACE/NAME, or the path of a file.")
    ] = None
    namespace: Annotated[_Text | None, Meta(description="Namespace of state, Lease and Events in the cluster.")] = None
    cache_control: Annotated[_Text, Meta(description="Of the published documents.")] = "public, max-age=300"
    cache_seconds: Annotated[
        _Seconds, Meta(description="How long relying parties may keep an old key set; a new key waits for so long.")
    ] = 86400
    skew_seconds: Annotated[_Seconds, Meta(description="By how much clocks may differ.")] = 300
    longest_token_seconds: Annotated[
        _Seconds | None, Meta(description="Longest lifetime of a token, where the API servers set no limit.")
    ] = None
    ca_file: Annotated[
        _Text | None, Meta(description="PEM file of authorities that are trusted for the public address.")
    ] = None
    verify: Annotated[bool, Meta(description="Read back over the public address after each publish.")] = True
    allow_private: Annotated[
        bool, Meta(description="Who reads is in the issuer's own network: what keeps the clouds out is only a warning.")
    ] = False
    use_kubernetes: Annotated[
        bool | None, Meta(description="Whether API servers are asked. Default: yes where no other source is named.")
    ] = None


_UNNAMED = ("kubeconfig", "api_servers", "public_keys", "jwks", "ca_file")
"""Members that let credentials go elsewhere, run a program, or vouch for keys: only in a file that the caller named."""

_UNNAMED_TARGET = ("endpoint", "ca_file", "allow_http")

_MAX_NAME_LENGTH = 63
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
"""Of an entry: it comes into metrics, file names and logs."""


def load_issuers(document: object, origin: str, *, is_named: bool = True) -> Mapping[str, IssuerSettings]:
    """Check the section of the issuers in the content of a ``wif.yaml``; empty where there is none.

    Args:
        document: what the YAML says, the whole of it.
        origin: the file's path, for messages.
        is_named: whether the caller named the file; one that merely lay there may name no endpoints and no keys.

    Raises:
        ConfigurationError: config-invalid, naming file, issuer and member; host-not-allowed.
    """
    if document is None:
        return {}
    if not isinstance(document, dict):
        _invalid(f"{origin} has a document that is not a mapping of names")
    section = document.get(ISSUERS)
    if section is None:
        return {}
    if not isinstance(section, dict) or not section:
        _invalid(f"{origin} has {ISSUERS} that is not a mapping from names to issuers")
    found: dict[str, IssuerSettings] = {}
    for name, value in section.items():
        if not isinstance(name, str) or len(name) > _MAX_NAME_LENGTH or not _NAME.fullmatch(name):
            _invalid(
                f"{origin} has the name {_shown(name)} in {ISSUERS}, expected 1 to {_MAX_NAME_LENGTH} letters, digits, "
                "'.', '_' or '-'"
            )
        settings = _issuer(value, f"{origin} has {ISSUERS}.{name}")
        if not is_named:
            _check_unnamed(settings, origin, f"{ISSUERS}.{name}")
        found[name] = settings
    return found


def issuers_schema() -> Mapping[str, Any]:
    """The JSON Schema (draft 2020-12) of the section."""
    names = Annotated[str, Meta(max_length=_MAX_NAME_LENGTH, pattern=f"^{_NAME.pattern}$")]
    schema = msgspec.json.schema(dict[names, IssuerSettings])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": ISSUERS} | schema


def _issuer(value: object, place: str) -> IssuerSettings:
    try:
        settings = msgspec.convert(value, IssuerSettings, strict=True)
        msgspec.json.encode(settings)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `")
        if "matching regex" in what:
            what = "Expected a text without control characters"
        _invalid(f"{place}{path.rstrip('`').removeprefix('$')} that is wrong: {what[:256]}")
    except UnicodeEncodeError:
        _invalid(f"{place} with half a surrogate pair in it")
    if settings.issuer is None and settings.former_issuer:
        _invalid(f"{place} with former_issuer and without issuer: nobody else can say which it is")
    if settings.issuer is None and settings.use_kubernetes is False:
        _invalid(f"{place} with use_kubernetes: false and without issuer: nobody else can say which it is")
    urls = [target.url for target in settings.to]
    for url in urls:
        if urls.count(url) > 1:
            _invalid(f"{place}.to with the target {url!r} twice")
    return settings


def _check_unnamed(settings: IssuerSettings, origin: str, place: str) -> None:
    for member in _daring(settings):
        raise ConfigurationError(
            f"{origin} was found in the current directory and sets {place}.{member}, which decides whom to trust",
            code="host-not-allowed",
            hint=f"if the file is yours, name it: --config-file {origin}",
        )


def _daring(settings: IssuerSettings) -> Iterator[str]:
    yield from (member for member in _UNNAMED if getattr(settings, member))
    for position, target in enumerate(settings.to):
        yield from (f"to[{position}].{member}" for member in _UNNAMED_TARGET if getattr(target, member))


def _shown(value: object) -> str:
    return repr(value[:64]) if isinstance(value, str) else f"of type {type(value).__name__}"


def _invalid(what: str) -> NoReturn:
    raise ConfigurationError(what, code="config-invalid")
