"""The rules for an issuer's keys, and for issuers that stand beside each other.

Sources: STS' and IAM's limits of key sets, Entra's considerations for federated identity credentials, Google's
reference of ``jwksJson``, RFC 7517 and 7518.
"""

from __future__ import annotations

__all__ = ["KEY_RULES", "NEIGHBOUR_RULES", "IssuerUse", "Keys"]

from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from wif.core.documents import private_members
from wif.core.jws import MIN_RSA_BITS
from wif.core.lint_rules import Found, Rule, shown
from wif.core.public_keys import IssuerKey, ObservedEntry

MAX_KEYS = 100
"""Of RSA and of EC keys at AWS each; Entra stores the first so many of all."""

_CLOUD_NAMES: Mapping[str, str] = {"aws": "AWS", "gcp": "GCP", "azure": "Azure"}

_JWK_MEMBERS = frozenset({"use", "kty", "kid", "alg", "n", "e", "x", "y", "crv", "pub"})
"""What Google takes in an uploaded key set; ``pub`` is for keys that it refuses anyway."""


class Keys(NamedTuple):
    """What the rules of one key set look at."""

    entries: tuple[ObservedEntry, ...]
    clouds: tuple[str, ...]
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerUse:
    """One issuer of a ``wif.yaml``, or one that is already at a target, as its neighbours see it."""

    name: str
    """What messages call it."""
    issuer: str
    jwks_uri: str
    keys: tuple[IssuerKey, ...] = ()
    """Those that are known; none where nobody has looked."""
    targets: tuple[str, ...] = ()
    """Canonical names of the places that it is published to."""
    former: bool = field(default=False)
    """Whether it is the former issuer of a cluster, which shares its keys with the present one."""


_Founds = Iterator[Found]


# -- keys ------------------------------------------------------------------------------------------------------


def _unreadable(keys: Keys) -> _Founds:
    if keys.problem is not None:
        yield Found(f"{keys.problem}: no cloud verifies any token of this issuer")


def _defect(entry: ObservedEntry) -> str:
    """The one rule that an entry breaks which is no key; the worst first."""
    if private_members(entry.raw):
        return "private"
    if not entry.key_id:
        return "no-kid"
    if entry.key is not None:
        return ""
    return "size" if 0 < _rsa_bits(entry.raw) < MIN_RSA_BITS else "unusable"


def _private(keys: Keys) -> _Founds:
    for entry in keys.entries:
        if _defect(entry) == "private":
            yield Found(
                f"the key {_named(entry)} carries the private member(s) {', '.join(private_members(entry.raw))}: "
                "whoever reads it can mint every identity of the cluster, in every cloud"
            )


def _no_kid(keys: Keys) -> _Founds:
    for entry in keys.entries:
        if _defect(entry) == "no-kid":
            yield Found(
                "a key has no kid, or an empty one: AWS compares it exactly and finds no verification key, GCP and "
                "Entra refuse tokens whose kid is not in the set"
            )


def _size(keys: Keys) -> _Founds:
    for entry in keys.entries:
        if _defect(entry) == "size":
            yield Found(
                f"the RSA key {_named(entry)} has {_rsa_bits(entry.raw)} bits, expected at least {MIN_RSA_BITS}: the "
                "clouds refuse its tokens, and it can be broken"
            )


def _unusable(keys: Keys) -> _Founds:
    for entry in keys.entries:
        if _defect(entry) == "unusable":
            yield Found(f"{entry.problem}: a strict reader such as GCP refuses the whole key set with it")


def _members(keys: Keys) -> _Founds:
    for entry in keys.entries:
        more = sorted(set(entry.raw) - _JWK_MEMBERS)
        if more and not _defect(entry):
            yield Found(
                f"the key {_named(entry)} has the member(s) {', '.join(map(shown, more[:8]))}: GCP refuses an uploaded "
                "key set with any but those that Kubernetes writes"
            )


