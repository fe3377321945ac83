"""Reading wif.yaml: what is no YAML is told with its line, and without what stands there."""

from __future__ import annotations

from pathlib import Path

import pytest

from wif.cli.options import read_config_file
from wif.errors import ConfigurationError


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: hunter2: c\n", "line 1, column 11: mapping values are not allowed here"),
        ("a: 1\nb: [hunter2,\n", "line 3, column 1: expected the node content, but found '<stream end>'"),
        ("a: 1\nb: {c: hunter2]\n", "line 2, column 15: expected ',' or '}', but got ']'"),
        ("a: *hunter2\n", "line 1, column 4: found undefined alias"),
        ("a: !hunter2 x\n", "line 1, column 4: could not determine a constructor for the tag"),
        ("a: hunter2\nhunter2\nb: c\n", "line 3, column 1: could not find expected ':'"),
        ("a:\n\t- hunter2", "line 2, column 1: found character that cannot start any token"),
        ("a: hunter2\0", "special characters are not allowed at offset 10"),
        (b"a: hunter2\xff", "invalid start byte at offset 10"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line(tmp_path: Path, content: str | bytes, said: str) -> None:
    path = tmp_path / "wif.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigurationError) as caught:
        read_config_file(str(path))
    assert caught.value.message.startswith(f"the settings file {path} is not YAML: {said}")
    assert "hunter2" not in f"{caught.value}"
    assert caught.value.hint.startswith(f"correct {path}")


def test_what_has_no_line_is_no_yaml_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "wif.yaml"
    for content in ("a: 2026-13-45", "[" * 50_000):
        path.write_text(content)
        with pytest.raises(ConfigurationError) as caught:
            read_config_file(str(path))
        assert caught.value.message == f"the settings file {path} is not YAML"
