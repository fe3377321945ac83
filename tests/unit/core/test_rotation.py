"""Where each key stands, by what is seen from outside at every target and every API server, and never by time alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from tests.unit.core.looked_at import DAY, FOREIGN, HOUR, ISSUER, NEW, NEXT, OLD, T0, Cluster, draining, server
from tests.unit.core.made_keys import rsa_key
from wif.core.issuer_state import State, decode_state, encode_state
from wif.core.publication import write_ahead
from wif.core.rotation import PHASES, Policy, adopt, assess, may_retire, observe, remove, retire, timeline
from wif.errors import ConfigurationError


def phase(cluster: Cluster, kid: str = "new") -> str:
    return cluster.phases()[kid]


# -- a whole rotation ----------------------------------------------------------------------------------------------


def test_a_key_goes_through_every_phase_as_it_is_seen() -> None:
    cluster = Cluster()
    assert cluster.phases() == {"old": "signing"}

    cluster.later(hours=1).state = write_ahead(cluster.state, [NEW], cluster.now)
    assert phase(cluster) == "staged"
    cluster.targets["s3://a"] = frozenset({"old", "new"})
    assert phase(cluster.later(hours=1)) == "staged"
    cluster.targets["gs://b"] = frozenset({"old", "new"})
    assert phase(cluster.later(hours=1)) == "published"
    cluster.public = frozenset({"old", "new"})
    assert phase(cluster.later(hours=1)) == "verified"
    cluster.servers[0] = server("one", [OLD, NEW], OLD)
    assert phase(cluster.later(hours=1)) == "verified"
    cluster.servers[1] = server("two", [OLD, NEW], OLD)
    assert phase(cluster.later(hours=1)) == "waiting"
    visible = cluster.now

    cluster.later(hours=24)
    waited = cluster.look()
    assert {key.kid: key.until for key in waited.keys}["new"] == cluster.now
    cluster.servers[0] = server("one", [OLD, NEW], NEW)
    assert cluster.later(minutes=5).phases() == {"old": "signing", "new": "signing"}
    cluster.servers[1] = server("two", [OLD, NEW], NEW)
    assert cluster.later(minutes=5).phases() == {"old": "draining", "new": "signing"}
    stopped = cluster.now
    assert not cluster.look().exposures

    gate = may_retire(cluster.state, "old", cluster.seen, cluster.policy)
    assert gate.not_before == stopped + timedelta(seconds=HOUR + 120 + 300)
    assert not gate.allowed
    cluster.later(seconds=HOUR + 420)
    assert may_retire(cluster.state, "old", cluster.seen, cluster.policy).allowed
    cluster.state = retire(cluster.state, "old", cluster.now)
    assert cluster.phases() == {"new": "signing", "old": "retired"}
    assert cluster.state.keys["new"].visible_since == visible


def test_any_machine_can_go_on_with_a_rotation() -> None:
    """All that a rotation needs is in the written state."""
    cluster = draining()
    cluster.state = decode_state(encode_state(cluster.state), issuer=ISSUER)
    assert cluster.later(hours=2).phases() == {"old": "draining", "new": "signing"}
    assert may_retire(cluster.state, "old", cluster.seen, cluster.policy).allowed


# -- visible -------------------------------------------------------------------------------------------------------


def waiting() -> Cluster:
    """NEW has been visible everywhere for 23 hours."""
    cluster = Cluster()
    cluster.look()
    cluster.publish(OLD, NEW)
    cluster.serve([OLD, NEW], OLD)
    cluster.look()
    cluster.later(hours=23).look()
    return cluster


@pytest.mark.parametrize("place", ["target", "public", "server"])
def test_a_look_that_misses_the_key_starts_its_visibility_anew(place: str) -> None:
    cluster = waiting()
    assert cluster.state.keys["new"].visible_since == T0
    targets, public, servers = cluster.targets, cluster.public, cluster.servers
    if place == "target":
        cluster.targets = {**targets, "gs://b": frozenset({"old"})}
    elif place == "public":
        cluster.public = frozenset({"old"})
    else:
        cluster.servers = [servers[0], server("two", [OLD], OLD)]
    assert phase(cluster) == {"target": "staged", "public": "published", "server": "verified"}[place]
    missed = cluster.state.keys["new"]
    assert missed.visible_since is None
    assert (missed.verified_at is None) is (place != "server")
    cluster.targets, cluster.public, cluster.servers = targets, public, servers
    again = {key.kid: key for key in cluster.later(hours=1).look().keys}["new"]
    assert (again.phase, again.since) == ("waiting", cluster.now)
    assert again.until == cluster.now + timedelta(days=1)


@pytest.mark.parametrize("place", ["target", "public", "server", "all servers"])
def test_what_could_not_be_read_closes_the_gate_with_a_reason_and_keeps_what_was_seen(place: str) -> None:
    cluster = waiting()
    if place == "target":
        cluster.targets["gs://b"] = None
    elif place == "public":
        cluster.public = None
    elif place == "server":
        cluster.complete, cluster.servers = False, cluster.servers[:1]
    else:
        cluster.servers = []
    status = {key.kid: key for key in cluster.look().keys}["new"]
    assert status.phase == {"target": "staged", "public": "published"}.get(place, "verified")
    assert len(status.blockers) == 1
    assert cluster.look().unread == status.blockers
    assert cluster.state.keys["new"].visible_since == T0


def test_a_place_that_was_never_read_makes_nothing_visible() -> None:
    for change in ("target", "public", "servers"):
        cluster = Cluster()
        cluster.publish(OLD, NEW)
        cluster.serve([OLD, NEW], OLD)
        if change == "target":
            cluster.targets["s3://a"] = None
        elif change == "public":
            cluster.public = None
        else:
            cluster.complete = False
        cluster.look()
        assert cluster.state.keys["new"].visible_since is None
        assert cluster.state.keys["new"].published_at == (None if change == "target" else T0)


def test_a_cluster_without_a_public_address_goes_by_its_targets_and_api_servers() -> None:
    cluster = Cluster(public=None, public_known=False)
    cluster.serve([OLD, NEW], OLD)
    cluster.state = write_ahead(cluster.state, [NEW], T0)
    cluster.targets = {"gcp-provider:x": frozenset({"old", "new"})}
    assert phase(cluster) == "waiting"
    assert not cluster.look().unread


def test_the_names_of_silent_api_servers_are_said() -> None:
    status = Cluster().look(servers_complete=False, missing_servers=("three", "four"))
    assert status.unread == ("the API server three did not answer", "the API server four did not answer")


def test_an_api_server_whose_signer_is_not_known_may_sign_with_any_key() -> None:
    cluster = draining()
    cluster.serve([OLD, NEW], NEW, None)
    assert cluster.look().unread == ("the key that the API server two signs with is not known",)


# -- waiting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy_seconds", "server_age", "public_age", "expected"),
    [(DAY, HOUR, None, DAY), (60, HOUR, None, HOUR), (60, HOUR, 2 * HOUR, 2 * HOUR), (60, 5, None, 60)],
)
def test_the_wait_is_at_least_the_largest_max_age_seen(
    policy_seconds: int, server_age: int, public_age: int | None, expected: int
) -> None:
    cluster = Cluster(policy=Policy(cache_seconds=policy_seconds))
    cluster.publish(OLD, NEW)
    cluster.serve([OLD, NEW], OLD)
    cluster.servers = [
        replace(cluster.servers[0], max_age_seconds=server_age),
        replace(cluster.servers[1], max_age_seconds=None),
    ]
    status = cluster.look(public_max_age_seconds=public_age)
    assert {key.kid: key.until for key in status.keys}["new"] == T0 + timedelta(seconds=expected)


@pytest.mark.parametrize("wrong", [{"cache_seconds": -1}, {"skew_seconds": -1}, {"longest_token_seconds": 0}])
def test_a_policy_of_impossible_times_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))) as caught:
        Policy(**wrong)
    assert caught.value.code == "config-invalid"


# -- signing and draining ------------------------------------------------------------------------------------------


def test_draining_begins_when_all_api_servers_answered_and_none_signs_with_it() -> None:
    cluster = waiting()
    cluster.later(hours=2).serve([OLD, NEW], NEW, OLD)
    assert cluster.phases() == {"old": "signing", "new": "signing"}
    cluster.servers, cluster.complete = cluster.servers[:1], False
    assert cluster.later(hours=1).phases()["old"] == "signing"
    cluster.serve([OLD, NEW], NEW, None)
    cluster.complete = True
    assert cluster.later(hours=1).phases()["old"] == "signing"
    cluster.serve([OLD, NEW], NEW)
    assert cluster.later(hours=1).phases()["old"] == "draining"
    assert cluster.state.keys["old"].stopped_at == cluster.now
    stopped = cluster.now
    cluster.later(hours=1).look()
    assert cluster.state.keys["old"].stopped_at == stopped


def test_a_key_that_signs_again_drains_from_its_next_stop() -> None:
    cluster = draining()
    first = cluster.state.keys["old"].stopped_at
    cluster.serve([OLD, NEW], OLD)
    assert cluster.later(minutes=10).phases() == {"old": "signing", "new": "draining"}
    assert cluster.state.keys["old"].signing_since == cluster.now
    cluster.serve([OLD, NEW], NEW)
    assert cluster.later(minutes=10).phases()["old"] == "draining"
    assert cluster.state.keys["old"].stopped_at == cluster.now != first


def test_the_largest_lifetime_seen_while_a_key_signs_is_kept() -> None:
    cluster = Cluster()
    for limit, kept in ((None, None), (HOUR, HOUR), (2 * HOUR, 2 * HOUR), (HOUR, 2 * HOUR), (0, 0), (HOUR, 0)):
        cluster.serve([OLD], OLD, limit=limit)
        cluster.look()
        assert cluster.state.keys["old"].longest_token_seconds == kept


def test_an_older_look_changes_nothing() -> None:
    cluster = draining()
    before = cluster.state
    cluster.serve([OLD, NEW], OLD)
    assert observe(before, replace(cluster.seen, at=T0), cluster.policy) is before


def test_a_key_that_may_have_signed_before_anybody_looked_drains_from_the_first_look() -> None:
    """A takeover: OLD signed until yesterday, and only the API servers' lists still know it."""
    cluster = Cluster()
    cluster.publish(OLD, NEW)
    cluster.serve([OLD, NEW], NEW)
    assert cluster.phases() == {"old": "waiting", "new": "signing"}
    assert cluster.state.keys["old"].stopped_at == T0
    cluster.serve([NEW], NEW)
    assert cluster.phases() == {"old": "draining", "new": "signing"}


