"""The local STS as AWS: AssumeRoleWithWebIdentity, AssumeRole and GetCallerIdentity of the query protocol.

Codes, texts and statuses are STS' own where somebody has seen them; the comments say where nobody has. Order of the
checks as far as reports show it: parameters, the token's form, the provider of its issuer in the role's account, key
and signature, times, audience, trust policy, the role's maximum duration.
"""

from __future__ import annotations

__all__ = ["AwsSts", "error_document"]

import hashlib
import re
import uuid
from base64 import b32encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from time import gmtime, strftime
from typing import Any, NoReturn

from wif.core.jws import ALGORITHMS, UnverifiedJws, split_compact
from wif.emulator.aws_parameters import (
    ASSUME_ROLE,
    ASSUME_ROLE_WITH_WEB_IDENTITY,
    packed_percent,
    policy_is_json,
    session_policies,
    tags_of,
    validate,
)
from wif.emulator.aws_xml import element
from wif.emulator.hosts import region_of_sts_host
from wif.emulator.issued import MARK
from wif.emulator.services import Refusal, Services
from wif.emulator.sigv4 import SignatureRefused, check, presented_by
from wif.emulator.verification import VerificationFailed
from wif.emulator.wire import Answer, Call, Incoming, form_fields
from wif.errors import RefusedError, TokenError
from wif.trust.aws import OidcProvider, RequestContext, Role, SessionTags, evaluate, evaluate_web_identity, session_tags

VERSION = "2011-06-15"
NAMESPACE = f"https://sts.amazonaws.com/doc/{VERSION}/"
LEEWAY_SECONDS = 60.0
"""Not documented; what other implementers of this call chose."""
MAX_AGE_SECONDS = 24 * 3600.0
"""Of ``iat``. That there is a limit was seen ("Token too old"), where it lies was not."""
MAX_CHAINED_SECONDS = 3600
SESSION_TOKEN_PREFIX = f"{MARK}."

_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::(?P<account>[0-9]{12}):role/(?:[\x21-\x7e]+/)?[\w+=,.@-]{1,64}", re.ASCII)

_NO_TAGS = SessionTags()
_NO_KEY = (
    "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity "
    "documentation for requirements"
)
_NOT_A_JWT = "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"
_NOT_AUTHORISED = "Not authorized to perform sts:AssumeRoleWithWebIdentity"


def error_document(code: str, message: str, *, status: int = 400, request_id: str = "") -> Answer:
    """STS' error: ``Sender`` for 4xx, ``Receiver`` for 5xx."""
    request_id = request_id or str(uuid.uuid4())
    kind = "Sender" if status < 500 else "Receiver"
    return _xml(
        status,
        f'<ErrorResponse xmlns="{NAMESPACE}">\n  <Error>\n'
        f"    {element('Type', kind)}\n    {element('Code', code)}\n    {element('Message', message)}\n"
        f"  </Error>\n  {element('RequestId', request_id)}\n</ErrorResponse>\n",
        request_id,
    )


def _xml(status: int, text: str, request_id: str) -> Answer:
    return Answer(
        status=status,
        content_type="text/xml",
        body=text.encode("utf-8"),
        headers=(("x-amzn-RequestId", request_id),),
    )