def _duplicate(keys: Keys) -> _Founds:
    counts = Counter(entry.key_id for entry in keys.entries if entry.key_id)
    for kid, count in counts.items():
        if count > 1:
            yield Found(
                f"the kid {shown(kid)} stands {count} times in the key set: which of the keys a cloud takes is not "
                "defined, and a strict reader refuses the whole set"
            )


def _too_many(keys: Keys) -> _Founds:
    kinds = Counter(entry.raw.get("kty") for entry in keys.entries if isinstance(entry.raw.get("kty"), str))
    kind, most = max(((kind, kinds[kind]) for kind in ("RSA", "EC")), key=lambda pair: pair[1])
    total = len(keys.entries)
    clouds = (("aws",) if most > MAX_KEYS else ()) + (("azure",) if total > MAX_KEYS else ())
    if clouds:
        how = {
            "aws": f"AWS refuses every token of {kind} keys where there are more than {MAX_KEYS} of them, here {most}",
            "azure": f"Entra keeps the first {MAX_KEYS} of {total} keys and refuses tokens of the others",
        }
        yield Found("; ".join(how[cloud] for cloud in clouds), clouds)


def _refusing(entry: ObservedEntry, keys: Keys) -> tuple[str, ...]:
    """The readers that do not verify this key."""
    return tuple(cloud for cloud in keys.clouds if entry.key is not None and cloud not in entry.key.clouds)


def _algorithm(keys: Keys) -> _Founds:
    for entry in keys.entries if _is_usable(keys) else ():
        clouds = _refusing(entry, keys)
        if entry.key is not None and clouds:
            names = " and ".join(_CLOUD_NAMES[cloud] for cloud in clouds)
            left_out = "; it is left out of the targets" if len(clouds) == len(keys.clouds) else ""
            yield Found(
                f"the key {_named(entry)} signs with {entry.key.algorithm}: {names} will refuse its tokens{left_out}",
                clouds,
            )


def _none_usable(keys: Keys) -> _Founds:
    if keys.problem is None and not _is_usable(keys) and not any(map(_defect, keys.entries)):
        algorithms = sorted({entry.key.algorithm for entry in keys.entries if entry.key is not None})
        those = f" (they sign with {', '.join(algorithms)})" if algorithms else ""
        yield Found(f"the key set has no key that any of its readers verifies{those}: every token is refused")


def _is_usable(keys: Keys) -> bool:
    """Whether at least one reader verifies at least one key."""
    return any(entry.key is not None and len(_refusing(entry, keys)) < len(keys.clouds) for entry in keys.entries)


def _rsa_bits(raw: Mapping[str, Any]) -> int:
    n = raw.get("n")
    if raw.get("kty") != "RSA" or not isinstance(n, str):
        return 0
    try:
        return int.from_bytes(urlsafe_b64decode(n.encode("ascii") + b"=" * (-len(n) % 4)), "big").bit_length()
    except ValueError:
        return 0


def _named(entry: ObservedEntry) -> str:
    return shown(entry.key_id) if entry.key_id else "without a kid"


KEY_RULES: tuple[Rule[Keys], ...] = (
    Rule(
        name="key-set-unreadable",
        level="error",
        check=_unreadable,
        hint="publish the cluster's own key set: wif issuer publish",
    ),
    Rule(
        name="key-private",
        level="error",
        clouds=(),
        check=_private,
        hint="treat that key as lost: rotate it, and publish public keys only",
    ),
    Rule(name="key-without-kid", level="error", check=_no_kid, hint="give the key the kid that its tokens have"),
    Rule(name="key-size", level="error", check=_size, hint="rotate to an RSA key of 2048 bits or more"),
    Rule(
        name="key-unusable",
        level="error",
        check=_unusable,
        hint="publish RSA (2048 bits or more) or EC keys as they are",
    ),
    Rule(
        name="key-members",
        level="warning",
        clouds=("gcp",),
        check=_members,
        hint="publish with this program: it writes those members only",
    ),
    Rule(name="key-duplicate", level="error", check=_duplicate, hint="let each kid stand once"),
    Rule(
        name="key-count",
        level="error",
        check=_too_many,
        hint="retire keys that sign no more: wif keys status; or split the clusters that share the issuer",
    ),
    Rule(
        name="key-algorithm",
        level="warning",
        check=_algorithm,
        hint="sign with RS256: all three clouds verify it; or say with clouds which of them read the target",
    ),
    Rule(
        name="key-none-usable",
        level="error",
        check=_none_usable,
        hint="sign with RS256: all three clouds verify it",
    ),
)


