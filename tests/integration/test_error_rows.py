"""Every row of the clouds' tables of refusals, provoked at the local STS one broken rule at a time.

Each row says how it is provoked, or why it cannot be. The counts are printed.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.world import ARM, World
from wif.clouds import rows
from wif.clouds.aws import ChainedRole
from wif.core.jws import PrivateKey
from wif.emulator.authority import Authority
from wif.emulator.cluster import LocalCluster
from wif.errors import WifError

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

SECOND_ROLE = "arn:aws:iam::111122223333:role/second"
NOW = time.time()


@dataclass(frozen=True)
class Provoked:
    """How a row is provoked: prepare the world, then call the library."""

    call: Callable[[World], object]
    by_fault: bool = False
    """The cloud's outage is injected: no request can cause it."""


@dataclass(frozen=True)
class NotProvokable:
    """Why no request to the local STS can give this answer."""

    reason: str


UNSEEN = NotProvokable("the cloud's words were never seen, so the local STS does not make them up")
CATCH_ALL = NotProvokable("catches words not known yet; the rows above it hold those that are known")
NO_SECRETS = NotProvokable("the library sends no client secret")


def library(cloud: str, **settings: Any) -> Provoked:
    """The library's plain call with other settings."""

    def call(world: World) -> object:
        if cloud == "aws":
            return world.aws(**settings).credentials()
        return world.gcp(**settings).credentials() if cloud == "gcp" else world.azure(**settings).credentials()

    return Provoked(call)


def minted(cloud: str, **claims: Any) -> Provoked:
    """With a token of other claims."""
    return library(cloud, mint=claims)


def trusting(cloud: str, change: Callable[[dict[str, Any]], object]) -> Provoked:
    """With other trust."""

    def call(world: World) -> object:
        world.change_trust(change)
        return library(cloud).call(world)

    return Provoked(call)


def tampered(cloud: str, operation: str, edit: Callable[[dict[str, Any]], object], **settings: Any) -> Provoked:
    """With a request that this library would not send."""

    def call(world: World) -> object:
        return library(cloud, transport=world.tampering(cloud, operation, edit), **settings).call(world)

    return Provoked(call)


def unsent(cloud: str, operation: str, field: str, **claims: Any) -> Provoked:
    """With a token that the library would refuse before any request, put in on the way."""

    def call(world: World) -> object:
        token = world.token(cloud, **claims)
        sender = world.tampering(cloud, operation, lambda form: form.update({field: token}))
        return library(cloud, transport=sender).call(world)

    return Provoked(call)


def answered(cloud: str, status: int, body: str, **settings: Any) -> Provoked:
    """By an injected answer of the cloud."""

    def call(world: World) -> object:
        kind = "text/xml" if cloud == "aws" else "application/json"
        world.faults.inject(cloud=cloud, status=status, body=body.encode(), content_type=kind)
        return library(cloud, **settings).call(world)

    return Provoked(call, by_fault=True)


def aws_says(code: str, message: str, status: int = 400) -> Provoked:
    return answered(
        "aws",
        status,
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        "<RequestId>r</RequestId></ErrorResponse>",
    )


def google_says(status: int, body: dict[str, Any], **settings: Any) -> Provoked:
    return answered("gcp", status, json.dumps(body), **settings)


def entra_says(number: int, text: str = "no.", status: int = 401) -> Provoked:
    body = {"error": "invalid_client", "error_description": f"AADSTS{number}: {text}", "error_codes": [number]}
    return answered("azure", status, json.dumps(body))


def just_expired(cloud: str) -> Provoked:
    """With a token that is over, but not longer than the library forgives; the cloud's clock is ahead of ours."""

    def call(world: World) -> object:
        world.faults.inject(cloud=cloud, clock_offset_seconds=900)
        return library(cloud, mint={"now": time.time() - 3630, "expires_in": 3600}).call(world)

    return Provoked(call)


