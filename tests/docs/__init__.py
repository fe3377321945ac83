"""The snippets of README and docs, executed."""
