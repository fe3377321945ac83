"""The keeper against the local STS: credentials stay fresh through outages, refusals and clock jumps, unasked."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from wif.config.sidecar import SidecarSettings, load_sidecar
from wif.core.freshness import LIMITS
from wif.emulator.faults import Faults
from wif.emulator.pod import LocalPod
from wif.errors import ConfigurationError
from wif.exchange.clocks import SYSTEM, Clocks
from wif.serve.keeper import Keeper
from wif.serve.sidecar_identities import Identities

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

VAULT = "https://vault.azure.net/.default"
QUICK = LIMITS._replace(attempts=1, failure_backoff_seconds=0.1, failure_backoff_max_seconds=0.2)
"""One attempt for each exchange, and the next soon: what is tested is the keeper, not the exchangers' patience."""


class Time:
    """The system's clocks, which a test lets jump."""

    def __init__(self) -> None:
        self.steady_offset = self.wall_offset = 0.0

    @property
    def clocks(self) -> Clocks:
        return SYSTEM._replace(
            steady=lambda: SYSTEM.steady() + self.steady_offset, wall=lambda: SYSTEM.wall() + self.wall_offset
        )

    def pass_(self, seconds: float) -> None:
        self.steady_offset += seconds
        self.wall_offset += seconds


def settings_of(pod: LocalPod, **changes: Any) -> SidecarSettings:
    """One identity of each cloud, each with its token, by the names of the clouds."""
    who, tokens = pod.identity, {cloud: str(path) for cloud, path in pod.tokens.items()}
    identities = {
        "aws": {"cloud": "aws", "role_arn": who.role_arn, "region": who.region, "token_file": tokens["aws"]},
        "gcp": {"cloud": "gcp", "provider": who.provider, "token_file": tokens["gcp"]},
        "azure": {
            "cloud": "azure", "tenant_id": who.tenant_id, "client_id": who.client_id, "token_file": tokens["azure"]
        },
    }  # fmt: skip
    return load_sidecar({"identities": identities | changes.pop("identities", {})} | {"gce_metadata": True} | changes)