def test_a_key_that_stands_beside_a_change_of_signers_may_have_signed_in_between() -> None:
    cluster = Cluster()
    cluster.look()
    cluster.publish(OLD, NEW, NEXT)
    cluster.serve([OLD, NEW, NEXT], OLD)
    cluster.look()
    assert cluster.state.keys["next"].stopped_at is None
    cluster.serve([OLD, NEW, NEXT], NEW)
    cluster.later(days=2).look()
    assert cluster.state.keys["next"].stopped_at == cluster.now


def test_an_adopted_key_drains_from_the_next_full_look() -> None:
    cluster = Cluster()
    cluster.look()
    cluster.targets["s3://a"] = frozenset({"old", "foreign"})
    cluster.state = adopt(cluster.state, FOREIGN, cluster.now)
    blind = cluster.later(hours=1).look(servers_complete=False)
    assert {key.kid: (key.phase, key.since) for key in blind.keys}["foreign"] == ("draining", None)
    status = cluster.later(hours=1).look()
    assert {key.kid: (key.phase, key.since) for key in status.keys}["foreign"] == ("draining", cluster.now)
    assert cluster.state.keys["foreign"].targets == {"s3://a"}


# -- exposure ------------------------------------------------------------------------------------------------------


def test_the_wrong_order_is_an_exposure_from_the_last_look_without_it_until_the_caches_end() -> None:
    """The operators switched the signer before anything was published."""
    cluster = Cluster()
    cluster.look()
    cluster.later(hours=3).serve([OLD, NEW], NEW, OLD)
    unrecorded = cluster.look().exposures
    assert [(one.kid, one.since, one.until) for one in unrecorded] == [
        ("new", T0 + timedelta(hours=3), cluster.now + timedelta(days=1))
    ]
    assert "never published" in unrecorded[0].message

    cluster = Cluster()
    cluster.look()
    cluster.later(hours=3).serve([OLD, NEW], NEW, OLD)
    cluster.state = write_ahead(cluster.state, [NEW], cluster.now)
    hidden = cluster.look().exposures[0]
    assert (hidden.kid, hidden.since, hidden.until) == ("new", T0, cluster.now + timedelta(days=1))
    assert "if it is published everywhere now" in hidden.message

    cluster.later(minutes=5).publish(OLD, NEW)
    cluster.servers = [server("one", [OLD, NEW], NEW), server("two", [OLD, NEW], OLD)]
    published = cluster.look().exposures[0]
    end = cluster.now + timedelta(days=1)
    assert (published.since, published.until) == (T0, end)
    assert "at the latest" in published.message
    # it stays reported when the operators go back, because its tokens live on
    cluster.serve([OLD, NEW], OLD)
    assert cluster.later(minutes=5).look().exposures[0].until == end
    cluster.now = end
    assert not cluster.look().exposures
    assert cluster.state.keys["new"].exposed_since is None


