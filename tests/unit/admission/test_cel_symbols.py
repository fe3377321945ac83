"""Answers with placeholders become expressions that ask only what matters."""

from __future__ import annotations

import pytest

from wif.admission.cel_symbols import Symbols, chosen, chosen_text, typed

NONE = Symbols()
Bits = tuple[bool, ...]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", "'plain'"),
        ("", "''"),
        ("SYM", "v.s"),
        ("a SYM b", "'a ' + v.s + ' b'"),
        ("SYMSYM", "v.s + v.s"),
        ("SYMBOL", "v.long"),
        ("x 4242", "'x ' + string(v.n)"),
    ],
)
def test_placeholders_in_text(value: str, expected: str) -> None:
    assert Symbols(texts={"SYM": "v.s", "SYMBOL": "v.long"}, numbers={4242: "v.n"}).text(value) == expected


def test_placeholders_for_numbers() -> None:
    symbols = Symbols(numbers={4242: "v.n"})
    assert (symbols.number(4242), symbols.number(42)) == ("v.n", "42")


def test_a_condition_that_does_not_matter_is_not_asked() -> None:
    answers: dict[Bits, str] = {(a, b): "x" if b else "y" for a in (True, False) for b in (True, False)}
    assert chosen(["A", "B"], answers) == "(B ? x : y)"
    assert chosen(["A"], {(True,): "x", (False,): "x"}) == "x"
    assert chosen([], {(): "x"}) == "x"


def test_members_of_a_json_object_are_decided_on_one_by_one() -> None:
    answers: dict[Bits, str] = {(True,): '{"a":1,"b":"SYM","c":3}', (False,): '{"a":1,"c":3}'}
    found = chosen_text(["A"], answers, Symbols(texts={"SYM": "v.s"}))
    assert found == "'{\"a\":1' + (A ? ',\"b\":\"' + v.s + '\"' : '') + ',\"c\":3}'"


def test_members_in_another_order_are_taken_as_a_whole() -> None:
    answers: dict[Bits, str] = {(True,): '{"a":1,"b":2,"c":3}', (False,): '{"a":1,"c":3,"b":2}'}
    assert chosen_text(["A"], answers, NONE) == '(A ? \'{"a":1,"b":2,"c":3}\' : \'{"a":1,"c":3,"b":2}\')'


def test_a_member_twice_is_taken_as_a_whole() -> None:
    assert chosen_text([], {(): '{"a":1,"b":2,"b":3}'}, NONE) == '\'{"a":1,"b":2,"b":3}\''


def test_quotes_in_neighbouring_literals_survive_their_union() -> None:
    assert chosen_text([], {(): '{"a":"\'","b":"\' + \'"}'}, NONE) == '\'{"a":"\\\'","b":"\\\' + \\\'"}\''


def test_values_of_a_type() -> None:
    answer = {"name": "x", "items": [{"path": "p", "on": True}], "mode": 288}
    assert typed("O.v", [], {(): answer}, NONE) == "O.v{name: 'x', items: [O.v.items{path: 'p', on: true}], mode: 288}"


def test_conditions_are_asked_inside() -> None:
    answers: dict[Bits, object] = {
        (yes,): {"name": "x", "flag": not yes, "mode": 1 if yes else 2} for yes in (True, False)
    }
    assert typed("O", ["A"], answers, NONE) == "O{name: 'x', flag: (A ? false : true), mode: (A ? 1 : 2)}"


def test_values_of_another_shape_are_told_apart_as_a_whole() -> None:
    answers: dict[Bits, object] = {(True,): [{"a": "1"}], (False,): [{"a": "1"}, {"a": "2"}]}
    assert typed("O", ["A"], answers, NONE) == "(A ? [O{a: '1'}] : [O{a: '1'}, O{a: '2'}])"
