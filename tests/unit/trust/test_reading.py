"""Members of a cloud's document are checked one by one, and messages name the object."""

from __future__ import annotations

from typing import Any

import pytest

from wif.errors import ConfigurationError
from wif.trust.decision import Decision
from wif.trust.reading import Document, listed, strings


def document(**members: Any) -> Document:
    return Document(cloud="gcp", name="pool 'p'", members=members)


def refused(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        call(*args, **kwargs)
    assert (caught.value.code, caught.value.cloud) == ("trust-invalid", "gcp")
    assert caught.value.message.startswith("the pool 'p' has ")
    return caught.value.message


def test_a_document_is_named_by_its_member() -> None:
    assert Document.named_by("aws", "role", {"Arn": "x" * 200}, "Arn").name == f"role '{'x' * 128}'"
    assert Document.named_by("aws", "role", {"Arn": 1}, "Arn").name == "role without a Arn"
    assert document().part({"a": 1}).name == "pool 'p'"


def test_an_unknown_member_is_reported_unless_it_is_an_annotation() -> None:
    document(a=1).known({"a", "b"})
    document(**{"@x": 1, "a": 2}).known({"a"}, prefix="@")
    assert "'c'" in refused(document(a=1, c=2).known, {"a"})
    assert "'c'" in refused(document(**{"@x": 1, "c": 2}).known, set(), prefix="@")


def test_texts_and_flags() -> None:
    assert document(a="x").text("a") == "x"
    assert document(a=None).optional("a") == document().optional("a") == ""
    assert document(a="xx").optional("a", at_most=2) == "xx"
    assert "no a" in refused(document(a="").text, "a")
    assert "2 characters, at most 1" in refused(document(a="xx").text, "a", at_most=1)
    assert "not a string" in refused(document(a=1).text, "a")
    assert document(a=True).flag("a") is True
    assert document().flag("a") is False
    assert "neither" in refused(document(a="true").flag, "a")


def test_lists_and_objects() -> None:
    assert document(a=["x"]).texts("a", at_most=1, characters=1) == ("x",)
    assert document().texts("a") == ()
    assert document(a=None).objects("a") == ()
    assert document(a=[{}]).objects("a") == ({},)
    assert document().object("a") is None
    assert document(a={}).object("a") == {}
    assert "not a list" in refused(document(a="x").texts, "a")
    assert "2 a, at most 1" in refused(document(a=["x", "y"]).texts, "a", at_most=1)
    assert "not a string" in refused(document(a=[1]).texts, "a")
    assert "empty" in refused(document(a=[""]).texts, "a")
    assert "2 characters" in refused(document(a=["xx"]).texts, "a", characters=1)
    assert "not an object" in refused(document(a=["x"]).objects, "a")
    assert "not an object" in refused(document(a=[]).object, "a")


def test_a_value_that_comes_twice_is_reported() -> None:
    document().unique(["a", "b"], "things")
    assert "two things 'a'" in refused(document().unique, ["a", "b", "a"], "things")


def test_one_or_more_strings() -> None:
    assert strings("a") == ("a",)
    assert strings(["a", ""]) == ("a", "")
    assert strings([]) == strings(None) == strings(["a", 1]) == strings({"a": 1}) == ()


def test_values_for_a_message() -> None:
    assert listed([]) == "nothing"
    assert listed(["a", "b"]) == "'a' or 'b'"
    assert listed([str(n) for n in range(7)]).endswith("'4' or 2 more")


def test_a_decision_is_true_only_where_it_allows() -> None:
    assert Decision(True, "trust", "")
    assert not Decision(False, "trust", "")
