"""AWS' Security Token Service at run time: endpoints, AssumeRoleWithWebIdentity, AssumeRole, GetCallerIdentity.

Source: the STS API of 2011-06-15 (query protocol, XML answers) and botocore's ``partitions.json``.
"""

from __future__ import annotations

__all__ = [
    "CallerIdentity",
    "ChainedRole",
    "WebIdentity",
    "assume_role",
    "assume_role_with_web_identity",
    "get_caller_identity",
    "is_sts_host",
    "partition_of_region",
    "session_name",
    "sts_endpoint",
]

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn
from urllib.parse import urlencode, urlsplit

from wif.clouds.answers import Asked, header_safe, is_local_sts, left_seconds, malformed, refusal, shown, when
from wif.clouds.aws_regions import GLOBAL_REGION, is_sts_host, partition_of_region, sts_endpoint
from wif.clouds.aws_xml import leaves
from wif.core.credentials import AwsCredentials
from wif.core.flow import Flow, Request, Response
from wif.core.token import UnverifiedToken
from wif.errors import ConfigurationError, WifError

MIN_DURATION_SECONDS = 900
MAX_DURATION_SECONDS = 43_200
MAX_CHAINED_SECONDS = 3_600
_VERSION = "2011-06-15"


def session_name(token: UnverifiedToken) -> str:
    """A role session name that shows the pod: ``<namespace>.<pod or ServiceAccount>``, 2 to 64 allowed characters.

    For display in CloudTrail only: two pods may share it, and nothing may be decided on it.
    """
    kind = token.subject.split(":")
    of_account = len(kind) == 4 and kind[:2] == ["system", "serviceaccount"]
    namespace = token.namespace or (kind[2] if of_account else "")
    name = token.pod or token.service_account or (kind[3] if of_account else token.subject)
    # The end of a pod's name is what tells replicas apart, so the middle gives way.
    head = f"{namespace[:31]}." if namespace else ""
    whole = head + name[-(64 - len(head)) :]
    clean = re.sub(r"[^\w+=,.@-]", "-", whole, flags=re.ASCII)
    return clean if len(clean) >= 2 else f"wif-{clean}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebIdentity:
    """What AssumeRoleWithWebIdentity is asked for. Checked when it is made.

    Raises:
        ConfigurationError: config-invalid, naming the parameter.
    """

    role_arn: str
    session_name: str | None = None
    """None: made from the token of each exchange."""
    duration_seconds: int | None = None
    """900 to 43200; None: AWS' default, 3600."""
    policy: str | None = None
    policy_arns: tuple[str, ...] = ()
    endpoint: str
    region: str | None = None

    def __post_init__(self) -> None:
        _check_role(self.role_arn, self.session_name, self.policy, self.policy_arns)
        _check_duration(self.duration_seconds, MAX_DURATION_SECONDS, "")
        _check_endpoint(self.endpoint)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainedRole:
    """A role assumed with the keys of another one. AWS ends such a session after one hour at the latest."""

    role_arn: str
    session_name: str | None = None
    duration_seconds: int | None = None
    """900 to 3600; None: AWS' default, 3600."""
    external_id: str | None = None
    source_identity: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    """Session tags, at most 50."""
    transitive_tag_keys: tuple[str, ...] = ()
    """Keys of tags that further roles of the chain inherit."""
    policy: str | None = None
    policy_arns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_role(self.role_arn, self.session_name, self.policy, self.policy_arns)
        _check_duration(
            self.duration_seconds, MAX_CHAINED_SECONDS, ", because AWS ends a chained role's session after one hour"
        )
        if self.external_id is not None and not re.fullmatch(r"[\w+=,.@:/-]{2,1224}", self.external_id, re.ASCII):
            _invalid("the external id is not allowed", "use 2 to 1224 letters, digits and the characters _+=,.@:/-")
        _check_name("source identity", self.source_identity)
        _check_tags(self.tags, self.transitive_tag_keys)


class CallerIdentity(NamedTuple):
    """What AWS calls the owner of the keys."""

    arn: str
    account: str
    user_id: str
    local_sts: bool = False


def assume_role_with_web_identity(params: WebIdentity, token: UnverifiedToken, *, now: float) -> Flow[AwsCredentials]:
    """Exchange a subject token for a role's keys. One unsigned request."""
    form = _role_form("AssumeRoleWithWebIdentity", params.role_arn, params.session_name or session_name(token))
    _add_session(form, params.duration_seconds, params.policy, params.policy_arns)
    form["WebIdentityToken"] = token.raw
    asked = Asked(
        cloud="aws",
        name="AWS",
        operation="AssumeRoleWithWebIdentity",
        identity=f"the role {params.role_arn}",
        now=now,
        token=token,
        secrets=(token.raw,),
    )
    response = yield _request(params.endpoint, form, asked.operation)
    return _credentials(asked, response, params.region)


