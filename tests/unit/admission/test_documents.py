"""A pod in both its forms."""

from __future__ import annotations

import hashlib

from tests.pods_under_review import document, new_pod
from wif.admission.documents import pod_hash
from wif.admission.pod import Metadata


def test_the_document_is_decoded_once_and_whole() -> None:
    pod = new_pod(futureField={"x": [1]}, volumes=[{"name": "a"}, {"name": "b", "emptyDir": {}}])
    read = document(pod)
    assert read.value == pod
    assert read.value is read.value
    assert read.volumes() == {"a": (0, {"name": "a"}), "b": (1, {"name": "b", "emptyDir": {}})}
    assert document(new_pod()).volumes() == {}


def test_the_hash_is_of_the_name_or_of_what_the_name_will_be_made_from() -> None:
    def first(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()[:30]

    assert pod_hash(Metadata(name="pod", generate_name="x-")) == first("pod") == "425c89ed5bb78a7623fae60fd8a6f6"
    assert pod_hash(Metadata(generate_name="app-")) == first("app- (prefix)")
    assert pod_hash(Metadata()) == pod_hash(None) == first(" (prefix)")
