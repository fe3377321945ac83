"""The record on a pod."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.pods_under_review import RECORD, document, new_pod
from wif.admission.record import Record, read_record, record_key
from wif.config.webhook import WebhookSettings


def read(text: Any) -> Record | None:
    return read_record(document(new_pod(metadata={"annotations": {RECORD: text}})).pod, RECORD)


def test_written_and_read_again() -> None:
    record = Record("app", "u1", {"aws": "role"}, ("x",))
    assert json.loads(record.encoded()) == {
        "serviceAccount": "app",
        "uid": "u1",
        "clouds": {"aws": "role"},
        "kept": ["x"],
    }
    assert read(record.encoded()) == record
    assert " " not in record.encoded()
    assert record.is_of("app", "u1")
    assert not record.is_of("app", "u2")
    assert not record.is_of("other", "u1")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"serviceAccount": 1}',
        '{"serviceAccount": "a", "clouds": []}',
        "[" * 9000,
        '{"serviceAccount": "a", "uid": "' + "x" * 20_000 + '"}',
    ],
)
def test_what_is_no_record(text: str) -> None:
    assert read(text) is None


def test_a_pod_without_one() -> None:
    assert read_record(document(new_pod(metadata=None)).pod, RECORD) is None
    assert read_record(document(new_pod(metadata={})).pod, RECORD) is None
    assert read_record(document(new_pod(metadata={"annotations": {"a": "b"}})).pod, RECORD) is None


def test_the_annotation_has_the_prefix_of_the_settings() -> None:
    assert record_key(WebhookSettings()) == RECORD
    assert record_key(WebhookSettings(prefix="identity.example")) == "identity.example/injected"
