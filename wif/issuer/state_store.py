"""The trusted state of an issuer at its place: a ConfigMap of the cluster, or a file of this user.

Whoever can write the state can let a removed key come back, so it never stands in a public target.
"""

from __future__ import annotations

__all__ = ["DEFAULT_CONFIG_MAP", "StateStore", "default_state_file", "state_entry"]

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from wif.core.issuer_state import State, decode_state, encode_state
from wif.edges.stores import ABSENT, Store, WriteConflict
from wif.edges.stores.opening import parse_target
from wif.errors import ConfigurationError, DriftError
from wif.issuer.pauses import MAX_TRIES, pause

if TYPE_CHECKING:
    from wif.config.issuers import IssuerSettings
    from wif.edges.kube import KubeClient

DEFAULT_CONFIG_MAP = "wif-issuer-state"
"""Its name; the chart makes it empty, because a right to create cannot be limited to a name."""

_CONFIG_MAP = "configmap:"


class StateStore:
    """The state of one issuer, read and changed on a tag.

    Args:
        store: where it is.
        path: the file below a directory, or the entry of a ConfigMap.
        issuer: whose state it must be.
    """

    def __init__(self, store: Store, *, path: str, issuer: str) -> None:
        self._store = store
        self._path = path
        self.issuer = issuer
        self.name = f"{store.name}/{path}" if not store.name.startswith(_CONFIG_MAP) else f"{store.name} ({path})"

    @classmethod
    def open(
        cls,
        settings: IssuerSettings,
        *,
        issuer: str,
        kube: KubeClient | None,
        namespace: str = "",
        environ: Mapping[str, str] = os.environ,
    ) -> StateStore:
        """The place that the settings name; else a ConfigMap where there is a cluster, else this user's own file.

        Raises:
            ConfigurationError: config-conflict where the state would stand in a target; file-unusable.
        """
        place = settings.state
        if place is None and kube is not None:
            place = f"{_CONFIG_MAP}{namespace}/{DEFAULT_CONFIG_MAP}"
        _refuse_public(place, settings)
        if place is not None and place.startswith(_CONFIG_MAP):
            if kube is None:
                raise ConfigurationError(
                    f"the state {place} is in a cluster, but no cluster is named",
                    code="config-missing",
                    hint="pass --kubeconfig, or --state FILE",
                )
            from wif.edges.stores.configmap import ConfigMapStore  # noqa: PLC0415  # only with a cluster

            return cls(ConfigMapStore.from_url(place, client=kube), path=state_entry(issuer), issuer=issuer)
        from wif.edges.stores.directory import DirectoryStore  # noqa: PLC0415  # only without a cluster

        path = default_state_file(issuer, environ) if place is None else os.path.abspath(place)  # noqa: PTH100
        folder, name = os.path.split(path)
        return cls(DirectoryStore(folder, public=False), path=name, issuer=issuer)

    def read(self) -> tuple[State | None, str]:
        """The state and its tag; None where it is not there, or there and empty.

        Raises:
            ProtocolError: state-invalid.
        """
        found = self._store.read(self._path)
        if found is None:
            return None, ABSENT
        return (decode_state(found.body, issuer=self.issuer) if found.body.strip() else None), found.tag

    def update(self, change: Callable[[State], State], *, must_exist: bool = False, tries: int = MAX_TRIES) -> State:
        """Change the state and write it, anew from the start where others have changed it meanwhile.

        Args:
            change: gives the state wanted from the one that is there; called once for each try. What it returns
                unchanged is not written.
            must_exist: a state that is gone is not made anew.

        Raises:
            DriftError: state-missing.
            WriteConflict: others were faster every time.
        """
        for attempt in range(tries):
            state, tag = self.read()
            if state is None and must_exist:
                raise DriftError(f"the trusted state {self.name} is gone", code="state-missing")
            wanted = change(State.new(self.issuer) if state is None else state)
            body = encode_state(wanted)
            if state is not None and body == encode_state(state):
                return wanted
            try:
                self._store.write(self._path, body, tag=tag, content_type="application/json", cache_control="no-store")
            except WriteConflict:
                if self._holds(body):  # our own write, whose answer was lost
                    return wanted
                pause(attempt)
            else:
                return wanted
        raise WriteConflict(f"the state {self.name} was changed by others before each of {tries} writes")

    def rebuild(self, state: State) -> None:
        """Put a state in place of whatever stands there, readable or not.

        Raises:
            WriteConflict: somebody else wrote it at this very moment.
        """
        found = self._store.read(self._path)
        tag = ABSENT if found is None else found.tag
        body = encode_state(state)
        self._store.write(self._path, body, tag=tag, content_type="application/json", cache_control="no-store")

    def close(self) -> None:
        """Let go of connections."""
        self._store.close()

    def _holds(self, body: bytes) -> bool:
        found = self._store.read(self._path)
        return found is not None and found.body == body


def state_entry(issuer: str) -> str:
    """A name for an issuer's state that says which it is and that no other issuer has."""
    shown = re.sub(r"[^a-z0-9.-]+", "-", urlsplit(issuer).netloc.lower()).strip("-.")[:80] or "issuer"
    return f"{shown}-{hashlib.sha256(issuer.encode()).hexdigest()[:16]}.json"


def default_state_file(issuer: str, environ: Mapping[str, str]) -> str:
    """``$XDG_STATE_HOME/wif/issuers/…``, by default below ``~/.local/state``."""
    base = environ.get("XDG_STATE_HOME") or ""
    if not os.path.isabs(base):  # as the XDG specification says of relative paths: ignored  # noqa: PTH117
        base = os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".local", "state")  # noqa: PTH111, PTH118
    return os.path.join(base, "wif", "issuers", state_entry(issuer))  # noqa: PTH118


def _refuse_public(place: str | None, settings: IssuerSettings) -> None:
    if place is None:
        return
    targets = [parse_target(target.url) for target in settings.to]
    if place.startswith(_CONFIG_MAP):
        public = [target.name for target in targets if target == parse_target(place)]
    else:
        real = PurePath(os.path.realpath(place))
        public = [
            target.name
            for target in targets
            if target.scheme == "file" and real.is_relative_to(os.path.realpath(target.parts[0]))
        ]
    if public:
        raise ConfigurationError(
            f"the state {place} would stand in the target {public[0]}, which is public",
            code="config-conflict",
            hint="name a place for --state that only the publisher can write",
        )