def assume_role(
    params: ChainedRole,
    credentials: AwsCredentials,
    *,
    endpoint: str,
    region: str | None,
    session_name: str,
    now: float,
) -> Flow[AwsCredentials]:
    """Assume a second role with the first one's keys. One signed request.

    Args:
        session_name: used where ``params`` names none.
        region: the region of the endpoint; None: the global one.
    """
    _check_endpoint(endpoint)
    _check_name("session name", session_name)
    form = _role_form("AssumeRole", params.role_arn, params.session_name or session_name)
    _add_session(form, params.duration_seconds, params.policy, params.policy_arns)
    if params.external_id is not None:
        form["ExternalId"] = params.external_id
    if params.source_identity is not None:
        form["SourceIdentity"] = params.source_identity
    for index, (key, value) in enumerate(params.tags.items(), 1):
        form[f"Tags.member.{index}.Key"] = key
        form[f"Tags.member.{index}.Value"] = value
    for index, key in enumerate(params.transitive_tag_keys, 1):
        form[f"TransitiveTagKeys.member.{index}"] = key
    asked = _asked_with_keys("AssumeRole", f"the role {params.role_arn}", credentials, now)
    response = yield _signed_request(endpoint, form, asked, credentials, region)
    return _credentials(asked, response, region)


def get_caller_identity(
    credentials: AwsCredentials, *, endpoint: str, region: str | None, now: float
) -> Flow[CallerIdentity]:
    """Ask AWS whose keys these are. One signed request."""
    _check_endpoint(endpoint)
    asked = _asked_with_keys("GetCallerIdentity", credentials.assumed_role_arn or "these keys", credentials, now)
    form = {"Action": "GetCallerIdentity", "Version": _VERSION}
    response = yield _signed_request(endpoint, form, asked, credentials, region)
    found = _document(asked, response)
    result = "GetCallerIdentityResponse/GetCallerIdentityResult/"
    values = [found.get(result + name, "") for name in ("Arn", "Account", "UserId")]
    if not all(values):
        raise malformed(asked, response, "a document without Arn, Account or UserId")
    return CallerIdentity(shown(values[0]), shown(values[1]), shown(values[2]), is_local_sts(response))


def _asked_with_keys(operation: str, identity: str, credentials: AwsCredentials, now: float) -> Asked:
    return Asked(
        cloud="aws",
        name="AWS",
        operation=operation,
        identity=identity,
        now=now,
        secrets=(credentials.secret_access_key, credentials.session_token),
    )


def _role_form(action: str, role_arn: str, name: str) -> dict[str, str]:
    return {"Action": action, "Version": _VERSION, "RoleArn": role_arn, "RoleSessionName": name}


def _add_session(
    form: dict[str, str], duration_seconds: int | None, policy: str | None, policy_arns: tuple[str, ...]
) -> None:
    if duration_seconds is not None:
        form["DurationSeconds"] = str(duration_seconds)
    if policy is not None:
        form["Policy"] = policy
    for index, arn in enumerate(policy_arns, 1):
        form[f"PolicyArns.member.{index}.arn"] = arn


_HEADERS = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8", "Accept": "text/xml"}


def _request(endpoint: str, form: Mapping[str, str], operation: str) -> Request:
    return Request(
        method="POST", url=endpoint, headers=_HEADERS, body=urlencode(form).encode("ascii"), operation=operation
    )


def _signed_request(
    endpoint: str, form: Mapping[str, str], asked: Asked, credentials: AwsCredentials, region: str | None
) -> Request:
    from wif.clouds.aws_signing import signed_headers  # noqa: PLC0415  # 4 ms of hashing

    is_global = (urlsplit(endpoint).hostname or "").lower() == "sts.amazonaws.com"
    body = urlencode(form).encode("ascii")
    headers = signed_headers(
        method="POST",
        url=endpoint,
        headers=_HEADERS,
        body=body,
        credentials=credentials,
        region=GLOBAL_REGION if is_global or region in (None, "aws-global") else str(region),
        now=asked.now,
    )
    return Request(method="POST", url=endpoint, headers=headers, body=body, operation=asked.operation)


