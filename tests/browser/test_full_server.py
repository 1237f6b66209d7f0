"""A real `EventSource` on a server that has no room: it gives up after a 503, but not here."""

from __future__ import annotations

from typing import Any

import pytest

from ..support.browser import profile, value_of
from ..support.programs import serving
from ..support.requirements import needs

pytestmark = [pytest.mark.integration, needs("chromium")]

# Returns the ready state of a second stream after its first error (0 if it reconnects, 2 if it has given up),
# and how a fetch of the page is answered.
SCRIPT = """
async () => {
    const first = new EventSource("/live");
    await new Promise((resolve) => { first.onopen = resolve; });
    const second = new EventSource("/live");
    const state = await new Promise((resolve) => { second.onerror = () => resolve(second.readyState); });
    second.close();
    const options = {headers: {Accept: "text/event-stream"}};
    const refused = await fetch("/live", options);
    first.close();
    return [state, refused.status, Number(refused.headers.get("retry-after"))];
}
"""


def test_an_event_source_reconnects_and_a_fetch_is_refused(browser: Any) -> None:
    with serving("tests.support.apps.full:server") as (_, url), profile(browser) as context:
        page = context.new_page()
        page.goto(url)
        state, status, retry_after = value_of(page, SCRIPT)

    assert (state, status) == (0, 503)
    assert 1 <= retry_after <= 10
