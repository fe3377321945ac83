"""A certificate of files that somebody else renews: looked at now and then, for readiness and metrics."""

from __future__ import annotations

__all__ = ["WatchedCertificate"]

import logging
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from wif.serve.certificate_check import look_at
from wif.serve.self_managed import CertificateStatus

if TYPE_CHECKING:
    from wif.serve.certificates import Certificate

_LOGGER = logging.getLogger("wif.serve")

CHECK_SECONDS = 10.0


class WatchedCertificate:
    """What is so of a :class:`~wif.serve.certificates.Certificate`: its dates. Who signed it is not known here.

    :meth:`run` is a worker of :func:`wif.serve.httpd.run`; the server itself reads the files anew.
    """

    def __init__(self, certificate: Certificate) -> None:
        self._certificate = certificate
        self._served = certificate.loaded_at
        self.status = CertificateStatus()
        self.check()

    def run(self, stopping: threading.Event) -> None:
        """Look again and again until told to stop."""
        while not stopping.wait(CHECK_SECONDS):
            self.check()

    def check(self) -> None:
        """One look."""
        found = look_at(self._certificate.current)
        before = self.status
        if found.problem and found.problem != before.problem:
            _LOGGER.error("the certificate would be refused: %s", found.problem)
        rotated = self._certificate.loaded_at != self._served
        self._served = self._certificate.loaded_at
        self.status = replace(
            before,
            problem=found.problem,
            not_after=found.not_after or before.not_after,
            rotations=before.rotations + rotated,
            failures=self._certificate.failures,
        )