def test_signing_before_the_caches_know_the_key_is_an_exposure() -> None:
    cluster = waiting()
    cluster.serve([OLD, NEW], NEW)
    before = cluster.state.observed_at
    exposure = cluster.later(minutes=30).look().exposures[0]
    assert (exposure.since, exposure.until) == (before, T0 + timedelta(days=1))


def test_a_signing_key_that_is_lost_from_a_place_is_an_exposure() -> None:
    cluster = Cluster()
    cluster.look()
    cluster.later(days=2).look()
    last = cluster.now
    cluster.targets["s3://a"] = frozenset()
    assert [one.since for one in cluster.later(hours=1).look().exposures] == [last]
    cluster.targets["s3://a"] = frozenset({"old"})
    exposure = cluster.later(hours=1).look().exposures[0]
    assert (exposure.since, exposure.until) == (last, cluster.now + timedelta(days=1))


def test_a_first_look_at_what_is_visible_is_no_exposure() -> None:
    cluster = Cluster()
    assert not cluster.look().exposures
    assert not cluster.later(hours=1).look().exposures


def test_a_first_look_at_a_published_issuer_without_its_signer_is_an_exposure() -> None:
    cluster = Cluster()
    cluster.targets["s3://a"] = frozenset({"other"})
    assert [(one.kid, one.since) for one in cluster.look().exposures] == [("old", T0)]


