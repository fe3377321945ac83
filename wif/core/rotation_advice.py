"""What to do next in a rotation or a migration: one step, with the exact flags of kube-apiserver.

Only ``--service-account-key-file`` says what is published and accepted, only ``--service-account-signing-key-file``
who signs; both are read when an API server starts. Files are named by placeholders: ``OLD.pub``, ``NEW.key``.
Source: Kubernetes ``cmd/kube-apiserver`` reference and ``pkg/serviceaccount/openidmetadata.go``.
"""

from __future__ import annotations

__all__ = ["Situation", "flags_for", "migration_plan", "next_step", "staging_step"]

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from wif.core.quoting import shell_word
from wif.core.rotation_facts import drain_seconds
from wif.core.rotation_values import Exposure, KeyStatus, Notice, Phase, Policy, Step

_BOTH = ("--service-account-key-file=OLD.pub", "--service-account-key-file=NEW.pub")
_OLD_SIGNS = (*_BOTH, "--service-account-signing-key-file=OLD.key")
_NEW_SIGNS = (*_BOTH, "--service-account-signing-key-file=NEW.key")
_NEW_ALONE = ("--service-account-key-file=NEW.pub", "--service-account-signing-key-file=NEW.key")
_ONE_BY_ONE = "one API server after another, each back and ready before the next"
_MAX_EXPIRATION = "--service-account-max-token-expiration=24h0m0s"
"""24 hours: the largest that Google accepts of a token's age."""


class Situation(NamedTuple):
    """What advice rests on."""

    at: datetime
    keys: tuple[KeyStatus, ...]
    exposures: tuple[Exposure, ...]
    notices: tuple[Notice, ...]
    unread: tuple[str, ...]
    signing: frozenset[str]
    """The keys that API servers sign with now."""
    served: frozenset[str]
    """The keys that API servers list now."""
    may_have_signed: frozenset[str]
    """Of the keys never seen signing, those that may have signed while nobody looked."""

    def of(self, phase: Phase) -> tuple[KeyStatus, ...]:
        """The keys of one phase."""
        return tuple(key for key in self.keys if key.phase == phase)


def flags_for(step: Step) -> str:
    """The flags of a step as they stand in a static pod's manifest, one to a line; empty where it has none."""
    return "".join(f"    - {flag}\n" for flag in step.flags)


def next_step(situation: Situation) -> Step:
    """The one thing to do now: what is broken first, then what a rotation under way waits for."""
    for rule in _RULES:
        step = rule(situation)
        if step is not None:
            return step
    step = staging_step(next(iter(situation.signing), None))
    return replace(step, text=f"Nothing is under way. {step.text}")


def staging_step(old: str | None, new: str | None = None) -> Step:
    """How a new key is staged beside the one that signs.

    Args:
        old: the key that signs, where it is known.
        new: the new key, where there is one already.
    """
    return Step(
        text=(
            f"To rotate{'' if old is None else f' {_quoted(old)} (OLD)'}: make a new pair of keys "
            f"{'' if new is None else f'{_quoted(new)} '}(NEW), publish its public half with --public-key NEW.pub, and "
            f"let every API server list both while OLD goes on signing; {_ONE_BY_ONE}."
        ),
        flags=_OLD_SIGNS,
        command="wif keys stage --public-key NEW.pub",
    )


# -- what is broken --------------------------------------------------------------------------------------------


def _removed_signs(situation: Situation) -> Step | None:
    for exposure in situation.exposures:
        if exposure.until is None:
            return Step(
                text=(
                    f"An API server signs with the removed key {_quoted(exposure.kid)} (OLD), which clouds refuse: "
                    f"sign with another published key (NEW); {_ONE_BY_ONE}."
                ),
                flags=_NEW_ALONE,
                command="wif keys status",
            )
    return None


def _replaced(situation: Situation) -> Step | None:
    for notice in situation.notices:
        if notice.rule == "keys-replaced":
            return Step(
                text=f"{_sentence(notice.message)} {_sentence(notice.hint)}",
                flags=_OLD_SIGNS,
                command="wif issuer publish",
            )
    return None


def _disagreeing(situation: Situation) -> Step | None:
    for notice in situation.notices:
        if notice.rule == "servers-disagree":
            return Step(
                text=f"{_sentence(notice.message)} {_sentence(notice.hint)}", flags=_BOTH, command="wif keys status"
            )
    return None


