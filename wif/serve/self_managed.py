"""A webhook's certificate that it manages itself: made, kept in a Secret, registered, rotated, by several replicas.

Every replica looks every few seconds: at the registrations first, then at the Secret (in this order, so that what one
replica has read of the registrations is never newer than what it knows of the Secret), and does the one thing that is
due. A write names the version that was read; who loses reads again and uses what is there.

A rotation never refuses a call. The successor's authority is trusted by the API server before the successor is served,
and the former one for as long as a replica may still serve the former pair. What a replica serves changes only when
each registration has been seen to trust it.
"""

from __future__ import annotations

__all__ = ["CertificateStatus", "SelfManagedCertificate"]

import logging
import os
import random
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from wif.edges.files import write_atomically
from wif.edges.kube_objects import Objects, Resource, resource_version
from wif.edges.stores import WriteConflict
from wif.errors import UnavailableError, WifError
from wif.serve.certificate_authority import request_pair
from wif.serve.certificate_check import Presented, certificates_of, look_at
from wif.serve.certificate_secret import Generation, Stored, Timing, next_step, read_data, written_data
from wif.serve.certificates import Certificate

if TYPE_CHECKING:
    from wif.edges.kube import KubeClient
    from wif.serve.ca_bundle import Registration, Registrations

_LOGGER = logging.getLogger("wif.serve")

PREPARE_SECONDS = 60.0
"""For the API server to answer at the start; then this process ends and is started anew."""
_PREPARE_PAUSE_SECONDS = 1.0
_TRIES = 6
"""Of one look, while other replicas write."""
_CONFLICT_PAUSE_SECONDS = 0.2
_REQUEST_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateStatus:
    """What is so now: a value that is replaced whole."""

    problem: str = "no certificate yet"
    """Why the API server would refuse the certificate that is served; empty where it would not."""
    not_after: float = 0.0
    """When it ends, unix seconds."""
    rotations: int = 0
    """Pairs that this replica has begun to serve after its first."""
    repairs: int = 0
    """Registrations that somebody else had changed."""
    failures: int = 0
    """Looks that ended in an error."""


