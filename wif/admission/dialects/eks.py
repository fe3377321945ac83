"""The dialect of the EKS webhook: ``eks.amazonaws.com/*`` on a ServiceAccount.

Source: amazon-eks-pod-identity-webhook at 3bf80a3. A role of a ServiceAccount (web identity), or, for the pairs of
namespace and ServiceAccount that the settings name, EKS Pod Identity's agent ("container credentials").
"""

from __future__ import annotations

__all__ = ["check", "read"]

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from wif.admission.accounts import ServiceAccount
from wif.admission.dialects import EKS_LABELS, PodFacts, Reading
from wif.admission.dialects.values import (
    Field,
    Place,
    audience,
    is_denied,
    lifetime,
    unknown_keys,
    values_of,
    whole_number,
    without_effect,
)
from wif.admission.findings import Finding
from wif.admission.injection import EnvGroup, Mount, Part, Variable, Volume
from wif.clouds.answers import shown
from wif.clouds.aws import WebIdentity
from wif.config.webhook import WebhookSettings
from wif.errors import ConfigurationError

_ROLE = "role-arn"
_AUDIENCE = "audience"
_STS = "sts-regional-endpoints"
_EXPIRATION = "token-expiration"
_SKIP = "skip-containers"
_SKIP_LABEL = f"{EKS_LABELS}skip-pod-identity-webhook"

_AGENT_LABELS = {f"{EKS_LABELS}pod-identity": "enabled"}

_STS_VARIABLE = "AWS_STS_REGIONAL_ENDPOINTS"
_REGION_VARIABLES = ("AWS_DEFAULT_REGION", "AWS_REGION")
_FLOOR_SECONDS = 600
_DAY_SECONDS = 86_400
_SHORTER_SECONDS = 79_200
"""In place of a day for the agent's token. The peer draws a number between the two for each pod; a webhook that answers
the same twice takes the lower end."""
_CSV_FIELD = r'"((?:[^"]|"")*)"|([^",\r\n]*)'
_CSV = re.compile(rf"(?:^|,)(?:{_CSV_FIELD})(?=,|$)")
_RECORD = rf"(?:{_CSV_FIELD})(?:,(?:{_CSV_FIELD}))*"
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")
_ROLE_FORM = "arn:aws:iam::111122223333:role/NAME"


def _harmless_role(text: str) -> str | None:
    """The kubelet puts other variables in place of ``$(…)`` in a value."""
    return text if len(text) <= 2048 and text.isprintable() and "$" not in text else None


def _real_role(text: str) -> str | None:
    try:
        return WebIdentity(role_arn=text, endpoint="https://sts.amazonaws.com").role_arn
    except ConfigurationError:
        return None


def _truth(text: str) -> bool | None:
    """As Go's ParseBool."""
    return text in _TRUE if text in (*_TRUE, *_FALSE) else None


_SECONDS = Field(
    _EXPIRATION,
    "token-expiration-malformed",
    "warning",
    "a whole number of seconds",
    whole_number,
    "it is left out of account",
)
_FIELDS = (
    Field(_ROLE, "role-arn-harmful", "deny", _ROLE_FORM, _harmless_role),
    Field(_ROLE, "role-arn-malformed", "warning", _ROLE_FORM, _real_role, "AWS will refuse it"),
    Field(_AUDIENCE, "audience-malformed", "warning", "1 to 256 printable letters", audience, "the default is used"),
    Field(_STS, "sts-regional-malformed", "warning", "true or false", _truth, "the default is used"),
    _SECONDS,
)


def _role_values(
    annotations: Mapping[str, str], settings: WebhookSettings, place: Place
) -> tuple[dict[str, Any], list[Finding]]:
    """The values of the annotations, a role's bare name made whole. An empty role is none."""
    key = f"{settings.aws_prefix}/{_ROLE}"
    role = annotations.get(key, "")
    others = {name: text for name, text in annotations.items() if name != key}
    if role and not role.startswith("arn:") and settings.aws_account_id is not None:
        role = f"arn:{settings.aws_partition}:iam::{settings.aws_account_id}:role/{role}"
    return values_of(_FIELDS, {**others, key: role} if role else others, settings.aws_prefix, place)


def check(annotations: Mapping[str, str], settings: WebhookSettings) -> Sequence[Finding]:
    """Say what is wrong with a ServiceAccount's annotations."""
    place = Place("eks", "aws", "ServiceAccount")
    values, findings = _role_values(annotations, settings, place)
    return [
        *findings,
        *(() if _ROLE in values or findings else _no_role(annotations, settings, place)),
        *unknown_keys(_FIELDS, annotations, settings.aws_prefix, place),
    ]


def _no_role(annotations: Mapping[str, str], settings: WebhookSettings, place: Place) -> tuple[Finding, ...]:
    if settings.aws_container_credentials.identities:
        return ()  # which ServiceAccounts they are for is not known here
    prefix = settings.aws_prefix
    return without_effect(_FIELDS, annotations, prefix, place, f"{prefix}/{_ROLE}")


