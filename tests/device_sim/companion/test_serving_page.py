"""The companion's page in a real browser, and what pages of other sites can do from there: nothing."""

import base64
import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_sim.companion.events import Feedback, Turn
from device_sim.companion.log import EventLog
from device_sim.companion.store import hold_store

from .browser import CHROMIUM, Browser, wait
from .conversing import Scripted
from .serving import Served, serving

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs the browser chromium")
MARKUP = "<img src=/x onerror=\"document.title='run'\"> said"
ANSWERED = "document.getElementById('stop').hidden && document.querySelectorAll('#turns .about').length == {}"
MEMORIES = "[...document.querySelectorAll('#memories li p[dir]')].map(e => e.textContent)"
EVIL = """<!doctype html><title>evil</title>
<form id="form" method="post" enctype="text/plain" action="{target}/companion/forget">
<input name='{{"turns":["{turn}"],"x":"' value='"}}'></form>
<iframe id="frame" src="{target}/"></iframe>
<script>
const post = {{method: "POST", mode: "no-cors"}};
const ask = (path, content, more) =>
  fetch("{target}" + path, {{...post, body: JSON.stringify(content), ...more}})
  .then((got) => got.text()).catch((error) => error.name);
const forget = {{turns: ["{turn}"]}};
const chat = {{messages: [{{role: "user", content: "planted"}}]}};
window.done = Promise.all([
  ask("/companion/memories", {{}}, {{mode: "cors"}}), ask("/companion/memories", {{}}),
  ask("/companion/forget", forget, {{mode: "cors", headers: {{"Content-Type": "application/json"}}}}),
  ask("/companion/forget", forget, {{headers: {{"Content-Type": "text/plain"}}}}),
  ask("/v1/chat/completions", chat), ask("/api/chat", chat),
]);
</script>"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with (
        hold_store(tmp_path / "store", create=True) as store,
        EventLog(store.events) as log,
        serving(log, Scripted([f"I see {MARKUP}", "Yes."])) as found,
    ):
        yield found


def test_the_policy_allows_this_page_alone(served: Served) -> None:
    page = served.endpoint.page
    text, policy = page.html.decode(), page.headers["Content-Security-Policy"]
    for kind in ("script", "style"):
        (content,) = re.findall(f"<{kind}>(.*?)</{kind}>", text, re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy
    # The one address is the name of a kind of element.
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"src=|innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|style=", text)


def say(browser: Browser, text: str, count: int) -> None:
    browser.run("document.getElementById('text').focus()")
    browser.type(text)
    browser.until(ANSWERED.format(count))


@needs_chromium
def test_a_chat_in_a_browser(served: Served, tmp_path: Path) -> None:
    with Browser(tmp_path / "profile") as browser:
        browser.open(served.endpoint.address)
        say(browser, f"Hello {MARKUP}", 1)
        shown = browser.run("[...document.querySelectorAll('#turns .turn > p')].map(e => e.textContent)")
        assert shown == [f"Hello {MARKUP}", f"I see {MARKUP}"]
        chips = "[...document.querySelectorAll('#turns .chip')].map(e => e.textContent)"
        assert browser.run(chips) == ["hello", "<img"]
        browser.click("document.querySelector('[aria-label=\"Bad answer\"]')")
        browser.until("document.querySelector('[aria-label=\"Bad answer\"]').ariaPressed == 'true'")
        assert [e.body.reward for e in served.events if isinstance(e.body, Feedback)] == [-1.0]
        say(browser, "And now?", 2)
        assert [m.text for m in served.model.asked[1]][-1] == "And now?"
        assert len({turn.conversation for turn in served.turns}) == 1
        # What is remembered, and forgotten by the second click.
        browser.click("document.querySelector('#memories summary')")
        browser.until(f"{MEMORIES}.length == 4")
        assert browser.run(MEMORIES) == ["Yes.", "And now?", f"I see {MARKUP}", f"Hello {MARKUP}"]
        last = "document.querySelector('#memories li:last-child button')"
        browser.click(last)
        browser.until(f"{last}.textContent == 'Forget for good?'")
        assert None not in served.texts
        browser.click(last)
        browser.until(f"{MEMORIES}.length == 2")
        assert served.texts == [None, None, "And now?", "Yes."]
        assert browser.run("document.getElementById('turns').textContent").startswith("And now?")
        say(browser, "Once more", 2)
        assert "Hello" not in str(served.model.asked[-1])
        assert browser.run("document.title") == "companion"
        addresses = {address.removeprefix(served.endpoint.address) for address in browser.asked}
        assert addresses == {"/"} | {f"/companion/{name}" for name in ("chat", "judge", "memories", "forget")}
        assert browser.said == []


@needs_chromium
def test_the_variant_off_record_and_an_endpoint_that_is_gone(served: Served, tmp_path: Path) -> None:
    with Browser(tmp_path / "profile") as browser:
        browser.open(served.endpoint.address)
        browser.run("document.getElementById('model').value = 'companion:off-record'")
        say(browser, "Psst.", 1)
        assert "not kept" in browser.run("document.querySelector('.about').textContent")
        assert served.events == []
        served.endpoint.shutdown()
        wait(lambda: served.endpoint.socket.fileno() < 0, "it is closed")
        browser.run("document.getElementById('text').focus()")
        browser.type("Anybody?")
        browser.until("document.querySelector('.turn.failed') !== null")


@needs_chromium
def test_pages_of_other_sites_do_nothing_here(served: Served, tmp_path: Path) -> None:
    evil = "http://evil.example"
    with Browser(tmp_path / "profile", "--host-resolver-rules=MAP * 127.0.0.1") as browser:
        browser.open(served.endpoint.address)
        say(browser, "I am allergic to peanuts.", 1)
        before = served.events
        turn = next(event.id for event in before if isinstance(event.body, Turn))

        class Site(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = EVIL.format(target=served.endpoint.address, turn=turn).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as other:
            thread = threading.Thread(target=other.serve_forever)
            thread.start()
            try:
                browser.open(f"{evil}:{other.server_address[1]}/")
                found = browser.run("window.done")
                assert browser.run("document.getElementById('frame').contentDocument") is None
                browser.run("document.getElementById('form').submit()")
                browser.until("document.body.textContent.includes('may not ask here')")
            finally:
                other.shutdown()
                thread.join()
        # Unreadable, by its policy or since there is nothing to read.
        assert {*found} <= {"TypeError", ""}
        # Its own name stands for this machine: then it is of the same origin, but for the Host.
        browser.open(f"{evil}:{served.endpoint.server_address[1]}/")
        assert "Host must be localhost" in browser.run("document.body.textContent")
        assert "peanuts" not in browser.run(
            "fetch('/companion/memories', {method: 'POST', body: '{}', "
            "headers: {'Content-Type': 'application/json'}}).then(got => got.text())"
        )
    assert served.events == before