def _result(action: str, content: str) -> Answer:
    request_id = str(uuid.uuid4())
    return _xml(
        200,
        f'<{action}Response xmlns="{NAMESPACE}">\n  <{action}Result>\n{content}  </{action}Result>\n'
        f"  <ResponseMetadata>\n    <RequestId>{request_id}</RequestId>\n  </ResponseMetadata>\n</{action}Response>\n",
        request_id,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    """Who signed a request: the session of a role."""

    access_key_id: str
    arn: str
    user_id: str
    role_arn: str
    tags: Mapping[str, str] = field(default_factory=dict)
    transitive: Sequence[str] = ()
    source_identity: str | None = None

    @property
    def account_id(self) -> str:
        return self.arn.split(":")[4]


class AwsSts:
    """AWS' Security Token Service."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._actions: Mapping[str, Callable[[Incoming, Mapping[str, str], float], Awaitable[Answer]]] = {
            "AssumeRoleWithWebIdentity": self._assume_role_with_web_identity,
            "AssumeRole": self._assume_role,
            "GetCallerIdentity": self._get_caller_identity,
        }

    def route(self, request: Incoming) -> Call:
        """Find the operation: the parameter ``Action`` of form or query."""
        if request.path != "/" or request.method not in ("GET", "POST"):
            return _unroutable("UnknownOperation", f"{request.method} {request.path:.200} is no operation of STS", 404)
        try:
            parameters = form_fields(request.query)
            if request.method == "POST":
                parameters = {**parameters, **form_fields(request.body)}
        except ValueError:
            return _unroutable("MalformedQueryString", "The query string contains a syntax error.", 400)
        action = parameters.get("Action", "")
        if not action:
            return _unroutable("MissingAction", "The request is missing an action parameter.", 400)
        version = parameters.get("Version", "")
        handler = self._actions.get(action)
        if handler is None or version != VERSION:
            shown = version[:40] or "NO_VERSION_SPECIFIED"
            return _unroutable("InvalidAction", f"Could not find operation {action[:200]} for version {shown}", 400)
        return Call(operation=action, run=partial(self._guarded, action, handler, request, parameters))

    async def _guarded(
        self,
        action: str,
        handler: Callable[[Incoming, Mapping[str, str], float], Awaitable[Answer]],
        request: Incoming,
        parameters: Mapping[str, str],
        now: float,
    ) -> Answer:
        try:
            return await handler(request, parameters, now)
        except Refusal as refusal:
            self._services.notes.refused("aws", action, refusal.reason)
            return refusal.answer

    # -- a token ------------------------------------------------------------------------------------------

    async def _assume_role_with_web_identity(
        self, request: Incoming, parameters: Mapping[str, str], now: float
    ) -> Answer:
        parameters = {**parameters, "WebIdentityToken": parameters.get("WebIdentityToken", "").strip()}
        _validate(parameters, ASSUME_ROLE_WITH_WEB_IDENTITY)
        account = _account_of(parameters["RoleArn"])
        self._check_region(request, account)
        jws = _parsed(parameters["WebIdentityToken"])
        claims = jws.unverified_claims
        provider = self._provider(account, claims.get("iss"))
        await self._verify(provider, jws)
        _check_times(claims, now)
        audience = provider.accepts_audience(claims)
        if not audience.allowed:
            _refuse("InvalidIdentityToken", "Incorrect token audience", audience.reason)
        role, wanted = self._trusted(request, parameters, provider, claims, now)
        duration = _duration(parameters, role)
        packed = _session_policy(parameters, wanted.tags)
        self._services.notes.passed("aws", provider.issuer)
        session = _Session(
            access_key_id=self._services.seal.aws_key_id(),
            arn=_session_arn(role.arn, role.name, parameters["RoleSessionName"]),
            user_id=f"{_role_id(role)}:{parameters['RoleSessionName']}",
            role_arn=role.arn,
            tags=wanted.tags,
            transitive=wanted.transitive_keys,
            source_identity=wanted.source_identity,
        )
        authorised = claims.get("azp")
        listed = claims["aud"] if isinstance(claims["aud"], str) else claims["aud"][0]
        shown = authorised if isinstance(authorised, str) else listed
        return _result(
            "AssumeRoleWithWebIdentity",
            f"    {element('Audience', shown)}\n"
            + _assumed_role_user(session)
            + f"    {element('Provider', provider.arn)}\n"
            + self._credentials(session, int(now) + duration)
            + f"    {element('SubjectFromWebIdentityToken', claims['sub'])}\n"
            + _extras(packed, session.source_identity),
        )

    def _check_region(self, request: Incoming, account: str) -> None:
        region = region_of_sts_host(request.hostname)
        if region is not None and region in self._services.trust.aws_disabled_regions:
            _refuse(
                "RegionDisabledException",
                f"STS is not activated in this region for account:{account}. Your account administrator can activate "
                "STS in this region using the IAM Console.",
                f"the trust file lists {region} among DisabledRegions",
                403,
            )

    def _provider(self, account: str, issuer: Any) -> OidcProvider:
        if not isinstance(issuer, str) or not issuer:
            _refuse("InvalidIdentityToken", "Missing a required claim: iss", "the token has no iss")
        provider = self._services.trust.aws_providers.get((account, issuer))
        if provider is None:
            _refuse(
                "InvalidIdentityToken",
                f"No OpenIDConnect provider found in your account for {issuer[:500]}",
                f"the account {account} has no OIDC provider for {issuer!r:.300}",
            )
        return provider

    async def _verify(self, provider: OidcProvider, jws: UnverifiedJws) -> None:
        if jws.algorithm not in ALGORITHMS:  # the text was not seen
            _refuse("InvalidIdentityToken", _NOT_A_JWT, f"the token is signed with {jws.algorithm!r:.24}")
        try:
            await self._services.verified("aws", provider.issuer, jws)
        except VerificationFailed as failure:
            _refuse("InvalidIdentityToken", _NO_KEY, failure.detail)
        served = self._services.keys.thumbprints(provider.issuer)
        if provider.thumbprints and served and served.isdisjoint(item.lower() for item in provider.thumbprints):
            _refuse(
                "InvalidIdentityToken",
                "OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint",
                f"the provider lists {', '.join(provider.thumbprints)}, served is one of {', '.join(sorted(served))}",
            )

    def _trusted(
        self,
        request: Incoming,
        parameters: Mapping[str, str],
        provider: OidcProvider,
        claims: Mapping[str, Any],
        now: float,
    ) -> tuple[Role, SessionTags]:
        """The role, which trusts the token, and what the token's claims ask for."""
        role = self._services.trust.aws_roles.get(parameters["RoleArn"])
        if role is None:
            _refuse("AccessDenied", _NOT_AUTHORISED, f"there is no role {parameters['RoleArn']}", 403)
        keys = _request_keys(request, parameters, now) | {"aws:federatedprovider": (provider.arn,)}
        try:
            decision = evaluate_web_identity(role.trust, provider, claims, keys=keys)
            asks = any(name.startswith("https://aws.amazon.com/") for name in claims)
            wanted = session_tags(claims) if asks else _NO_TAGS
        except RefusedError as error:
            _refuse(
                "IDPRejectedClaim",
                "The identity provider (IdP) reported that authentication failed. This might be because the claim is "
                "invalid.",
                error.message,
                403,
            )
        if not decision.allowed:
            _refuse("AccessDenied", _NOT_AUTHORISED, f"{role.arn}: {decision.reason}", 403)
        return role, wanted

    # -- signed calls ---------------------------------------------------------------------------------------

    async def _assume_role(self, request: Incoming, parameters: Mapping[str, str], now: float) -> Answer:
        caller = self._signer(request, now)
        _validate(parameters, ASSUME_ROLE)
        role_arn = parameters["RoleArn"]
        self._check_region(request, _account_of(role_arn))
        tags, transitive = _request_tags(parameters, caller)
        source_identity = parameters.get("SourceIdentity") or caller.source_identity
        role = self._services.trust.aws_roles.get(role_arn)
        context = {
            **_request_keys(request, parameters, now),
            "aws:principalarn": (caller.role_arn,),
            "aws:principalaccount": (caller.account_id,),
            "aws:principaltype": ("AssumedRole",),
            "aws:userid": (caller.user_id,),
            **{f"aws:principaltag/{key.lower()}": (value,) for key, value in caller.tags.items()},
        }
        if parameters.get("ExternalId"):
            context["sts:externalid"] = (parameters["ExternalId"],)
        actions = ["sts:AssumeRole"]
        if tags:
            actions.append("sts:TagSession")
            context["aws:tagkeys"] = tuple(tags)
            context |= {f"aws:requesttag/{key.lower()}": (value,) for key, value in tags.items()}
            if transitive:
                context["sts:transitivetagkeys"] = tuple(transitive)
        if source_identity:
            actions.append("sts:SetSourceIdentity")
            context["sts:sourceidentity"] = (source_identity,)
        for action in actions:
            decision = (
                None
                if role is None
                else evaluate(role.trust, RequestContext(action=action, principal_arn=caller.arn, keys=context))
            )
            if role is None or decision is None or not decision.allowed:
                reason = f"there is no role {role_arn}" if decision is None else f"{role_arn}: {decision.reason}"
                text = f"User: {caller.arn} is not authorized to perform: {action} on resource: {role_arn}"
                _refuse("AccessDenied", text, reason, 403)
        assert role is not None  # noqa: S101 - there is at least one action
        if caller.source_identity and source_identity != caller.source_identity:
            _refuse(
                "AccessDenied", "The source identity of a session cannot be changed", "another source identity", 403
            )
        duration = _duration(parameters, role, chained=True)
        packed = _session_policy(parameters, tags)
        session = _Session(
            access_key_id=self._services.seal.aws_key_id(),
            arn=_session_arn(role.arn, role.name, parameters["RoleSessionName"]),
            user_id=f"{_role_id(role)}:{parameters['RoleSessionName']}",
            role_arn=role.arn,
            tags=tags,
            transitive=transitive,
            source_identity=source_identity,
        )
        return _result(
            "AssumeRole",
            _assumed_role_user(session)
            + self._credentials(session, int(now) + duration)
            + _extras(packed, session.source_identity),
        )

    async def _get_caller_identity(self, request: Incoming, parameters: Mapping[str, str], now: float) -> Answer:
        del parameters
        caller = self._signer(request, now)
        return _result(
            "GetCallerIdentity",
            f"    {element('Arn', caller.arn)}\n    {element('UserId', caller.user_id)}\n"
            f"    {element('Account', caller.account_id)}\n",
        )

    def _signer(self, request: Incoming, now: float) -> _Session:
        """The session whose keys have signed a request."""
        try:
            presented = presented_by(request)
            token = presented.session_token or ""
            content = None
            if token.startswith(SESSION_TOKEN_PREFIX):
                content = self._services.seal.open("aws", token.removeprefix(SESSION_TOKEN_PREFIX))
            if content is None or content["k"] != presented.access_key_id:
                raise SignatureRefused("InvalidClientTokenId", "The security token included in the request is invalid.")
            check(
                presented,
                request,
                secret=self._services.seal.aws_secret(presented.access_key_id),
                region=region_of_sts_host(request.hostname),
                now=now,
            )
            if content["e"] <= now:
                raise SignatureRefused("ExpiredToken", "The security token included in the request is expired")
        except SignatureRefused as refused:
            _refuse(refused.code, refused.message, refused.message, refused.status)
        return _Session(
            access_key_id=content["k"],
            arn=content["n"],
            user_id=content["u"],
            role_arn=content["r"],
            tags=content["t"],
            transitive=content["tt"],
            source_identity=content["si"],
        )

    def _credentials(self, session: _Session, expires: int) -> str:
        sealed = self._services.seal.seal(
            "aws",
            {
                "k": session.access_key_id,
                "n": session.arn,
                "u": session.user_id,
                "r": session.role_arn,
                "e": expires,
                "t": dict(session.tags),
                "tt": list(session.transitive),
                "si": session.source_identity,
            },
        )
        return (
            "    <Credentials>\n"
            f"      <AccessKeyId>{session.access_key_id}</AccessKeyId>\n"
            f"      <SecretAccessKey>{self._services.seal.aws_secret(session.access_key_id)}</SecretAccessKey>\n"
            f"      <SessionToken>{SESSION_TOKEN_PREFIX}{sealed}</SessionToken>\n"
            f"      <Expiration>{strftime('%Y-%m-%dT%H:%M:%SZ', gmtime(expires))}</Expiration>\n"
            "    </Credentials>\n"
        )


# -- the steps of a request ----------------------------------------------------------------------------------


def _refuse(code: str, message: str, reason: str, status: int = 400) -> NoReturn:
    raise Refusal(error_document(code, message, status=status), f"{code}: {reason}")


def _unroutable(code: str, message: str, status: int) -> Call:
    async def run(now: float) -> Answer:
        del now
        return error_document(code, message, status=status)

    return Call(operation="unknown", run=run)


def _validate(parameters: Mapping[str, str], constraints: Sequence[Any]) -> None:
    problems = validate(parameters, constraints)
    if problems:
        text = f"{len(problems)} validation error{'s' if len(problems) > 1 else ''} detected: {'; '.join(problems)}"
        _refuse("ValidationError", text, text)


def _account_of(role_arn: str) -> str:
    match = _ROLE_ARN.fullmatch(role_arn)
    if match is None:
        _refuse("ValidationError", f"{role_arn} is invalid", "the RoleArn is not the ARN of a role")
    return match["account"]


def _parsed(token: str) -> UnverifiedJws:
    try:
        return split_compact(token)
    except TokenError as error:
        _refuse("InvalidIdentityToken", _NOT_A_JWT, error.message)


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    """The claims that must be there, and the times. Texts for nbf and for an iat of tomorrow were not seen."""
    for name in ("sub", "aud", "iat", "exp"):
        if claims.get(name) in (None, "", []):
            _refuse("InvalidIdentityToken", f"Missing a required claim: {name}", f"the token has no {name}")
    subject, audience = claims["sub"], claims["aud"]
    audiences = [audience] if isinstance(audience, str) else audience
    if (
        not isinstance(subject, str)
        or not 6 <= len(subject) <= 255
        or not isinstance(audiences, list)
        or not all(isinstance(item, str) for item in audiences)
    ):
        _refuse("InvalidIdentityToken", _NOT_A_JWT, "sub is not a string of 6 to 255 characters, or aud is of no use")
    for name in ("iat", "exp", "nbf"):
        value = claims.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or abs(value) > 10**11):
            _refuse("InvalidIdentityToken", _NOT_A_JWT, f"{name} is not an integer")
    if claims["exp"] + LEEWAY_SECONDS <= now:
        _refuse(
            "ExpiredTokenException",
            f"Token expired: current date/time {now:.0f} must be before the expiration date/time {claims['exp']}",
            "the token is past its exp",
        )
    if now - claims["iat"] > MAX_AGE_SECONDS:
        age = f"{now - claims['iat']:.0f}"
        _refuse("ExpiredTokenException", f"Token too old: {age}", f"the token was issued {age} s ago")
    for name in ("nbf", "iat"):
        value = claims.get(name)
        if value is not None and value - LEEWAY_SECONDS > now:
            _refuse(
                "InvalidIdentityToken",
                f"Token not yet valid: current date/time {now:.0f} must be after the {name} date/time {value}",
                f"the token's {name} is ahead of the clock",
            )