# -- neighbours ------------------------------------------------------------------------------------------------

_Uses = tuple[IssuerUse, ...]


def _shared(uses: _Uses, of: Callable[[IssuerUse], Iterator[tuple[str, str]]]) -> Iterator[tuple[str, list[IssuerUse]]]:
    """What several issuers have, as messages call it, and those that have it."""
    holders: dict[str, list[IssuerUse]] = {}
    names: dict[str, str] = {}
    for use in uses:
        for key, name in dict(of(use)).items():
            holders.setdefault(key, []).append(use)
            names.setdefault(key, name)
    yield from ((names[key], found) for key, found in holders.items() if len(found) > 1)


def _who(uses: list[IssuerUse]) -> str:
    return ", ".join(shown(use.name) for use in uses[:8]) + (", …" if len(uses) > 8 else "")


def _shared_issuer(uses: _Uses) -> _Founds:
    # a slash or the case of letters makes another issuer, but not another place for its documents
    for issuer, found in _shared(uses, lambda use: iter([(use.issuer.rstrip("/").lower(), use.issuer)])):
        yield Found(
            f"the issuer {shown(issuer)} is that of {_who(found)}: to the clouds they are one cluster, and pods of one "
            "become what the same namespace and name may become in the other"
        )


def _shared_jwks(uses: _Uses) -> _Founds:
    def of(use: IssuerUse) -> Iterator[tuple[str, str]]:
        yield use.jwks_uri, use.jwks_uri

    for uri, found in _shared(uses, of):
        if len({use.issuer.rstrip("/").lower() for use in found}) > 1 and not _is_one_cluster(found):
            yield Found(
                f"the jwks_uri {shown(uri)} is that of {_who(found)}: the keys of each can mint the identities of the "
                "others, in every cloud"
            )


def _shared_key(uses: _Uses) -> _Founds:
    def of(use: IssuerUse) -> Iterator[tuple[str, str]]:
        yield from ((key.fingerprint, key.key_id) for key in use.keys)

    for kid, found in _shared(uses, of):
        if len({use.issuer.rstrip("/").lower() for use in found}) > 1 and not _is_one_cluster(found):
            yield Found(
                f"the key {shown(kid)} is used by {_who(found)}: each of these clusters can mint the identities of the "
                "others, in every cloud"
            )


def _shared_target(uses: _Uses) -> _Founds:
    def of(use: IssuerUse) -> Iterator[tuple[str, str]]:
        yield from ((target, target) for target in use.targets)

    for target, found in _shared(uses, of):
        if len({use.issuer.rstrip("/").lower() for use in found}) > 1:
            yield Found(
                f"the target {shown(target)} is that of {_who(found)}: a place holds the documents of one issuer, so "
                "every cloud refuses the tokens of the others"
            )


def _is_one_cluster(found: list[IssuerUse]) -> bool:
    """Whether these are the present and the former issuers of one cluster, as in a migration."""
    return sum(not use.former for use in found) <= 1


NEIGHBOUR_RULES: tuple[Rule[_Uses], ...] = (
    Rule(name="shared-issuer", level="error", check=_shared_issuer, hint="give each cluster an issuer of its own"),
    Rule(name="shared-jwks-uri", level="error", check=_shared_jwks, hint="give each issuer a key set of its own"),
    Rule(
        name="shared-key",
        level="error",
        check=_shared_key,
        hint="rotate one of the clusters to a new key; where one issuer is the former one of the same cluster, say so: "
        "former_issuer: true",
    ),
    Rule(name="shared-target", level="error", check=_shared_target, hint="give each issuer a prefix of its own"),
)
