"""The rules for the two addresses of an issuer: the issuer itself and its ``jwks_uri``.

Sources: the API references of IAM OIDC providers, of workload identity pool providers and of federated identity
credentials; Kubernetes' own check of ``--service-account-issuer``. A rule looks only at what no other one explains, so
that one slip is one finding.
"""

from __future__ import annotations

__all__ = ["ISSUER_RULES", "Addresses"]

import re
from collections.abc import Iterator
from typing import NamedTuple

from wif.core.discovery import DISCOVERY_PATH
from wif.core.lint_rules import Found, Rule, shown
from wif.core.reachability import (
    UrlParts,
    host_problem,
    is_cluster_default,
    is_host,
    is_internal_name,
    is_private_address,
    split_url,
)

_MAX_ISSUER = {"aws": 255, "azure": 600, "gcp": 2000}
"""In characters: IAM's URL, Entra's issuer, the addresses of Google's providers and fleets."""

_NO_URL_CHARACTER = re.compile(r"[^A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]")
"""RFC 3986 section 2; white space has a rule of its own."""

_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")

_ODD_PATH = re.compile(r"//|/\.\.?(/|$)")


class Addresses(NamedTuple):
    """What the rules look at."""

    issuer: str
    jwks_uri: str
    server_issuers: tuple[str, ...] = ()
    """What the API servers write into new tokens."""

    @property
    def url(self) -> UrlParts:
        """The issuer without the white space that has its own rule."""
        return split_url("".join(self.issuer.split()))

    @property
    def below(self) -> str | None:
        """What ``jwks_uri`` adds to the issuer; None where it is not below it."""
        root = self.issuer.removesuffix("/") + "/"
        return self.jwks_uri[len(root) - 1 :] if self.jwks_uri.startswith(root) else None

    @property
    def jwks(self) -> UrlParts:
        """The parts of ``jwks_uri``."""
        return split_url(self.jwks_uri)

    @property
    def named(self) -> str:
        """The issuer as findings quote it."""
        return _without_user(self.issuer)

    @property
    def jwks_named(self) -> str:
        """``jwks_uri`` as findings quote it."""
        return _without_user(self.jwks_uri)

    @property
    def is_elsewhere(self) -> bool:
        """Whether ``jwks_uri`` names a host of its own."""
        return self.below is None and self.jwks.host.lower() != self.url.host.lower()


def _without_user(url: str) -> str:
    user = split_url(url).user
    return shown(url if user is None else url.replace(f"{user}@", "…@", 1))


_Founds = Iterator[Found]


# -- the issuer ------------------------------------------------------------------------------------------------


def _white_space(at: Addresses) -> _Founds:
    if any(letter.isspace() or not letter.isprintable() for letter in at.issuer):
        yield Found(
            f"the issuer {at.named} holds white space or control characters: no cloud compares it equal, and "
            "Entra refuses it"
        )


def _characters(at: Addresses) -> _Founds:
    plain = "".join(letter for letter in at.issuer if letter.isprintable() and not letter.isspace())
    if _NO_URL_CHARACTER.search(plain) or _BAD_PERCENT.search(plain):
        yield Found(
            f"the issuer {at.named} holds characters that are none of a URL: the clouds write them in "
            "different ways, and then it is not equal to iss"
        )


def _scheme(at: Addresses) -> _Founds:
    if at.url.scheme != "https":
        yield Found(
            f"the issuer {at.named} does not begin with https://: the API server serves no discovery documents "
            "for it (404), IAM creates no provider, Google and Entra do not read it"
        )


def _host(at: Addresses) -> _Founds:
    host = at.url.host
    if not is_host(host) and not _NO_URL_CHARACTER.search(host) and not _BAD_PERCENT.search(host):
        yield Found(f"the issuer {at.named} has no usable host name: nobody can read its documents")


def _host_case(at: Addresses) -> _Founds:
    if at.url.host != at.url.host.lower():
        yield Found(
            f"the issuer {at.named} has a host in upper case: issuers are compared byte for byte, but "
            "software on the way writes hosts in lower case, and then it is not equal to iss"
        )


def _user(at: Addresses) -> _Founds:
    if at.url.user is not None:
        yield Found(f"the issuer of {shown(at.url.host)} carries user information: no cloud takes it")


def _port(at: Addresses) -> _Founds:
    if at.url.port is not None:
        yield Found(f"the issuer {at.named} has a port: IAM creates no provider for it")


