"""AWS' trust: an account's OIDC provider knows an issuer, a role's trust policy lets its tokens in.

Sources: IAM API model with its limits, IAM user guide (condition keys of web identity, session tags). Signature,
issuer and times of a token are checked by the caller.
"""

from __future__ import annotations

__all__ = [
    "ASSUME_ROLE",
    "ASSUME_ROLE_WITH_WEB_IDENTITY",
    "SET_SOURCE_IDENTITY",
    "TAG_SESSION",
    "OidcProvider",
    "RequestContext",
    "Role",
    "SessionTags",
    "TrustPolicy",
    "evaluate",
    "evaluate_web_identity",
    "session_tags",
    "web_identity_keys",
]

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NoReturn

from wif.errors import ConfigurationError, RefusedError
from wif.trust.aws_policy import RequestContext, TrustPolicy, evaluate
from wif.trust.decision import Decision
from wif.trust.reading import Document, listed, strings

ASSUME_ROLE = "sts:AssumeRole"
ASSUME_ROLE_WITH_WEB_IDENTITY = "sts:AssumeRoleWithWebIdentity"
TAG_SESSION = "sts:TagSession"
SET_SOURCE_IDENTITY = "sts:SetSourceIdentity"

_MAX_URL_CHARACTERS = 255
_MAX_CLIENT_IDS = 100
_MAX_CLIENT_ID_CHARACTERS = 255
_MAX_THUMBPRINTS = 5
_MAX_TAGS = 50
_MAX_TAG_KEY_CHARACTERS = 128
_MAX_TAG_VALUE_CHARACTERS = 256

_SESSION_SECONDS = range(3600, 43201)
"""What a role's MaxSessionDuration may be."""

