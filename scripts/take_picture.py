"""Take the picture in README.md from a running mesh (`make up`), in Chromium.

    make picture

The picture is always that of the running system, never drawn by hand.
"""

from __future__ import annotations

import argparse
import pathlib
import shutil

from playwright.sync_api import sync_playwright

PICTURE = pathlib.Path(__file__).resolve().parent.parent / "docs/pictures/chat.png"
QUESTIONS = (
    "What is the capital of France?",
    "What is 12 + 7?",
    "Write a haiku about the sea at night.",
)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def main() -> None:
    """Ask each question, wait for the whole answer, and save what a user sees."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8080/")
    parser.add_argument("--browser", default=shutil.which("chromium"), help="path of Chromium")
    options = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.browser, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1000, "height": 720}, device_scale_factor=1.5)
        page.goto(options.url)
        for question in QUESTIONS:
            page.locator("textarea").fill(question)
            page.keyboard.press("Enter")
            page.get_by_role("button", name="Stop").wait_for(state="visible")
            page.get_by_role("button", name="Stop").wait_for(state="hidden", timeout=120_000)
        page.get_by_text(QUESTIONS[0]).scroll_into_view_if_needed()
        page.screenshot(path=PICTURE)
        browser.close()
    print(f"wrote {PICTURE}")


if __name__ == "__main__":
    main()
