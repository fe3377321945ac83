"""The local STS as Microsoft Entra ID: ``login.microsoftonline.com`` and what command lines ask of Resource Manager.

Texts, numbers and statuses are those that real answers showed; where only the number is known the text is
Microsoft's own from its error pages. Clients are told to match the number. Access tokens are ES256 (real ones are
RS256) under an issuer of the reserved domain ``.invalid``.
"""

from __future__ import annotations

__all__ = ["AzureSts", "error_document"]

import base64
import binascii
import re
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from time import gmtime, strftime
from typing import Any, NoReturn
from urllib.parse import quote

from wif.core.jws import UnverifiedJws, parse_json, split_compact, verify
from wif.emulator.azure_errors import NO_STORE, error_document
from wif.emulator.issued import azure_issuer
from wif.emulator.services import Refusal, Services
from wif.emulator.state import AzureIdentity
from wif.emulator.verification import VerificationFailed
from wif.emulator.wire import Answer, Call, Incoming, form_fields, json_answer
from wif.errors import TokenError
from wif.trust.azure import Tenant, match

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SKEW_SECONDS = 300.0
"""Leeway for nbf and exp; believed, not documented."""
MAX_LIFETIME_SECONDS = 25 * 3600
"""Of the presented token: Entra ID's own text shows 1.01:00:00."""
APPLICATION_TOKEN_SECONDS = 3599
MANAGED_IDENTITY_TOKEN_SECONDS = 86399
MAX_ASSERTION_CHARACTERS = 20_000

_DOCUMENT_FAILURES = {"unreachable": 50166, "invalid": 501661, "slow": 90061}

_GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_DOMAIN = re.compile(r"(?=.{1,253}\Z)(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}", re.ASCII)
_OWN_ISSUERS = re.compile(
    r"https://(?:sts\.windows\.(?:net|invalid)|login\.microsoftonline\.(?:com|us)|login\.partner\.microsoftonline\.cn"
    r"|sts\.chinacloudapi\.cn)/.*",
    re.DOTALL,
)

_RESOURCES = frozenset(
    {
        "https://management.azure.com",
        "https://management.core.windows.net",
        "https://management.usgovcloudapi.net",
        "https://management.chinacloudapi.cn",
        "https://graph.microsoft.com",
        "https://graph.microsoft.us",
        "https://vault.azure.net",
        "https://storage.azure.com",
        "https://database.windows.net",
        "https://ossrdbms-aad.database.windows.net",
        "https://servicebus.azure.net",
        "https://eventhubs.azure.net",
        "https://containerregistry.azure.net",
        "https://cognitiveservices.azure.com",
        "https://monitor.azure.com",
        "https://cosmos.azure.com",
    }
)
"""What every tenant has, by identifier URI without a final slash; a tenant's own ``resources`` come on top."""

_PATH = re.compile(
    r"/(?P<tenant>[^/]+)/(?:"
    r"(?P<token>oauth2/v2\.0/token)|(?P<token1>oauth2/token)"
    r"|(?P<openid>v2\.0/\.well-known/openid-configuration)|(?P<openid1>\.well-known/openid-configuration)"
    r"|(?P<keys>discovery/(?:v2\.0/)?keys)|(?P<instance>discovery/(?:v2\.0/)?instance))/?"
)
_RESOURCE_MANAGER = {
    "/metadata/endpoints": "MetadataEndpoints",
    "/subscriptions": "Subscriptions",
    "/tenants": "Tenants",
}


