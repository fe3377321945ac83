"""Exchangers that make their credentials up, keep them for their life, and count how many they made."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from wif.core.credentials import AccessToken, AwsCredentials
from wif.errors import WifError

C = TypeVar("C", AccessToken, AwsCredentials)


class Counting(Generic[C]):
    """The part that counts: one credential for each key, remade when it is dropped or its life is over."""

    def __init__(self, life_seconds: float = 3600.0) -> None:
        self.life_seconds = life_seconds
        self.exchanges = 0
        self.calls = 0
        self.closed = False
        self.failure: WifError | None = None
        self.passed_seconds = 0.0
        self._lock = threading.Lock()
        self._kept: dict[object, C] = {}

    def invalidate(self) -> None:
        self._kept.clear()

    def close(self) -> None:
        self.closed = True

    def _now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.passed_seconds)

    def _get(self, key: object) -> C:
        self.calls += 1
        if self.failure is not None:
            raise self.failure
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or kept.expires_at <= self._now():
                self.exchanges += 1
                kept = self._kept[key] = self._make(self.exchanges, key)
            return kept

    def _make(self, number: int, key: object) -> C:
        raise NotImplementedError


class CountingAws(Counting[AwsCredentials]):
    """As wif.aws()."""

    def __init__(self, life_seconds: float = 3600.0, *, region: str | None = "eu-central-1") -> None:
        super().__init__(life_seconds)
        self.region = region

    def credentials(self, *, timeout: float | None = None) -> AwsCredentials:
        return self._get(())

    async def acredentials(self, *, timeout: float | None = None) -> AwsCredentials:
        return self._get(())

    def _make(self, number: int, key: object) -> AwsCredentials:
        return AwsCredentials(
            access_key_id=f"ASIA{number:016d}",
            secret_access_key=f"secret-{number}",
            session_token=f"session-{number}",
            expires_at=self._now() + timedelta(seconds=self.life_seconds),
            lifetime_seconds=self.life_seconds,
            assumed_role_arn="arn:aws:sts::111122223333:assumed-role/app/ns.pod",
            account_id="111122223333",
            region=self.region,
        )


class CountingBearer(Counting[AccessToken]):
    """What the two bearer clouds share."""

    refresh_in_seconds: float | None = None

    def _make(self, number: int, key: object) -> AccessToken:
        return AccessToken(
            token=f"token-{number}",
            expires_at=self._now() + timedelta(seconds=self.life_seconds),
            lifetime_seconds=self.life_seconds,
            refresh_in_seconds=self.refresh_in_seconds,
        )


class CountingGcp(CountingBearer):
    """As wif.gcp()."""

    def __init__(self, life_seconds: float = 3600.0, *, service_account: str | None = "app@p.iam.invalid") -> None:
        super().__init__(life_seconds)
        self.service_account = service_account
        self.project_id: str | None = "p"
        self.quota_project_id: str | None = None
        self.universe_domain = "googleapis.com"
        self.asked: list[object] = []

    def credentials(self, *, scopes: Sequence[str] | None = None, timeout: float | None = None) -> AccessToken:
        self.asked.append(scopes)
        return self._get(None if scopes is None else tuple(scopes))

    async def acredentials(self, *, scopes: Sequence[str] | None = None, timeout: float | None = None) -> AccessToken:
        await asyncio.sleep(0)
        return self.credentials(scopes=scopes)

    def id_token(self, *, audience: str, include_email: bool = True, timeout: float | None = None) -> AccessToken:
        self.asked.append((audience, include_email))
        return self._get((audience, include_email))


class CountingAzure(CountingBearer):
    """As wif.azure()."""

    def __init__(
        self, life_seconds: float = 3600.0, *, tenant_id: str = "11111111-AAAA-2222-bbbb-333333333333"
    ) -> None:
        super().__init__(life_seconds)
        self.tenant_id = tenant_id
        self.claims: str | None = None

    def credentials(
        self, *, scope: str | None = None, claims: str | None = None, timeout: float | None = None
    ) -> AccessToken:
        if claims is not None and claims != self.claims:
            self.claims = claims
            self.invalidate()
        return self._get(scope)

    async def acredentials(
        self, *, scope: str | None = None, claims: str | None = None, timeout: float | None = None
    ) -> AccessToken:
        return self.credentials(scope=scope, claims=claims)
