"""The drawn life of keys: to scale, with now marked, in letters that every log shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from wif.cli.keys_timeline import Bar, Span, draw, legend

NOW = datetime(2026, 1, 10, tzinfo=UTC)


def ago(hours: float) -> datetime:
    return NOW - timedelta(hours=hours)


def lines(*bars: Bar, width: int = 40, blocks: bool = False) -> list[str]:
    return ["".join(text for text, _ in line).rstrip() for line in draw(bars, now=NOW, width=width, blocks=blocks)]


def test_nothing_is_drawn_of_nothing() -> None:
    assert draw((), now=NOW) == ()
    assert draw((Bar("a", ()),), now=NOW) == ()


def test_two_keys_to_scale() -> None:
    old = Bar("old", (Span("signing", ago(40), ago(10)), Span("draining", ago(10), ago(-40))))
    new = Bar("new", (Span("waiting", ago(30), ago(10)), Span("signing", ago(10), None)))
    drawn = lines(old, new)
    assert drawn[0] == "old " + "#" * 15 + "=" * 25
    assert drawn[1] == "new " + " " * 5 + "~" * 10 + "#" * 6
    assert drawn[2] == "    " + " " * 20 + "|"
    assert drawn[3].startswith("    1d 16h ago")
    assert drawn[3].endswith("in 1d 16h")
    assert len(drawn[3]) == 44


def test_long_ids_are_cut_and_one_moment_is_enough() -> None:
    drawn = lines(Bar("k" * 43, (Span("staged", NOW, None),)), width=10)
    assert drawn[0] == "k" * 12 + " ."
    assert drawn[2].strip().split() == ["now", "in", "1s"]


def test_a_past_alone_ends_now() -> None:
    assert lines(Bar("k", (Span("retired", ago(5), None),)))[2].endswith("now")


def test_the_legend_names_what_is_there() -> None:
    bars = [
        Bar("k", (Span("published", ago(5), ago(4)), Span("verified", ago(4), ago(3)), Span("other", ago(3), None)))
    ]
    assert legend(bars) == "- published/verified   ? other"
    assert legend(bars, blocks=True) == "▒ published/verified   ? other"
    assert lines(*bars, blocks=True)[0].startswith("k ▒")