def test_an_issuer_that_is_published_nowhere_yet_exposes_nothing() -> None:
    for targets in ({}, {"s3://a": frozenset[str]()}):
        cluster = Cluster(targets=dict(targets), public=None)
        assert not cluster.look().exposures
        assert not cluster.later(minutes=1).look().exposures
        cluster.targets = {"s3://a": frozenset()}
        cluster.publish(OLD)
        assert not cluster.later(minutes=1).look().exposures


def test_a_published_issuer_whose_places_are_emptied_is_exposed() -> None:
    cluster = Cluster()
    cluster.look()
    cluster.publish()
    assert [one.since for one in cluster.later(hours=1).look().exposures] == [T0]


def test_a_removed_key_that_still_signs_is_an_exposure_without_end() -> None:
    cluster = draining()
    cluster.state = remove(cluster.state, "new", cluster.now)
    exposure = cluster.look().exposures[0]
    assert (exposure.kid, exposure.since, exposure.until) == ("new", cluster.now, None)
    assert "removed" in exposure.message


# -- notices -------------------------------------------------------------------------------------------------------


def notices(cluster: Cluster) -> dict[str, str]:
    return {one.rule: f"{one.message} {one.hint}" for one in cluster.look().notices}


def test_two_api_servers_that_do_not_accept_each_others_keys() -> None:
    cluster = Cluster()
    cluster.servers = [server("one", [OLD], OLD), server("two", [NEW], NEW)]
    text = notices(cluster)["servers-disagree"]
    assert "two does not accept tokens of one ('old'); one does not accept tokens of two ('new')" in text
    cluster.servers = [
        server("one", [OLD, NEW], OLD),
        server("two", [OLD, NEW], NEW),
        server("three", [OLD, NEW], None),
    ]
    assert "servers-disagree" not in notices(cluster)


def test_a_cluster_restored_with_other_keys_is_told_before_they_are_recorded() -> None:
    cluster = Cluster()
    cluster.serve([NEW], NEW)
    text = notices(cluster)["keys-replaced"]
    assert "restored" in text
    assert "--public-key" in text
    assert "'old'" in text


