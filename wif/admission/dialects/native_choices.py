"""What a pod says in the native dialect: it may choose among the identities that its ServiceAccount lists, and do
without; never more.
"""

from __future__ import annotations

__all__ = ["POD_ANNOTATIONS", "Choice", "Wishes", "choices", "lifetime", "names_in", "parse_pod"]

from collections.abc import Mapping
from typing import NamedTuple

from wif.admission.annotation_keys import CLOUDS
from wif.admission.dialects import PodFacts
from wif.admission.dialects.native_fields import GENERAL, quoted
from wif.admission.dialects.native_identities import DEFAULT, Account, Complaints, Identity, start_of
from wif.admission.dialects.values import Place
from wif.admission.dialects.values import lifetime as common_lifetime
from wif.config.webhook import WebhookSettings

FLOOR_SECONDS = 600
"""The API server refuses projected tokens of less."""

NOTHING = "none"
"""In place of an identity's name: the pod does without the cloud."""

POD_ANNOTATIONS: Mapping[str, str] = {
    "use": "THE identity of a cloud for every container, `aws=reader,gcp=bq`; `aws=none` does without the cloud.",
    "use.CONTAINER": "The same for one container; it goes before `use`.",
    "skip-containers": "Names of containers that get nothing, with commas between them.",
    "token-expiration": "Lifetime of all tokens in seconds.",
    "mode": "`sidecar`, where the ServiceAccount says `files` or nothing; never the other way round.",
}
"""What a pod may say, and what it means."""


class Wishes(NamedTuple):
    """What a pod says."""

    use: Mapping[str, str]
    """By cloud: the name of an identity, or ``none``."""
    use_of: Mapping[str, Mapping[str, str]]
    """The same by container."""
    skip: frozenset[str]
    expiration: int | None
    is_sidecar: bool = False
    """It wants the sidecar, or its ServiceAccount does."""


class Choice(NamedTuple):
    """Some containers, and THE identity of one cloud in them."""

    cloud: str
    identity: Identity | None
    """None: undecided, the containers get the files of the cloud and no variable that names an identity."""
    only: frozenset[str] | None
    skip: frozenset[str]


def parse_pod(facts: PodFacts, account: Account, complaints: Complaints) -> Wishes:
    """Read the native annotations of a pod."""
    use: Mapping[str, str] = {}
    use_of: dict[str, Mapping[str, str]] = {}
    skip: frozenset[str] = frozenset()
    expiration = None
    is_sidecar = account.is_sidecar
    for whole, text in facts.annotations:
        key = whole.removeprefix(complaints.start)
        if key == whole:
            continue
        if key == "use":
            use = _use(complaints, account, key, text)
        elif key.startswith("use."):
            use_of[key[4:]] = _use(complaints, account, key, text, key[4:])
        elif key == "skip-containers":
            skip = names_in(text)
        elif key == "token-expiration":
            expiration = complaints.checked(key, GENERAL[key], text)
        elif key == "mode":
            mode = complaints.checked(key, GENERAL[key], text)
            if mode == "files" and account.is_sidecar:
                complaints.add(
                    "mode-of-account",
                    f"annotation {complaints.start}mode is 'files', and the ServiceAccount says 'sidecar': its pods do "
                    "not hold tokens themselves",
                    "leave it out",
                )
            is_sidecar = is_sidecar or mode == "sidecar"
        elif key.partition(".")[0] in CLOUDS:
            complaints.add(
                "annotation-of-accounts",
                f"annotation {complaints.start}{quoted(key)[1:-1]} stands on a pod, and does nothing there",
                "identities come from the ServiceAccount; a pod chooses among them with use",
                level="warning",
            )
        else:
            complaints.unknown(key, [known for known in POD_ANNOTATIONS if known != "use.CONTAINER"])
    return Wishes(use, use_of, skip, expiration, is_sidecar)


