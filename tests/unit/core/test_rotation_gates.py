"""What may be done to a key: allowed only where what is seen shows it to be safe, and said why not where it is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.unit.core.looked_at import DAY, FOREIGN, HOUR, ISSUER, NEW, NEXT, OLD, T0, Cluster, draining, server
from tests.unit.core.made_keys import rsa_key
from wif.core.issuer_state import State, decode_state, encode_state
from wif.core.publication import write_ahead
from wif.core.rotation import (
    Gate,
    Policy,
    abort,
    adopt,
    forget,
    may_abort,
    may_adopt,
    may_forget,
    may_remove,
    may_retire,
    remove,
    retire,
)
from wif.errors import ConfigurationError


def closed(gate: Gate, *reasons: str) -> None:
    """The gate is closed for these reasons and no other."""
    assert not gate.allowed
    assert len(gate.reasons) == len(reasons), gate.reasons
    for reason, expected in zip(gate.reasons, reasons, strict=True):
        assert expected in reason


def drained(*, limit: int | None = HOUR, longest: int | None = None) -> Cluster:
    """A cluster in which OLD may be retired."""
    cluster = draining(limit=limit, longest=longest)
    cluster.later(hours=2).look()
    return cluster


def retiring(cluster: Cluster, kid: str = "old", own_token_kid: str | None = None) -> Gate:
    return may_retire(cluster.state, kid, cluster.seen, cluster.policy, own_token_kid=own_token_kid)


# -- retire --------------------------------------------------------------------------------------------------------


def test_a_drained_key_may_be_retired() -> None:
    gate = retiring(drained())
    assert gate.allowed
    assert not gate.reasons
    assert any("--service-account-key-file" in text for text in gate.consequences)


def test_not_while_its_tokens_may_live() -> None:
    cluster = draining()
    closed(retiring(cluster), "tokens may live until 2026-01-02T01:08:00Z")
    end = retiring(cluster).not_before
    assert end is not None
    cluster.now = end - timedelta(seconds=1)
    closed(retiring(cluster), "tokens may live")
    cluster.now = end
    assert retiring(cluster).allowed


def test_not_while_any_api_server_signs_with_it() -> None:
    cluster = drained()
    cluster.serve([OLD, NEW], NEW, OLD)
    closed(retiring(cluster), "the API server two signs with it")
    cluster.look()
    closed(retiring(cluster), "the API server two signs with it")


def test_not_while_an_api_server_is_silent_or_a_place_unread() -> None:
    """Never on the timer alone."""
    for change, reason in (
        ({"complete": False}, "not every API server answered"),
        ({"public": None}, "the public address could not be read"),
        ({"targets": {"s3://a": None}}, "the target s3://a could not be read"),
    ):
        cluster = drained()
        for name, value in change.items():
            setattr(cluster, name, value)
        closed(retiring(cluster), reason)
    cluster = drained()
    cluster.serve([OLD, NEW], NEW, None)
    closed(retiring(cluster), "that the API server two signs with is not known")


def test_not_without_any_api_server() -> None:
    """Keys from files alone: nothing shows who signs."""
    cluster = drained()
    cluster.servers = []
    closed(retiring(cluster), "no API server answered", "no other key is seen to sign")


def test_not_without_a_longest_lifetime() -> None:
    cluster = drained(limit=None)
    closed(retiring(cluster), "no limit of the tokens' lifetime was seen while it signed")
    assert "--longest-token-lifetime" in retiring(cluster).reasons[0]
    assert retiring(drained(limit=None, longest=HOUR)).allowed


def test_not_while_an_api_server_grants_any_lifetime() -> None:
    cluster = drained(limit=0)
    closed(retiring(cluster), "while it signed, an API server granted tokens of any lifetime")
    assert "--service-account-max-token-expiration" in retiring(cluster).reasons[0]
    # the operators' word counts
    assert retiring(drained(limit=0, longest=HOUR)).allowed
    cluster = drained()
    cluster.servers = [cluster.servers[0], server("two", [OLD, NEW], NEW, 0)]
    closed(retiring(cluster), "the API server two grants tokens of any lifetime")
    cluster.servers = [cluster.servers[0], server("two", [OLD, NEW], NEW, None)]
    closed(retiring(cluster), "the longest lifetime that two grants is not seen")


def test_a_limit_that_is_set_after_the_switch_does_not_shorten_older_tokens() -> None:
    """Operators set the flag in the very restart that switches the signer."""
    cluster = draining(limit=0)
    cluster.serve([OLD, NEW], NEW, limit=HOUR)
    cluster.later(days=30).look()
    closed(retiring(cluster), "while it signed")


def test_the_longest_of_all_limits_counts() -> None:
    cluster = draining(limit=DAY)
    cluster.serve([OLD, NEW], NEW, limit=HOUR)
    cluster.later(hours=2).look()
    closed(retiring(cluster), "tokens may live")
    cluster = draining()
    cluster.servers = [server("one", [OLD, NEW], NEW, DAY), server("two", [OLD, NEW], NEW)]
    cluster.later(hours=2).look()
    closed(retiring(cluster), "tokens may live")
    assert retiring(cluster.later(days=1)).allowed


def test_not_while_the_key_that_signs_is_missing_somewhere_or_unknown() -> None:
    cluster = drained()
    cluster.targets["s3://a"] = frozenset({"old"})
    closed(retiring(cluster), "the key 'new' signs now, but the target s3://a does not show it")
    cluster = drained()
    cluster.public = frozenset({"old"})
    closed(retiring(cluster), "'new' signs now, but the public address")
    cluster = drained()
    cluster.serve([OLD, NEW, NEXT], NEW, NEXT)
    closed(retiring(cluster), "'next' signs now and is not recorded")


def test_not_by_the_state_alone() -> None:
    """Nothing was ever seen of it: neither that it signed nor that it stopped."""
    cluster = drained(longest=HOUR)
    cluster.state = write_ahead(cluster.state, [NEXT], T0)
    closed(retiring(cluster.later(days=400), "next"), "only the state speaks of it")
    # a state that has not recorded what is seen now says nothing either
    record = replace(cluster.state.keys["old"], stopped_at=None)
    cluster.state = replace(cluster.state, keys={**cluster.state.keys, "old": record})
    closed(retiring(cluster), "only the state speaks of it")


def test_a_key_that_was_there_before_anybody_looked_drains_by_the_operators_word_alone() -> None:
    cluster = Cluster()
    cluster.publish(OLD, NEW)
    cluster.serve([OLD, NEW], NEW)
    cluster.look()
    cluster.later(days=2).look()
    closed(retiring(cluster), "no limit of the tokens' lifetime was seen while it signed")
    cluster.policy = Policy(longest_token_seconds=HOUR)
    assert retiring(cluster).allowed


def test_the_key_of_the_publishers_own_token_goes_last() -> None:
    cluster = drained()
    closed(retiring(cluster, own_token_kid="old"), "this publisher's own token")
    assert retiring(cluster, own_token_kid="new").allowed


@pytest.mark.parametrize("gate", [may_retire, may_abort])
def test_a_key_that_is_not_recorded_passes_no_gate(gate: object) -> None:
    cluster = drained()
    cluster.state = remove(cluster.state, "gone", T0)
    for kid, reason in (("nobody", "no key of this id is recorded"), ("gone", "it is removed already")):
        closed(gate(cluster.state, kid, cluster.seen, cluster.policy), reason)  # type: ignore[operator]  # both gates


# -- abort ---------------------------------------------------------------------------------------------------------


def staged() -> Cluster:
    """NEW is staged beside OLD, which signs, and was looked at."""
    cluster = Cluster()
    cluster.look()
    cluster.later(minutes=1).publish(OLD, NEW)
    cluster.serve([OLD, NEW], OLD)
    cluster.later(minutes=1).look()
    return cluster


def aborting(cluster: Cluster, kid: str = "new", own_token_kid: str | None = None) -> Gate:
    return may_abort(cluster.state, kid, cluster.seen, cluster.policy, own_token_kid=own_token_kid)


def test_a_staged_key_may_be_given_up() -> None:
    gate = aborting(staged())
    assert gate.allowed
    assert any("--service-account-key-file" in text for text in gate.consequences)


def test_not_when_it_signs_or_has_signed() -> None:
    cluster = staged()
    cluster.serve([OLD, NEW], OLD, NEW)
    closed(aborting(cluster), "the API server two signs with it")
    cluster.look()
    cluster.serve([OLD, NEW], OLD)
    cluster.later(minutes=1).look()
    closed(aborting(cluster), "it was seen signing at 2026-01-01T00:02:00Z: retire it")


def test_not_when_it_may_have_signed_unseen() -> None:
    first = Cluster()
    first.publish(OLD, NEW)
    first.serve([OLD, NEW], OLD)
    first.look()
    closed(aborting(first), "it may have signed while nobody looked")
    cluster = staged()
    cluster.state = adopt(cluster.state, FOREIGN, cluster.now)
    closed(aborting(cluster, "foreign"), "it may have signed while nobody looked")


def test_not_before_all_api_servers_were_looked_at_since_it_was_added() -> None:
    cluster = staged()
    cluster.state = write_ahead(cluster.state, [NEXT], cluster.later(minutes=1).now)
    closed(aborting(cluster, "next"), "have not been observed since it was added")
    cluster.look()
    assert aborting(cluster, "next").allowed
    cluster.state = replace(cluster.state, observed_at=None)
    closed(aborting(cluster, "next"), "have not been observed since it was added")


def test_not_blindly_not_its_own_and_not_the_only_one() -> None:
    cluster = staged()
    cluster.complete = False
    closed(aborting(cluster), "not every API server answered")
    closed(aborting(staged(), own_token_kid="new"), "own token")
    cluster = staged()
    cluster.serve([OLD, NEW], None)
    closed(aborting(cluster), "one signs with is not known", "two signs with is not known", "no other key is seen")


# -- remove --------------------------------------------------------------------------------------------------------


def removing(cluster: Cluster, kid: str = "old", **options: object) -> Gate:
    return may_remove(cluster.state, kid, cluster.seen, cluster.policy, **options)  # type: ignore[arg-type]


def test_an_emergency_says_what_stays_exposed_and_until_when() -> None:
    cluster = Cluster()
    cluster.publish(OLD, NEW)
    cluster.serve([OLD, NEW], OLD)
    cluster.look()
    gate = removing(cluster)
    assert gate.allowed
    text = "\n".join(gate.consequences)
    for expected in (
        "86400 s, until 2026-01-02T00:00:00Z",
        "AWS: sessions that roles already gave live on for up to 12 h",
        "so the last may end at 2026-01-02T12:00:00Z",
        "Google Cloud: access tokens live on for 1 h (up to 12 h",
        "Entra ID: access tokens live on for 1 to 24 h, so the last may end at 2026-01-03T00:00:00Z",
        "one, two still sign with it",
        "no other key is seen to sign",
        "renews each within 2880 s: restart the pods",
        "next: sign with another key",
        "--service-account-key-file",
    ):
        assert expected in text


def test_an_emergency_of_a_key_that_no_longer_signs_is_shorter() -> None:
    cluster = draining(longest=2 * DAY)
    cluster.targets["gs://b"] = None
    text = "\n".join(removing(cluster).consequences)
    assert "still sign with it" not in text
    assert "no other key" not in text
    assert "the target gs://b could not be read: it may still show the key" in text
    # the kubelet renews after a day at the latest
    assert "within 86400 s" in text


@pytest.mark.parametrize("place", ["state", "target", "public", "server"])
def test_what_is_known_or_seen_anywhere_may_be_removed(place: str) -> None:
    cluster = Cluster()
    if place == "state":
        cluster.state = write_ahead(cluster.state, [FOREIGN], T0)
    elif place == "target":
        cluster.targets = {"s3://a": frozenset({"foreign"}), "gs://b": None}
    elif place == "public":
        cluster.public = frozenset({"foreign"})
    else:
        cluster.serve([OLD, FOREIGN], OLD)
    gate = removing(cluster, "foreign")
    assert gate.allowed
    assert any("within 69120 s" in text for text in gate.consequences)


def test_a_slip_in_the_id_removes_nothing() -> None:
    cluster = Cluster(public=None)
    closed(removing(cluster, "odl"), "no key of this id is recorded, vouched for or seen anywhere")
    cluster.state = remove(cluster.state, "old", T0)
    closed(removing(cluster), "removed already")


def test_no_publisher_locks_itself_out() -> None:
    cluster = Cluster()
    closed(removing(cluster, own_token_kid="old"), "this publisher's own token")
    assert removing(cluster, own_token_kid="old", second_way_in=True).allowed
    assert removing(cluster, own_token_kid="new").allowed


# -- forget --------------------------------------------------------------------------------------------------------


def test_a_tombstone_goes_when_nothing_shows_the_key_any_more() -> None:
    cluster = drained()
    cluster.state = retire(cluster.state, "old", cluster.now)
    cluster.serve([NEW], NEW)
    cluster.publish(NEW)
    gate = may_forget(cluster.state, "old", cluster.seen, vouched=["new"])
    assert gate.allowed
    assert gate.consequences


@pytest.mark.parametrize("place", ["source", "server", "target", "public", "unread"])
def test_not_while_a_source_or_a_place_shows_the_key_unless_forced(place: str) -> None:
    cluster = drained()
    cluster.state = retire(cluster.state, "old", cluster.now)
    cluster.serve([NEW], NEW)
    cluster.publish(NEW)
    if place == "server":
        cluster.servers = [cluster.servers[0], server("two", [OLD, NEW], NEW)]
    elif place == "target":
        cluster.targets["s3://a"] = frozenset({"old", "new"})
    elif place == "public":
        cluster.public = frozenset({"old", "new"})
    elif place == "unread":
        cluster.targets["s3://a"] = None
    vouched = ["old"] if place == "source" else []
    reason = {
        "source": "a source of this run vouches for it",
        "server": "the API server two lists it",
        "target": "the target s3://a still shows it",
        "public": "the public address still shows it",
        "unread": "the target s3://a could not be read",
    }[place]
    closed(may_forget(cluster.state, "old", cluster.seen, vouched=vouched), reason)
    forced = may_forget(cluster.state, "old", cluster.seen, vouched=vouched, force=True)
    assert forced.allowed
    assert any(reason in text for text in forced.consequences)


def test_only_a_removed_key_is_forgotten() -> None:
    cluster = Cluster(public=None)
    closed(may_forget(cluster.state, "old", cluster.seen, force=True), "no removed key has this id")


# -- adopt ---------------------------------------------------------------------------------------------------------


def test_a_foreign_key_may_be_adopted_and_the_danger_is_said() -> None:
    cluster = Cluster()
    gate = may_adopt(cluster.state, "foreign", [FOREIGN, FOREIGN], cluster.seen)
    assert gate.allowed
    assert any("every ServiceAccount of the cluster" in text for text in gate.consequences)


def test_what_is_no_single_foreign_key_is_not_adopted() -> None:
    cluster = Cluster()
    cluster.state = remove(cluster.state, "gone", T0, key=rsa_key(77, "gone"))
    for kid, found, reasons in (
        ("old", [OLD], ("it is recorded already", "an API server vouches for it")),
        ("gone", [FOREIGN], ("it was removed",)),
        ("renamed", [rsa_key(77, "renamed")], ("it was removed",)),
        ("foreign", [], ("no target shows a usable key",)),
        ("foreign", [FOREIGN, rsa_key(78, "foreign")], ("different keys under this id",)),
    ):
        closed(may_adopt(cluster.state, kid, found, cluster.seen), *reasons)
    cluster.complete = False
    closed(may_adopt(cluster.state, "foreign", [FOREIGN], cluster.seen), "not every API server answered")


# -- transitions ---------------------------------------------------------------------------------------------------


def test_each_way_out_leaves_a_tombstone_that_can_be_written() -> None:
    state = Cluster().state
    for change, how in ((retire, "retired"), (abort, "aborted"), (remove, "removed")):
        after = change(state, "old", T0, reason="because")
        assert "old" not in after.keys
        stone = after.removed["old"]
        assert (stone.how, stone.reason, stone.removed_at, stone.jwk) == (how, "because", T0, OLD.jwk)
        assert after.is_removed(rsa_key(0, "renamed"))
        assert decode_state(encode_state(after), issuer=ISSUER) == after
        assert write_ahead(after, [OLD], T0) is after


def test_retiring_one_id_leaves_the_same_material_under_another() -> None:
    """One key under two ids: retiring the one must not take the other away."""
    twin = rsa_key(0, "twin")
    state = write_ahead(Cluster().state, [twin], T0)
    after = retire(state, "old", T0)
    assert not after.is_removed(twin)
    assert after.is_removed(OLD)
    assert list(after.keys) == ["twin"]


def test_a_leaked_key_goes_under_all_its_ids() -> None:
    state = write_ahead(Cluster().state, [rsa_key(0, "twin"), NEW], T0)
    after = remove(state, "old", T0)
    assert list(after.keys) == ["new"]
    assert sorted(after.removed) == ["old", "twin"]
    assert decode_state(encode_state(after), issuer=ISSUER) == after


def test_a_key_that_is_not_recorded_is_removed_by_its_key_or_its_id_alone() -> None:
    state = Cluster().state
    after = remove(state, "foreign", T0, key=FOREIGN)
    assert after.removed["foreign"].fingerprint == FOREIGN.fingerprint
    bare = remove(state, "foreign", T0)
    assert bare.removed["foreign"].jwk is None
    assert list(bare.keys) == ["old"]
    assert remove(bare, "foreign", T0 + timedelta(days=1), key=FOREIGN) is bare
    with pytest.raises(ConfigurationError, match="is not the key"):
        remove(state, "other", T0, key=FOREIGN)


def test_a_foreign_entry_takes_no_recorded_key_with_it() -> None:
    """An attacker publishes the good key under an id of his own, and waits for the operator to remove that."""
    state = Cluster().state
    after = remove(state, "evil", T0, key=rsa_key(0, "evil"))
    assert list(after.keys) == ["old"]
    assert not after.is_removed(OLD)
    assert after.is_removed(rsa_key(0, "evil"))
    assert decode_state(encode_state(after), issuer=ISSUER) == after
    cluster = Cluster()
    closed(may_adopt(cluster.state, "evil", [rsa_key(0, "evil")], cluster.seen), "under another id")
    with pytest.raises(ConfigurationError):
        adopt(state, rsa_key(0, "evil"), T0)


def test_an_emergency_names_the_other_ids_of_a_key() -> None:
    cluster = Cluster()
    cluster.state = write_ahead(cluster.state, [rsa_key(0, "twin")], T0)
    assert any("other id(s) as well: 'twin'" in text for text in removing(cluster).consequences)
    assert not any("other id(s)" in text for text in removing(cluster, "nobody").consequences)


def test_forgetting_lets_a_source_bring_the_key_back() -> None:
    state = remove(Cluster().state, "old", T0)
    assert "old" in write_ahead(forget(state, "old"), [OLD], T0).keys


def test_adopting_records_a_key_that_is_added_nowhere() -> None:
    state = adopt(Cluster().state, FOREIGN, T0, reason="kops")
    record = state.keys["foreign"]
    assert (record.adopted, record.origin, record.targets) == (True, "adopted: kops", frozenset())
    assert adopt(Cluster().state, FOREIGN, T0).keys["foreign"].origin == "adopted"
    assert decode_state(encode_state(state), issuer=ISSUER) == state
    for wrong in (state, remove(Cluster().state, "x", T0, key=rsa_key(3, "x"))):
        with pytest.raises(ConfigurationError) as caught:
            adopt(wrong, FOREIGN, T0)
        assert caught.value.code == "unsafe-step"


def test_what_is_not_there_is_no_step() -> None:
    for step in (retire, abort):
        with pytest.raises(ConfigurationError) as caught:
            step(State.new(ISSUER), "old", T0)
        assert caught.value.code == "key-unknown"
    with pytest.raises(ConfigurationError) as caught:
        forget(State.new(ISSUER), "old")
    assert caught.value.code == "key-unknown"


def test_no_reason_moves_a_cursor() -> None:
    state = State.new(ISSUER)
    with pytest.raises(ConfigurationError) as caught:
        retire(state, "\x1b[2J", T0)
    assert caught.value.message.isprintable()
