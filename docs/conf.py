"""The site: MyST pages, the API from docstrings, no network needed to build it."""

from __future__ import annotations

from importlib.metadata import version as installed
from typing import Any

project = "wif"
author = "the wif developers"
copyright = author  # Sphinx asks for this name
version = release = installed("wif")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click", "sphinx_copybutton"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = "wif"
html_static_path = ["_static"]
copybutton_prompt_text = "$ "


def _example(_app: object, context: Any, lines: list[str]) -> None:
    """Each command's example, which its help shows by its own means."""
    lines += ["Example::", "", f"   {context.command.example}", ""]


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("sphinx-click-process-epilog", _example)