def _exposed(situation: Situation) -> Step | None:
    if not situation.exposures:
        return None
    exposure = situation.exposures[0]
    hidden = [key for key in situation.keys if key.kid == exposure.kid and key.blockers]
    if hidden or exposure.kid not in {key.kid for key in situation.keys}:
        return Step(
            text=f"{_sentence(exposure.message)} Publish {_quoted(exposure.kid)} at once.", command="wif issuer publish"
        )
    return Step(
        text=(
            f"{_sentence(exposure.message)} It is published now. Let the former key (OLD) sign again until "
            f"{_until(exposure.until)} if it is still there; else wait until then."
        ),
        flags=_OLD_SIGNS,
        command="wif keys status",
    )


def _blind(situation: Situation) -> Step | None:
    if not situation.unread:
        return None
    return Step(
        text=f"Not everything could be seen, so no step is safe: {'; '.join(situation.unread)}.",
        command="wif keys status",
    )


# -- what is under way -----------------------------------------------------------------------------------------


def _publish(situation: Situation) -> Step | None:
    staged = situation.of("staged")
    if not staged:
        return None
    key = staged[0]
    return Step(text=f"Publish {_quoted(key.kid)}: {'; '.join(key.blockers)}.", command="wif issuer publish")


def _look_from_outside(situation: Situation) -> Step | None:
    published = situation.of("published")
    if not published:
        return None
    key = published[0]
    return Step(
        text=(
            f"{_quoted(key.kid)} is at every target, but {'; '.join(key.blockers)}: look for a cache or a proxy in "
            "between, and for a jwks_uri that leads elsewhere."
        ),
        command="wif issuer verify",
    )


def _restart(situation: Situation) -> Step | None:
    verified = situation.of("verified")
    if not verified:
        return None
    key = verified[0]
    return Step(
        text=(
            f"Let every API server list {_quoted(key.kid)} (NEW) while OLD goes on signing; {_ONE_BY_ONE}. Missing: "
            f"{'; '.join(key.blockers)}."
        ),
        flags=_OLD_SIGNS,
        command="wif keys status",
    )


def _finish_switch(situation: Situation) -> Step | None:
    signing = situation.of("signing")
    if len(signing) < 2:
        return None
    newest = max(signing, key=lambda key: key.since or situation.at)
    return Step(
        text=f"Let the other API servers sign with {_quoted(newest.kid)} (NEW) as well; {_ONE_BY_ONE}.",
        flags=_NEW_SIGNS,
        command="wif keys status",
    )


def _wait_or_switch(situation: Situation) -> Step | None:
    candidates = [key for key in situation.of("waiting") if key.kid not in situation.may_have_signed]
    if not candidates:
        return None
    key = candidates[0]
    if key.until is not None and situation.at < key.until:
        return Step(
            text=(
                f"Wait until {_until(key.until)}: clouds may still use a key set without {_quoted(key.kid)}. No API "
                "server may sign with it before."
            ),
            command="wif keys status",
        )
    return Step(
        text=(
            f"Let {_quoted(key.kid)} (NEW) sign: it has been visible everywhere for as long as clouds cache; "
            f"{_ONE_BY_ONE}. Both keys stay listed."
        ),
        flags=_NEW_SIGNS,
        command="wif keys status",
    )


def _drain_or_retire(situation: Situation) -> Step | None:
    draining = situation.of("draining")
    if not draining:
        return None
    key = draining[0]
    if key.blockers:
        limits = any("--service-account-max-token-expiration" in blocker for blocker in key.blockers)
        return Step(
            text=f"{_quoted(key.kid)} drains, and cannot be retired yet: {'; '.join(key.blockers)}.",
            flags=(_MAX_EXPIRATION,) if limits else (),
            command="wif keys status",
        )
    if key.until is not None and situation.at < key.until:
        return Step(
            text=f"Wait until {_until(key.until)}: tokens of {_quoted(key.kid)} may live until then.",
            command="wif keys status",
        )
    return Step(
        text=f"Every token of {_quoted(key.kid)} has ended: take it out of the published key set.",
        command=f"wif keys retire {_word(key.kid)}",
    )


def _ambiguous(situation: Situation) -> Step | None:
    for key in situation.of("waiting"):
        return Step(
            text=(
                f"{_quoted(key.kid)} is listed and was never seen signing, but may have signed before anybody looked. "
                f"If it is the next key (NEW), let it sign after {_until(key.until)}; if it is a former one, retire it."
            ),
            flags=_NEW_SIGNS,
            command=f"wif keys retire {_word(key.kid)}",
        )
    return None


