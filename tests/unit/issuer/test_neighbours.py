"""What two issuers of one file share is found whichever of them is published, and only what they must not share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.publishing import KeyFile, MemoryPlace, key_files, publisher
from wif.config.issuers import IssuerSettings, TargetSettings
from wif.edges.stores.opening import parse_target
from wif.errors import ConfigurationError
from wif.issuer.neighbours import Neighbours


@pytest.fixture
def keys(tmp_path: Path) -> list[KeyFile]:
    return key_files(tmp_path, 2)


def issuer(name: str, key: KeyFile, folder: Path, **changes: Any) -> IssuerSettings:
    members: dict[str, Any] = {
        "issuer": f"https://{name}.example.com",
        "public_keys": (key.path,),
        "to": (TargetSettings(url=f"file:///{name}"),),
        "state": str(folder / f"{name}-state" / "issuer.json"),
        "verify": False,
    }
    return IssuerSettings(**(members | changes))


def rules(known: dict[str, IssuerSettings], name: str) -> set[str]:
    place = MemoryPlace(parse_target(known[name].to[0].url).name)
    run = publisher(known[name], [place], name=name, neighbours=Neighbours(known))
    try:
        report = run.run()
    except ConfigurationError as error:
        return {rule for rule in ("key", "target", "issuer", "jwks-uri") if f"(shared-{rule})" in error.message}
    return {finding.rule for finding in report.findings if finding.rule.startswith("shared-")}


def test_issuers_of_their_own_share_nothing(keys: list[KeyFile], tmp_path: Path) -> None:
    known = {"one": issuer("one", keys[0], tmp_path), "two": issuer("two", keys[1], tmp_path)}
    assert rules(known, "one") == rules(known, "two") == set()


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"issuer": "https://one.example.com/"}, "issuer"),
        ({"jwks_uri": "https://one.example.com/openid/v1/jwks"}, "jwks-uri"),
        ({"to": (TargetSettings(url="file:///one/"),)}, "target"),
    ],
)
def test_what_two_share_stops_both(changes: dict[str, Any], rule: str, keys: list[KeyFile], tmp_path: Path) -> None:
    known = {"one": issuer("one", keys[0], tmp_path), "two": issuer("two", keys[1], tmp_path, **changes)}
    assert rule in rules(known, "one")
    assert rule in rules(known, "two")


def test_a_key_of_two_clusters_stops_both(keys: list[KeyFile], tmp_path: Path) -> None:
    known = {"one": issuer("one", keys[0], tmp_path), "two": issuer("two", keys[0], tmp_path)}
    assert rules(known, "one") == rules(known, "two") == {"key"}


def test_a_migration_shares_its_keys(keys: list[KeyFile], tmp_path: Path) -> None:
    known = {
        "new": issuer("new", keys[0], tmp_path),
        "old": issuer("old", keys[0], tmp_path, former_issuer=True),
    }
    assert rules(known, "new") == rules(known, "old") == set()


def test_keys_of_a_run_are_known_to_the_next(keys: list[KeyFile], tmp_path: Path) -> None:
    """A cluster's keys stand in no file: the first run of a process tells them."""
    neighbours = Neighbours({name: IssuerSettings(issuer=f"https://{name}.example.com") for name in ("one", "two")})
    one, two = issuer("one", keys[0], tmp_path), issuer("two", keys[0], tmp_path)
    publisher(one, [MemoryPlace("file:///one")], name="one", neighbours=neighbours).run()
    with pytest.raises(ConfigurationError, match="shared-key"):
        publisher(two, [MemoryPlace("file:///two")], name="two", neighbours=neighbours).run()


def test_a_neighbour_that_is_broken_hides_nothing(keys: list[KeyFile], tmp_path: Path) -> None:
    broken = issuer("two", keys[1], tmp_path, public_keys=("/nonexistent",), jwks=("/nonexistent",))
    known = {"one": issuer("one", keys[0], tmp_path), "two": broken}
    assert rules(known, "one") == set()
