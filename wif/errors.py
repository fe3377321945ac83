"""The one family of errors, and the table of its codes.

Every failure of this package is a :class:`WifError`. It says what happened to which object, what was
expected and what came; ``code`` is a stable slug of :data:`CODES`, ``clause`` the one condition that
decided, ``hint`` the next step, ``retryable`` whether the same call may succeed later without a change.
``docs/reference/errors/<code>.md`` has a page for each code.
"""

from __future__ import annotations

__all__ = [
    "CODES",
    "CodeInfo",
    "ConfigurationError",
    "DriftError",
    "ProtocolError",
    "RefusedError",
    "SubjectChanged",
    "TokenError",
    "TransportError",
    "UnavailableError",
    "WifError",
]

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class CodeInfo(NamedTuple):
    """What a code means, whatever cloud it came from."""

    clause: str
    """The condition that decides: one word of the glossary."""
    summary: str
    """One sentence for the docs and for ``--json``."""
    hint: str
    """The next step, where the raiser knows no better one."""
    retryable: bool = False


def _table() -> Mapping[str, CodeInfo]:
    i = CodeInfo
    return {
        # -- settings: found before any request ------------------------------------------------------
        "config-missing": i(
            "configuration",
            "A required setting is not there.",
            "set the variable or pass the argument that the message names",
        ),
        "config-invalid": i(
            "configuration", "A setting has a value that cannot be right.", "correct the value that the message names"
        ),
        "config-conflict": i("configuration", "Two settings contradict each other.", "keep one of the two"),
        "config-foreign": i(
            "configuration",
            "A file already holds an entry that this program did not write.",
            "choose another name, or pass --force to replace it",
        ),
        "file-unusable": i(
            "configuration",
            "A file or directory cannot be read or written as it must be.",
            "check its path, owner and mode",
        ),
        "extra-missing": i(
            "configuration", "An optional dependency is not installed.", "install the extra that the message names"
        ),
        "host-not-allowed": i(
            "host",
            "The token would have gone to a host that nobody named.",
            "add the host to WIF_ALLOW_HOSTS if you trust it with this identity",
        ),
        "credential-source-refused": i(
            "configuration",
            "A credential file names a kind of source that is not run here.",
            "use google-auth itself for this file, or a file source",
        ),
        # -- the subject token: found before any request ----------------------------------------------
        "token-missing": i(
            "token",
            "There is no subject token where one was expected.",
            "check that the pod mounts the projected token volume",
        ),
        "token-unreadable": i(
            "token", "The subject token cannot be read.", "check the mode of the file and the fsGroup of the pod"
        ),
        "token-empty": i(
            "token",
            "The subject token is empty.",
            "wait for the kubelet to write it, then check the volume's projection",
        ),
        "token-too-large": i(
            "token",
            "The subject token is larger than any cloud accepts.",
            "check that the path names a ServiceAccount token",
        ),
        "token-malformed": i(
            "token",
            "The subject token is not a JWT.",
            "check that the path names a ServiceAccount token and not an access token or a file of another kind",
        ),
        "token-claim": i(
            "token",
            "A claim of the subject token is missing or has the wrong type.",
            "use a token that the cluster's TokenRequest API issued",
        ),
        "token-expired": i(
            "expiry",
            "The subject token is past its expiry.",
            "check that the kubelet still rotates the projected token, and that the pod's clock is right",
        ),
        "token-not-yet-valid": i(
            "clock", "The subject token is not valid yet.", "check the clock of this machine and of the API server"
        ),
        "token-audience": i(
            "audience",
            "The subject token is for another audience than the caller expects.",
            "set the audience of the projected volume to the one expected",
        ),
        "token-lifetime": i(
            "lifetime",
            "The subject token is too old or lives too long for this cloud.",
            "use a projected token with expirationSeconds of at most 86400",
        ),
        "token-request-refused": i(
            "permission",
            "The Kubernetes API refused the TokenRequest.",
            "allow create on serviceaccounts/token to this caller",
        ),
        "token-source-failed": i("token", "The caller's token source failed.", "look at the cause"),
        "subject-changed": i(
            "subject", "The token source now names another identity than before.", "make one exchanger per identity"
        ),
        # -- the way to the cloud ----------------------------------------------------------------------
        "connection-failed": i(
            "network",
            "No connection to the endpoint.",
            "check name resolution, egress rules and the proxy variables",
            True,
        ),
        "tls-failed": i(
            "network",
            "The endpoint's certificate was not accepted.",
            "check the CA bundle variables, and that no proxy intercepts TLS",
        ),
        "proxy-failed": i("network", "The proxy did not lead to the endpoint.", "check HTTPS_PROXY and NO_PROXY", True),
        "timeout": i(
            "network",
            "The deadline passed before a whole answer was there.",
            "check egress and the endpoint; raise timeout= if the endpoint is slow",
            True,
        ),
        "redirect-refused": i(
            "host", "The endpoint answered with a redirect, which a token never follows.", "name the endpoint itself"
        ),
        "response-too-large": i(
            "protocol", "The answer is larger than any real one.", "check what answers at this address"
        ),
        "response-malformed": i(
            "protocol",
            "The answer is not one of this protocol.",
            "check what answers at this address: a captive portal or a proxy's error page looks like this",
        ),
        # -- the cloud refused: trust in the issuer and its keys ------------------------------------------
        "issuer-unknown": i(
            "issuer", "The cloud has no trust in this issuer.", "register the issuer, byte for byte as the token's iss"
        ),
        "issuer-invalid": i(
            "issuer",
            "The cloud does not accept an issuer of this form.",
            "use an https issuer without query, fragment or loopback host",
        ),
        "issuer-mismatch": i(
            "issuer",
            "The discovery document names another issuer than the token.",
            "publish a discovery document whose issuer equals iss byte for byte",
        ),
        "issuer-unreachable": i(
            "issuer",
            "The cloud could not read the issuer's discovery document or keys.",
            "check with a request from outside that both documents answer with 200 over https",
            True,
        ),
        "issuer-certificate": i(
            "issuer",
            "The cloud does not accept the issuer's TLS certificate.",
            "update the provider's thumbprint, or use a publicly trusted certificate",
        ),
        "key-not-published": i(
            "key",
            "The key that signed the token is not in the issuer's published key set.",
            "publish the cluster's current JWKS; after a rotation wait for the clouds' caches",
            True,
        ),
        "signature-invalid": i(
            "key",
            "The signature does not fit the published key.",
            "publish the cluster's own JWKS, and check that kid names one key only",
        ),
        "algorithm-unsupported": i(
            "key", "The cloud does not verify this signature algorithm.", "sign with RS256: all three clouds verify it"
        ),
        # -- documents: the issuer's, and the trust that somebody wrote ------------------------------------
        "key-invalid": i(
            "key", "A key cannot be used to sign or verify.", "publish public RSA (2048 bits or more) or EC keys only"
        ),
        "document-invalid": i(
            "issuer",
            "A discovery document or key set is not what it must be.",
            "publish the cluster's own documents unchanged",
        ),
        "trust-invalid": i(
            "trust",
            "A trust document is one that the cloud would not store, or says something not known here.",
            "correct the element that the message names",
        ),
        # -- publishing an issuer -------------------------------------------------------------------------------------
        "key-private": i(
            "key",
            "A private key was given where only public keys belong.",
            "take the private key away from this machine and give its public half: openssl pkey -in FILE -pubout",
        ),
        "key-unknown": i(
            "key",
            "No key of this id is known.",
            "look at the ids with: wif keys status",
        ),
        "issuer-unsuitable": i(
            "issuer",
            "The issuer or its keys break a rule of a cloud.",
            "correct what the findings name; each says which cloud breaks",
        ),
        "source-is-target": i(
            "source",
            "A source of keys is also one of the places that are published to.",
            "read the keys from the API server, or from a file that this command does not write",
        ),
        "state-missing": i(
            "state",
            "A target holds documents, but the trusted state does not exist or is empty.",
            "look at what is there with: wif keys status; then make the state anew with: wif keys status --rebuild",
        ),
        "state-invalid": i(
            "state",
            "The trusted state cannot be read.",
            "restore the state from a backup, or make it anew with: wif keys status --rebuild",
        ),
        "target-unavailable": i(
            "target",
            "A target could not be read or written just now.",
            "check the network, the credentials and the limits of the target; run it again",
            True,
        ),
        "target-refused": i(
            "target",
            "A target does not allow this access.",
            "give the publisher the rights of this kind of target, and check that bucket, container or provider exists",
        ),
        "write-conflict": i(
            "target",
            "Others changed the target every time before this write.",
            "find the other publishers of this target; then run it again",
            True,
        ),
        "precondition-missing": i(
            "target",
            "The target has no conditional writes, so two publishers could undo each other.",
            "let one publisher write it and say so with --single-writer, or run wif issuer watch, which holds a Lease",
        ),
        "lease-lost": i(
            "lease",
            "This publisher is no longer the one that may write.",
            "nothing: the new leader goes on; look at the clock and the load of this pod if it happens often",
            True,
        ),
        "drift-found": i(
            "drift",
            "A target differs from what it should hold.",
            "write it with: wif issuer publish",
        ),
        "tampering-found": i(
            "tampering",
            "A place holds a key or an address that nobody vouches for.",
            "find out who wrote it; then repair with: wif issuer publish --restore",
        ),
        "verification-failed": i(
            "issuer",
            "The published documents are not what a cloud needs to see.",
            "correct what the failed checks name",
        ),
        # -- admission ---------------------------------------------------------------------------------
        "review-invalid": i(
            "review",
            "What was sent is no AdmissionReview of a kind that is answered.",
            "send admission.k8s.io/v1 as JSON, as the API server does",
        ),
        "pod-refused": i(
            "annotation",
            "A pod or a ServiceAccount would be refused by the webhook.",
            "correct what the findings name; wif webhook explain shows them all",
        ),
        "policy-unsupported": i(
            "policy",
            "A MutatingAdmissionPolicy cannot express what was asked for.",
            "run the webhook for it, or leave out what the message names",
        ),
        "certificate-failed": i(
            "certificate",
            "The webhook's certificate could not be made, stored or registered.",
            "check the right to the Secret and to the webhook configurations, which the message names",
        ),
        "unsafe-step": i(
            "rotation",
            "The step would break tokens that are still in use, or cannot be shown to be safe.",
            "wait for, or do first, what the reasons name; see: wif keys status",
        ),
        "still-used": i(
            "issuer",
            "Something still depends on the documents.",
            "remove the trust in the clouds first, the documents later, and keep the bucket's name",
        ),
        # -- the cloud refused: the claims -----------------------------------------------------------------
        "audience-mismatch": i(
            "audience",
            "The cloud expects another audience in the token.",
            "project the token with the audience that the trust names",
        ),
        "subject-mismatch": i(
            "subject",
            "The cloud trusts the issuer but not this subject.",
            "add the subject to the trust, or use the ServiceAccount that it names",
        ),
        "subject-invalid": i(
            "subject", "The cloud cannot use the token's subject.", "map a shorter or simpler expression to the subject"
        ),
        "claim-rejected": i(
            "claim", "The cloud rejects a claim of the token.", "use a token that the cluster's TokenRequest API issued"
        ),
        "condition-denied": i(
            "trust",
            "The provider's condition is not true for this token.",
            "compare the attribute condition with the token's claims",
        ),
        "trust-denied": i(
            "trust",
            "The trust document does not let this token assume the identity.",
            "compare the trust policy's principal and conditions with the token's issuer, audience and subject",
        ),
        "clock-skew": i(
            "clock",
            "The cloud's clock and this machine's do not agree about the token.",
            "synchronise the clock of this machine and of the API server",
        ),
        # -- the cloud refused: the identity and what was asked for it -----------------------------------------
        "identity-unknown": i(
            "identity",
            "The cloud does not know the identity or its directory.",
            "check role, client, tenant or provider name for a slip",
        ),
        "provider-unknown": i(
            "identity",
            "The identity provider does not exist or is disabled.",
            "check project number, pool and provider, and that both are enabled",
        ),
        "no-federated-credential": i(
            "trust",
            "The application has no federated identity credential.",
            "create one for this issuer and subject; a new one takes minutes to work",
            True,
        ),
        "permission-denied": i(
            "permission",
            "The federated identity may not act as the service account.",
            "grant roles/iam.workloadIdentityUser on the service account to the principal",
        ),
        "scope-invalid": i(
            "scope", "The cloud does not know the scope or resource.", "for Azure ask for '<resource>/.default'"
        ),
        "lifetime-invalid": i(
            "lifetime",
            "The lifetime asked for is outside what the identity allows.",
            "ask for a shorter lifetime, or raise the identity's maximum",
        ),
        "session-policy-invalid": i(
            "policy", "The cloud cannot read the session policy.", "check the policy's JSON and size"
        ),
        "parameter-invalid": i(
            "parameter", "The cloud rejects a parameter of the request.", "correct the parameter that the message names"
        ),
        "region-disabled": i(
            "region", "The account has switched this region off.", "use another region, or activate it in the account"
        ),
        "credentials-rejected": i(
            "signature",
            "The cloud does not accept the credentials that signed or carried the request.",
            "obtain new credentials; check the clock",
        ),
        "exchange-refused": i(
            "trust",
            "The cloud refused, with a code that is not known here.",
            "look up the cloud's own code in its documentation",
        ),
        # -- the cloud or this process is not able just now --------------------------------------------------------
        "throttled": i(
            "rate",
            "The cloud asks to slow down.",
            "lower the number of exchanges; one exchanger per identity and process is enough",
            True,
        ),
        "cloud-unavailable": i("cloud", "The cloud's token service failed.", "wait and try again", True),
        "rate-limited": i(
            "rate",
            "This process has used its exchanges of the last minute for this identity.",
            "keep one exchanger and reuse its credentials",
            True,
        ),
        "closed": i("usage", "The exchanger has been closed.", "make a new one"),
        "cluster-unavailable": i(
            "cluster", "The Kubernetes API server cannot be used.", "check the kubeconfig and that the server is ready"
        ),
        "cluster-refused": i(
            "permission",
            "The Kubernetes API server refused the request.",
            "grant the right, or correct the object, that the message names",
        ),
    }


