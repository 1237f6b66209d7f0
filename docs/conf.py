"""The documentation site: the pages of docs/, the README and its like, and the reference from the docstrings.

`make docs` builds it into docs/build. The source directory is the project's root, so that links between
README.md, docs/ and examples/ work on the site as they do in the repository. The site fetches nothing from
other hosts and works from a file:// address.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

project = "trio_sse"
release = version = importlib.metadata.version("trio-sse")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
include_patterns = [
    "*.md",
    "docs/*.md",
    "docs/reference/*.md",
    "examples/README.md",
    "benchmarks/README.md",
]
exclude_patterns = ["docs/build"]
root_doc = "docs/index"

# Markdown

myst_heading_anchors = 4
highlight_language = "none"  # of blocks that name no language: they show output

# The reference

autodoc_member_order = "bysource"
# `Server` and others inherit what streams belong to; what Python itself has is left out.
autodoc_default_options = {
    "members": True,
    "inherited-members": "object,BaseException,Exception,tuple,Enum,Protocol",
}
autodoc_typehints = "signature"
autoclass_content = "class"
default_role = "py:obj"  # single backticks: a link to what is documented, code otherwise
maximum_signature_line_length = 80
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True

# The site

html_theme = "furo"
html_title = "trio_sse"
html_additional_pages = {"index": "redirect.html"}
templates_path = ["templates"]
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_search_summary = False  # it would have to fetch pages, which browsers forbid on file://
html_show_copyright = False
html_last_updated_fmt = None
html_use_index = True

PUBLIC_MODULES = [
    "trio_sse",
    *(
        f"trio_sse.{name}"
        for name in ("asgi", "hypercorn", "quart", "redis", "sqlite", "testing", "websocket")
    ),
]


def _restore_defining_modules() -> None:
    """Undo, for this process, that public names report their public module as `__module__`.

    Autodoc finds the order of a class's members, and the docs of its attributes, in the source file of
    `__module__`.
    """
    public = [importlib.import_module(name) for name in PUBLIC_MODULES]
    defined = {
        (name, node.name): module
        for name, module in list(sys.modules.items())
        if name.startswith("trio_sse") and module.__file__ is not None
        for node in ast.parse(Path(module.__file__).read_text()).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    }
    for (name, defined_name), module in defined.items():
        value = getattr(module, defined_name)
        if any(value is getattr(each, defined_name, None) for each in public):
            value.__module__ = name


_restore_defining_modules()

# Only the library creates these, so their constructors are of no use to a reader.
_NOT_CONSTRUCTED = {
    "trio_sse.Connection",
    "trio_sse.State",
    "trio_sse.Subscription",
    "trio_sse.Ticker",
    "trio_sse.asgi.EventStream",
    "trio_sse.testing.Stream",
    "trio_sse.websocket.WebSocketConnection",
}

# Links to folders, and to texts of others, lead somewhere in the repository but not on the site.
_ONLY_IN_REPOSITORY = re.compile(r"\[([^\]]+)\]\((?:[^)#:]*/|vendor/README\.md)\)")


def _unlink(app: Sphinx, page: str, source: list[str]) -> None:
    source[0] = _ONLY_IN_REPOSITORY.sub(r"\1", source[0])


def _hide_constructor(
    app: Sphinx,
    what: str,
    name: str,
    value: object,
    options: object,
    signature: str | None,
    return_annotation: str | None,
) -> tuple[str | None, str | None]:
    return ("", None) if name in _NOT_CONSTRUCTED else (signature, return_annotation)


def setup(app: Sphinx) -> None:
    """Connect the functions above to Sphinx's events."""
    app.connect("source-read", _unlink)
    app.connect("autodoc-process-signature", _hide_constructor)
