"""Each section of the page has its test."""

from __future__ import annotations

import re

from ...support.markdown import ROOT
from . import test_clients, test_events, test_process, test_streams

PAGE = ROOT / "docs" / "troubleshooting.md"


def test_each_symptom_of_the_page_is_reproduced() -> None:
    headings = re.findall(r"^### (.*)$", PAGE.read_text(), re.MULTILINE)
    names = {f"test_{heading.lower().replace(' ', '_')}" for heading in headings}
    assert len(headings) == len(names)
    modules = (test_streams, test_clients, test_events, test_process)
    assert names == {name for module in modules for name in vars(module) if name.startswith("test_")}