CODES: Mapping[str, CodeInfo] = _table()
"""Every code of the package. Order: as a token travels."""


class WifError(Exception):
    """Something failed; the message says what, to which object, what was expected and what came.

    Args:
        message: one line, without any secret.
        code: a key of :data:`CODES`.
        clause, hint, retryable: default to the table's row.
        cloud: ``aws``, ``gcp``, ``azure`` or None.
        cloud_code: the cloud's own code, e.g. ``AADSTS700213``, ``InvalidIdentityToken``, ``invalid_grant``.
        status: HTTP status of the answer, where there was one.
        retry_after_seconds: what the answer's ``Retry-After`` asked for.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        clause: str | None = None,
        hint: str | None = None,
        retryable: bool | None = None,
        cloud: str | None = None,
        cloud_code: str | None = None,
        status: int | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        row = CODES[code]
        self.message = message
        self.code = code
        self.clause = row.clause if clause is None else clause
        self.hint = row.hint if hint is None else hint
        self.retryable = row.retryable if retryable is None else retryable
        self.cloud = cloud
        self.cloud_code = cloud_code
        self.status = status
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, {k: v for k, v in self.__dict__.items() if k != "message"}))


def _rebuild(kind: type[WifError], message: str, fields: dict[str, object]) -> WifError:
    error = kind(message, code=str(fields["code"]))
    error.__dict__.update(fields)
    return error


class ConfigurationError(WifError):
    """A setting, argument or file is missing or wrong; found before any request. Exit status 2."""

    several: tuple[str, ...] = ()
    """Where the message joins several things: the same as a list, its heading first. Empty where it says one."""

    @classmethod
    def of_all(cls, errors: Sequence[ConfigurationError]) -> ConfigurationError:
        """One error that says everything that is wrong: at least one, in this order."""
        if len(errors) == 1:
            return errors[0]
        codes = {error.code for error in errors}
        messages = [error.message for error in errors]
        whole = cls(
            "; ".join(messages),
            code=codes.pop() if len(codes) == 1 else "config-invalid",
            hint="; ".join(dict.fromkeys(error.hint for error in errors)),
        )
        whole.several = (f"{len(errors)} things are wrong:", *messages)
        return whole


class TokenError(WifError):
    """The subject token cannot be used; found before any request."""


class SubjectChanged(TokenError):
    """The token source names another identity than at the first exchange; nothing cached is served."""

    def __init__(self, message: str, *, code: str = "subject-changed", hint: str | None = None) -> None:
        super().__init__(message, code=code, hint=hint)


class TransportError(WifError):
    """The request or its answer did not get through whole and unharmed."""


class ProtocolError(WifError):
    """Something answered that does not speak this protocol."""


class RefusedError(WifError):
    """The cloud understood the request and refused it; the same token will be refused again."""


class UnavailableError(WifError):
    """The cloud, or this process' budget, cannot serve the request just now."""


class DriftError(WifError):
    """Something is there that should not be, or not as it should be: drift or tampering. Exit status 3."""
