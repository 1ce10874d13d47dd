"""The operator's page in a real browser, against a server that plays the gateway."""

from __future__ import annotations

import shutil

import pytest
from page_gateway import HOSTILE

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PHONE = {"width": 360, "height": 740}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine"),
]


@pytest.fixture
def operator(open_page):
    """Return a function that opens the page and waits for its first figures."""

    def opening(**options):
        page = open_page("/operator", **options)
        page.wait_for_selector(".task svg")
        return page

    return opening


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_shows_what_runs_and_who_decides(operator, accessible, keep, scheme):
    """Gauges, versions, modes, trial, streams, feedback; axe finds nothing."""
    page = operator(color_scheme=scheme)
    keep(page, f"operator-{scheme}")
    gauges = page.inner_text("#gauges")
    for part in ("412 / 1024", "6.4 ms", "all serving"):
        assert part in gauges
    assert page.locator("#policies tbody tr").count() == 4
    assert page.locator("#policies button").count() == 3
    assert "apply" in page.inner_text("#modes")
    assert "canary, 10 % of sessions" in page.inner_text("#trial")
    assert "req-4f0c2a" in page.inner_text("#streams")
    assert "praised" in page.inner_text("#feedback")
    assert accessible(page) == []


def test_the_heat_map_has_a_strip_a_task_and_flags_what_is_odd(operator, gateway):
    """Every answered bin is a cell; the odd minute is marked and told in words, with the rule."""
    page = operator()
    assert page.locator(".task h3").all_inner_texts()[0].startswith("chat")
    filled = sum(
        count > 0 for cell in gateway.overview["heat_map"]["cells"] for count in cell["counts"]
    )
    assert page.locator(".cell").count() == filled
    assert page.locator(".flag").count() == 1
    shades = page.eval_on_selector_all(
        ".cell", "cells => [...new Set(cells.map(cell => getComputedStyle(cell).fill))]"
    )
    assert len(shades) > 3
    assert "code: median T 1.45 of" in page.inner_text("#flags")
    assert page.inner_text("#rule") == gateway.overview["heat_map"]["rule"]
    told = page.locator(".task svg").nth(1).get_attribute("aria-label")
    assert told.startswith("code: ")
    assert told.endswith("1 flagged")


def test_a_version_is_promoted_after_a_question(operator, gateway):
    """Cancelled, nothing is sent; confirmed, the version and the one seen live are."""
    page = operator()
    page.get_by_role("button", name="Promote version 5").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Promote version 5").click()
    page.get_by_role("dialog").get_by_role("button", name="Promote").click()
    playwright.expect(page.locator("#live")).to_have_text("Version 8 is live.")
    expected = {"version": 5, "expected_live_version": 7}
    assert gateway.changes == [("/admin/policies/promote", expected)]


def test_rolling_back_says_which_version_was_seen(operator, gateway):
    """So that two operators do not go back twice."""
    page = operator()
    page.click("#rollback")
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    playwright.expect(page.locator("#live")).to_have_text("Version 8 is live.")
    assert gateway.changes == [("/admin/policies/rollback", {"expected_live_version": 7})]


def test_modes_and_the_trial_can_be_changed(operator, gateway):
    """What was set is shown with the next overview."""
    page = operator()
    page.fill("#mode-route", "/v1/completions")
    page.select_option("#mode-mode", "observe")
    page.click("#mode-form button")
    playwright.expect(page.locator("#modes")).to_contain_text("observe")
    page.click("#trial button")
    page.get_by_role("dialog").get_by_role("button", name="Stop").click()
    playwright.expect(page.locator("#trial")).to_contain_text("stopped")
    assert [url for url, _ in gateway.changes] == ["/admin/modes", "/admin/trial/stop"]


def test_a_trial_is_started(operator, gateway, accessible):
    """Where none is running a form offers what is not live; a shadow has no share."""
    page = operator()
    assert page.is_hidden("#trial-form")
    gateway.overview["trial"] |= {"stage": "stopped", "is_running": False}
    page.wait_for_selector("#trial-form")
    assert page.locator("#trial-version option").all_inner_texts() == ["6", "5", "1"]
    assert page.is_disabled("#trial-share")
    assert accessible(page) == []
    page.select_option("#trial-version", "5")
    page.select_option("#trial-stage", "canary")
    page.fill("#trial-share", "20")
    page.get_by_role("button", name="Start a trial").click()
    page.get_by_role("dialog").get_by_role("button", name="Start").click()
    playwright.expect(page.locator("#trial")).to_contain_text("version 5")
    expected = {"version": 5, "stage": "canary", "share": 0.2, "promotes": False}
    assert gateway.changes == [("/admin/trial/start", expected)]


def test_a_refusal_is_told(operator, gateway):
    """The server's own words."""
    page = operator()
    gateway.refusal = (409, "version 8 is live, not 7", "expected_live_version")
    page.click("#rollback")
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    playwright.expect(page.locator("#problem")).to_have_text("version 8 is live, not 7")


def test_parts_that_are_away_are_told(operator, gateway):
    """The rest stays."""
    gateway.overview |= {"engine": None, "policies": None, "modes": None, "trial": None}
    gateway.overview["peers"]["controller"] = "away"
    page = operator()
    assert "controller away" in page.inner_text("#gauges")
    assert "cannot be asked now" in page.inner_text("#policies")
    assert page.is_disabled("#rollback")


def test_names_from_outside_are_never_markup(operator):
    """A tag in a request's id stays text; the open_page fixture sees to it that nothing ran."""
    page = operator()
    assert HOSTILE in page.inner_text("#streams")
    assert page.query_selector("main img") is None


def test_a_phone_shows_everything_without_scrolling_sideways(operator, gateway, keep, accessible):
    """The trial's form keeps to its frame, and versions are promoted without scrolling to them."""
    gateway.overview["trial"] |= {"stage": "stopped", "is_running": False}
    page = operator(viewport=PHONE)
    page.wait_for_selector("#trial-form")
    keep(page, "operator-phone")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    promote = page.get_by_role("button", name="Promote version 5").bounding_box()
    stage = page.locator("#trial-stage").bounding_box()
    for box in (promote, stage):
        assert box["x"] + box["width"] <= PHONE["width"] - 16
    assert accessible(page) == []


def test_a_key_without_the_right_can_be_changed_for_another(open_page, gateway):
    """401 asks for a key, 403 says what is missing and offers to ask again."""
    gateway.key, gateway.refusal = "tm-admin", (403, "", None)
    page = open_page("/operator")
    page.fill("#key", "tm-usual")
    page.press("#key", "Enter")
    page.get_by_role("button", name="Use another key").click()
    page.fill("#key", "tm-admin")
    page.press("#key", "Enter")
    page.wait_for_selector(".task svg")
    assert page.is_hidden("#problem")