_PROVIDER_ARN = re.compile(r"arn:aws[a-z-]*:iam::(?P<account>\d{12}):oidc-provider/(?P<url>[^\s*?#]+)")
_ROLE_ARN = re.compile(
    r"arn:aws[a-z-]*:iam::(?P<account>\d{12}):role(?P<path>/|/[\x21-\x7e]+/)(?P<name>[A-Za-z0-9_+=,.@-]{1,64})"
)
_THUMBPRINT = re.compile(r"[0-9A-Fa-f]{40}")
_SOURCE_IDENTITY = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcProvider:
    """An IAM OIDC identity provider."""

    arn: str
    issuer: str
    """With its scheme: the ``iss`` of the tokens."""
    client_ids: tuple[str, ...] = ()
    thumbprints: tuple[str, ...] = ()

    @classmethod
    def from_mapping(cls, document: Mapping[str, Any]) -> OidcProvider:
        """Read the answer of IAM's GetOpenIDConnectProvider together with the ``Arn`` that was asked for.

        ``Url`` is taken with or without ``https://``; IAM answers without.

        Raises:
            ConfigurationError: trust-invalid.
        """
        read = Document.named_by("aws", "OIDC provider", document, "Arn")
        read.known({"Arn", "Url", "ClientIDList", "ThumbprintList", "CreateDate", "Tags", "ResponseMetadata"})
        arn = read.text("Arn")
        url = read.text("Url")
        issuer = url if "://" in url else f"https://{url}"
        parts = _PROVIDER_ARN.fullmatch(arn)
        if parts is None or parts["url"] != issuer.partition("://")[2]:
            read.refuse(
                f"has the Url {url!r}, which its Arn does not name",
                "the Arn is arn:aws:iam::ACCOUNT:oidc-provider/ and the issuer without its scheme, query or fragment",
            )
        if len(issuer) > _MAX_URL_CHARACTERS:
            read.refuse(f"has a Url of {len(issuer)} characters, at most {_MAX_URL_CHARACTERS} are allowed")
        thumbprints = read.texts("ThumbprintList", at_most=_MAX_THUMBPRINTS)
        if not all(_THUMBPRINT.fullmatch(item) for item in thumbprints):
            read.refuse("has a thumbprint that is not 40 hex digits")
        client_ids = read.texts("ClientIDList", at_most=_MAX_CLIENT_IDS, characters=_MAX_CLIENT_ID_CHARACTERS)
        return cls(arn=arn, issuer=issuer, client_ids=client_ids, thumbprints=thumbprints)

    @property
    def account_id(self) -> str:
        """The account that trusts the issuer; only its roles can."""
        return self.arn.split(":")[4]

    @property
    def key_prefix(self) -> str:
        """What the condition keys of this provider begin with: the issuer without its scheme."""
        return self.issuer.partition("://")[2]

    @property
    def real_cloud_refuses(self) -> tuple[str, ...]:
        """Why IAM itself would not store this provider; empty where it would."""
        return () if self.issuer.startswith("https://") else (f"the issuer {self.issuer!r} is not https",)

    def accepts_audience(self, claims: Mapping[str, Any]) -> Decision:
        """Whether a token is for one of the provider's client ids: ``azp`` counts where there is one, else ``aud``.

        A token for several audiences is refused: how AWS compares it is documented nowhere.
        """
        audiences = strings(claims.get("azp")) or strings(claims.get("aud"))
        if len(audiences) == 1 and audiences[0] in self.client_ids:
            return Decision(True, "audience", f"the OIDC provider {self.arn} lists the token's audience")
        several = "; how several audiences are compared is not documented, ask for one" if len(audiences) > 1 else ""
        return Decision(
            False,
            "audience",
            f"the OIDC provider {self.arn} lists the client ids {listed(self.client_ids)},"
            f" the token is for {listed(audiences)}{several}",
            "InvalidIdentityToken",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """An IAM role with its trust policy."""

    name: str
    arn: str
    role_id: str = ""
    max_session_seconds: int = 3600
    trust: TrustPolicy

    @classmethod
    def from_mapping(cls, document: Mapping[str, Any]) -> Role:
        """Read the ``Role`` of IAM's GetRole; the policy is an object, JSON, or percent-encoded JSON.

        Raises:
            ConfigurationError: trust-invalid.
        """
        read = Document.named_by("aws", "role", document, "Arn")
        known = {"RoleName", "Arn", "Path", "RoleId", "MaxSessionDuration", "AssumeRolePolicyDocument"}
        read.known(known | {"CreateDate", "Description", "PermissionsBoundary", "Tags", "RoleLastUsed"})
        parts = _ROLE_ARN.fullmatch(read.text("Arn"))
        if parts is None:
            read.refuse("has an Arn that is not arn:aws:iam::ACCOUNT:role/NAME")
        for member, group in (("RoleName", "name"), ("Path", "path")):
            value = read.optional(member)
            if value and value != parts[group]:
                read.refuse(f"has the {member} {value!r}, which its Arn does not name")
        seconds = document.get("MaxSessionDuration", 3600)
        if type(seconds) is not int or seconds not in _SESSION_SECONDS:
            read.refuse("has a MaxSessionDuration that is not 3600 to 43200 seconds")
        policy = document.get("AssumeRolePolicyDocument")
        if not isinstance(policy, str | dict):
            read.refuse("has no AssumeRolePolicyDocument")
        try:
            trust = TrustPolicy.from_json(policy) if isinstance(policy, str) else TrustPolicy.from_mapping(policy)
        except ConfigurationError as error:
            read.refuse(f"cannot be used: {error.message}", error.hint)
        return cls(
            name=parts["name"],
            arn=parts[0],
            role_id=read.optional("RoleId"),
            max_session_seconds=seconds,
            trust=trust,
        )

    @property
    def account_id(self) -> str:
        """The role's account."""
        return self.arn.split(":")[4]


# -- tokens --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionTags:
    """Session tags and source identity that a token's claims ask for."""

    tags: Mapping[str, str] = field(default_factory=dict)
    transitive_keys: tuple[str, ...] = ()
    source_identity: str | None = None


_TAGS_CLAIM = "https://aws.amazon.com/tags"
_SOURCE_IDENTITY_CLAIM = "https://aws.amazon.com/source_identity"


def session_tags(claims: Mapping[str, Any]) -> SessionTags:
    """Read the claims ``https://aws.amazon.com/tags`` (nested or flattened) and ``…/source_identity``.

    Raises:
        RefusedError: claim-rejected.
    """
    nested = claims.get(_TAGS_CLAIM, {})
    if not isinstance(nested, dict):
        _rejected(_TAGS_CLAIM)
    listed = nested.get("principal_tags", {})
    if not isinstance(listed, dict):
        _rejected(f"{_TAGS_CLAIM}/principal_tags")
    prefix = f"{_TAGS_CLAIM}/principal_tags/"
    flattened = {name.removeprefix(prefix): value for name, value in claims.items() if name.startswith(prefix)}
    tags: dict[str, str] = {}
    for key, value in {**listed, **flattened}.items():
        values = strings(value)
        fits = len(values) == 1 and len(values[0]) <= _MAX_TAG_VALUE_CHARACTERS
        if not fits or not 0 < len(key) <= _MAX_TAG_KEY_CHARACTERS:
            _rejected(f"{_TAGS_CLAIM}/principal_tags/{key[:64]}")
        tags[key] = values[0]
    if len(tags) > _MAX_TAGS:
        _rejected(f"{_TAGS_CLAIM}/principal_tags")
    asked = nested.get("transitive_tag_keys", claims.get(f"{_TAGS_CLAIM}/transitive_tag_keys", []))
    transitive = strings(asked)
    if (asked and not transitive) or not set(transitive) <= set(tags):
        _rejected(f"{_TAGS_CLAIM}/transitive_tag_keys")
    source = claims.get(_SOURCE_IDENTITY_CLAIM)
    if source is not None and not (isinstance(source, str) and _SOURCE_IDENTITY.fullmatch(source)):
        _rejected(_SOURCE_IDENTITY_CLAIM)
    return SessionTags(tags=MappingProxyType(tags), transitive_keys=transitive, source_identity=source)


def web_identity_keys(provider: OidcProvider, claims: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The condition keys that AWS makes of a generic issuer's token; nested claims make none.

    ``:aud`` is the token's ``azp`` where it has one, and ``:oaud`` its ``aud`` (documented for Google, seen elsewhere).
    """
    prefix = provider.key_prefix.lower()
    audiences, authorised = strings(claims.get("aud")), strings(claims.get("azp"))
    keys = {
        f"{prefix}:sub": strings(claims.get("sub")),
        f"{prefix}:aud": authorised or audiences,
        f"{prefix}:oaud": audiences,
        f"{prefix}:azp": authorised,
        f"{prefix}:amr": strings(claims.get("amr")),
    }
    return {name: values for name, values in keys.items() if values}


def evaluate_web_identity(
    policy: TrustPolicy,
    provider: OidcProvider,
    claims: Mapping[str, Any],
    *,
    keys: Mapping[str, tuple[str, ...]] | None = None,
) -> Decision:
    """Whether a trust policy lets a verified token in, with the tags and source identity that it asks for.

    Args:
        keys: further condition keys of the request, e.g. ``sts:RoleSessionName`` or ``aws:SourceIp``.

    Raises:
        RefusedError: claim-rejected.
    """
    wanted = session_tags(claims)
    context_keys = {**(keys or {}), **web_identity_keys(provider, claims)}
    actions = [ASSUME_ROLE_WITH_WEB_IDENTITY]
    if wanted.tags:
        actions.append(TAG_SESSION)
        context_keys["aws:tagkeys"] = tuple(wanted.tags)
        context_keys |= {f"aws:requesttag/{key.lower()}": (value,) for key, value in wanted.tags.items()}
        if wanted.transitive_keys:
            context_keys["sts:transitivetagkeys"] = wanted.transitive_keys
    if wanted.source_identity is not None:
        actions.append(SET_SOURCE_IDENTITY)
        context_keys["sts:sourceidentity"] = (wanted.source_identity,)
    decision = Decision(False, "trust", "nothing was asked")
    for action in actions:
        decision = evaluate(policy, RequestContext(action=action, federated=provider.arn, keys=context_keys))
        if not decision:
            break
    return decision


def _rejected(claim: str) -> NoReturn:
    raise RefusedError(f"the claim {claim} has a value that AWS rejects", code="claim-rejected", cloud="aws")
