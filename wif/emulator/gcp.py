"""The local STS as Google: the token exchange, introspection, service account credentials and what SDKs ask besides.

Texts are those that real answers showed (see the table of the reference for each); where nobody has seen one, a
plain text stands in and the comment says so. Federated tokens are opaque and known by introspection; ID tokens are
ES256 (real ones are RS256) under an issuer of the reserved domain ``.invalid``.
"""

from __future__ import annotations

__all__ = ["GcpSts", "api_error_document", "error_document"]

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import count
from time import gmtime, strftime
from typing import Any, NoReturn

from wif.core.jws import UnverifiedJws, VerifiedJws, split_compact
from wif.emulator.gcp_errors import (
    BAD_AUDIENCE,
    BAD_CREDENTIALS,
    BAD_TARGET,
    NO_CREDENTIALS,
    NO_STORE,
    TOO_LONG,
    api_error_document,
    error_document,
    refuse,
    refuse_api,
)
from wif.emulator.issued import GOOGLE_ISSUER, MARK
from wif.emulator.services import Refusal, Services
from wif.emulator.verification import VerificationFailed, check_signature
from wif.emulator.wire import Answer, Call, Incoming, form_fields, json_answer, json_object
from wif.errors import ConfigurationError, TokenError
from wif.trust.gcp import (
    FederatedPrincipal,
    MappedAttributes,
    MappingRefused,
    Provider,
    ServiceAccount,
    accepts_audience,
    condition_holds,
    map_attributes,
    may_impersonate,
)

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"
JWT_TYPES = frozenset({"urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token"})
ALGORITHMS = frozenset({"RS256", "ES256"})
SKEW_SECONDS = 60.0
"""Seen both ways: 60 s are forgiven, 61 are not."""
MAX_AGE_SECONDS = 24 * 3600.0
"""Of ``iat``, documented."""
MAX_TOKEN_SECONDS = 3600
EXTENDED_TOKEN_SECONDS = 12 * 3600
"""With constraints/iam.allowServiceAccountCredentialLifetimeExtension."""
MAX_TOKEN_CHARACTERS = 20_000
MAX_DELEGATES = 16

TOKEN_PREFIX = f"ya29.{MARK}."
CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
IAM_SCOPE = "https://www.googleapis.com/auth/iam"
INTROSPECTION_ISSUER = "https://sts.googleapis.invalid/"

_AUDIENCE = re.compile(
    r"//iam\.googleapis\.com/(?P<name>projects/[0-9]+/locations/global/workloadIdentityPools/[a-z0-9-]+/providers/[a-z0-9-]+"
    r"|locations/global/workforcePools/[a-z0-9-]+/providers/[a-z0-9-]+)",
    re.ASCII,
)
_LIFETIME = re.compile(r"([0-9]{1,9})(?:\.[0-9]{1,9})?s", re.ASCII)
_SCOPE = re.compile(
    r"(?:https://www\.googleapis\.com/auth/[a-z0-9._/-]+|openid|email|profile|https://mail\.google\.com/)"
)


