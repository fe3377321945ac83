"""Servers that run for good."""