class Sidecar:
    """Identities and a keeper that looks often."""

    def __init__(
        self, pod: LocalPod, settings: SidecarSettings, at: Time, *, longest_sleep_seconds: float = 0.1
    ) -> None:
        self.identities = Identities(settings, environ=pod.environment, limits=QUICK, clocks=at.clocks)
        self.keeper = Keeper(self.identities, longest_sleep_seconds=longest_sleep_seconds)
        self.records: list[tuple[str, Mapping[str, Any]]] = []
        self.changed: list[str] = []
        self.identities.listen(lambda name, record: self.records.append((name, record)))
        self.keeper.on_change(lambda served: self.changed.append(served.name))

    def exchanges(self, name: str) -> int:
        served = self.identities.get(name)
        assert served is not None
        return served.exchanger.statistics.exchanges

    def state(self, name: str) -> tuple[str, str | None]:
        return self.keeper.states[name][:2]

    def codes(self) -> dict[str, str]:
        """What is wrong, by name."""
        return {name: kept.code for name, kept in self.keeper.states.items() if kept.code is not None}

    async def ready(self) -> None:
        """Wait until everything is there, and the hooks were called."""
        await self.until(self.keeper.ready)
        looks = self.keeper.looks
        self.keeper.wake()
        await self.until(lambda: self.keeper.looks > looks)
        await asyncio.sleep(0.01)

    async def until(self, condition: Callable[[], bool], seconds: float = 8.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"it did not come to that: {self.keeper.states}"
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def keeping(pod: LocalPod, at: Time | None = None, **changes: Any) -> AsyncIterator[Sidecar]:
    sidecar = Sidecar(pod, settings_of(pod, **changes), at or Time())
    sidecar.keeper.start()
    try:
        yield sidecar
    finally:
        await sidecar.keeper.stop()
        sidecar.identities.close()


def test_everything_is_there_before_anybody_asks(wif_pod: LocalPod) -> None:
    async def main() -> None:
        file = {"identity": "azure", "kind": "azure-token", "path": "/f", "scope": VAULT}
        async with keeping(wif_pod, files=[file]) as sidecar:
            assert {kept.state for kept in sidecar.keeper.states.values()} == {"pending"}
            assert not sidecar.keeper.ready()
            await sidecar.ready()
            for name, kept in sidecar.keeper.states.items():
                served = sidecar.identities.get(name)
                assert served is not None
                ends = [served.standing(scope).value.expires_at for scope in served.scopes]
                assert kept == ("ready", None, min(ends))
            assert sidecar.codes() == {}
            # Azure: the resource manager and the file's scope
            assert {name: sidecar.exchanges(name) for name in ("aws", "gcp", "azure")} == {
                "aws": 1, "gcp": 1, "azure": 2
            }  # fmt: skip
            assert sorted(sidecar.changed) == ["aws", "azure", "azure", "gcp"]
            await asyncio.sleep(0.5)  # five looks
            assert len(sidecar.records) == 4
            assert {name for name, _ in sidecar.records} == {"aws", "gcp", "azure"}
            azure = sidecar.identities.azure["azure"]
            assert (await azure.exchanger.acredentials(scope=VAULT)).scopes == (VAULT,)
            assert sidecar.exchanges("azure") == 2

    asyncio.run(main())


def test_a_cloud_that_is_down_keeps_nobody_else_from_being_ready_and_comes_back(
    wif_pod: LocalPod, wif_faults: Faults
) -> None:
    async def main() -> None:
        with wif_faults.inject(cloud="aws", status=503):
            async with keeping(wif_pod) as sidecar:
                await sidecar.until(lambda: sidecar.state("aws") == ("outage", "cloud-unavailable"))
                await sidecar.until(lambda: sidecar.state("gcp") == sidecar.state("azure") == ("ready", None))
                assert not sidecar.keeper.ready()
                assert sidecar.codes() == {"aws": "cloud-unavailable"}
                await sidecar.until(lambda: sidecar.exchanges("aws") >= 2)
                wif_faults.clear()
                await sidecar.ready()
                assert sidecar.codes() == {}

    asyncio.run(main())


def test_a_cloud_that_is_slow_holds_up_nobody(wif_pod: LocalPod, wif_faults: Faults) -> None:
    async def main() -> None:
        wif_faults.inject(cloud="aws", delay_seconds=3, times=1)
        async with keeping(wif_pod) as sidecar:
            await sidecar.until(lambda: sidecar.state("gcp")[0] == sidecar.state("azure")[0] == "ready", 2.5)
            assert sidecar.state("aws") == ("pending", None)
            await sidecar.ready()

    asyncio.run(main())


def test_a_refusal_is_told_and_ends_when_the_trust_is_there(wif_pod: LocalPod) -> None:
    unknown = {"cloud": "aws", "role_arn": "arn:aws:iam::111122223333:role/unknown"}
    identities = {"other": unknown | {"token_file": str(wif_pod.tokens["aws"])}}

    async def main() -> None:
        async with keeping(wif_pod, identities=identities) as sidecar:
            await sidecar.until(lambda: sidecar.state("other")[0] == "refused")
            await sidecar.until(lambda: sidecar.state("aws")[0] == "ready")
            assert not sidecar.keeper.ready()
            assert set(sidecar.codes()) == {"other"}
            sidecar.identities.replace(settings_of(wif_pod))
            sidecar.keeper.wake()
            await sidecar.ready()

    asyncio.run(main())


def test_a_refresh_that_fails_leaves_it_ready_until_the_credential_ends(wif_pod: LocalPod, wif_faults: Faults) -> None:
    at = Time()

    async def main() -> None:
        async with keeping(wif_pod, at) as sidecar:
            await sidecar.ready()
            sidecar.changed.clear()
            before = sidecar.exchanges("aws")
            with wif_faults.inject(cloud="aws", status=503):
                at.pass_(3100)  # past the refresh point of an hour's life
                await sidecar.until(lambda: sidecar.state("aws") == ("ready", "cloud-unavailable"))
                assert sidecar.keeper.ready()
                assert sidecar.codes() == {"aws": "cloud-unavailable"}
                await sidecar.until(lambda: sidecar.exchanges("aws") >= before + 2)
                assert sidecar.identities.aws["aws"].exchanger.credentials().local_sts
                at.pass_(600)  # past its end
                await sidecar.until(lambda: sidecar.state("aws")[0] != "ready")
                assert not sidecar.keeper.ready()
            wif_pod.renew()
            at.pass_(-3700)  # the token is fresh by the local STS's clock
            at.steady_offset += 7200
            await sidecar.until(lambda: sidecar.state("aws") == ("ready", None))
            await sidecar.until(lambda: "aws" in sidecar.changed)

    asyncio.run(main())


def test_a_wall_clock_that_goes_back_costs_nothing(wif_pod: LocalPod) -> None:
    at = Time()

    async def main() -> None:
        async with keeping(wif_pod, at) as sidecar:
            await sidecar.ready()
            at.wall_offset = -7200.0
            await asyncio.sleep(0.4)
            assert sidecar.keeper.ready()
            assert len(sidecar.records) == 3

    asyncio.run(main())


@pytest.mark.parametrize("steady", [0.0, 3100.0])
def test_a_jump_ahead_and_a_suspended_machine_refresh_everything(steady: float, wif_pod: LocalPod) -> None:
    at = Time()

    async def main() -> None:
        async with keeping(wif_pod, at) as sidecar:
            await sidecar.ready()
            first = {served.name: served.standing().value for served in sidecar.identities}
            at.steady_offset, at.wall_offset = steady, 3100.0
            await sidecar.until(
                lambda: all(served.standing().value is not first[served.name] for served in sidecar.identities)
            )
            assert sidecar.keeper.ready()
            # the record of an exchange is written a moment after its credential is there
            await sidecar.until(lambda: len(sidecar.records) >= 6)
            assert len(sidecar.records) == 6

    asyncio.run(main())


def test_a_refresh_reads_the_token_that_the_kubelet_has_renewed(wif_pod: LocalPod) -> None:
    at = Time()

    async def main() -> None:
        async with keeping(wif_pod, at) as sidecar:
            await sidecar.ready()
            wif_pod.renew()
            at.pass_(3100)
            await sidecar.until(lambda: len(sidecar.records) == 6)
        for cloud in ("aws", "gcp", "azure"):
            first, second = (record["jti"] for name, record in sidecar.records if name == cloud)
            assert first != second

    asyncio.run(main())


def test_a_token_that_comes_late_is_waited_for(wif_pod: LocalPod) -> None:
    path = wif_pod.tokens["aws"].parent / "late"

    async def main() -> None:
        late = {"cloud": "aws", "role_arn": wif_pod.identity.role_arn, "token_file": str(path)}
        async with keeping(wif_pod, identities={"late": late}) as sidecar:
            await sidecar.until(lambda: sidecar.state("late") == ("outage", "token-missing"))
            path.write_text(wif_pod.tokens["aws"].read_text())
            await sidecar.ready()

    asyncio.run(main())


def test_who_waits_for_a_token_that_never_comes_asks_less_and_less(wif_pod: LocalPod) -> None:
    async def main() -> None:
        late = {"cloud": "aws", "role_arn": wif_pod.identity.role_arn, "token_file": "/nowhere/token"}
        async with keeping(wif_pod, identities={"late": late}) as sidecar:
            await asyncio.sleep(3.5)
            assert 2 <= sum(name == "late" for name, _ in sidecar.records) <= 3  # at 0, 1 and 3 s, and not every 0.2

    asyncio.run(main())


def test_a_new_configuration_keeps_what_it_does_not_change(wif_pod: LocalPod) -> None:
    async def main() -> None:
        async with keeping(wif_pod) as sidecar:
            await sidecar.ready()
            before = {served.name: served for served in sidecar.identities}
            file = {"identity": "azure", "kind": "azure-token", "path": "/f", "scope": VAULT}
            renamed = {
                "more": {
                    "cloud": "aws",
                    "role_arn": wif_pod.identity.role_arn,
                    "token_file": str(wif_pod.tokens["aws"]),
                }
            }
            changed = settings_of(wif_pod, identities=renamed, files=[file])
            identities = {name: each for name, each in changed.identities.items() if name != "gcp"}
            sidecar.identities.replace(
                load_sidecar(
                    {
                        "identities": {name: _plain(each) for name, each in identities.items()},
                        "files": [file],
                    }
                )
            )
            sidecar.keeper.wake()
            assert sidecar.identities.get("aws") is before["aws"]
            azure = sidecar.identities.azure["azure"]
            assert azure is not before["azure"]
            assert azure.exchanger is before["azure"].exchanger
            assert not sidecar.identities.gcp
            with pytest.raises(ConfigurationError, match="closed"):
                before["gcp"].exchanger.credentials()
            await sidecar.ready()
            assert (sidecar.exchanges("aws"), sidecar.exchanges("more"), sidecar.exchanges("azure")) == (1, 1, 2)
            assert set(sidecar.keeper.states) == {"aws", "azure", "more"}

    asyncio.run(main())


def test_waiting_for_a_slow_refresh_burns_no_time(wif_pod: LocalPod, wif_faults: Faults) -> None:
    at = Time()

    async def main() -> None:
        async with keeping(wif_pod, at) as sidecar:
            await sidecar.ready()
            with wif_faults.inject(cloud="aws", delay_seconds=1.5):
                at.pass_(3100)
                await sidecar.until(lambda: sidecar.exchanges("aws") == 2)
                await sidecar.until(lambda: len(sidecar.records) == 5)
                looks = sidecar.keeper.looks
                await asyncio.sleep(0.8)
                assert sidecar.keeper.looks - looks <= 12
                assert sidecar.keeper.ready()

    asyncio.run(main())


def test_the_end_of_an_exchange_wakes(wif_pod: LocalPod) -> None:
    at = Time()

    async def main() -> None:
        sidecar = Sidecar(wif_pod, settings_of(wif_pod), at, longest_sleep_seconds=60.0)
        sidecar.keeper.start()
        await sidecar.ready()
        sidecar.changed.clear()
        at.pass_(3100)
        sidecar.keeper.wake()
        await sidecar.until(lambda: len(sidecar.records) == 6)
        await sidecar.until(lambda: sorted(sidecar.changed) == ["aws", "azure", "gcp"], 0.5)  # not its next look at 1 s
        await sidecar.keeper.stop()
        sidecar.identities.close()

    asyncio.run(main())


def test_ready_is_when_every_scope_is_there(wif_pod: LocalPod) -> None:
    file = {"identity": "azure", "kind": "azure-token", "path": "/f", "scope": VAULT}

    async def main() -> None:
        sidecar = Sidecar(wif_pod, settings_of(wif_pod, files=[file]), Time(), longest_sleep_seconds=60.0)
        sidecar.identities.aws["aws"].exchanger.credentials()
        sidecar.identities.gcp["gcp"].exchanger.credentials()
        azure = sidecar.identities.azure["azure"]
        azure.exchanger.credentials(scope=azure.scopes[0])
        assert not sidecar.keeper.ready()
        assert sidecar.state("azure") == ("pending", None)
        azure.exchanger.credentials(scope=VAULT)
        assert sidecar.keeper.ready()
        sidecar.identities.close()

    asyncio.run(main())


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Level and text of what the log says of identities."""
    every = ((record.levelname, record.getMessage()) for record in caplog.records if record.name == "wif.serve")
    return [(level, text) for level, text in every if text.startswith("the identity ")]


def test_the_log_says_once_why_there_is_no_credential_and_when_there_is_one_again(
    wif_pod: LocalPod, wif_faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    at = Time()

    async def main() -> None:
        with wif_faults.inject(cloud="aws", status=503):
            async with keeping(wif_pod, at) as sidecar:
                await sidecar.until(lambda: sidecar.exchanges("aws") >= 3)
                ((level, text),) = said(caplog)
                assert level == "WARNING"
                assert text.startswith("the identity aws (aws) has no credential (outage): ")
                assert "503" in text
                wif_faults.clear()
                await sidecar.ready()
                assert said(caplog)[1:] == [("INFO", "the identity aws has a credential again")]
                caplog.clear()
                before = sidecar.exchanges("aws")
                wif_faults.inject(cloud="aws", status=503)
                at.pass_(3100)  # past the refresh point
                await sidecar.until(lambda: sidecar.exchanges("aws") >= before + 3)
                ((level, text),) = said(caplog)
                assert text.startswith("the identity aws (aws) is not renewed: ")
                at.pass_(600)  # past its end
                await sidecar.until(lambda: len(said(caplog)) == 2)
                assert "has no credential (outage)" in said(caplog)[1][1]
        token = wif_pod.tokens["aws"].read_text().strip()
        assert token not in caplog.text

    with caplog.at_level(logging.INFO):
        asyncio.run(main())


def test_the_log_says_that_a_refresh_works_again_and_nothing_of_a_good_start(
    wif_pod: LocalPod, wif_faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    at = Time()

    async def main() -> None:
        async with keeping(wif_pod, at) as sidecar:
            await sidecar.ready()
            assert said(caplog) == []
            with wif_faults.inject(cloud="aws", status=503):
                at.pass_(3100)
                await sidecar.until(lambda: len(said(caplog)) == 1)
            await sidecar.until(lambda: len(said(caplog)) == 2)
            assert said(caplog)[1] == ("INFO", "the identity aws is renewed again")

    with caplog.at_level(logging.INFO):
        asyncio.run(main())


def test_the_log_says_what_new_settings_change(wif_pod: LocalPod, caplog: pytest.LogCaptureFixture) -> None:
    def other(name: str) -> SidecarSettings:
        role = {"cloud": "aws", "role_arn": f"arn:aws:iam::111122223333:role/{name}"}
        return settings_of(wif_pod, identities={"other": role | {"token_file": str(wif_pod.tokens["aws"])}})

    async def main() -> None:
        sidecar = Sidecar(wif_pod, other("unknown"), Time())
        sidecar.keeper.start()
        await sidecar.until(lambda: len(said(caplog)) == 1)
        assert "the identity other (aws) has no credential (refused): " in said(caplog)[0][1]
        sidecar.identities.replace(other("unknown-too"))
        sidecar.keeper.wake()
        await sidecar.until(lambda: len(said(caplog)) == 2)
        sidecar.identities.replace(other(wif_pod.identity.role_arn.rpartition("/")[2]))
        sidecar.keeper.wake()
        await sidecar.until(lambda: len(said(caplog)) == 3)
        assert said(caplog)[2] == ("INFO", "the identity other has a credential again")
        await sidecar.keeper.stop()
        sidecar.identities.close()

    with caplog.at_level(logging.INFO):
        asyncio.run(main())


def test_an_identity_that_nobody_is_served_is_not_kept(wif_pod: LocalPod) -> None:
    async def main() -> None:
        async with keeping(wif_pod, gce_metadata=False) as sidecar:
            await sidecar.ready()
            assert set(sidecar.keeper.states) == {"aws", "azure"}
            assert sidecar.exchanges("gcp") == 0

    asyncio.run(main())


@pytest.mark.parametrize("stops", [True, False])
def test_an_exchange_outlives_the_loop_that_waited_for_it(stops: bool, wif_pod: LocalPod, wif_faults: Faults) -> None:
    wif_faults.inject(cloud="aws", delay_seconds=0.5, times=1)

    async def main() -> Sidecar:
        sidecar = Sidecar(wif_pod, settings_of(wif_pod), Time())
        sidecar.keeper.start()
        await sidecar.until(lambda: sidecar.exchanges("aws") == 1)
        if stops:
            await sidecar.keeper.stop()
        return sidecar

    sidecar = asyncio.run(main())
    assert sidecar.identities.aws["aws"].exchanger.credentials().local_sts
    end = time.monotonic() + 5
    while "aws" not in [name for name, _ in sidecar.records]:  # the hook after the keeper's
        assert time.monotonic() < end
        time.sleep(0.01)


def _plain(identity: Any) -> dict[str, Any]:
    return {"cloud": identity.cloud} | {name: getattr(identity, name) for name in identity.__struct_fields__}
