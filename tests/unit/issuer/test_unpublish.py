"""The end of an issuer: trust first, discovery before keys, and not while anything is seen to need it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.publishing import DISCOVERY, ISSUER, JWKS, KeyFile, MemoryPlace, key_files, publisher, settings
from wif.config.issuers import IssuerSettings, TargetSettings
from wif.edges.stores import WriteConflict
from wif.errors import DriftError, RefusedError
from wif.issuer.rounds import OpenTarget
from wif.issuer.state_store import StateStore
from wif.issuer.unpublish import Unpublisher, remove_documents


@pytest.fixture
def key(tmp_path: Path) -> KeyFile:
    return key_files(tmp_path, 1)[0]


@pytest.fixture
def given(key: KeyFile, tmp_path: Path) -> IssuerSettings:
    made = settings([key], f"file://{tmp_path}/out", state=tmp_path / "state" / "issuer.json")
    publisher(made).run()
    return made


def states(given: IssuerSettings) -> StateStore:
    return StateStore.open(given, issuer=ISSUER, kube=None)


def unpublish(given: IssuerSettings, *, confirmed: bool = True, **more: Any) -> Any:
    return Unpublisher(given, environ={}, **more).run(confirmed=confirmed)


def test_the_plan_alone_takes_nothing_away(given: IssuerSettings, tmp_path: Path) -> None:
    report = unpublish(given, confirmed=False)
    assert not report.done
    assert report.exit_status == 0
    assert report.steps[0].startswith("remove the trust in every cloud")
    assert "name" in report.steps[-1]
    assert (tmp_path / "out" / DISCOVERY).exists()


def test_the_discovery_document_goes_first(given: IssuerSettings, tmp_path: Path) -> None:
    gone: list[str] = []
    removed = MemoryPlace()
    delete = removed.delete

    def told(path: str, *, tag: str) -> None:
        gone.append(path)
        delete(path, tag=tag)

    removed.delete = told  # type: ignore[method-assign]
    for path in (JWKS, DISCOVERY):
        removed.put(path, (tmp_path / "out" / path).read_bytes())
    report = remove_documents(OpenTarget(settings=given.to[0], store=removed), DISCOVERY, JWKS)
    assert gone == [DISCOVERY, JWKS]
    assert report.outcome == "written"


def test_it_takes_the_documents_and_keeps_the_records(given: IssuerSettings, key: KeyFile, tmp_path: Path) -> None:
    report = unpublish(given)
    assert report.done
    assert report.exit_status == 0
    assert not (tmp_path / "out" / DISCOVERY).exists()
    assert not (tmp_path / "out" / JWKS).exists()
    state = states(given).read()[0]
    assert state is not None
    assert state.keys[key.kid].targets == frozenset()
    assert unpublish(given).targets[0].outcome == "unchanged"
    assert publisher(given).run().exit_status == 0  # and it can be published again


def test_a_key_that_signs_keeps_it(given: IssuerSettings, key: KeyFile, tmp_path: Path) -> None:
    def sign(known: Any) -> Any:
        record = replace(known.keys[key.kid], signing_since=datetime(2026, 1, 1, tzinfo=UTC))
        return replace(known, keys={key.kid: record})

    states(given).update(sign)
    report = unpublish(given)
    assert not report.done
    assert report.exit_status == 1
    assert key.kid in report.blockers[0]
    assert (tmp_path / "out" / JWKS).exists()


@pytest.mark.parametrize(
    ("other", "blocked"),
    [
        ({"issuer": "https://other.example.com", "to": "file://{folder}/out/"}, True),
        ({"issuer": ISSUER, "to": "file://{folder}/elsewhere"}, True),
        ({"issuer": "https://other.example.com", "to": "file://{folder}/elsewhere"}, False),
    ],
)
def test_another_issuer_of_the_file_that_needs_it_keeps_it(
    other: dict[str, str], blocked: bool, given: IssuerSettings, tmp_path: Path
) -> None:
    target = TargetSettings(url=other["to"].format(folder=tmp_path))
    known = {"this": given, "other": IssuerSettings(issuer=other["issuer"], to=(target,))}
    report = unpublish(given, name="this", others=known)
    assert bool(report.blockers) == blocked
    assert report.done != blocked


def test_without_a_state_nobody_knows_what_depends_on_it(given: IssuerSettings, tmp_path: Path) -> None:
    (tmp_path / "state" / "issuer.json").unlink()
    with pytest.raises(DriftError):
        unpublish(given)
    assert (tmp_path / "out" / JWKS).exists()


def test_a_managed_issuer_is_not_ours_to_take_away(key: KeyFile, tmp_path: Path) -> None:
    issuer = "https://oidc.eks.eu-central-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF"
    made = settings([key], f"file://{tmp_path}/x", state=tmp_path / "state.json", issuer=issuer)
    assert "EKS" in unpublish(made).blockers[0]


def test_a_publisher_that_goes_on_is_found() -> None:
    place = MemoryPlace()

    def conflict(path: str, *, tag: str) -> None:
        raise WriteConflict("written anew")

    place.put(DISCOVERY, b"{}")
    place.delete = conflict  # type: ignore[method-assign]
    with pytest.raises(RefusedError) as caught:
        remove_documents(OpenTarget(settings=TargetSettings(url="file:///x"), store=place), DISCOVERY, JWKS)
    assert caught.value.code == "still-used"
