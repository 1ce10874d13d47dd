"""Row 10: both pages of the running mesh in a Chromium that has just started.

First paint is what the browser itself reports (`first-contentful-paint`); a complaint
is an error on the console or in a script; axe-core looks for what keeps people out.
Needs Chromium and the dev tools.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import async_playwright

from benchmarks.load import house
from benchmarks.load.figures import Figure, Json, Rounds, spread

ROUNDS = 5
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
DESK = {"width": 1100, "height": 900}
PHONE = {"width": 390, "height": 844}
LOOKS = (("light", DESK), ("dark", DESK), ("light", PHONE))
FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
PAGES = {"chat": "/", "operator": "/operator"}
QUESTIONS = ("What is the capital of France?", "Write a haiku about the sea at night.")
ANSWER_MS = 60_000


class Bench:
    """A browser for each round."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def round(self, number: int) -> Json:
        """Open both pages, ask a question on the first, and look at each."""
        found: Json = {"complaints": [], "violations": []}
        async with async_playwright() as driver:
            browser = await driver.chromium.launch(
                executable_path=shutil.which("chromium"), args=ARGUMENTS
            )
            page = await browser.new_page(viewport=DESK)
            page.on("pageerror", lambda error: found["complaints"].append(str(error)))
            page.on("console", lambda line: _note(line, found["complaints"]))
            for name, path in PAGES.items():
                await page.goto(self._url + path)
                await page.wait_for_function(FIRST_PAINT)
                found[name] = round(await page.evaluate(FIRST_PAINT), 1)
                if name == "chat":
                    await page.fill("#question", QUESTIONS[number % len(QUESTIONS)])
                    await page.press("#question", "Enter")
                    await page.locator(".thumb").first.wait_for(timeout=ANSWER_MS)
                found["violations"] += await _violations(page)
            await browser.close()
        return found


async def _violations(page: Any) -> list[str]:
    found = []
    for scheme, size in LOOKS:
        await page.emulate_media(color_scheme=scheme)
        await page.set_viewport_size(size)
        # Colours fade into the other scheme; axe would measure one on its way.
        await page.evaluate("Promise.all(document.getAnimations().map(each => each.finished))")
        result = await Axe().run(page)
        found += [each["id"] for each in result.response["violations"]]
    return found


def _note(line: Any, complaints: list[str]) -> None:
    if line.type == "error":
        complaints.append(line.text)


@asynccontextmanager
async def opened() -> AsyncIterator[Bench]:
    """Run the mesh with the real engine."""
    async with house.opened(None) as mesh:
        yield Bench(f"http://127.0.0.1:{mesh.ports['http']}")


def figures(rounds: Rounds) -> list[Figure]:
    """Judge paint, complaints and accessibility."""
    found = []
    for name in PAGES:
        times = [each[name] for each in rounds]
        told = f"{spread(times, '.0f')} ms"
        found.append((f"first paint of the {name} page", "< 1 s", told, max(times) < 1000))
    for name, title in (("complaints", "console errors"), ("violations", "axe violations")):
        count = sum(len(each[name]) for each in rounds)
        found.append((f"{title}, both pages", "0", str(count), not count))
    return found
