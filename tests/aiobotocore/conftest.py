"""These tests are collected where aiobotocore is installed: ``nox -s aiobotocore``."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("aiobotocore") else ["test_*.py"]