class GcpSts:
    """Google's token service and its neighbours."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._serial = count(1)
        self._routes: Sequence[tuple[re.Pattern[str], str, str, str, Callable[..., Awaitable[Answer]]]] = (
            # path, method, service (first label of the host), operation, handler
            (re.compile(r"/v1(?:beta)?/token"), "POST", "sts", "token", self._token),
            (re.compile(r"/v1(?:beta)?/introspect"), "POST", "sts", "introspect", self._introspect),
            (
                re.compile(r"/v1/projects/[^/]+/serviceAccounts/(?P<account>[^/:]+):generateAccessToken"),
                "POST",
                "iamcredentials",
                "generateAccessToken",
                self._generate_access_token,
            ),
            (
                re.compile(r"/v1/projects/[^/]+/serviceAccounts/(?P<account>[^/:]+):generateIdToken"),
                "POST",
                "iamcredentials",
                "generateIdToken",
                self._generate_id_token,
            ),
            (
                re.compile(
                    r"/v1/(?:projects/[^/]+/serviceAccounts/[^/]+|projects/[0-9]+/locations/global/workloadIdentityPools"
                    r"/[^/]+|locations/global/workforcePools/[^/]+)/allowedLocations"
                ),
                "GET",
                "iamcredentials",
                "getAllowedLocations",
                self._allowed_locations,
            ),
            (
                re.compile(r"/v1/projects/(?P<project>[^/:]+)"),
                "GET",
                "cloudresourcemanager",
                "projects.get",
                self._project,
            ),
            (re.compile(r"/oauth2/v3/certs"), "GET", "www", "certs", self._certs),
        )

    def route(self, request: Incoming) -> Call:
        """Find the operation of a path; on Google's own host names only that service's paths count."""
        hostname = request.hostname
        service = hostname.partition(".")[0] if hostname.endswith(".googleapis.com") else ""
        for pattern, method, owner, operation, handler in self._routes:
            match = pattern.fullmatch(request.path)
            if match is None or service not in ("", owner):
                continue
            if method != request.method:
                break
            return Call(operation=operation, run=partial(self._guarded, operation, handler, request, match.groupdict()))
        return Call(operation="unknown", run=partial(_not_found, request))

    async def _guarded(
        self,
        operation: str,
        handler: Callable[..., Awaitable[Answer]],
        request: Incoming,
        parameters: Mapping[str, str],
        now: float,
    ) -> Answer:
        try:
            return await handler(request, now, **parameters)
        except Refusal as refusal:
            self._services.notes.refused("gcp", operation, refusal.reason)
            return refusal.answer

    # -- the exchange ------------------------------------------------------------------------------------

    async def _token(self, request: Incoming, now: float) -> Answer:
        fields = _exchange_fields(request)
        provider = self._provider(fields)
        jws = _parsed(fields["subject_token"].strip())
        _check_claims(provider, jws.unverified_claims, now)
        verified = await self._verified(provider, jws)
        mapped = _mapped(provider, verified.claims)
        self._services.notes.passed("gcp", provider.issuer)
        left = int(verified.claims["exp"] - now // 1)
        if 0 <= left < 2:
            return error_document("internal_failure", "Internal error encountered.", status=500)  # as seen
        # An expired token within the leeway was seen to give as many seconds as it is past its time.
        seconds = min(abs(left), MAX_TOKEN_SECONDS) - 1
        token = self._sealed(
            {
                "p": provider.name,
                "s": mapped.subject,
                "g": mapped.groups,
                "a": dict(mapped.attributes),
                "sc": fields["scope"],
                "i": int(now),
                "e": int(now) + seconds,
            }
        )
        document: dict[str, Any] = {
            "access_token": token,
            "issued_token_type": ACCESS_TOKEN_TYPE,
            "token_type": "Bearer",
        }
        if left != 2:  # with two seconds left real answers lack it
            document["expires_in"] = seconds
        return json_answer(200, document, NO_STORE)

    def _provider(self, fields: Mapping[str, str]) -> Provider:
        audience = _AUDIENCE.fullmatch(fields.get("audience", ""))
        if audience is None:
            refuse("invalid_request", BAD_AUDIENCE, f"the audience is {fields.get('audience', '')!r:.200}")
        provider = self._services.trust.gcp_provider(audience["name"])
        if provider is None:
            refuse("invalid_target", BAD_TARGET, f"there is no enabled provider {audience['name']}")
        return provider

    async def _verified(self, provider: Provider, jws: UnverifiedJws) -> VerifiedJws:
        if jws.algorithm not in ALGORITHMS:  # documented; the text was not seen
            refuse(
                "invalid_grant",
                "Unable to verify the ID Token signature.",
                f"the token is signed with {jws.algorithm!r:.24}, only RS256 and ES256 are supported",
            )
        uploaded = self._services.trust.gcp_uploaded_keys(provider.name)
        try:
            if uploaded is None:
                return await self._services.verified("gcp", provider.issuer, jws, provider.discovery_uri)
            keys = uploaded.candidates(jws.key_id)
            if not keys:
                raise VerificationFailed("key-unknown", f"the uploaded keys have none of the id {jws.key_id!r:.80}")
            return check_signature(jws, keys)
        except VerificationFailed as failure:
            text = (
                "Unable to verify the ID Token signature."
                if failure.kind == "signature"
                else "Error connecting to the given credential's issuer."
            )
            refuse("invalid_grant", text, failure.detail)

    async def _introspect(self, request: Incoming, now: float) -> Answer:
        fields = _fields(request)
        content = self._opened(fields.get("token", "").strip(), now)
        if content is None or "p" not in content:  # tokens of service accounts are not known there
            return json_answer(200, {"active": False}, NO_STORE)
        principal = _principal(content)
        return json_answer(
            200,
            {
                "active": True,
                "client_id": f"//iam.googleapis.com/{content['p']}",
                "exp": str(content["e"]),
                "iat": str(content["i"]),
                "iss": INTROSPECTION_ISSUER,
                "scope": content["sc"],
                "sub": content["s"],
                "username": principal.uri,
            },
            NO_STORE,
        )

    # -- service accounts ----------------------------------------------------------------------------------

    async def _generate_access_token(self, request: Incoming, now: float, account: str) -> Answer:
        caller = self._caller(request, now)
        body = _api_body(request)
        scopes = body.get("scope")
        if not isinstance(scopes, list) or not scopes or not all(isinstance(item, str) for item in scopes):
            refuse_api(400, "INVALID_ARGUMENT", "Scope required.", "there is no scope")
        if scopes == [""]:
            scopes = [CLOUD_PLATFORM]
        unknown = [item for item in scopes if not _SCOPE.fullmatch(item)]
        if unknown:
            refuse_api(
                400, "INVALID_ARGUMENT", "Request contains an invalid argument.", f"bad scope {unknown[0]!r:.99}"
            )
        lifetime = _lifetime(body.get("lifetime"))
        target = self._impersonated(caller, body, account, "iam.serviceAccounts.getAccessToken")
        limit = MAX_TOKEN_SECONDS
        if self._services.trust.gcp_lifetime_extended(target.email):
            limit = EXTENDED_TOKEN_SECONDS
        if lifetime > limit:
            refuse_api(400, "INVALID_ARGUMENT", TOO_LONG.format(email=target.email), f"a lifetime of {lifetime} s")
        expires = int(now) + lifetime
        token = self._sealed({"sa": target.email, "sc": " ".join(scopes), "i": int(now), "e": expires})
        stamp = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(expires))
        return json_answer(200, {"accessToken": token, "expireTime": stamp}, NO_STORE)

    async def _generate_id_token(self, request: Incoming, now: float, account: str) -> Answer:
        caller = self._caller(request, now)
        body = _api_body(request)
        audience = body.get("audience")
        if not isinstance(audience, str) or not audience:
            refuse_api(400, "INVALID_ARGUMENT", "Request contains an invalid argument.", "there is no audience")
        include_email = body.get("includeEmail", False)
        if not isinstance(include_email, bool):
            refuse_api(400, "INVALID_ARGUMENT", "Request contains an invalid argument.", "includeEmail is no boolean")
        target = self._impersonated(caller, body, account, "iam.serviceAccounts.getOpenIdToken")
        unique_id = self._services.trust.gcp_unique_id(target)
        claims: dict[str, Any] = {
            "aud": audience,
            "azp": unique_id,
            "exp": int(now) + MAX_TOKEN_SECONDS,
            "iat": int(now),
            "iss": GOOGLE_ISSUER,
            "sub": unique_id,
        }
        if include_email:
            claims |= {"email": target.email, "email_verified": True}
        return json_answer(200, {"token": self._services.google_signer.sign(claims)}, NO_STORE)

    def _impersonated(
        self,
        caller: FederatedPrincipal | ServiceAccount,
        body: Mapping[str, Any],
        account: str,
        permission: str,
    ) -> ServiceAccount:
        """The service account at the end of the chain of delegates, every step of which is allowed."""
        delegates = body.get("delegates")
        delegates = [] if delegates is None else delegates
        if (
            not isinstance(delegates, list)
            or len(delegates) > MAX_DELEGATES
            or not all(isinstance(item, str) for item in delegates)
        ):
            refuse_api(
                400, "INVALID_ARGUMENT", "Request contains an invalid argument.", "delegates is no list of names"
            )
        step = caller
        for name in delegates:
            delegate_id = re.sub(r"^projects/[^/]+/serviceAccounts/", "", name)
            step = self._allowed(step, delegate_id, "iam.serviceAccounts.implicitDelegation", shown=permission)
        return self._allowed(step, account, permission, shown=permission)

    def _allowed(
        self, caller: FederatedPrincipal | ServiceAccount, account: str, permission: str, *, shown: str
    ) -> ServiceAccount:
        target = self._services.trust.gcp_service_account(account)
        decision = None if target is None else may_impersonate(target, caller, permission)
        if target is None or decision is None or not decision.allowed:
            reason = f"there is no service account {account!r:.200}" if decision is None else decision.reason
            answer = api_error_document(
                403,
                "PERMISSION_DENIED",
                f"Permission '{shown}' denied on resource (or it may not exist).",
                reason="IAM_PERMISSION_DENIED",
                metadata={"permission": shown},
            )
            raise Refusal(answer, reason)
        return target

    # -- what SDKs ask besides -------------------------------------------------------------------------------

    async def _allowed_locations(self, request: Incoming, now: float) -> Answer:
        self._caller(request, now)
        return json_answer(200, {"locations": ["us-central1", "us-east1"], "encodedLocations": "0xA30"}, NO_STORE)

    async def _project(self, request: Incoming, now: float, project: str) -> Answer:
        caller = self._caller(request, now)
        found = self._services.trust.gcp_project(project)
        if found is None:
            refuse_api(403, "PERMISSION_DENIED", "The caller does not have permission", f"no project {project!r:.99}")
        number, project_id = found
        document = {
            "projectNumber": number,
            "projectId": project_id,
            "lifecycleState": "ACTIVE",
            "name": project_id,
            "createTime": "2026-01-01T00:00:00Z",
        }
        name = caller.email if isinstance(caller, ServiceAccount) else caller.uri
        return json_answer(200, document, (*NO_STORE, ("X-Wif-Local-STS-Caller", name)))

    async def _certs(self, request: Incoming, now: float) -> Answer:
        del request, now
        return json_answer(
            200, self._services.google_signer.jwks, (("Cache-Control", "public, max-age=3600, must-revalidate"),)
        )

    # -- bearers -----------------------------------------------------------------------------------------------

    def _caller(self, request: Incoming, now: float) -> FederatedPrincipal | ServiceAccount:
        """Who sent the request."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if not token or scheme.lower() != "bearer":
            refuse_api(401, "UNAUTHENTICATED", NO_CREDENTIALS, "there is no bearer token")
        content = self._opened(token.strip(), now)
        if content is None:
            refuse_api(401, "UNAUTHENTICATED", BAD_CREDENTIALS, "the bearer token is not one of this local STS")
        scopes = content["sc"].split()
        if CLOUD_PLATFORM not in scopes and IAM_SCOPE not in scopes:
            answer = api_error_document(
                403,
                "PERMISSION_DENIED",
                "Request had insufficient authentication scopes.",
                reason="ACCESS_TOKEN_SCOPE_INSUFFICIENT",
            )
            raise Refusal(answer, f"the bearer token has the scopes {scopes}")
        if "p" in content:
            return _principal(content)
        account = self._services.trust.gcp_service_account(content["sa"])
        if account is None or account.disabled:
            refuse_api(401, "UNAUTHENTICATED", BAD_CREDENTIALS, "the bearer's service account is gone")
        return account

    def _sealed(self, content: Mapping[str, Any]) -> str:
        # the serial number: two tokens of one second must differ, or nobody can tell a new one from a rejected one
        return TOKEN_PREFIX + self._services.seal.seal("gcp", {**content, "n": next(self._serial)})

    def _opened(self, token: str, now: float) -> Mapping[str, Any] | None:
        """What a token of this local STS says, while it is good."""
        if not token.startswith(TOKEN_PREFIX):
            return None
        content = self._services.seal.open("gcp", token.removeprefix(TOKEN_PREFIX))
        if content is None or content["e"] <= now:
            return None
        if "p" in content and not self._services.trust.gcp_pool_enabled(content["p"].rpartition("/providers/")[0]):
            return None  # a disabled pool stops its tokens; a disabled or deleted provider does not
        return content