def test_a_cluster_restored_with_other_keys_is_told_until_the_former_ones_are_gone() -> None:
    cluster = Cluster()
    cluster.look()
    cluster.later(hours=1).publish(OLD, NEW)
    cluster.serve([NEW], NEW)
    replaced = cluster.now
    assert "2026-01-01T01:00:00Z" in notices(cluster)["keys-replaced"]
    assert "keys-replaced" in notices(cluster.later(hours=1))
    assert cluster.state.replaced_at == replaced
    cluster.state = retire(cluster.state, "old", cluster.now)
    assert "keys-replaced" not in notices(cluster.later(hours=1))


def test_a_rotation_in_order_is_no_restore() -> None:
    cluster = draining()
    assert not notices(cluster)
    cluster.state = retire(cluster.state, "old", cluster.now)
    cluster.serve([NEW], NEW)
    assert not notices(cluster)


def test_api_servers_that_did_not_all_answer_prove_no_restore() -> None:
    cluster = Cluster()
    cluster.look()
    cluster.publish(OLD, NEW)
    cluster.servers, cluster.complete = [server("two", [NEW], NEW)], False
    assert "keys-replaced" not in notices(cluster)
    assert cluster.state.keys["old"].served


def test_api_servers_that_write_different_issuers() -> None:
    cluster = Cluster()
    cluster.servers = [cluster.servers[0], replace(cluster.servers[1], issuer="https://new.example")]
    assert "'https://issuer.example/one', 'https://new.example'" in notices(cluster)["issuers-differ"]
    cluster.servers = [cluster.servers[0], replace(cluster.servers[1], issuer=None)]
    assert "issuers-differ" not in notices(cluster)


# -- timeline ------------------------------------------------------------------------------------------------------


def test_the_timeline_of_a_rotation() -> None:
    cluster = draining()
    cluster.state = remove(cluster.state, "gone", cluster.now)
    cluster.look()
    rows = [
        (row.kid, row.phase, (row.since or T0) - T0, row.waits_for)
        for row in timeline(cluster.state, cluster.seen, cluster.policy)
    ]
    day, end = timedelta(days=1), timedelta(days=1, minutes=1)
    assert rows == [
        ("new", "staged", timedelta(0), ""),
        ("new", "published", timedelta(0), ""),
        ("new", "verified", timedelta(0), ""),
        ("new", "waiting", timedelta(0), ""),
        ("old", "staged", timedelta(0), ""),
        ("old", "published", timedelta(0), ""),
        ("old", "verified", timedelta(0), ""),
        ("old", "waiting", timedelta(0), ""),
        ("old", "signing", timedelta(0), ""),
        ("gone", "removed", end, ""),
        ("new", "signing", end, ""),
        ("old", "draining", end, "the last of its tokens"),
    ]
    assert day < end
    ends = {(row.kid, row.phase): row.until for row in timeline(cluster.state, cluster.seen, cluster.policy)}
    assert ends["new", "waiting"] == cluster.now
    assert ends["new", "signing"] is None
    assert ends["old", "draining"] == cluster.now + timedelta(seconds=HOUR + 420)


def test_the_timeline_says_what_is_waited_for() -> None:
    cluster = waiting()
    rows = {row.kid: row for row in timeline(cluster.state, cluster.seen, cluster.policy)}
    assert rows["new"].waits_for == "the clouds' caches"
    cluster.targets["s3://a"] = frozenset({"old"})
    cluster.look()
    rows = {row.kid: row for row in timeline(cluster.state, cluster.seen, cluster.policy)}
    assert rows["new"].waits_for == "the target s3://a does not show it"
    blind = Cluster(complete=False, state=adopt(State.new(ISSUER), FOREIGN, T0))
    assert timeline(blind.state, blind.seen, blind.policy)[-1].since is None


def test_no_past_phase_begins_after_the_present_one() -> None:
    """A key that was hidden and is visible again while it signs has no waiting before its signing."""
    cluster = draining()
    cluster.targets["s3://a"] = frozenset()
    cluster.later(hours=1).look()
    cluster.publish(OLD, NEW)
    cluster.later(hours=1).look()
    new = [row.phase for row in timeline(cluster.state, cluster.seen, cluster.policy) if row.kid == "new"]
    assert new == ["staged", "published", "signing"]


# -- for all inputs ------------------------------------------------------------------------------------------------