def _use(complaints: Complaints, account: Account, key: str, text: str, container: str = "") -> dict[str, str]:
    """The identities that an annotation asks for: those that the ServiceAccount lists, and ``none``."""
    asked: dict[str, str] = {}
    named = f"annotation {complaints.start}{quoted(key)[1:-1]}"
    for word in text.split(","):
        cloud, sign, name = (part.strip() for part in word.partition("="))
        if cloud not in CLOUDS or not sign or not name or cloud in asked:
            message = f"{named} is {quoted(text)}, expected aws=reader,gcp=none"
            complaints.add("use-malformed", message, "name each cloud once")
            return {}
        asked[cloud] = name
    for cloud, name in asked.items():
        listed = account.identities.get(cloud, {})
        if name == NOTHING:
            continue
        if name not in listed:
            complaints.add(
                "identity-unknown-to-account",
                f"{named} asks for the identity {quoted(name)} of {cloud}, which the ServiceAccount does not list",
                f"it lists {', '.join(listed)}" if listed else f"it lists none of {cloud}",
                cloud=cloud,
            )
        elif container and container not in listed[name].values.get("containers", (container,)):
            complaints.add(
                "identity-not-for-container",
                f"{named} asks for the identity {quoted(name)} of {cloud}, "
                "which the ServiceAccount keeps for other containers",
                f"they are {', '.join(sorted(listed[name].values['containers']))}",
                cloud=cloud,
            )
    return asked


def names_in(text: str) -> frozenset[str]:
    """Of containers, with commas between them."""
    return frozenset(filter(None, map(str.strip, text.split(","))))


def choices(account: Account, wishes: Wishes, complaints: Complaints) -> list[Choice]:
    """THE identity of each cloud for each container, as few choices as say it.

    A container that somebody names is decided on by itself, the rest together: what is said here must not depend on
    the containers of one pod.
    """
    for cloud, name in wishes.use.items():
        if name == NOTHING:
            message = f"annotation {complaints.start}use does without {cloud}"
            complaints.add("cloud-skipped", message, level="note", cloud=cloud)
    return [
        choice
        for cloud in CLOUDS
        if cloud in account.identities
        for choice in _of_cloud(cloud, account.identities[cloud], wishes, complaints)
    ]


def lifetime(identity: Identity, account: Account, wishes: Wishes, asked: Complaints, settings: WebhookSettings) -> int:
    """Seconds that the token of an identity lives."""
    cloud, own = identity.cloud, identity.values.get("token-expiration")
    key = "token-expiration" if own is None else f"{start_of(cloud, identity.name)}token-expiration"
    seconds, findings = common_lifetime(
        (Place("native", "", asked.about), f"{asked.start}token-expiration", wishes.expiration),
        (Place("native", "", account.about), f"{asked.start}{key}", account.expiration if own is None else own),
        int(getattr(settings, f"{cloud}_token_expiration")),
        floor_seconds=FLOOR_SECONDS,
        max_seconds=settings.max_token_expiration,
    )
    asked.findings += findings
    return seconds


_UNDECIDED = ""


def _of_cloud(cloud: str, identities: Mapping[str, Identity], wishes: Wishes, complaints: Complaints) -> list[Choice]:
    named = {container for container, use in wishes.use_of.items() if cloud in use}
    named.update(*(identity.values.get("containers", ()) for identity in identities.values()))
    decided = {name: _decided(cloud, identities, wishes, name) for name in sorted(named - wishes.skip)}
    rest = _decided(cloud, identities, wishes, None)
    found = []
    for name in (*identities, _UNDECIDED):
        only = frozenset(container for container, chosen in decided.items() if chosen == name)
        if rest == name:
            others = frozenset(decided) - only
            found.append(Choice(cloud, identities.get(name), None, wishes.skip | others))
        elif only:
            found.append(Choice(cloud, identities.get(name), only, wishes.skip))
    undecided = [container for container, chosen in decided.items() if chosen == _UNDECIDED]
    if undecided or rest == _UNDECIDED:
        where = f"the containers {', '.join(undecided)}" if rest != _UNDECIDED else "containers that nobody names"
        complaints.add(
            "identity-undecided",
            f"the ServiceAccount lists {', '.join(identities)} for {cloud}, and none is the one of {where}",
            f"name one of them default, or let the pod choose with {complaints.start}use",
            # where containers are named one by one, there may be no others
            level="warning" if undecided or not decided else "note",
            cloud=cloud,
        )
    return found


def _decided(cloud: str, identities: Mapping[str, Identity], wishes: Wishes, container: str | None) -> str:
    """The name of an identity, ``none``, or empty where it is undecided. Container None: one that nobody names."""
    may = [
        name
        for name, identity in identities.items()
        if "containers" not in identity.values or container in identity.values["containers"]
    ]
    of_container = {} if container is None else wishes.use_of.get(container, {})
    asked = of_container.get(cloud) or wishes.use.get(cloud)
    if asked is not None:
        return asked if asked in may else NOTHING
    if DEFAULT in may or not may:
        return DEFAULT if may else NOTHING
    return may[0] if len(may) == 1 else _UNDECIDED
