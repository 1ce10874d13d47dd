"""The chat page on the real mesh: what the policy decides is seen, and what is taught too."""

from __future__ import annotations

import shutil

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MODEL_MS = 90_000

pytestmark = [
    pytest.mark.mesh,
    pytest.mark.model,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine"),
]


@pytest.fixture
def page(mesh):
    """The page of the mesh; nothing may have been complained of."""
    complaints = []
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        opened = browser.new_page()
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("console", lambda line: complaints.append(line.text))
        opened.goto(mesh.url)
        yield opened
        browser.close()
    assert complaints == []


def test_two_kinds_of_request_are_decoded_apart_and_a_thumb_teaches(page):
    """A fact and a story have plans of their own; feedback raises the policy's version."""
    for turn, question in enumerate(("What is 17 times 23?", "Write a two line poem about rain.")):
        page.fill("#question", question)
        page.press("#question", "Enter")
        page.locator(".thumb").nth(2 * turn + 1).wait_for(timeout=MODEL_MS)
    first, second = page.locator(".plan").all_inner_texts()
    assert first.startswith("Took this for a calculation; answering ")
    assert second.startswith("Took this for open writing; answering ")
    heats = "tokens => new Set(tokens.map(token => token.style.getPropertyValue('--heat'))).size"
    assert page.eval_on_selector_all(".token", heats) >= 2
    page.locator(".thumb").first.click()
    learned = page.locator(".learned").first
    playwright.expect(learned).to_contain_text("Learned: policy version", timeout=60_000)


def test_an_operator_sees_what_was_asked_and_promotes(page, mesh):
    """An answer is on the heat map under its task; promoting makes a new version live."""
    page.fill("#question", "What is 17 times 23?")
    page.press("#question", "Enter")
    page.locator(".thumb").first.click(timeout=MODEL_MS)
    learned = page.locator(".learned").first
    playwright.expect(learned).to_contain_text("Learned: policy version", timeout=60_000)
    page.goto(f"{mesh.url}/operator")
    arithmetic = page.locator(".task").filter(has_text="arithmetic")
    playwright.expect(arithmetic.locator(".cell").first).to_be_attached(timeout=20_000)
    live = page.locator("#policies tr.live td").first
    before = int(live.inner_text())
    page.fill("#mode-route", "/v1/nowhere")  # other tests share the mesh
    page.select_option("#mode-mode", "observe")
    page.click("#mode-form button")
    playwright.expect(page.locator("#modes")).to_contain_text("/v1/nowhere", timeout=20_000)
    page.get_by_role("button", name=f"Promote version {before - 1}").click()
    page.get_by_role("dialog").get_by_role("button", name="Promote").click()
    playwright.expect(live).to_have_text(str(before + 1), timeout=20_000)