def chained_says(code: str, message: str) -> Provoked:
    """The answer to the second role's request is injected: a changed request would have no valid signature."""

    def call(world: World) -> object:
        body = f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
        world.faults.inject(
            cloud="aws", operation="AssumeRole", status=400, body=body.encode(), content_type="text/xml"
        )
        return chained().call(world)

    return Provoked(call, by_fault=True)


def issuer_fails(cloud: str, operation: str | None = None, **fault: Any) -> Provoked:
    """The issuer's documents cannot be read."""

    def call(world: World) -> object:
        world.faults.inject(cloud="issuer", operation=operation, **fault)
        return library(cloud).call(world)

    return Provoked(call)


def withdrawn(cloud: str) -> Provoked:
    """The key that signs is not published."""

    def call(world: World) -> object:
        world.cluster.stage_key()
        world.cluster.withdraw_key(world.cluster.signing_key.kid)
        return library(cloud).call(world)

    return Provoked(call)


def forged(cloud: str) -> Provoked:
    """Another key signs under the published key's name."""

    def call(world: World) -> object:
        other = LocalCluster("https://other.invalid").signing_key.private_key
        return minted(cloud, private_key=other).call(world)

    return Provoked(call)


def signed_with_es256() -> Provoked:
    """The cluster has an elliptic key."""

    def call(world: World) -> object:
        world.cluster.sign_with(world.cluster.stage_key(algorithm="ES256"))
        return library("azure").call(world)

    return Provoked(call)


def chained(edit_trust: Callable[[dict[str, Any]], object] = lambda _: None, **role: Any) -> Provoked:
    """Through a second role that trusts the first."""

    def call(world: World) -> object:
        def change(trust: dict[str, Any]) -> None:
            statement = {
                "Effect": "Allow",
                "Principal": {"AWS": world.identity.role_arn},
                "Action": "sts:AssumeRole",
            }
            policy = {"Version": "2012-10-17", "Statement": [statement]}
            edit_trust(statement)
            trust["aws"]["Roles"].append(
                {"RoleName": "second", "Arn": SECOND_ROLE, "Path": "/", "AssumeRolePolicyDocument": policy}
            )

        world.change_trust(change)
        return world.aws(chain=[ChainedRole(role_arn=SECOND_ROLE, **role)]).credentials()

    return Provoked(call)


def signed(edit: Callable[[dict[str, str]], object], clock_offset_seconds: float = 0.0) -> Provoked:
    """A signed request whose headers were changed on the way."""

    def call(world: World) -> object:
        exchanger = world.aws()
        exchanger.credentials()
        real = world.transport("aws")

        class Changed:
            def send(self, request: Any, **given: Any) -> Any:
                import dataclasses

                headers = dict(request.headers)
                edit(headers)
                return real.send(dataclasses.replace(request, headers=headers), **given)

            abort = real.abort

        exchanger._given_transport = Changed()
        if clock_offset_seconds:
            world.faults.inject(cloud="aws", clock_offset_seconds=clock_offset_seconds)
        return exchanger.caller_identity()

    return Provoked(call)


def impersonating(
    edit: Callable[[dict[str, Any]], object] | None = None, *, id_token: bool = False, **settings: Any
) -> Provoked:
    """As a service account."""

    def call(world: World) -> object:
        operation = "generateIdToken" if id_token else "generateAccessToken"
        if edit is not None:
            settings["transport"] = world.tampering("gcp", operation, edit)
        account = settings.pop("service_account", world.identity.google_service_account)
        exchanger = world.gcp(service_account=account, **settings)
        return exchanger.id_token(audience="https://run.example.com") if id_token else exchanger.credentials()

    return Provoked(call)


def unbound(id_token: bool = False) -> Provoked:
    """As a service account that does not trust the principal."""

    def call(world: World) -> object:
        world.change_trust(lambda trust: trust["gcp"]["serviceAccounts"][0]["iamPolicy"].update(bindings=[]))
        return impersonating(id_token=id_token).call(world)

    return Provoked(call)


