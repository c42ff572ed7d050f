"""Behind a TLS proxy nobody comes in without a token: the page asks for one, keeps it as a cookie, and shows its cameras only."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from bench.camsim.process import SimProcess
from bench.site import Site, wait_until
from recorder.base.clock import SystemClock
from storage.catalogue import Catalogue
from tests.browser.conftest import PATIENCE_MS

pytestmark = [pytest.mark.browser, pytest.mark.live]


@pytest.fixture
def proxy(sim: SimProcess, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Address of the proxy, and a token that reaches one of two cameras."""
    (tmp_path / "site").mkdir()
    cameras = {f"cam{n}": [f'main = {{ url = "{sim.url(n)}", kbps = 600 }}'] for n in (0, 2)}
    site = Site(tmp_path / "site", cameras, bytes_max=1 << 30, whole=True, server=['tls = "proxy"'])
    site.state_dir.mkdir(exist_ok=True)
    with Catalogue.open(site.state_dir / "catalogue.sqlite", SystemClock(), write=True) as catalogue:
        _, token = catalogue.add_token("wall", ["view"], cameras=["cam0"])
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-keyout", key,
                    "-out", cert], check=True, capture_output=True)
    with site:
        wait_until(lambda: _recorded(site), 300, "a camera recording")
        script = Path(__file__).parent / "tls_proxy.py"
        ends = subprocess.Popen([sys.executable, script, cert, key, str(site.port)], stdout=subprocess.PIPE, text=True)
        try:
            assert ends.stdout is not None
            yield f"https://127.0.0.1:{ends.stdout.readline().strip()}/", token
        finally:
            ends.kill()
            ends.communicate()
    site.clean()


def _recorded(site: Site) -> bool:
    site.check_alive()
    store = site.store()
    try:
        return any(store.track(number, "main").edges().visible_end_ns > 0 for number in store.cameras() if "main" in store.tracks(number))
    finally:
        store.close()


def test_a_token_opens_the_page_and_only_its_cameras(browser: Browser, proxy: tuple[str, str]) -> None:
    address, token = proxy
    context = browser.new_context(ignore_https_errors=True)
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("#login[open]", timeout=PATIENCE_MS)
    page.fill("#token", "wr_" + "A" * 43)
    page.click("#login button")
    page.wait_for_function("() => document.querySelector('#login-error').textContent !== ''", timeout=PATIENCE_MS)
    page.fill("#token", token)
    page.click("#login button")
    page.wait_for_function("() => document.querySelector('.tile video')?.getVideoPlaybackQuality().totalVideoFrames > 10", timeout=PATIENCE_MS)
    assert page.locator(".tile").count() == 1
    cookie = next(cookie for cookie in context.cookies() if cookie["value"])
    assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Strict")
    assert token not in cookie["value"]
    context.close()