def _principal(content: Mapping[str, Any]) -> FederatedPrincipal:
    groups = content["g"]
    mapped = MappedAttributes(
        subject=content["s"], groups=None if groups is None else tuple(groups), attributes=content["a"]
    )
    return FederatedPrincipal(pool=content["p"].rpartition("/providers/")[0], mapped=mapped)


async def _not_found(request: Incoming, now: float) -> Answer:
    del now
    return api_error_document(404, "NOT_FOUND", f"The requested URL {request.path[:200]} was not found on this server.")


# -- the steps of an exchange ----------------------------------------------------------------------------------


_NAMES = {
    "grantType": "grant_type",
    "requestedTokenType": "requested_token_type",
    "subjectToken": "subject_token",
    "subjectTokenType": "subject_token_type",
    "actorToken": "actor_token",
    "actorTokenType": "actor_token_type",
    "tokenTypeHint": "token_type_hint",
}


def _fields(request: Incoming) -> dict[str, str]:
    """The fields of a request in either encoding and either spelling."""
    try:
        fields: Mapping[str, Any]
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
            fields = json_object(request.body)
        else:
            fields = form_fields(request.body)
        result: dict[str, str] = {}
        for name, value in fields.items():
            if not isinstance(value, str):
                raise ValueError(f"the field {name[:40]} is not a string")
            result[_NAMES.get(name, name)] = value
    except ValueError as error:
        refuse("invalid_request", "Request body is malformed.", str(error))
    return result


