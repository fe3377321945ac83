"""Targets against the servers that stand for their clouds, all of them started by the tests."""
