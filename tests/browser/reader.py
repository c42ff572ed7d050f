"""What a page's videos show by the number in their pictures, read in the page by bench/camsim/pattern.js."""

from collections.abc import Sequence

from playwright.sync_api import Page

from tests.browser.conftest import PATTERN

SHOWN = "() => [...document.querySelectorAll('.tile')].map((tile) => [tile.dataset.camera, numberOf(tile.querySelector('video'))])"


def can_read(page: Page) -> None:
    """Put the reader into a page of a context that lets scripts in (`bypass_csp`)."""
    page.add_script_tag(path=PATTERN)


def shown(page: Page) -> dict[str, int | None]:
    """The number in each tile's picture now, by camera; None where there is none to be trusted."""
    return dict(page.evaluate(SHOWN))


def newer(before: dict[str, int | None], after: dict[str, int | None], loop: int, besides: Sequence[str] = ()) -> list[str]:
    """Cameras, but for `besides`, that do not show a newer picture than before; pictures are numbered from 0 to `loop` again and again."""
    def moved(old: int | None, new: int | None) -> bool:
        return old is not None and new is not None and 0 < (new - old) % loop < loop // 2

    return [camera for camera in after if camera not in besides and not moved(before[camera], after[camera])]
