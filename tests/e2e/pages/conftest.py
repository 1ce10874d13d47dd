"""Both pages in a real browser, against a server that plays the gateway."""

from __future__ import annotations

import os
import pathlib
import shutil
import threading

import pytest
from page_gateway import Gateway

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def gateway():
    """The server behind the pages."""
    server = Gateway()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.hold.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    """One Chromium a module: while it runs, no other event loop can."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield running
        running.close()


@pytest.fixture
def open_page(browser, gateway):
    """Return a function that opens the page; at the end nothing may have been complained of."""
    opened, complaints = [], []

    def opening(path="/", **options):
        context = browser.new_context(**{"viewport": {"width": 1100, "height": 800}, **options})
        context.set_default_timeout(15_000)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else 0)
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(gateway.url + path)
        opened.append(context)
        return page

    yield opening
    for context in opened:
        context.close()
    expected = "the server responded with a status of" if gateway.refusal else "nothing"
    assert [line for line in complaints if expected not in line] == []


@pytest.fixture
def keep():
    """Return a function that keeps a picture where whoever runs the tests wants to look at one."""

    def keeping(page, name):
        if folder := os.environ.get("THERMESH_SCREENSHOTS"):
            page.screenshot(path=pathlib.Path(folder) / f"{name}.png", full_page=True)

    return keeping


@pytest.fixture
def accessible():
    """Return a function that tells what axe finds wrong with a page."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")

    def complaints(page):
        found = axe.Axe().run(page).response["violations"]
        return [f"{one['id']}: {node['html']}" for one in found for node in one["nodes"]]

    return complaints
