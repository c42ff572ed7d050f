"""Debian's Chromium for measurements and tests, driven by Playwright, which is installed with what the tests need."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required"]
WEBRTC = ["--disable-features=WebRtcHideLocalIpsWithMdns"]      # else its candidates are names that only its own machine's resolver knows


@contextmanager
def chromium(arguments: tuple[str, ...] = ()) -> Iterator["Browser"]:
    """A headless one. Raises RuntimeError if it or its driver is not installed."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise RuntimeError("playwright is missing: make setup-test installs it") from error
    if not Path(CHROMIUM).exists():
        raise RuntimeError("Debian's chromium is missing: make setup-test installs it")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, *arguments])
        try:
            yield running
        finally:
            running.close()
