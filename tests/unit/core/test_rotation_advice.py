"""The next step: one at a time, what is broken first, with the flags of kube-apiserver in full."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.unit.core.looked_at import HOUR, ISSUER, NEW, NEXT, OLD, T0, Cluster, draining, server
from tests.unit.core.made_keys import rsa_key
from wif.core.publication import write_ahead
from wif.core.rotation import Policy, Step, flags_for, migration_plan, remove, retire, staging_step

LISTED = ("--service-account-key-file=OLD.pub", "--service-account-key-file=NEW.pub")
OLD_SIGNS = (*LISTED, "--service-account-signing-key-file=OLD.key")
NEW_SIGNS = (*LISTED, "--service-account-signing-key-file=NEW.key")
NEW_ALONE = ("--service-account-key-file=NEW.pub", "--service-account-signing-key-file=NEW.key")


def says(cluster: Cluster, *texts: str, flags: tuple[str, ...] = (), command: str = "wif keys status") -> Step:
    step = cluster.look().next_step
    for text in texts:
        assert text in step.text, step.text
    assert step.flags == flags
    assert step.command == command
    assert step.text.isprintable()
    return step


def test_the_steps_of_a_whole_rotation() -> None:
    cluster = Cluster()
    says(cluster, "Nothing is under way", "'old' (OLD)", flags=OLD_SIGNS, command="wif keys stage --public-key NEW.pub")

    cluster.later(minutes=1).state = write_ahead(cluster.state, [NEW], cluster.now)
    says(cluster, "Publish 'new'", "s3://a does not show it", command="wif issuer publish")
    cluster.targets = dict.fromkeys(cluster.targets, frozenset({"old", "new"}))
    says(cluster, "'new' is at every target, but the public address", command="wif issuer verify")
    cluster.publish(OLD, NEW)
    says(
        cluster,
        "list 'new' (NEW) while OLD goes on signing",
        "one does not list it; the API server two",
        flags=OLD_SIGNS,
    )
    cluster.serve([OLD, NEW], OLD)
    says(cluster, "Wait until 2026-01-02T00:01:00Z", "No API server may sign with it before")
    cluster.later(days=1)
    says(cluster, "Let 'new' (NEW) sign", "Both keys stay listed", flags=NEW_SIGNS)
    cluster.serve([OLD, NEW], NEW, OLD)
    cluster.later(minutes=1)
    says(cluster, "Let the other API servers sign with 'new' (NEW)", flags=NEW_SIGNS)
    cluster.serve([OLD, NEW], NEW)
    cluster.later(minutes=1)
    says(cluster, "Wait until 2026-01-02T01:10:00Z", "tokens of 'old' may live until then")
    cluster.later(hours=2)
    says(cluster, "Every token of 'old' has ended", command="wif keys retire old")
    cluster.state = retire(cluster.state, "old", cluster.now)
    cluster.publish(NEW)
    says(cluster, "API servers still list 'old' (OLD), which is retired", flags=NEW_ALONE)
    cluster.serve([NEW], NEW)
    says(cluster, "Nothing is under way", command="wif keys stage --public-key NEW.pub", flags=OLD_SIGNS)


# -- what is broken comes first ------------------------------------------------------------------------------------


def test_an_exposed_key_is_published_at_once() -> None:
    for recorded in (True, False):
        cluster = Cluster()
        cluster.look()
        cluster.later(hours=1).serve([OLD, NEW], NEW)
        if recorded:
            cluster.state = write_ahead(cluster.state, [NEW], cluster.now)
        says(cluster, "Publish 'new' at once", command="wif issuer publish")


def test_an_exposed_key_that_is_published_waits_or_goes_back() -> None:
    cluster = Cluster()
    cluster.look()
    cluster.later(hours=1).publish(OLD, NEW)
    cluster.serve([OLD, NEW], NEW)
    says(cluster, "It is published now", "(OLD) sign again until 2026-01-02T01:00:00Z", flags=OLD_SIGNS)


def test_an_api_server_that_signs_with_a_removed_key_comes_first() -> None:
    cluster = draining()
    cluster.state = remove(cluster.state, "new", cluster.now)
    says(cluster, "signs with the removed key 'new'", flags=NEW_ALONE)


def test_a_restored_cluster_has_its_runbook() -> None:
    cluster = Cluster()
    cluster.look()
    cluster.publish(OLD, NEW)
    cluster.serve([NEW], NEW)
    says(cluster, "restored", "list them again (OLD)", flags=OLD_SIGNS, command="wif issuer publish")


def test_api_servers_that_disagree_list_both_keys() -> None:
    cluster = Cluster()
    cluster.publish(OLD, NEW)
    cluster.servers = [server("one", [OLD], OLD), server("two", [NEW], NEW)]
    says(cluster, "Two does not accept tokens of one", flags=LISTED)


def test_nothing_is_advised_blindly() -> None:
    cluster = draining()
    cluster.later(days=2).complete = False
    says(cluster, "no step is safe: not every API server answered")


def test_different_issuers_are_no_hindrance() -> None:
    cluster = Cluster()
    cluster.servers = [cluster.servers[0], replace(cluster.servers[1], issuer="https://new.example")]
    assert cluster.look().next_step.text.startswith("Nothing is under way")


# -- the ends that are not plain -----------------------------------------------------------------------------------


def test_a_key_that_may_be_a_former_or_the_next_one_is_asked_about() -> None:
    cluster = Cluster()
    cluster.publish(OLD, NEXT)
    cluster.serve([OLD, NEXT], OLD)
    says(cluster, "'next' is listed and was never seen signing", flags=NEW_SIGNS, command="wif keys retire next")


def test_what_keeps_a_key_from_being_retired_is_said_with_the_flag_to_set() -> None:
    cluster = draining(limit=0)
    says(cluster, "cannot be retired yet", "any lifetime", flags=("--service-account-max-token-expiration=24h0m0s",))
    cluster = draining(limit=None)
    says(cluster, "cannot be retired yet", "--longest-token-lifetime")


def test_two_signers_of_which_none_is_recorded() -> None:
    cluster = draining()
    cluster.state = replace(cluster.state, keys={}, removed={})
    cluster.serve([OLD, NEW], OLD, NEW)
    says(cluster, "never published", command="wif issuer publish")


def test_the_newest_of_two_signers_is_the_one_to_go_on_with() -> None:
    cluster = draining()
    cluster.serve([OLD, NEW], OLD, NEW)
    cluster.later(days=2).look()
    says(cluster, "sign with 'old' (NEW)", flags=NEW_SIGNS)  # they went back: OLD began to sign last


@pytest.mark.parametrize(("kid", "word"), [("-abc", "-- -abc"), ("a b;c", "'a b;c'"), ("a_b-c", "a_b-c")])
def test_a_key_id_is_one_argument_of_the_command_to_paste(kid: str, word: str) -> None:
    cluster = draining(longest=HOUR)
    odd = rsa_key(0, kid)
    record = replace(cluster.state.keys["old"], jwk=odd.jwk, fingerprint=odd.fingerprint)
    cluster.state = replace(cluster.state, keys={"new": cluster.state.keys["new"], kid: record})
    cluster.servers = [server(name, [odd, NEW], NEW) for name in ("one", "two")]
    cluster.publish(odd, NEW)
    assert cluster.later(days=2).look().next_step.command == f"wif keys retire {word}"


def test_staging_names_the_new_key_where_it_is_known() -> None:
    assert "'new' (NEW)" in staging_step("old", "new").text
    assert "To rotate: make" in staging_step(None).text


def test_flags_are_printed_as_in_a_manifest() -> None:
    assert flags_for(Step(text="x", flags=("--a=b", "--c=d"))) == "    - --a=b\n    - --c=d\n"
    assert flags_for(Step(text="x")) == ""


# -- migration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seen", [None, HOUR])
def test_a_migration_serves_both_issuers_at_once(seen: int | None) -> None:
    new = "https://new.example"
    steps = migration_plan(ISSUER, new, policy=Policy(), longest_token_seconds=seen)
    flags = [step.flags for step in steps if any("issuer" in flag for flag in step.flags)]
    # first every API server accepts the new one, then each writes it; the first is what is written
    assert flags == [
        (f"--service-account-issuer={ISSUER}", f"--service-account-issuer={new}"),
        (f"--service-account-issuer={new}", f"--service-account-issuer={ISSUER}"),
        (f"--service-account-issuer={new}",),
    ]
    commands = [step.command for step in steps if step.command]
    assert commands == [
        f"wif issuer publish --issuer {new}",
        f"wif issuer verify --issuer {new}",
        "wif keys status",
        f"wif issuer unpublish --issuer {ISSUER}",
    ]
    texts = [step.text for step in steps]
    trusted, untrusted = (
        next(i for i, text in enumerate(texts) if word in text) for word in ("Trust https", "Take the trust")
    )
    written = next(i for i, step in enumerate(steps) if step.flags[:1] == (f"--service-account-issuer={new}",))
    assert trusted < written < untrusted < next(i for i, text in enumerate(texts) if "Take away the documents" in text)
    assert any("former_issuer: true" in text for text in texts)
    wait = next(step for step in steps if "no token of" in step.text)
    if seen is None:
        assert "--longest-token-lifetime" in wait.text
        assert wait.flags == ("--service-account-max-token-expiration=24h0m0s",)
    else:
        assert f"{HOUR + 420} s" in wait.text
        assert not wait.flags


def test_the_operators_word_about_lifetimes_wins_in_a_migration() -> None:
    steps = migration_plan(
        ISSUER, "https://new.example", policy=Policy(longest_token_seconds=60), longest_token_seconds=HOUR
    )
    assert any("480 s" in step.text for step in steps)


def test_time_alone_does_not_switch_the_signer() -> None:
    cluster = Cluster()
    cluster.look()
    cluster.state = write_ahead(cluster.state, [NEW], T0)
    cluster.later(days=30)
    says(cluster, "Publish 'new'", command="wif issuer publish")
    assert cluster.now - T0 == timedelta(days=30)
