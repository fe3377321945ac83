"""Measurements, side by side with the alternative in one run: ``nox -s bench -- --json FILE``."""