def _credentials(asked: Asked, response: Response, region: str | None) -> AwsCredentials:
    found = _document(asked, response)
    result = f"{asked.operation}Response/{asked.operation}Result/"
    keys = [found.get(f"{result}Credentials/{name}", "") for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")]
    if not all(map(header_safe, keys)):
        raise malformed(asked, response, "a document without usable credentials")
    expires_at = when(found.get(f"{result}Credentials/Expiration"))
    if expires_at is None:
        raise malformed(asked, response, "credentials without a usable Expiration")
    arn = shown(found.get(f"{result}AssumedRoleUser/Arn", ""))
    account = arn.split(":")[4] if arn.count(":") >= 5 else ""
    return AwsCredentials(
        access_key_id=keys[0],
        secret_access_key=keys[1],
        session_token=keys[2],
        expires_at=expires_at,
        lifetime_seconds=left_seconds(asked, response, expires_at),
        assumed_role_arn=arn,
        account_id=account,
        region=region,
        local_sts=is_local_sts(response),
    )


def _document(asked: Asked, response: Response) -> Mapping[str, str]:
    """The leaves of a success document by their paths; anything else is raised."""
    found = leaves(response.body)
    if response.status == 200:
        if found is None:
            raise malformed(asked, response, "something that is not a document of its API")
        return found
    raise _refused(asked, response, found or {})


def _refused(asked: Asked, response: Response, found: Mapping[str, str]) -> WifError:
    from wif.clouds.aws_errors import ROWS  # noqa: PLC0415  # only a refusal needs the table

    code = found.get("ErrorResponse/Error/Code", "")
    return refusal(asked, response, cloud_code=code, text=found.get("ErrorResponse/Error/Message", ""), rows=ROWS)


def _invalid(what: str, hint: str) -> NoReturn:
    raise ConfigurationError(what, code="config-invalid", hint=hint)


def _check_role(role_arn: str, name: str | None, policy: str | None, policy_arns: tuple[str, ...]) -> None:
    if len(role_arn) > 2048 or not re.fullmatch(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+", role_arn, re.ASCII):
        _invalid(
            f"{shown(role_arn)!r} is not the ARN of a role",
            "write it as IAM shows it: arn:aws:iam::111122223333:role/app",
        )
    _check_name("session name", name)
    if policy is not None and not _is_policy(policy):
        _invalid(
            f"the session policy ({len(policy)} characters) is not a JSON object of at most 2048 characters",
            "write an IAM policy document; managed policies go by their ARNs",
        )
    if len(policy_arns) > 10:
        _invalid(f"{len(policy_arns)} managed session policies are given", "at most 10 are allowed")
    for arn in policy_arns:
        if not re.fullmatch(r"arn:[\w+=,.@:/-]{16,2044}", arn, re.ASCII):
            _invalid(
                f"{shown(arn)!r} is not the ARN of a policy", "write it as IAM shows it: arn:aws:iam::aws:policy/…"
            )


def _is_policy(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict) and re.fullmatch(r"[\t\n\r -\u00ff]{1,2048}", text) is not None
    except (ValueError, RecursionError):
        return False


def _check_name(what: str, name: str | None) -> None:
    if name is not None and not re.fullmatch(r"[\w+=,.@-]{2,64}", name, re.ASCII):
        _invalid(f"the {what} {shown(name)!r} is not allowed", "use 2 to 64 letters, digits and the characters _+=,.@-")


def _check_tags(tags: Mapping[str, str], transitive: tuple[str, ...]) -> None:
    """Session tags as the API takes them; their keys are told apart without regard to case."""
    allowed = r"[\w\s.:/=+@-]*"
    if len(tags) > 50 or len({key.lower() for key in tags}) != len(tags):
        _invalid(f"{len(tags)} session tags are given, or one twice", "use at most 50, and different keys")
    for key in (*tags, *transitive):
        if not 1 <= len(key) <= 128 or not re.fullmatch(allowed, key):
            _invalid(f"the session tag key {shown(key)!r} is not allowed", "use 1 to 128 letters, digits and _.:/=+@-")
    for key, value in tags.items():
        if len(value) > 256 or not re.fullmatch(allowed, value):
            _invalid(f"the session tag {shown(key)!r} has a value that is not allowed", "use at most 256 characters")


def _check_duration(seconds: int | None, longest: int, why: str) -> None:
    if seconds is not None and not MIN_DURATION_SECONDS <= seconds <= longest:
        _invalid(
            f"a duration of {seconds} s is not allowed{why}",
            f"ask for {MIN_DURATION_SECONDS} to {longest} s",
        )


def _check_endpoint(endpoint: str) -> None:
    """A signature covers the path as it is, so only paths that need no normal form are taken."""
    try:
        parts = urlsplit(endpoint)
        _ = parts.port
        usable = (
            parts.scheme in ("https", "http")
            and bool(parts.hostname)
            and "@" not in parts.netloc
            and re.fullmatch(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?", parts.path) is not None
            and endpoint == f"{parts.scheme}://{parts.netloc}{parts.path}"
        )
    except ValueError:
        usable = False
    if not usable:
        _invalid(f"{shown(endpoint)!r} is not an endpoint", "write an https URL without query and fragment")
