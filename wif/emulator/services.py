"""What the three clouds' handlers share: trust, keys, seals, signers and notes of one local STS."""

from __future__ import annotations

__all__ = ["Refusal", "Services"]

from dataclasses import dataclass, field

from wif.core.discovery import PublishedKey
from wif.core.jws import UnverifiedJws, VerifiedJws
from wif.emulator.issued import Seal, TokenSigner
from wif.emulator.notes import Notes, issuer_objections
from wif.emulator.state import TrustStore
from wif.emulator.verification import IssuerKeys, VerificationFailed, check_signature
from wif.emulator.wire import Answer


class Refusal(Exception):
    """A request is refused: the cloud's error document, and the reason for the local STS's own log."""

    def __init__(self, answer: Answer, reason: str) -> None:
        super().__init__(reason)
        self.answer = answer
        self.reason = reason


@dataclass(slots=True, kw_only=True)
class Services:
    """One local STS's parts. Only ``trust`` is ever replaced, as a whole."""

    trust: TrustStore
    keys: IssuerKeys
    seal: Seal = field(default_factory=Seal)
    google_signer: TokenSigner = field(default_factory=lambda: TokenSigner("google"))
    azure_signer: TokenSigner = field(default_factory=lambda: TokenSigner("azure"))
    notes: Notes = field(default_factory=Notes)
    allow_local_issuers: bool = True
    """False refuses private issuers and plain http as the real clouds do."""

    async def published_keys(
        self, cloud: str, issuer: str, jws: UnverifiedJws, discovery_url: str | None = None
    ) -> tuple[PublishedKey, ...]:
        """The keys that may have signed a token of an issuer that a trust document names.

        ``discovery_url`` is where its discovery document is, if not at the usual place.

        Raises:
            VerificationFailed: see :class:`~wif.emulator.verification.IssuerKeys`.
        """
        if not self.allow_local_issuers:
            objections = issuer_objections(cloud, issuer)
            if objections:
                raise VerificationFailed("unreachable", "; ".join(objections))
        return await self.keys.find(issuer, jws.key_id, discovery_url)

    async def verified(
        self, cloud: str, issuer: str, jws: UnverifiedJws, discovery_url: str | None = None
    ) -> VerifiedJws:
        """A token of that issuer, its signature checked.

        Raises:
            VerificationFailed: see :class:`~wif.emulator.verification.IssuerKeys` and
                :func:`~wif.emulator.verification.check_signature`.
        """
        return check_signature(jws, await self.published_keys(cloud, issuer, jws, discovery_url))