class SelfManagedCertificate:
    """The certificate of one replica.

    Rights: ``get`` and ``update`` on the Secret by name (``create`` only where it is not there yet), and those of
    :class:`~wif.serve.ca_bundle.Registrations`.

    Args:
        client: who asks.
        secret: ``NAMESPACE, NAME``.
        registrations: who trusts it.
        names: that the certificate has; the first one is the Service's.
        directory: private to this process; the pair is written there for TLS to read.
        clock: unix seconds.
        make: makes a pair; None runs the child process.
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        secret: tuple[str, str],
        registrations: Registrations,
        names: Sequence[str],
        directory: str | os.PathLike[str],
        timing: Timing | None = None,
        clock: Callable[[], float] = time.time,
        make: Callable[[], Generation] | None = None,
    ) -> None:
        namespace, self._name = secret
        resource = Resource(group="", plural="secrets", namespace=namespace)
        resource.path(self._name)  # checks the name
        self._shown = f"{namespace}/{self._name}"
        self._secrets = Objects(client, resource, timeout_seconds=_REQUEST_SECONDS)
        self._registrations = registrations
        self._names = tuple(dict.fromkeys(names))
        self._file = os.path.join(os.fspath(directory), "serving.pem")  # noqa: PTH118 - no pathlib in the server
        self._candidate = os.path.join(os.fspath(directory), "candidate.pem")  # noqa: PTH118
        self._timing = timing or Timing()
        self._clock = clock
        self._make = make or self._request
        self._served: Generation | None = None
        self._trusted: tuple[str, ...] = ()
        self._unregistered = "the API server has not been asked yet"
        self._reported = ""
        self._put_by_us: dict[str, tuple[str, ...]] = {}
        self.status = CertificateStatus()

    # -- for the server ----------------------------------------------------------------------------------------

    def prepare(self, *, stop: threading.Event | None = None) -> Certificate:
        """The certificate to listen with, made or read, and registered as far as that can be done now.

        Raises:
            RefusedError, ConfigurationError: a right is missing, or a setting is wrong.
            UnavailableError: the API server did not answer in time.
        """
        ends = time.monotonic() + PREPARE_SECONDS
        stopping = threading.Event() if stop is None else stop
        while True:
            try:
                self._look()
                break
            except UnavailableError as error:
                if time.monotonic() >= ends or stopping.wait(_PREPARE_PAUSE_SECONDS):
                    raise
                self._report(error)
        self.certificate = Certificate(self._file)
        self._examine_served()
        return self.certificate

    def run(self, stopping: threading.Event) -> None:
        """Look again and again until told to stop; a failure is logged once and shows in the status."""
        while not stopping.wait(self._timing.check_seconds * random.uniform(0.8, 1.2)):  # noqa: S311 - jitter
            self.check()

    def check(self) -> None:
        """One look."""
        try:
            self._look()
            self._reported = ""
        except WifError as error:
            self.status = replace(self.status, failures=self.status.failures + 1)
            self._report(error)
        self._examine_served()

    # -- one look ----------------------------------------------------------------------------------------------

    def _look(self) -> None:
        for attempt in range(_TRIES):
            try:
                seen = self._registrations.read()
                found = self._secrets.get(self._name)
                stored = self._advanced(found, read_data((found or {}).get("data")), seen)
                seen = self._register(seen, stored.authorities)
                self._serve(stored, seen)
            except WriteConflict:
                if attempt == _TRIES - 1:
                    raise
                time.sleep(_CONFLICT_PAUSE_SECONDS * (1 + random.random()) * (attempt + 1))  # noqa: S311 - jitter
            else:
                return

    def _advanced(self, found: Mapping[str, Any] | None, stored: Stored, seen: Sequence[Registration]) -> Stored:
        """What the Secret says after the step that is due."""
        now = self._clock()
        dates = self._examined(stored.current, self._authority(stored.current), ())
        step = next_step(
            stored,
            now=now,
            timing=self._timing,
            usable_until=0.0 if dates.problem else dates.not_after,
            successor_usable=not self._examined(
                stored.successor, self._authority(stored.successor), self._names
            ).problem,
            is_registered=all(each.trusts(stored.authorities) for each in seen),
            fits_names=not self._examined(stored.current, self._authority(stored.current), self._names).problem,
        )
        if step == "none":
            return stored
        if step == "make":
            if stored.current is not None:
                _LOGGER.error("the certificate in the Secret %s cannot be used: %s", self._shown, dates.problem)
            after = stored.made(self._make(), now, served=self._served)
        elif step == "stage":
            after = stored.staged(self._make(), now)
        elif step == "promote":
            after = stored.promoted(now)
        else:
            after = stored.forgotten()
        self._write(found, after)
        _LOGGER.info("the certificate's Secret is written", extra={"wif": {"secret": self._shown, "step": step}})
        return after

    def _write(self, found: Mapping[str, Any] | None, stored: Stored) -> None:
        data = written_data(stored)
        if found is None:
            self._secrets.create({"metadata": {"name": self._name}, "type": "Opaque", "data": data})
            return
        resource_version(found)
        self._secrets.replace({**found, "data": data})

    def _register(self, seen: Sequence[Registration], authorities: Sequence[str]) -> tuple[Registration, ...]:
        """Have the API server trust exactly these; what it is after that."""
        wrong = [each for each in seen if each.is_there and not each.has_exactly(authorities)]
        if not wrong:
            return tuple(seen)
        for each in wrong:
            before = self._put_by_us.get(each.shown)
            if before is not None and not each.has_exactly(before):
                self.status = replace(self.status, repairs=self.status.repairs + 1)
                _LOGGER.warning("somebody has changed the authorities that %s trusts: repaired", each.shown)
            self._registrations.put(each, authorities)
        self._put_by_us.update({each.shown: tuple(authorities) for each in seen if each.is_there})
        return self._registrations.read()

    def _serve(self, stored: Stored, seen: Sequence[Registration]) -> None:
        """Serve the present pair once it is trusted everywhere; the first one at once, there is no other."""
        absent = [each.shown for each in seen if not each.is_there]
        self._unregistered = f"{' and '.join(absent)} is not in the cluster" if absent else ""
        self._trusted = tuple(
            each for each in stored.authorities if all(found.trusts([each]) for found in seen if found.is_there)
        )
        present = stored.current
        if present is None or present == self._served:
            return
        is_trusted = not absent and set(self._authority(present)) <= set(self._trusted)
        if self._served is not None and not is_trusted:
            return
        write_atomically(self._file, (present.chain + present.key).encode())
        is_first, self._served = self._served is None, present
        if not is_first:
            self.certificate.reload()
            self.status = replace(self.status, rotations=self.status.rotations + 1)

    # -- what is so --------------------------------------------------------------------------------------------

    def _examine_served(self) -> None:
        """Connect to what is served as the API server would, with the authorities that it was seen to trust."""
        problem = self._unregistered
        found = Presented(problem)
        if not problem:
            if self._trusted:
                found = look_at(self.certificate.current, authorities="".join(self._trusted), names=self._names[:1])
            else:
                found = Presented("the API server trusts none of its authorities")
        if found.problem != self.status.problem:
            level = logging.ERROR if found.problem else logging.INFO
            text = (
                f"the certificate would be refused: {found.problem}" if found.problem else "the certificate is trusted"
            )
            _LOGGER.log(level, "%s", text)
        self.status = replace(self.status, problem=found.problem, not_after=found.not_after or self.status.not_after)

    def _examined(self, generation: Generation | None, authorities: Sequence[str], names: Sequence[str]) -> Presented:
        """Whether a pair is whole, fits its authority, and is valid now."""
        if generation is None:
            return Presented("there is none")
        write_atomically(self._candidate, (generation.chain + generation.key).encode())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self._candidate, None, lambda: "")
        except (OSError, ValueError) as error:
            return Presented(f"it is no PEM pair that fits ({getattr(error, 'reason', None) or 'unreadable'})")
        finally:
            os.unlink(self._candidate)  # noqa: PTH108
        return look_at(context, authorities="".join(authorities), names=names)

    @staticmethod
    def _authority(generation: Generation | None) -> tuple[str, ...]:
        return certificates_of(generation.authority) if generation is not None else ()

    def _request(self) -> Generation:
        made = request_pair(self._names, life_seconds=self._timing.life_seconds)
        return Generation(made.chain, made.key, made.authority)

    def _report(self, error: WifError) -> None:
        if error.message != self._reported:
            self._reported = error.message
            _LOGGER.warning("the certificate is not looked after: %s; %s", error.message, error.hint)