def _query(at: Addresses) -> _Founds:
    if at.url.query is not None:
        yield Found(
            f"the issuer {at.named} has a query: the API server serves no discovery documents for it (404), "
            "and no cloud takes it"
        )


def _fragment(at: Addresses) -> _Founds:
    if at.url.fragment is not None:
        yield Found(
            f"the issuer {at.named} has a fragment: the API server serves no discovery documents for it (404), "
            "and no cloud takes it"
        )


def _length(at: Addresses) -> _Founds:
    over = tuple(cloud for cloud, most in _MAX_ISSUER.items() if len(at.issuer) > most)
    if over:
        limits = ", ".join(f"{cloud} {_MAX_ISSUER[cloud]}" for cloud in over)
        yield Found(f"the issuer has {len(at.issuer)} characters, and the clouds take at most: {limits}", over)


def _path(at: Addresses) -> _Founds:
    if _ODD_PATH.search(at.url.path):
        yield Found(
            f"the issuer {at.named} has an empty or dotted segment in its path: what reads it may fold it, "
            "an object store does not, and the documents are then not found"
        )


def _default(at: Addresses) -> _Founds:
    if is_cluster_default(at.url.host):
        yield Found(
            f"the issuer {at.named} is a name inside the cluster: no cloud can read its documents, and every "
            "cluster with this default has the same one"
        )


def _default_uploaded(at: Addresses) -> _Founds:
    if is_cluster_default(at.url.host):
        yield Found(
            f"the issuer {at.named} is the default of many clusters: only the uploaded keys tell their tokens apart, "
            "and audit logs of the clouds do not"
        )


def _internal(at: Addresses) -> _Founds:
    host = at.url.host
    if is_host(host) and is_internal_name(host) and not is_cluster_default(host):
        yield Found(f"the host of the issuer, {shown(host)}, {host_problem(host)}: no cloud can read the documents")


def _private(at: Addresses) -> _Founds:
    host = at.url.host
    if is_private_address(host):
        yield Found(f"the host of the issuer, {shown(host)}, {host_problem(host)}: no cloud can read the documents")


def _server_slash(at: Addresses) -> _Founds:
    for written in dict.fromkeys(at.server_issuers):
        if written != at.issuer and written.rstrip("/") == at.issuer.rstrip("/"):
            yield Found(
                f"the issuer {at.named} and the one that an API server writes, {shown(written)}, differ in "
                "the slash at the end: every cloud compares them byte for byte and refuses all tokens"
            )


def _server_other(at: Addresses) -> _Founds:
    for written in dict.fromkeys(at.server_issuers):
        if written.rstrip("/") != at.issuer.rstrip("/"):
            yield Found(
                f"an API server writes the issuer {shown(written)}, not {at.named}: no token of it is one of "
                "this issuer, and every cloud refuses it"
            )


# -- jwks_uri --------------------------------------------------------------------------------------------------


def _jwks_scheme(at: Addresses) -> _Founds:
    if at.below is None and at.jwks.scheme != "https":
        yield Found(
            f"the jwks_uri {at.jwks_named} does not begin with https://: no cloud reads keys from it, and whoever "
            "is on the way could replace them"
        )


def _jwks_form(at: Addresses) -> _Founds:
    text = at.jwks_uri if at.below is None else at.below
    parts = split_url(text)
    if at.below is None:
        wrong = parts.user is not None or not is_host(parts.host)
    else:
        wrong = parts.query is not None or at.below in ("/", DISCOVERY_PATH)
    if wrong or parts.fragment is not None or _NO_URL_CHARACTER.search(text) or _BAD_PERCENT.search(text):
        yield Found(f"the jwks_uri {at.jwks_named} is not a plain URL of a document: no cloud reads keys from it")


def _jwks_path(at: Addresses) -> _Founds:
    if _ODD_PATH.search(at.jwks.path if at.below is None else at.below.partition("?")[0]):
        yield Found(
            f"the jwks_uri {at.jwks_named} has an empty or dotted segment in its path: what reads it may fold it, "
            "an object store does not, and the keys are then not found"
        )


def _jwks_private(at: Addresses) -> _Founds:
    if at.is_elsewhere and is_private_address(at.jwks.host):
        yield Found(
            f"the host of the jwks_uri, {shown(at.jwks.host)}, {host_problem(at.jwks.host)}: no cloud can read the keys"
        )