def introspecting(status: int) -> Provoked:
    def call(world: World) -> object:
        exchanger = world.gcp()
        exchanger.credentials()
        world.faults.inject(cloud="gcp", operation="introspect", status=status, body=b"not here")
        return exchanger.introspection()

    return Provoked(call, by_fault=True)


def strict_issuer() -> Provoked:
    """A local STS that refuses private issuers, as Entra does."""
    return Provoked(lambda world: library("azure").call(world))


def provider(trust: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = trust["gcp"]["providers"][0]
    return found


def application(trust: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = trust["azure"]["tenants"][0]["applications"][0]
    return found


def other_tenant(trust: dict[str, Any]) -> None:
    tenant = trust["azure"]["tenants"][0]
    moved = {**tenant, "tenantId": "99999999-9999-4999-8999-999999999999", "applications": tenant["applications"]}
    trust["azure"]["tenants"] = [{**tenant, "applications": []}, moved]


WEB, CHAIN = "AssumeRoleWithWebIdentity", "AssumeRole"
PROVIDER = "projects/123456789012/locations/global/workloadIdentityPools/clusters/providers/absent"

HOW: dict[tuple[str, str, str], Provoked | NotProvokable] = {
    # ---- AWS
    ("aws", "InvalidIdentityToken", "no OIDC provider object for iss in the role's account"): trusting(
        "aws", lambda trust: trust["aws"]["OpenIDConnectProviders"].clear()
    ),
    ("aws", "InvalidIdentityToken", "aud not in the provider's client ids"): minted("aws", audience="other"),
    (
        "aws",
        "InvalidIdentityToken",
        "discovery document or JWKS unreachable, kid unknown or key not usable",
    ): withdrawn("aws"),
    ("aws", "InvalidIdentityToken", "TLS certificate of the issuer does not fit the thumbprint"): trusting(
        "aws", lambda trust: trust["aws"]["OpenIDConnectProviders"][0].update(ThumbprintList=["0" * 40])
    ),
    ("aws", "InvalidIdentityToken", "not a JWT"): tampered(
        "aws", WEB, lambda form: form.update(WebIdentityToken="an-access-token")
    ),
    ("aws", "InvalidIdentityToken", "no sub"): unsent("aws", WEB, "WebIdentityToken", sub=None),
    ("aws", "ExpiredTokenException", "iat very old"): minted("aws", iat=int(NOW) - 40 * 86400, nbf=None),
    ("aws", "ExpiredTokenException", "expired"): just_expired("aws"),
    ("aws", "AccessDenied", "role missing, no matching Allow in the trust policy, or a Deny"): minted(
        "aws", service_account="stranger"
    ),
    ("aws", "IDPRejectedClaim", "identity provider refused the claim"): aws_says("IDPRejectedClaim", "no", 403),
    ("aws", "IDPCommunicationError", "identity provider slow or not reachable"): aws_says("IDPCommunicationError", "x"),
    ("aws", "ValidationError", "duration longer than the role allows"): library("aws", duration_seconds=43200),
    ("aws", "ValidationError", "several parameters at once"): tampered(
        "aws", WEB, lambda form: form.update(RoleSessionName="x y", DurationSeconds="1")
    ),
    ("aws", "ValidationError", "missing parameter"): tampered("aws", WEB, lambda form: form.pop("WebIdentityToken")),
    ("aws", "ValidationError", "bad session name"): tampered(
        "aws", WEB, lambda form: form.update(RoleSessionName="x y")
    ),
    ("aws", "ValidationError", "duration out of range"): tampered(
        "aws", WEB, lambda form: form.update(DurationSeconds="100")
    ),
    ("aws", "ValidationError", "length of a parameter"): tampered("aws", WEB, lambda form: form.update(RoleArn="arn")),
    ("aws", "ValidationError", "unusable role ARN"): tampered(
        "aws", WEB, lambda form: form.update(RoleArn="arn:aws:iam::111122223333:user/somebody")
    ),
    ("aws", "MissingParameter", "parameter missing, in other words"): NotProvokable(
        "not seen for this call: STS answers ValidationError"
    ),
    ("aws", "PackedPolicyTooLarge", "packed policy or tags too large"): aws_says(
        "PackedPolicyTooLarge", "Packed size of session tags consumes 112% of allotted space."
    ),
    ("aws", "PackedPolicyTooLarge", "packed policy too large, older text"): aws_says(
        "PackedPolicyTooLarge", "Packed policy consumes 157% of allotted space, please use smaller policy."
    ),
    ("aws", "MalformedPolicyDocument", "session policy not readable"): library("aws", policy='{"Version": 5}'),
    ("aws", "RegionDisabledException", "region switched off"): aws_says(
        "RegionDisabledException", "STS is not activated in this region for account:111122223333.", 403
    ),
    ("aws", "InvalidAction", "unknown action"): tampered(
        "aws", WEB, lambda form: form.update(Action="AssumeEverything")
    ),
    ("aws", "AccessDenied", "second role: tags or source identity not allowed"): chained(tags={"team": "shop"}),
    ("aws", "AccessDenied", "second role: not allowed by its trust policy or to the first role"): chained(
        lambda statement: statement.update(Principal={"AWS": "arn:aws:iam::999988887777:root"})
    ),
    ("aws", "ValidationError", "second role: longer than an hour"): chained_says(
        "ValidationError",
        "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
    ),
    ("aws", "AccessDenied", "keys without the right"): NotProvokable("GetCallerIdentity needs no right"),
    ("aws", "SignatureDoesNotMatch", "signature too old or too new"): signed(
        lambda _: None, clock_offset_seconds=3000.0
    ),
    ("aws", "RequestExpired", "request too old"): NotProvokable("for presigned URLs; the library signs headers"),
    ("aws", "SignatureDoesNotMatch", "signature wrong"): signed(
        lambda headers: headers.update({"Authorization": headers["Authorization"][:-4] + "0000"})
    ),
    ("aws", "IncompleteSignature", "signature incomplete"): signed(
        lambda headers: headers.update({"Authorization": "AWS4-HMAC-SHA256 Credential=x"})
    ),
    ("aws", "InvalidClientTokenId", "keys unknown"): signed(
        lambda headers: headers.update({"Authorization": headers["Authorization"].replace("ASIA", "ASIX", 1)})
    ),
    ("aws", "UnrecognizedClientException", "keys unknown to the service"): NotProvokable("other services' word for it"),
    ("aws", "ExpiredToken", "keys expired"): aws_says("ExpiredToken", "The security token included is expired", 403),
    ("aws", "InvalidIdentityToken", "token not acceptable, in other words"): CATCH_ALL,
    ("aws", "ValidationError", "parameter not acceptable, in other words"): CATCH_ALL,
    ("aws", "Throttling", "too many requests"): aws_says("Throttling", "Rate exceeded"),
    ("aws", "ThrottlingException", "too many requests, other word"): aws_says("ThrottlingException", "Rate exceeded"),
    ("aws", "RequestLimitExceeded", "too many requests, third word"): aws_says("RequestLimitExceeded", "Rate exceeded"),
    # ---- GCP
    ("gcp", "invalid_grant", "iss absent"): unsent("gcp", "token", "subject_token", iss=None),
    ("gcp", "invalid_grant", "iss is not the configured issuer"): minted("gcp", iss="https://other.example.com"),
    ("gcp", "invalid_grant", "aud wrong"): minted("gcp", audience="other"),
    ("gcp", "invalid_grant", "iat missing"): minted("gcp", iat=None),
    ("gcp", "invalid_grant", "exp past"): just_expired("gcp"),
    ("gcp", "invalid_grant", "signature wrong, kid known"): forged("gcp"),
    ("gcp", "invalid_grant", "kid unknown, key of another kind, or issuer not reachable"): issuer_fails(
        "gcp", status=503
    ),
    ("gcp", "unauthorized_client", "attribute condition false"): trusting(
        "gcp", lambda trust: provider(trust).update(attributeCondition="assertion.sub.startsWith('nobody')")
    ),
    ("gcp", "invalid_target", "provider or pool disabled, deleted or absent"): library("gcp", provider=PROVIDER),
    ("gcp", "invalid_request", "malformed audience"): tampered(
        "gcp", "token", lambda form: form.update(audience="//iam.googleapis.com/projects/by-name/pool")
    ),
    ("gcp", "unauthorized_client", "subject not a string"): trusting(
        "gcp", lambda trust: provider(trust).update(attributeMapping={"google.subject": "assertion.exp"})
    ),
    ("gcp", "invalid_request", "subject longer than 127 bytes"): minted("gcp", service_account="a" * 120),
    ("gcp", "invalid_request", "parameter missing or unsupported"): tampered(
        "gcp", "token", lambda form: form.pop("subject_token_type")
    ),
    ("gcp", "unsupported_grant_type", "grant type unsupported"): tampered(
        "gcp", "token", lambda form: form.update(grant_type="password")
    ),
    ("gcp", "invalid_scope", "scope unknown to the exchange"): UNSEEN,
    ("gcp", "invalid_grant", "token not acceptable, in other words"): CATCH_ALL,
    ("gcp", "PERMISSION_DENIED", "the API is switched off"): google_says(
        403,
        {
            "error": {
                "code": 403,
                "status": "PERMISSION_DENIED",
                "message": "The API has not been used in project 1 before or it is disabled.",
            }
        },
    ),
    ("gcp", "PERMISSION_DENIED", "no right to access tokens of the service account"): unbound(),
    ("gcp", "PERMISSION_DENIED", "no right to ID tokens of the service account"): unbound(id_token=True),
    ("gcp", "INVALID_ARGUMENT", "lifetime of zero"): impersonating(lambda body: body.update(lifetime="0s")),
    ("gcp", "INVALID_ARGUMENT", "lifetime over an hour"): impersonating(lifetime_seconds=7200),
    ("gcp", "INVALID_ARGUMENT", "lifetime not acceptable, in other words"): CATCH_ALL,
    ("gcp", "INVALID_ARGUMENT", "scope unknown"): impersonating(scopes=["https://example.com/no-such-scope"]),
    ("gcp", "INVALID_ARGUMENT", "parameter not acceptable"): impersonating(
        lambda body: body.update(audience=""), id_token=True
    ),
    ("gcp", "NOT_FOUND", "service account unknown"): google_says(
        404,
        {"error": {"code": 404, "status": "NOT_FOUND", "message": "Unknown service account"}},
    ),
    ("gcp", "UNAUTHENTICATED", "federated token not accepted"): Provoked(
        lambda world: world.gcp(
            service_account=world.identity.google_service_account,
            transport=world.replacing("gcp", "generateAccessToken", headers={"Authorization": "Bearer nonsense"}),
        ).credentials()
    ),
    ("gcp", "RESOURCE_EXHAUSTED", "too many requests"): google_says(
        429, {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Quota exceeded"}}
    ),
    ("gcp", "", "introspection not served"): introspecting(404),
    # ---- Azure
    ("azure", "AADSTS70021", "no credential fits, old number"): NotProvokable("Entra has not sent it since 2023"),
    ("azure", "AADSTS70025", "no credentials at all"): trusting(
        "azure", lambda trust: application(trust).update(federatedIdentityCredentials=[])
    ),
    ("azure", "AADSTS700211", "no credential for this issuer"): minted("azure", iss="https://other.example.com"),
    ("azure", "AADSTS700212", "no credential for this audience"): minted("azure", audience="other"),
    ("azure", "AADSTS700213", "no credential for this subject"): minted("azure", service_account="stranger"),
    ("azure", "AADSTS7002131", "no credential for this subject, or no expression fits"): NotProvokable(
        "for flexible credentials, which Kubernetes issuers cannot use"
    ),
    ("azure", "AADSTS7002137", "no credential for this subject, managed identity"): NotProvokable(
        "for assertions of managed identities"
    ),
    ("azure", "AADSTS7002138", "subject differs by case only"): minted(
        "azure", sub="system:serviceaccount:default:APP"
    ),
    ("azure", "AADSTS70022", "issuer of a form that is not allowed"): strict_issuer(),
    ("azure", "AADSTS70023", "token lives too long"): minted("azure", expires_in=2 * 86400),
    ("azure", "AADSTS700024", "outside its valid time"): just_expired("azure"),
    ("azure", "AADSTS700221", "issuer differs from the discovery document's"): issuer_fails(
        "azure",
        "openid-configuration",
        status=200,
        body=json.dumps({"issuer": "https://other.example.com", "jwks_uri": "https://other.example.com/k"}).encode(),
        content_type="application/json",
    ),
    ("azure", "AADSTS700222", "token issued by Entra itself"): minted(
        "azure", iss="https://sts.windows.net/11111111-2222-3333-4444-555555555555/"
    ),
    ("azure", "AADSTS7000272", "signing key not in the metadata"): withdrawn("azure"),
    ("azure", "AADSTS50166", "issuer not reachable"): issuer_fails("azure", cut="before-answer"),
    ("azure", "AADSTS501661", "issuer not reachable, second number"): issuer_fails(
        "azure", "jwks", status=200, body=b"<html>", content_type="text/html"
    ),
    ("azure", "AADSTS90061", "issuer not reachable, third number"): entra_says(90061, status=400),
    ("azure", "AADSTS900610", "issuer answered with an error that stays"): entra_says(900610, status=400),
    ("azure", "AADSTS700016", "application unknown in the tenant"): library(
        "azure", client_id="00000000-aaaa-4bbb-8ccc-dddddddddddd"
    ),
    ("azure", "AADSTS7000229", "application without service principal"): trusting("azure", other_tenant),
    ("azure", "AADSTS90002", "tenant unknown"): library("azure", tenant_id="00000000-aaaa-4bbb-8ccc-dddddddddddd"),
    ("azure", "AADSTS900021", "tenant is an empty GUID"): Provoked(
        lambda world: world.azure(
            transport=world.replacing(
                "azure",
                "token",
                url="https://login.microsoftonline.com/00000000-0000-0000-0000-000000000000/oauth2/v2.0/token",
            )
        ).credentials()
    ),
    ("azure", "AADSTS900023", "tenant is no domain"): Provoked(
        lambda world: world.azure(
            transport=world.replacing("azure", "token", url="https://login.microsoftonline.com/-x-/oauth2/v2.0/token")
        ).credentials()
    ),
    ("azure", "AADSTS500011", "resource unknown"): library("azure", scope="https://nobody.example.com/.default"),
    ("azure", "AADSTS1002012", "scope without /.default"): library("azure", scope="https://management.azure.com/read"),
    ("azure", "AADSTS70011", "scope missing or unusable"): tampered(
        "azure", "token", lambda form: form.update(scope=f"{ARM} https://vault.azure.net/.default")
    ),
    ("azure", "AADSTS900144", "parameter missing"): tampered("azure", "token", lambda form: form.pop("client_id")),
    ("azure", "AADSTS7000216", "assertion missing"): tampered(
        "azure", "token", lambda form: [form.pop(name) for name in ("client_assertion", "client_assertion_type")]
    ),
    ("azure", "AADSTS7000218", "assertion and secret missing"): tampered(
        "azure", "token", lambda form: form.pop("client_assertion")
    ),
    ("azure", "AADSTS70003", "grant type unsupported"): tampered(
        "azure", "token", lambda form: form.update(grant_type="password")
    ),
    ("azure", "AADSTS9002313", "request malformed"): tampered(
        "azure", "token", lambda form: form.update(client_assertion_type="nonsense")
    ),
    ("azure", "AADSTS900561", "request not by POST"): Provoked(
        lambda world: world.azure(transport=world.replacing("azure", "token", method="GET")).credentials()
    ),
    ("azure", "AADSTS50027", "not a JWT"): tampered(
        "azure", "token", lambda form: form.update(client_assertion="an.access.token")
    ),
    ("azure", "AADSTS5002726", "token header not supported"): unsent(
        "azure", "token", "client_assertion", headers={"crit": ["x"], "x": 1}
    ),
    ("azure", "AADSTS5002730", "key does not fit the algorithm"): signed_with_es256(),
    ("azure", "AADSTS700027", "signature wrong, key not found"): entra_says(
        700027, "Client assertion failed signature validation. [Reason - The key was not found.]"
    ),
    ("azure", "AADSTS700027", "signature wrong"): forged("azure"),
    ("azure", "AADSTS50013", "assertion invalid, its signature"): entra_says(
        50013, "Assertion failed signature validation."
    ),
    ("azure", "AADSTS50013", "assertion invalid"): entra_says(50013, "Assertion contains an invalid value."),
    ("azure", "AADSTS700021", "assertion names another client"): NotProvokable("for self-signed assertions"),
    ("azure", "AADSTS700023", "assertion's audience is not the authority"): NotProvokable("for self-signed assertions"),
    ("azure", "AADSTS7000215", "client secret wrong"): NO_SECRETS,
    ("azure", "AADSTS7000222", "client secret expired"): NO_SECRETS,
    ("azure", "AADSTS7000226", "managed identity may not be used as a federated credential here"): NotProvokable(
        "for assertions of managed identities"
    ),
    (
        "azure",
        "AADSTS7000227",
        "managed identity may not be used as a federated credential here, second number",
    ): NotProvokable("for assertions of managed identities"),
    ("azure", "AADSTS90033", "directory fails for a moment"): entra_says(90033, "A transient error has occurred.", 503),
    ("azure", "AADSTS50196", "client asks again and again"): entra_says(
        50196, "The server terminated an operation.", 400
    ),
    ("azure", "", "no credential fits, another number"): entra_says(
        7002136, "No matching federated identity record found for presented assertion."
    ),
}

ROWS = {(row.cloud, row.cloud_code, row.situation): row for row in rows()}
PROVOKED = [key for key, how in HOW.items() if isinstance(how, Provoked)]


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return LocalCluster("https://key.invalid").signing_key.private_key


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    with Authority() as made:
        yield made


@pytest.fixture
def world(request: pytest.FixtureRequest, authority: Authority, key: PrivateKey) -> Iterator[World]:
    strict = "AADSTS70022" in request.node.name.split("-")
    made = World(authority, key, allow_local_issuers=not strict)
    yield made
    made.close()


@pytest.mark.parametrize("row", PROVOKED, ids="-".join)
def test_row(row: tuple[str, str, str], world: World) -> None:
    how, known = HOW[row], ROWS[row]
    assert isinstance(how, Provoked)
    with pytest.raises(WifError) as caught:
        how.call(world)
    error = caught.value
    assert error.code == known.code, error
    assert re.search(known.pattern.removeprefix("^"), error.message, re.IGNORECASE), error
    assert known.cloud_code in ("", error.cloud_code), error
    assert error.cloud == known.cloud
    assert error.clause
    assert len(str(error).splitlines()) == 2, "what happened, and what to do next"
    shown = str(error)
    assert "eyJ" not in shown, "no part of a token"
    assert "ya29." not in shown


def test_every_row_is_provoked_or_says_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(HOW) == set(ROWS)
    counts: Counter[str] = Counter()
    for (cloud, *_), how in HOW.items():
        if isinstance(how, NotProvokable):
            assert how.reason
            counts[f"{cloud}: not provokable"] += 1
        else:
            counts[f"{cloud}: provoked" + (" by an injected answer" if how.by_fault else "")] += 1
    with capsys.disabled():
        print("\n" + "".join(f"{what}: {count}\n" for what, count in sorted(counts.items())))
    assert sum(counts.values()) == len(HOW)