def _exchange_fields(request: Incoming) -> dict[str, str]:
    fields = _fields(request)
    grant = fields.get("grant_type", "")
    if not grant:
        refuse("invalid_request", 'Missing required field "grant_type".', "there is no grant_type")
    if grant != GRANT_TYPE:
        refuse("unsupported_grant_type", f'Unsupported "grant_type": {grant[:200]}', "not a token exchange")
    for name in ("audience", "scope", "subject_token", "subject_token_type", "requested_token_type"):
        if not fields.get(name):
            if name == "audience":
                refuse("invalid_request", BAD_AUDIENCE, "there is no audience")
            refuse("invalid_request", f'Missing required field "{name}".', f"there is no {name}")
    if fields["requested_token_type"] != ACCESS_TOKEN_TYPE:
        refuse("invalid_request", 'Invalid value for "requested_token_type".', "not an access token")
    if fields["subject_token_type"] not in JWT_TYPES:
        refuse("invalid_request", 'Invalid value for "subject_token_type".', "not a JWT or ID token")
    if fields.get("actor_token") or fields.get("actor_token_type"):
        refuse("invalid_request", "The provider does not accept actor tokens.", "an actor token came")
    return fields


def _parsed(token: str) -> UnverifiedJws:
    try:
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise TokenError(f"the token has {len(token)} characters", code="token-too-large")
        return split_compact(token)
    except TokenError as error:
        refuse("invalid_grant", "Unable to parse the ID Token.", error.message)  # the text was not seen