def _drop_from_flags(situation: Situation) -> Step | None:
    gone = [key for key in (*situation.of("retired"), *situation.of("removed")) if key.kid in situation.served]
    if not gone:
        return None
    return Step(
        text=(
            f"API servers still list {_quoted(gone[0].kid)} (OLD), which is {gone[0].phase}. Take it out when no token "
            f"for the API server itself needs it any more (extended ones live for a year); {_ONE_BY_ONE}."
        ),
        flags=_NEW_ALONE,
        command="wif keys status",
    )


_RULES: tuple[Callable[[Situation], Step | None], ...] = (
    _removed_signs,
    _replaced,
    _disagreeing,
    _exposed,
    _blind,
    _publish,
    _look_from_outside,
    _restart,
    _finish_switch,
    _wait_or_switch,
    _drain_or_retire,
    _ambiguous,
    _drop_from_flags,
)
"""The first that has something to say decides."""


def _quoted(kid: str) -> str:
    return ascii(kid[:64])


def _word(kid: str) -> str:
    """A key id as an argument; base64url may begin with a hyphen."""
    return f"-- {shell_word(kid)}" if kid.startswith("-") else shell_word(kid)


def _until(at: datetime | None) -> str:
    return "it is visible everywhere" if at is None else at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


# -- migration -------------------------------------------------------------------------------------------------


def migration_plan(old: str, new: str, *, policy: Policy, longest_token_seconds: int | None = None) -> tuple[Step, ...]:
    """How an issuer is replaced by another without a refused token: both are served and trusted for a time.

    Relying parties never learn of a second ``--service-account-issuer``: the API server serves documents of the
    first alone, so the old issuer's must be published by somebody else until its last token has ended.

    Args:
        longest_token_seconds: as seen; the policy's wins.
    """
    longest = policy.longest_token_seconds or longest_token_seconds
    if longest is None:
        wait = "the longest lifetime of a token, which is not known: say it with --longest-token-lifetime"
        limit: tuple[str, ...] = (_MAX_EXPIRATION,)
    else:
        wait, limit = f"{drain_seconds(longest, policy)} s after the last API server was switched", ()
    accepts = (f"--service-account-issuer={old}", f"--service-account-issuer={new}")
    signs = (f"--service-account-issuer={new}", f"--service-account-issuer={old}")
    both = "If --api-audiences is set, it must name both as well."
    return (
        Step(
            text=f"Publish the same keys under the new issuer {new}, and go on publishing {old}.",
            command=f"wif issuer publish --issuer {new}",
        ),
        Step(
            text=f"See it from outside as a cloud does, before anything trusts {new}.",
            command=f"wif issuer verify --issuer {new}",
        ),
        Step(
            text=(
                f"Trust {new} in every cloud beside {old}: a second OIDC provider and a second statement in AWS, a "
                "second provider in Google's pool, a second federated credential in Entra. Keep the old ones."
            )
        ),
        Step(
            text=(
                f"Let every API server accept the new issuer; the first one is what it writes. {both} Restart "
                f"{_ONE_BY_ONE}."
            ),
            flags=accepts,
        ),
        Step(
            text=(
                f"Let every API server write the new issuer. {both} If --service-account-jwks-uri is set, give it the "
                f"new issuer's. Restart {_ONE_BY_ONE}. From now on set former_issuer: true at {old} in wif.yaml, and "
                "keep it published: no API server serves its documents any more."
            ),
            flags=signs,
        ),
        Step(
            text=f"See that every API server writes {new}, then wait until no token of {old} lives: {wait}.",
            flags=limit,
            command="wif keys status",
        ),
        Step(text=f"Take the trust in {old} away in every cloud: trust first, the documents later."),
        Step(
            text=(
                f"Take away the documents of {old}, and keep its bucket and its name: a name that lapses can be taken "
                "by others."
            ),
            command=f"wif issuer unpublish --issuer {old}",
        ),
        Step(
            text=(
                "Let the API servers forget the old issuer when no token for the API server itself needs it any more "
                f"(extended ones live for a year). Restart {_ONE_BY_ONE}."
            ),
            flags=(f"--service-account-issuer={new}",),
        ),
    )