def _duration(parameters: Mapping[str, str], role: Role, *, chained: bool = False) -> int:
    seconds = int(parameters.get("DurationSeconds") or 3600)
    if chained and seconds > MAX_CHAINED_SECONDS:
        _refuse(
            "ValidationError",
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
            f"{seconds} s were asked for",
        )
    if seconds > role.max_session_seconds:
        _refuse(
            "ValidationError",
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
            f"{role.arn} has a maximum of {role.max_session_seconds} s, {seconds} were asked for",
        )
    return seconds


def _session_policy(parameters: Mapping[str, str], tags: Mapping[str, str]) -> int | None:
    """How much of the allotted space session policies and tags take, in percent; None where there are none."""
    policy, arns = session_policies(parameters)
    if policy and not policy_is_json(policy):  # the text was not seen
        _refuse(
            "MalformedPolicyDocument", "The policy is not in the valid JSON format.", "the Policy is no JSON object"
        )
    if not policy and not arns and not tags:
        return None
    percent = packed_percent(policy, arns)
    if percent > 100:
        _refuse(
            "PackedPolicyTooLarge",
            f"Packed policy consumes {percent}% of allotted space, please use smaller policy.",
            "the session policies are too large together",
        )
    tagged = packed_percent("", [*tags, *tags.values()])
    if tagged > 100:
        _refuse(
            "PackedPolicyTooLarge",
            f"Packed size of session tags consumes {tagged}% of allotted space.",
            "the session tags are too large together",
        )
    return max(percent, tagged)


