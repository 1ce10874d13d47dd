"""Take the pictures in docs/pictures from a running mesh (`make up`), in Chromium.

    make picture

The pictures are always those of the running system, never drawn by hand. Says
how long each page took to its first paint.
"""

from __future__ import annotations

import argparse
import pathlib
import shutil
from typing import Any

from playwright.sync_api import sync_playwright

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "docs/pictures"
QUESTIONS = (
    "What is the capital of France?",
    "Write a haiku about the sea at night.",
)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
DESK = {"width": 1100, "height": 900}
PHONE = {"width": 390, "height": 844}
FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def main() -> None:
    """Ask each question, wait for the whole answer, and save what a user and an operator see."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8080/")
    parser.add_argument("--browser", default=shutil.which("chromium"), help="path of Chromium")
    options = parser.parse_args()
    url = options.url.rstrip("/")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.browser, args=ARGUMENTS)
        context = browser.new_context(viewport=DESK, device_scale_factor=1.5)
        page = context.new_page()
        take_chat(page, url)
        take_operator(page, url)
        browser.close()


def take_chat(page: Any, url: str) -> None:
    """Ask, and take the conversation in light and dark and on a phone."""
    page.goto(url)
    for turn, question in enumerate(QUESTIONS):
        page.locator("#question").fill(question)
        page.keyboard.press("Enter")
        # Thumbs come with the end of an answer; a short one is over before Stop is seen.
        page.locator(".thumb").nth(2 * turn + 1).wait_for(timeout=120_000)
    for name, scheme, size in looks("chat"):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size(size)
        page.get_by_text(QUESTIONS[0], exact=True).last.scroll_into_view_if_needed()
        save(page, name)


def take_operator(page: Any, url: str) -> None:
    """Take the operator's page after those answers."""
    page.goto(f"{url}/operator")
    page.locator(".task svg").first.wait_for()
    for name, scheme, size in looks("operator"):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size(size)
        save(page, name, full_page=True)


def looks(name: str) -> list[tuple[str, str, dict[str, int]]]:
    """Return file name, colour scheme and size of each picture of a page."""
    return [
        (name, "light", DESK),
        (f"{name}-dark", "dark", DESK),
        (f"{name}-phone", "light", PHONE),
    ]


def save(page: Any, name: str, full_page: bool = False) -> None:
    """Write one picture and say when the page was first painted."""
    path = FOLDER / f"{name}.png"
    page.screenshot(path=path, full_page=full_page)
    print(f"wrote {path.name}; first paint after {page.evaluate(FIRST_PAINT):.0f} ms")


if __name__ == "__main__":
    main()