def read(account: ServiceAccount, facts: PodFacts, settings: WebhookSettings) -> Reading:
    """Say what a pod is given."""
    place = Place("eks", "aws", f"ServiceAccount {account.namespace}/{account.name}")
    values, findings = _role_values(account.annotations, settings, place)
    associated = (account.namespace, account.name) in settings.aws_container_credentials.identities
    if not associated and _ROLE not in values:
        return Reading((), (*findings, *(() if findings else _no_role(account.annotations, settings, place))))
    if is_denied(findings):
        return Reading((), tuple(findings))
    of_pod = place._replace(object="the pod")
    if facts.label(_SKIP_LABEL) is not None:
        said = of_pod.finding("skip-label", "note", f"label {_SKIP_LABEL} is set, so it gets nothing for AWS")
        return Reading((), (*findings, said))
    seconds, of_lifetime = _lifetime(values, place, of_pod, facts, settings)
    skip, of_skip = _skipped(of_pod, facts, settings)
    token = _agent_token(account, seconds, settings) if associated else _web_identity(values, seconds, settings)
    part = _part(token, values, skip, facts, settings)
    return Reading((part,), (*findings, *of_lifetime, *of_skip))


def _lifetime(
    values: Mapping[str, Any], place: Place, of_pod: Place, facts: PodFacts, settings: WebhookSettings
) -> tuple[int, tuple[Finding, ...]]:
    wishes, malformed = values_of((_SECONDS,), dict(facts.annotations), settings.aws_prefix, of_pod)
    key = f"{settings.aws_prefix}/{_EXPIRATION}"
    seconds, clamped = lifetime(
        (of_pod, key, wishes.get(_EXPIRATION)),
        (place, key, values.get(_EXPIRATION)),
        settings.aws_token_expiration,
        floor_seconds=_FLOOR_SECONDS,
        max_seconds=settings.max_token_expiration,
    )
    return seconds, (*malformed, *clamped)


def _skipped(of_pod: Place, facts: PodFacts, settings: WebhookSettings) -> tuple[frozenset[str], tuple[Finding, ...]]:
    """Names of containers, as one record of CSV: quotes are read, spaces are part of a name, a bad record skips none.

    A name with spaces is none that a container can have. The peer skips nothing then, and so does this.
    """
    key = f"{settings.aws_prefix}/{_SKIP}"
    text = facts.annotation(key)
    if not text:
        return frozenset(), ()
    names = [quoted.replace('""', '"') if quoted else plain for quoted, plain in _CSV.findall(text)]
    if re.fullmatch(_RECORD, text) and all(re.fullmatch("[a-z0-9-]+", name) for name in names):
        return frozenset(names), ()
    said = of_pod.finding(
        "skip-containers-malformed",
        "warning",
        f"annotation {key} is {shown(text, 120)!r}, expected names of containers with commas and no spaces between",
        "a name that is none of the pod's containers skips nothing",
    )
    return frozenset(names if re.fullmatch(_RECORD, text) else ()), (said,)


class _Token(NamedTuple):
    """A token in a volume, and the variables that lead to it."""

    identity: str
    audience: str
    seconds: int
    volume: str
    mount: str
    file: str
    says: Variable
    """What the SDK does with the token."""
    leads: str
    """The variable with the token's path."""
    labels: Mapping[str, str]


def _web_identity(values: Mapping[str, Any], seconds: int, settings: WebhookSettings) -> _Token:
    return _Token(
        identity=values[_ROLE],
        audience=values.get(_AUDIENCE, settings.aws_audience),
        seconds=seconds,
        volume="aws-iam-token",
        mount=settings.aws_token_mount_path,
        file="token",
        says=Variable("AWS_ROLE_ARN", values[_ROLE]),
        leads="AWS_WEB_IDENTITY_TOKEN_FILE",
        labels={},
    )


def _agent_token(account: ServiceAccount, seconds: int, settings: WebhookSettings) -> _Token:
    agent = settings.aws_container_credentials
    return _Token(
        identity=f"pod identity association of {account.namespace}/{account.name}",
        audience=agent.audience,
        seconds=_SHORTER_SECONDS if seconds == _DAY_SECONDS else seconds,
        volume=agent.volume_name,
        mount=agent.mount_path,
        file=agent.token_path,
        says=Variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.full_uri),
        leads="AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        labels=_AGENT_LABELS,
    )


def _part(
    token: _Token, values: Mapping[str, Any], skip: frozenset[str], facts: PodFacts, settings: WebhookSettings
) -> Part:
    source = {"audience": token.audience, "expirationSeconds": token.seconds, "path": token.file}
    content = {"name": token.volume, "projected": {"sources": [{"serviceAccountToken": source}]}}
    path = f"{token.mount}/{token.file}"
    if facts.is_windows:
        path = "C:" + path.replace("/", "\\")
    identity = EnvGroup("group", (token.says, Variable(token.leads, path)))
    return Part(
        dialect="eks",
        cloud="aws",
        identity=token.identity,
        audiences=(token.audience,),
        volumes=(Volume(content, first=True),),
        mounts=(Mount(token.volume, token.mount),),
        env=(*_region(values, settings), identity),
        labels=token.labels,
        skip=skip,
        left_alone=(
            frozenset(variable.name for variable in identity.variables),
            frozenset(_REGION_VARIABLES),
            frozenset({_STS_VARIABLE}),
        ),
    )


def _region(values: Mapping[str, Any], settings: WebhookSettings) -> tuple[EnvGroup, ...]:
    groups = []
    if values.get(_STS, settings.aws_regional_sts):
        groups.append(EnvGroup("absent", (Variable(_STS_VARIABLE, "regional"),)))
    if settings.aws_region is not None:
        groups.append(EnvGroup("group", tuple(Variable(name, settings.aws_region) for name in _REGION_VARIABLES)))
    return tuple(groups)