def _request_keys(request: Incoming, parameters: Mapping[str, str], now: float) -> dict[str, tuple[str, ...]]:
    return {
        "sts:rolesessionname": (parameters["RoleSessionName"],),
        "aws:currenttime": (strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(now)),),
        "aws:epochtime": (f"{now:.0f}",),
        "aws:securetransport": ("true",),
        "aws:sourceip": ("127.0.0.1",),
        "aws:requestedregion": (region_of_sts_host(request.hostname) or "us-east-1",),
    }


def _request_tags(parameters: Mapping[str, str], caller: _Session) -> tuple[Mapping[str, str], Sequence[str]]:
    """The tags of a chained session: those of the request, and the caller's transitive ones, which win."""
    try:
        asked, transitive = tags_of(parameters)
    except ValueError as error:
        _refuse("ValidationError", f"1 validation error detected: {error}", str(error))
    inherited = {key: caller.tags[key] for key in caller.transitive if key in caller.tags}
    return {**asked, **inherited}, [*dict.fromkeys([*transitive, *inherited])]


def _session_arn(role_arn: str, role_name: str, session_name: str) -> str:
    _, partition, _, _, account, _ = role_arn.split(":", 5)
    return f"arn:{partition}:sts::{account}:assumed-role/{role_name}/{session_name}"


def _role_id(role: Role) -> str:
    """The role's unique id; where the file names none, one that follows from its ARN."""
    return role.role_id or _made_role_id(role.arn)


@lru_cache(maxsize=1024)
def _made_role_id(arn: str) -> str:
    return "AROA" + b32encode(hashlib.sha256(arn.encode()).digest())[:17].decode("ascii")


def _assumed_role_user(session: _Session) -> str:
    return (
        "    <AssumedRoleUser>\n"
        f"      {element('AssumedRoleId', session.user_id)}\n      {element('Arn', session.arn)}\n"
        "    </AssumedRoleUser>\n"
    )


def _extras(packed: int | None, source_identity: str | None) -> str:
    text = "" if packed is None else f"    {element('PackedPolicySize', str(packed))}\n"
    return text + (f"    {element('SourceIdentity', source_identity)}\n" if source_identity else "")