def _jwks_internal(at: Addresses) -> _Founds:
    host = at.jwks.host
    if at.is_elsewhere and is_host(host) and is_internal_name(host):
        yield Found(f"the host of the jwks_uri, {shown(host)}, {host_problem(host)}: no cloud can read the keys")


def _jwks_host(at: Addresses) -> _Founds:
    if at.is_elsewhere and is_host(at.jwks.host) and not host_problem(at.jwks.host):
        yield Found(
            f"the jwks_uri is on another host than the issuer, {shown(at.jwks.host)}: who controls that host can mint "
            "every identity, and an IAM provider with thumbprints needs those of both hosts",
            (),
        )


def _jwks_outside(at: Addresses) -> _Founds:
    if at.below is None and not at.is_elsewhere and at.jwks.scheme == "https":
        yield Found(
            f"the jwks_uri {at.jwks_named} is not below the issuer: the targets hold the key set at the usual "
            "path, and something else must bring it there",
            (),
        )


_ISSUER_FLAG = "change --service-account-issuer of the API servers, as a migration with both issuers served at once"
_PRIVATE = "use a public name; for readers in your own network only, allow private addresses"
_JWKS = "leave jwks_uri away, or give an https URL that everybody can read"

ISSUER_RULES: tuple[Rule[Addresses], ...] = (
    Rule(name="issuer-white-space", level="error", check=_white_space, hint="give the issuer exactly as iss has it"),
    Rule(name="issuer-characters", level="error", check=_characters, hint=_ISSUER_FLAG),
    Rule(name="issuer-https", level="error", check=_scheme, hint=_ISSUER_FLAG),
    Rule(name="issuer-host", level="error", check=_host, hint=_ISSUER_FLAG),
    Rule(name="issuer-host-case", level="warning", check=_host_case, hint="use a host in lower case"),
    Rule(name="issuer-user-info", level="error", check=_user, hint=_ISSUER_FLAG),
    Rule(
        name="issuer-port",
        level="error",
        clouds=("aws",),
        check=_port,
        hint="use port 443 without naming it, or leave aws out of the target's clouds",
        when="read-by-url",
        is_reach=True,
    ),
    Rule(name="issuer-query", level="error", check=_query, hint=_ISSUER_FLAG),
    Rule(name="issuer-fragment", level="error", check=_fragment, hint=_ISSUER_FLAG),
    Rule(
        name="issuer-length",
        level="error",
        check=_length,
        hint="use a shorter issuer, or leave the named clouds out of the target's clouds",
    ),
    Rule(name="issuer-path", level="error", check=_path, hint=_ISSUER_FLAG),
    Rule(name="issuer-default", level="error", check=_default, hint=_ISSUER_FLAG, when="read-by-url", is_reach=True),
    Rule(
        name="issuer-default-uploaded",
        level="warning",
        clouds=(),
        check=_default_uploaded,
        hint="give each cluster an issuer of its own",
        when="uploaded",
    ),
    Rule(name="issuer-internal-host", level="error", check=_internal, hint=_PRIVATE, when="read-by-url", is_reach=True),
    Rule(
        name="issuer-private-address", level="error", check=_private, hint=_PRIVATE, when="read-by-url", is_reach=True
    ),
    Rule(
        name="issuer-slash",
        level="error",
        check=_server_slash,
        hint="give --issuer with or without the slash, exactly as the API server writes it",
    ),
    Rule(
        name="issuer-server", level="error", check=_server_other, hint="give --issuer exactly as the API server has it"
    ),
    Rule(name="jwks-https", level="error", check=_jwks_scheme, hint=_JWKS, when="read-by-url"),
    Rule(name="jwks-form", level="error", check=_jwks_form, hint=_JWKS, when="read-by-url"),
    Rule(name="jwks-path", level="error", check=_jwks_path, hint=_JWKS, when="read-by-url"),
    Rule(
        name="jwks-private-address", level="error", check=_jwks_private, hint=_JWKS, when="read-by-url", is_reach=True
    ),
    Rule(name="jwks-internal-host", level="error", check=_jwks_internal, hint=_JWKS, when="read-by-url", is_reach=True),
    Rule(
        name="jwks-host", level="warning", check=_jwks_host, hint="keep both documents on one host", when="read-by-url"
    ),
    Rule(name="jwks-outside", level="warning", check=_jwks_outside, hint="leave jwks_uri away", when="read-by-url"),
)