def _check_claims(provider: Provider, claims: Mapping[str, Any], now: float) -> None:
    issuer = claims.get("iss")
    if issuer is None:
        refuse("invalid_grant", "The issuer in ID Token null does not match the expected one", "the token has no iss")
    if issuer != provider.issuer:
        refuse(
            "invalid_grant",
            f"The issuer in ID Token {str(issuer)[:500]} does not match the expected one in config",
            f"the provider expects {provider.issuer}",
        )
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience if isinstance(audience, list) else []
    decision = accepts_audience(provider, [item for item in audiences if isinstance(item, str)])
    if not decision.allowed:
        shown = ", ".join(str(item)[:300] for item in audiences[:8])
        refuse(
            "invalid_grant",
            f"The audience in ID Token [{shown}] does not match the expected audience.",
            decision.reason,
        )
    issued, expires = _time(claims.get("iat")), _time(claims.get("exp"))
    if (
        issued is None
        or expires is None
        or expires + SKEW_SECONDS < now
        or issued - SKEW_SECONDS > now
        or now - issued > MAX_AGE_SECONDS
    ):
        shown = "null" if issued is None else str(claims["iat"])
        refuse(
            "invalid_grant",
            f"ID Token issued at {shown} is stale to sign-in.",
            f"iat {shown}, exp {expires!r:.40}, now {now:.0f}",
        )