class AzureSts:
    """Entra ID's token endpoint and its published documents."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def route(self, request: Incoming) -> Call:
        """Find the operation of a path."""
        name = _RESOURCE_MANAGER.get(request.path.rstrip("/"))
        if name is not None:
            return Call(operation=name, run=partial(self._resource_manager, request, name))
        match = _PATH.fullmatch(request.path)
        if match is None:
            return Call(operation="unknown", run=partial(self._unknown, request))
        tenant = match["tenant"]
        if match["token"] or match["token1"]:
            return Call(operation="token", run=partial(self._token, request, tenant, bool(match["token1"])))
        if match["keys"]:
            return Call(operation="keys", run=partial(self._keys, request, tenant))
        if match["instance"]:
            return Call(operation="discovery/instance", run=partial(self._instance, request))
        return Call(
            operation="openid-configuration", run=partial(self._openid, request, tenant, bool(match["openid1"]))
        )

    # -- the token endpoint ------------------------------------------------------------------------------

    async def _token(self, request: Incoming, tenant_name: str, version_1: bool, now: float) -> Answer:
        try:
            return await self._issue(request, tenant_name, version_1, now)
        except Refusal as refusal:
            self._services.notes.refused("azure", "token", refusal.reason)
            return refusal.answer

    async def _issue(self, request: Incoming, tenant_name: str, version_1: bool, now: float) -> Answer:
        refuse = partial(_refuse, request, now)
        if request.method != "POST":
            refuse(900561, "the token endpoint takes POST only", method=request.method)
        try:
            form = form_fields(request.body)
        except ValueError:
            refuse(9002313, "the body is not a form")
        tenant = self._tenant(request, tenant_name, now)
        assertion = _client_assertion(form, refuse)
        resource = _resource(form, version_1, refuse)
        identity = self._application(tenant, form["client_id"], tenant_name, refuse)
        jws = _parsed(assertion, refuse)
        issuer = await self._verified(identity, jws, now, refuse)
        if resource.rstrip("/") not in _RESOURCES and resource not in tenant.resources:
            refuse(500011, f"the tenant has no resource {resource!r}", resource=resource, tenant=tenant.tenant_id)
        self._services.notes.passed("azure", issuer)
        return self._issued(tenant, identity, resource, version_1, now)

    def _tenant(self, request: Incoming, name: str, now: float) -> Tenant:
        refuse = partial(_refuse, request, now)
        if _GUID.fullmatch(name):
            if not name.strip("0-"):
                refuse(900021, "the tenant id is the empty GUID", tenant=name)
        elif name in ("common", "organizations", "consumers"):
            refuse(50059, f"{name} is no tenant, and client credentials need one")
        elif not _DOMAIN.fullmatch(name):
            refuse(900023, "the tenant is neither a GUID nor a domain", tenant=name)
        tenant = self._services.trust.azure_tenant(name)
        if tenant is None:
            refuse(90002, f"there is no tenant {name!r}", tenant=name)
        return tenant

    def _application(
        self, tenant: Tenant, client_id: str, tenant_name: str, refuse: Callable[..., NoReturn]
    ) -> AzureIdentity:
        identity = self._services.trust.azure_identity(tenant.tenant_id, client_id)
        if identity is None:
            if self._services.trust.azure_has_application(client_id):
                refuse(7000229, "the application is in another tenant", app=client_id, tenant=tenant.tenant_id)
            refuse(700016, f"the tenant has no application {client_id!r:.80}", app=client_id, tenant=tenant_name)
        return identity

    async def _verified(
        self, identity: AzureIdentity, jws: UnverifiedJws, now: float, refuse: Callable[..., NoReturn]
    ) -> str:
        """The issuer of a token that is verified and that the application trusts."""
        claims = jws.unverified_claims
        issuer, subject = claims.get("iss"), claims.get("sub")
        if not isinstance(issuer, str) or not isinstance(subject, str):
            refuse(50027, "the token has no iss or no sub")
        if _OWN_ISSUERS.fullmatch(issuer):
            refuse(700222, "the token is one of Entra ID's own")
        audience = claims.get("aud")
        audiences = [audience] if isinstance(audience, str) else audience
        if not isinstance(audiences, list) or not all(isinstance(item, str) for item in audiences):
            refuse(50027, "the token has no usable aud")
        application = identity.application
        # Matched first and verified then: the answers of the real one name the mismatch for tokens of any key.
        decision = match(application, issuer, subject, audiences)
        fields = {
            "app": application.app_id,
            "name": application.display_name,
            "issuer": issuer,
            "subject": subject,
            "audience": ", ".join(audiences),
            "kid": jws.key_id or "",
        }
        if not decision.allowed:
            refuse(int(decision.cloud_code.removeprefix("AADSTS")), decision.reason, **fields)
        if not self._services.allow_local_issuers:
            credential = next(item for item in application.credentials if item.issuer == issuer)
            if credential.real_cloud_refuses:
                refuse(70022, "; ".join(credential.real_cloud_refuses), **fields)
        if jws.algorithm != "RS256":
            refuse(5002730, f"the token is signed with {jws.algorithm!r:.24}, only RS256 is supported", **fields)
        try:
            await self._services.verified("azure", issuer, jws)
        except VerificationFailed as failure:
            _refuse_unverified(failure, fields, refuse)
        _check_times(claims, now, refuse)
        return issuer

    def _issued(self, tenant: Tenant, identity: AzureIdentity, resource: str, version_1: bool, now: float) -> Answer:
        start = int(now)
        seconds = MANAGED_IDENTITY_TOKEN_SECONDS if identity.managed else APPLICATION_TOKEN_SECONDS
        issuer = azure_issuer(tenant.tenant_id)
        token = self._services.azure_signer.sign(
            {
                "aud": resource,
                "iss": issuer,
                "iat": start,
                "nbf": start,
                "exp": start + seconds + 1,
                "appid": identity.application.app_id,
                "appidacr": "2",
                "idp": issuer,
                "idtyp": "app",
                "oid": identity.object_id,
                "sub": identity.object_id,
                "tid": tenant.tenant_id,
                "uti": uuid.uuid4().hex[:22],
                "ver": "1.0",
            }
        )
        if version_1:
            document: dict[str, Any] = {
                "token_type": "Bearer",
                "expires_in": str(seconds),
                "ext_expires_in": str(seconds),
                "expires_on": str(start + seconds + 1),
                "not_before": str(start),
                "resource": resource,
                "access_token": token,
            }
        else:
            document = {
                "token_type": "Bearer",
                "expires_in": seconds,
                "ext_expires_in": seconds,
                "access_token": token,
            }
            if identity.managed:
                document["refresh_in"] = seconds // 2
        return json_answer(200, document, NO_STORE)

    # -- documents ----------------------------------------------------------------------------------------

    async def _openid(self, request: Incoming, tenant_name: str, version_1: bool, now: float) -> Answer:
        try:
            tenant_id = (
                tenant_name
                if tenant_name in ("common", "organizations", "consumers")
                else self._tenant(request, tenant_name, now).tenant_id
            )
        except Refusal as refusal:
            return refusal.answer
        base = f"{request.base_url}/{tenant_id}"
        version = "" if version_1 else "/v2.0"
        # The v2.0 document names the host that serves it, as the real one does and as MSAL for Go demands; tokens
        # (version 1.0, as for ARM and Graph) carry the marked issuer, which the other document names.
        issuer = azure_issuer(tenant_id) if version_1 else f"{base}/v2.0"
        return json_answer(
            200,
            {
                "token_endpoint": f"{base}/oauth2{version}/token",
                "token_endpoint_auth_methods_supported": ["private_key_jwt"],
                "jwks_uri": f"{base}/discovery{version}/keys",
                "response_modes_supported": ["query"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["ES256"],
                "response_types_supported": ["token"],
                "scopes_supported": ["openid"],
                "issuer": issuer,
                "authorization_endpoint": f"{base}/oauth2{version}/authorize",
                "device_authorization_endpoint": f"{base}/oauth2{version}/devicecode",
                "tenant_region_scope": None,
                "cloud_instance_name": "wif-local-sts.invalid",
            },
        )

    async def _keys(self, request: Incoming, tenant_name: str, now: float) -> Answer:
        if tenant_name not in ("common", "organizations"):
            try:
                self._tenant(request, tenant_name, now)
            except Refusal as refusal:
                return refusal.answer
        return json_answer(200, self._services.azure_signer.jwks)

    async def _instance(self, request: Incoming, now: float) -> Answer:
        tenant = "common"
        try:
            wanted = form_fields(request.query).get("authorization_endpoint", "")
        except ValueError:
            return error_document(9002313, now=now)
        found = re.fullmatch(r"https?://[^/]+/([^/]+)/.*", wanted)
        if found:
            tenant = quote(found[1], safe="")
        aliases = [
            {"preferred_network": name, "preferred_cache": name, "aliases": [name, *others]} for name, others in _CLOUDS
        ]
        if not any(request.host in entry["aliases"] for entry in aliases):
            aliases.append(
                {"preferred_network": request.host, "preferred_cache": request.host, "aliases": [request.host]}
            )
        return json_answer(
            200,
            {
                "tenant_discovery_endpoint": f"{request.base_url}/{tenant}/v2.0/.well-known/openid-configuration",
                "api-version": "1.1",
                "metadata": aliases,
            },
        )

    async def _unknown(self, request: Incoming, now: float) -> Answer:
        return error_document(9002313, now=now, correlation_id=_correlation(request))

    # -- what command lines ask of Azure Resource Manager ----------------------------------------------------

    async def _resource_manager(self, request: Incoming, name: str, now: float) -> Answer:
        if name == "MetadataEndpoints":
            return json_answer(200, _endpoints(request.base_url))
        tenant = self._bearer_tenant(request, now)
        if tenant is None:
            return json_answer(
                401,
                {
                    "error": {
                        "code": "AuthenticationFailed",
                        "message": "Authentication failed. The 'Authorization' header is missing or invalid.",
                    }
                },
                (("WWW-Authenticate", f'Bearer authorization_uri="{request.base_url}", error="invalid_token"'),),
            )
        subscription = str(uuid.uuid5(uuid.NAMESPACE_URL, azure_issuer(tenant)))
        value = (
            {"id": f"/tenants/{tenant}", "tenantId": tenant, "displayName": "wif local STS"}
            if name == "Tenants"
            else {
                "id": f"/subscriptions/{subscription}",
                "subscriptionId": subscription,
                "tenantId": tenant,
                "displayName": "wif local STS",
                "state": "Enabled",
            }
        )
        return json_answer(200, {"value": [value]})

    def _bearer_tenant(self, request: Incoming, now: float) -> str | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            claims = verify(split_compact(token.strip()), self._services.azure_signer.public_key, "ES256").claims
        except TokenError:
            return None
        tenant = claims["tid"]
        return tenant if claims["exp"] > now and isinstance(tenant, str) else None


_CLOUDS = (
    ("login.microsoftonline.com", ("login.windows.net", "login.microsoft.com", "sts.windows.net")),
    ("login.partner.microsoftonline.cn", ("login.chinacloudapi.cn",)),
    ("login.microsoftonline.us", ("login.usgovcloudapi.net",)),
)


def _endpoints(base_url: str) -> dict[str, Any]:
    return {
        "name": "wif-local-sts",
        "portal": "https://portal.azure.invalid",
        "authentication": {
            "loginEndpoint": f"{base_url}/",
            "audiences": ["https://management.core.windows.net/", "https://management.azure.com/"],
            "tenant": "common",
            "identityProvider": "AAD",
        },
        "resourceManager": "https://management.azure.com/",
        "microsoftGraphResourceId": "https://graph.microsoft.com/",
        "graph": "https://graph.microsoft.com/",
        "suffixes": {"storage": "core.windows.net", "keyVaultDns": "vault.azure.net"},
    }


# -- the steps of a request -----------------------------------------------------------------------------------


def _correlation(request: Incoming) -> str:
    value = request.headers.get("client-request-id", request.headers.get("x-ms-client-request-id", ""))
    return value if _GUID.fullmatch(value) else ""


def _refuse(request: Incoming, now: float, number: int, reason: str, **fields: str) -> NoReturn:
    answer = error_document(number, now=now, correlation_id=_correlation(request), fields=fields)
    raise Refusal(answer, f"AADSTS{number}: {reason}")


def _client_assertion(form: Mapping[str, str], refuse: Callable[..., NoReturn]) -> str:
    """The assertion of a client-credentials request."""
    for name in ("grant_type", "client_id"):
        if not form.get(name):
            refuse(900144, f"there is no {name}", parameter=name)
    if form["grant_type"] != "client_credentials":
        refuse(70003, "only client_credentials is served", grant=form["grant_type"])
    assertion = form.get("client_assertion", "").strip()
    if not assertion:
        if form.get("client_secret"):
            refuse(7000215, "the local STS has no client secrets")
        if form.get("client_assertion_type"):
            refuse(7000218, "there is no client_assertion")
        refuse(7000216, "there is no client_assertion")
    if not form.get("client_assertion_type"):
        refuse(900144, "there is no client_assertion_type", parameter="client_assertion_type")
    if form["client_assertion_type"] != ASSERTION_TYPE:
        refuse(9002313, "the client_assertion_type is not that of a JWT")
    if form.get("claims"):
        try:
            parse_json(form["claims"].encode())
        except ValueError:
            refuse(9002313, "the claims parameter is not JSON")
    return assertion


def _resource(form: Mapping[str, str], version_1: bool, refuse: Callable[..., NoReturn]) -> str:
    """The identifier URI that a token is asked for."""
    name = "resource" if version_1 else "scope"
    value = form.get(name)
    if value is None:
        refuse(900144, f"there is no {name}", parameter=name)
    if version_1 and value:
        return value
    scopes = [item for item in value.split() if item not in ("openid", "profile", "offline_access")]
    if len(scopes) != 1:
        refuse(70011, f"{len(scopes)} scopes came, one is expected", scope=value)
    if not scopes[0].endswith("/.default") or scopes[0] == "/.default":
        refuse(1002012, "the scope does not end in /.default", scope=scopes[0])
    return scopes[0].removesuffix("/.default")


def _parsed(assertion: str, refuse: Callable[..., NoReturn]) -> UnverifiedJws:
    if len(assertion) > MAX_ASSERTION_CHARACTERS:
        refuse(50027, f"the token has {len(assertion)} characters")
    try:
        return split_compact(assertion)
    except TokenError as error:
        refuse(5002726 if _has_critical_header(assertion) else 50027, error.message)


def _has_critical_header(assertion: str) -> bool:
    part = assertion.partition(".")[0]
    try:
        header = parse_json(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError):
        return False
    return isinstance(header, dict) and bool({"crit", "b64"} & header.keys())


def _refuse_unverified(
    failure: VerificationFailed, fields: Mapping[str, str], refuse: Callable[..., NoReturn]
) -> NoReturn:
    number = {
        **_DOCUMENT_FAILURES,
        "issuer-mismatch": 700221,
        "key-unknown": 7000272,
        "key-unusable": 5002730,
        "signature": 700027,
    }[failure.kind]
    refuse(number, failure.detail, metadata_issuer=failure.metadata_issuer, **fields)


def _check_times(claims: Mapping[str, Any], now: float, refuse: Callable[..., NoReturn]) -> None:
    expires, issued = _seconds(claims.get("exp")), _seconds(claims.get("iat"))
    start = _seconds(claims.get("nbf"))
    start = issued if start is None else start
    if expires is None or ("nbf" in claims and start is None):
        refuse(50027, "the token has no usable exp or nbf")
    if expires + SKEW_SECONDS <= now or (start is not None and start - SKEW_SECONDS > now):
        refuse(
            700024,
            "the token is outside its time",
            current=_precise(now),
            valid_from=_precise(start or 0.0),
            expires=_precise(expires),
        )
    if issued is None or expires - issued > MAX_LIFETIME_SECONDS:
        refuse(
            70023,
            "the token has no iat or lives longer than 25 h",
            issued_at=_american(issued or 0.0),
            expires=_american(expires),
        )


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e11 < value < 1e11:
        return None
    return float(value)


def _precise(seconds: float) -> str:
    """.NET's round-trip form: seven digits of a second."""
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(seconds)) + f".{int(seconds % 1 * 10_000_000):07d}Z"


def _american(seconds: float) -> str:
    parts = gmtime(seconds)
    return f"{parts.tm_mon}/{parts.tm_mday}/{parts.tm_year} {strftime('%I:%M:%S %p', parts).lstrip('0')}"