KIDS = ("old", "new", "next")
KEYS = {"old": OLD, "new": NEW, "next": NEXT}
ALL = frozenset(KIDS)
FAULTS = (
    "",
    "",
    "",
    "",
    "",
    "silent",
    "no-token",
    "goes-back",
    "unlimited",
    "unseen-limit",
    "missed",
    "unread",
    "blind",
)
LOOKS = st.integers(1, 3).flatmap(
    lambda switch: st.lists(st.tuples(st.integers(1, 9000), st.sampled_from(FAULTS)), max_size=7).map(
        lambda looks: [
            one_look(seconds, "old" if position < switch else "new", fault)
            for position, (seconds, fault) in enumerate(looks)
        ]
    )
)
"""OLD signs, then NEW; at any look something may be wrong."""


class Look(NamedTuple):
    seconds: int
    signers: tuple[str | None, str | None]
    limit: int | None = HOUR
    complete: bool = True
    target: frozenset[str] | None = ALL
    public: frozenset[str] | None = ALL


def one_look(seconds: int, signer: str, fault: str) -> Look:
    good = Look(seconds, (signer, signer))
    faults: dict[str, Look] = {
        "silent": good._replace(complete=False),
        "no-token": good._replace(signers=(signer, None)),
        "goes-back": good._replace(signers=(signer, "old")),
        "unlimited": good._replace(limit=0),
        "unseen-limit": good._replace(limit=None),
        "missed": good._replace(target=frozenset({"old"})),
        "unread": good._replace(target=None),
        "blind": good._replace(public=None),
    }
    return faults.get(fault, good)


def clusters(looks: list[Look]) -> list[Cluster]:
    """The cluster after each look of a history."""
    state = write_ahead(State.new(ISSUER), [OLD, NEW, NEXT], T0)
    now, result = T0, []
    for look in looks:
        now += timedelta(seconds=look.seconds)
        cluster = Cluster(
            servers=[
                server(str(number), KEYS.values(), None if signer is None else KEYS[signer], look.limit)
                for number, signer in enumerate(look.signers)
            ],
            targets={"s3://a": look.target, "gs://b": ALL},
            public=look.public,
            complete=look.complete,
            now=now,
            state=state,
        )
        cluster.look()
        state = cluster.state
        result.append(cluster)
    return result


@given(LOOKS)
def test_whatever_is_seen_a_key_is_retired_only_by_what_is_seen(looks: list[Look]) -> None:
    history = clusters(looks)
    for position, cluster in enumerate(history):
        for kid in KIDS:
            if not may_retire(cluster.state, kid, cluster.seen, cluster.policy).allowed:
                continue
            event("retired")
            assert cluster.complete
            assert cluster.public is not None
            assert None not in cluster.targets.values()
            assert cluster.servers
            assert all(one.signer not in (None, kid) for one in cluster.servers)
            # it was seen to sign, by an API server whose limit was seen then, and has been quiet for that long
            signed = [
                (before.now, one.longest_token_seconds)
                for before in history[: position + 1]
                for one in before.servers
                if one.signer == kid
            ]
            assert signed
            assert all(limit != 0 for _, limit in signed)
            limits = [limit for _, limit in signed if limit]
            assert limits
            assert cluster.now - max(at for at, _ in signed) >= timedelta(seconds=max(limits) + 420)
            # and who signs now is seen at every target
            assert all(one.signer in (kids or ()) for one in cluster.servers for kids in cluster.targets.values())


@given(LOOKS)
def test_whatever_is_seen_the_state_can_be_written_and_judged(looks: list[Look]) -> None:
    for cluster in clusters(looks):
        assert decode_state(encode_state(cluster.state), issuer=ISSUER) == cluster.state
        status = assess(cluster.state, cluster.seen, cluster.policy)
        assert {key.kid for key in status.keys} == set(KIDS)
        assert [PHASES.index(key.phase) for key in status.keys] == sorted(
            PHASES.index(key.phase) for key in status.keys
        )
        assert status.next_step.text
        for row in timeline(cluster.state, cluster.seen, cluster.policy):
            assert row.since is None or row.until is None or row.since <= row.until
        for kid, record in cluster.state.keys.items():
            assert record.visible_since is None or record.verified_at is not None
            assert observe(cluster.state, cluster.seen, cluster.policy).keys[kid] == record


def test_the_keys_of_the_tests_are_different_material() -> None:
    assert len({key.fingerprint for key in (OLD, NEW, NEXT, FOREIGN, rsa_key(9))}) == 5