def _time(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e11 < value < 1e11:
        return None
    return float(value)


def _mapped(provider: Provider, claims: Mapping[str, Any]) -> MappedAttributes:
    try:
        mapped = map_attributes(provider, claims)
        decision = condition_holds(provider, claims, mapped)
    except MappingRefused as refused:
        _refuse_mapping(refused)
    except ConfigurationError as error:  # the extra is missing, or an expression does not compile
        refuse("invalid_request", f"{error.message}: {error.hint}", error.message)
    if not decision.allowed:
        refuse("unauthorized_client", "The given credential is rejected by the attribute condition.", decision.reason)
    return mapped


def _refuse_mapping(refused: MappingRefused) -> NoReturn:
    if refused.problem == "type":
        text = f"The mapped attribute '{refused.attribute}' must be of type STRING."
        refuse("unauthorized_client", text, refused.message)
    if refused.problem == "size" and refused.attribute:
        text = (
            f"The size of mapped attribute {refused.attribute} exceeds the 127 bytes limit. Either modify your "
            "attribute mapping or the incoming assertion to produce a mapped attribute that is less than 127 bytes."
        )
        refuse("invalid_request", text, refused.message)
    if refused.problem == "size":
        refuse("invalid_request", "The size of the entire mapped attributes exceeds the 8 KB limit.", refused.message)
    # What an expression that fails, or an empty subject, gives was not seen; it refuses.
    attribute = refused.attribute or "google.subject"
    text = f"The attribute mapping for '{attribute}' could not be evaluated on the incoming assertion."
    refuse("unauthorized_client", text, refused.message)


def _api_body(request: Incoming) -> dict[str, Any]:
    if not request.body.strip():
        return {}
    try:
        return json_object(request.body)
    except ValueError:
        refuse_api(400, "INVALID_ARGUMENT", "Invalid JSON payload received.", "the body is not a JSON object")


def _lifetime(value: Any) -> int:
    """Whole seconds of a google.protobuf.Duration."""
    if value is None:
        return MAX_TOKEN_SECONDS
    match = _LIFETIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        refuse_api(
            400,
            "INVALID_ARGUMENT",
            "Invalid value at 'lifetime' (type.googleapis.com/google.protobuf.Duration)",
            "the lifetime is no duration",
        )
    seconds = int(match[1])
    if seconds < 1:
        refuse_api(400, "INVALID_ARGUMENT", "Lifetime of access token must be larger then zero.", "a lifetime of 0 s")
    return seconds
