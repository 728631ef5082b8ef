"""The page in a real browser: it streams, it runs nothing of what is said, it loads nothing."""

import base64
import hashlib
import re
import shutil
import subprocess
import threading
from collections.abc import Generator
from pathlib import Path

import pytest

from personality_common.endpoint.config import EndpointConfig
from personality_common.endpoint.model import Card, End, Piece, Request, Stop, Text
from personality_common.endpoint.page import Addition, chat_page
from personality_common.endpoint.server import Endpoint
from personality_common.endpoint.site import Site

CHROMIUM = shutil.which("chromium")
SEND = """
document.addEventListener("chat-turn", (event) => {
  const chip = document.createElement("span");
  chip.className = "chip";
  chip.textContent = event.detail.role + " said " + event.detail.text.length;
  event.detail.element.append(chip);
});
document.getElementById("text").value = "<b>Hi</b>";
document.getElementById("ask").requestSubmit();
"""


class Speaker:
    """Says markup."""

    card = Card('tiny"<', 128, ("newton",))

    def stream(self, request: Request, stop: Stop) -> Generator[Piece, None, None]:
        yield Text("<script>document.title = 'run'</script> and ")
        yield Text("<img src=x onerror=alert(1)>\n")
        yield End("stop")


def test_the_policy_allows_this_page_alone() -> None:
    page = chat_page(Speaker.card, additions=[Addition("1;", "b { color: red }")])
    text, policy = page.html.decode(), page.headers["Content-Security-Policy"]
    for kind in ("script", "style"):
        (content,) = re.findall(f"<{kind}>(.*?)</{kind}>", text, re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert not re.search(r"https?:|src=|innerHTML|eval|style=", text)
    assert "<title>tiny&quot;&lt;</title>" in text


@pytest.mark.skipif(CHROMIUM is None, reason="needs the browser chromium")
def test_in_a_browser(tmp_path: Path) -> None:
    model = Speaker()
    page = chat_page(model.card, additions=[Addition(SEND)])
    endpoint = Endpoint(model, EndpointConfig(port=0), Site(page))
    thread = threading.Thread(target=endpoint.run)
    thread.start()
    try:
        done = subprocess.run(
            [
                str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
                "--virtual-time-budget=5000", "--dump-dom", endpoint.address,
            ],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
    finally:
        endpoint.shutdown()
        thread.join()
    turns = done.stdout.partition('id="turns"')[2].partition("<form")[0]
    assert "&lt;b&gt;Hi&lt;/b&gt;" in turns
    assert "&lt;script&gt;document.title = 'run'&lt;/script&gt; and &lt;img src=x" in turns
    assert "user said 9" in turns
    assert "assistant said 73" in turns
    assert "<title>tiny" in done.stdout
