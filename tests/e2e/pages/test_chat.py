"""The chat page in a real browser, against a server that plays the gateway."""

from __future__ import annotations

import shutil

import pytest
from page_gateway import HOSTILE

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine"),
]


def ask(page, question="What is the capital of Mongolia?"):
    page.fill("#question", question)
    page.press("#question", "Enter")


def finished(page):
    page.wait_for_selector(".thumb")
    return page


def colours(page):
    script = "tokens => tokens.map(token => getComputedStyle(token).backgroundColor)"
    return page.eval_on_selector_all(".token", script)


def oklch(colour):
    """Return lightness, chroma and hue of a computed `oklch(...)` colour."""
    assert colour.startswith("oklch("), colour
    return [float(part) for part in colour.removeprefix("oklch(").removesuffix(")").split()[:3]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_tokens_are_coloured_from_blue_over_amber_to_red(open_page, keep, scheme):
    """Five temperatures are five colours along the legend's scale, readable in both themes."""
    page = open_page(color_scheme=scheme)
    keep(page, f"welcome-{scheme}")
    ask(page)
    shades = [oklch(shade) for shade in colours(finished(page))]
    keep(page, f"answer-{scheme}")
    assert len({tuple(shade) for shade in shades}) == 5
    hues = [hue for _, _, hue in shades]
    assert hues == sorted(hues, reverse=True)
    blue, amber, red = hues[0], hues[2], hues[4]
    assert 220 < blue < 260
    assert 70 < amber < 95
    assert 20 < red < 35
    lightness = [shade[0] for shade in shades]
    assert lightness == sorted(lightness, reverse=scheme == "light")
    ink = page.eval_on_selector(".token", "token => getComputedStyle(token).color")
    assert min(abs(oklch(ink)[0] - shade) for shade in lightness) > 0.4


def test_the_legend_shows_the_scale_of_the_tokens(open_page):
    """The ends and the middle of the legend are the colours of T 0, 1 and 2."""
    page = open_page()
    gradient = page.eval_on_selector(
        ".gradient", "element => getComputedStyle(element).backgroundImage"
    )
    ask(page)
    shades = colours(finished(page))
    assert gradient.count("oklch(") == 3
    assert shades[2] in gradient
    assert shades[4] in gradient
    assert page.inner_text(".ticks").split() == ["0", "0.5", "1", "1.5", "2"]
    assert page.is_visible("#legend")


def test_the_plan_is_told_in_one_sentence_and_in_full(open_page):
    """Task, warmth, temperature and who chose it; the rest behind a fold."""
    page = open_page()
    ask(page)
    sentence = finished(page).inner_text(".plan")
    expected = "Took this for a question; answering cool at T=0.31, drawn by policy version 7."
    assert sentence == expected
    page.click("summary")
    full = page.inner_text("details dl")
    for part in ("dec-0000", "top_n_sigma 1", "42", "0.40"):
        assert part in full


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        (
            {"task": None, "source": "fallback", "policy_temperature": 0, "decision_id": ""},
            (
                "Could not tell what kind of task this is; answering cool at T=0.31, "
                "the last good plan, because the controller did not answer in time."
            ),
        ),
        (
            {"task": "generation", "program": {"kind": "edt"}, "temperature": 1.2},
            (
                "Took this for open writing; answering at up to T=1.20, "
                "cooler where the model is sure, drawn by policy version 7."
            ),
        ),
        (
            {"task": "code", "source": "static", "temperature": 0, "policy_temperature": 0},
            (
                "Took this for programming; answering with the most probable token each time, T=0, "
                "the fixed value of this kind of request."
            ),
        ),
    ],
)
def test_every_kind_of_plan_has_its_sentence(open_page, gateway, plan, sentence):
    """Fallbacks, programs and greedy decoding are told as what they are."""
    gateway.plan |= plan
    page = open_page()
    ask(page)
    assert finished(page).inner_text(".plan") == sentence
    assert page.is_disabled(".thumb") == (plan.get("decision_id") == "")


def test_a_token_tells_its_numbers_on_hover_and_by_keyboard(open_page, keep):
    """Temperature, entropy and probability; one tab stop an answer, arrows inside it."""
    page = open_page()
    ask(page)
    finished(page).hover(".token >> nth=2")
    about = "T 1 · entropy 0.82 nats · probability 25 %"
    assert page.inner_text("#tooltip") == about
    keep(page, "hover")
    page.focus(".token >> nth=0")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#tooltip") == "T 0.50 · entropy 0.82 nats · probability 25 %"
    page.keyboard.press("End")
    assert page.inner_text("#tooltip") == "T 2 · entropy 0.82 nats · probability 25 %"
    assert page.eval_on_selector_all(".token[tabindex='0']", "found => found.length") == 1


def test_a_pinned_temperature_is_sent_and_an_automatic_one_is_not(open_page, gateway):
    """Auto leaves the field out; pinned sends the slider's number."""
    page = open_page()
    ask(page)
    finished(page).check("input[value=pinned]")
    page.fill("#pin", "1.3")
    ask(page, "And again?")
    page.wait_for_selector(".thumb >> nth=3")
    automatic, pinned = gateway.asked
    assert "temperature" not in automatic
    assert pinned["temperature"] == 1.3
    assert automatic["thermesh"]["telemetry"] is True
    assert automatic["stream_options"] == {"include_usage": True}
    assert [turn["role"] for turn in pinned["messages"]] == ["user", "assistant", "user"]
    assert automatic["thermesh"]["session_id"] == pinned["thermesh"]["session_id"]
    assert "hot at T=1.30, as you pinned it" in page.inner_text("li:nth-child(2) .plan")


def test_feedback_is_sent_once_and_followed_until_it_counts(open_page, gateway, keep):
    """The page shows the policy's version before and after."""
    page = open_page()
    ask(page)
    finished(page).click(".thumb >> nth=0")
    learned = page.locator(".learned")
    playwright.expect(learned).to_have_text("Learned: policy version 7 → 8.")
    keep(page, "learned")
    (sent,) = gateway.feedback
    assert sent == {"id": sent["id"], "decision_id": "dec-" + "0" * 32, "score": 1}
    assert page.is_disabled(".thumb >> nth=1")


def test_what_a_model_writes_is_never_markup(open_page):
    """A tag stays the text it is; the open_page fixture sees to it that nothing ran."""
    page = open_page()
    ask(page, HOSTILE)
    finished(page)
    assert page.query_selector("img") is None
    assert page.inner_text(".answer").startswith(HOSTILE)
    assert page.inner_text(".asked") == HOSTILE
    assert page.inner_text("#live").startswith("Answer: ")


@pytest.mark.parametrize("how", ["button", "escape"])
def test_stopping_closes_the_stream_and_keeps_what_came(open_page, gateway, how):
    """The server sees the client leave; the answer so far stays."""
    gateway.hold.clear()
    page = open_page()
    ask(page)
    page.wait_for_selector(".token >> nth=1")
    if how == "button":
        page.click("#stop")
    else:
        page.keyboard.press("Escape")
    finished(page)
    assert gateway.left.wait(10)
    assert "stopped" in page.inner_text(".after")
    assert page.is_visible("#send")


def test_a_new_chat_forgets_the_old_one(open_page, gateway):
    """No turns, another session, and a stream under way is left."""
    gateway.hold.clear()
    page = open_page()
    ask(page)
    page.wait_for_selector(".token >> nth=1")
    page.click("#new-chat")
    assert gateway.left.wait(10)
    assert page.query_selector(".token") is None
    assert page.is_visible("#welcome")
    gateway.hold.set()
    ask(page, "fresh")
    finished(page)
    first, second = gateway.asked
    assert len(second["messages"]) == 1
    assert first["thermesh"]["session_id"] != second["thermesh"]["session_id"]


def test_an_error_is_told_clearly_and_can_be_tried_again(open_page, gateway, keep):
    """Message, field and waiting time; the second try answers."""
    gateway.refusal = (429, "too many requests", "messages")
    page = open_page()
    ask(page)
    page.wait_for_selector("[role=alert]")
    keep(page, "problem")
    told = page.inner_text("[role=alert]")
    assert "No answer. too many requests. Field: messages. Possible again in 3 s." in told
    kept, gateway.refusal = gateway.refusal, None
    page.click("[role=alert] button")
    finished(page)
    assert page.query_selector("[role=alert]") is None
    gateway.refusal = kept  # the browser's own note of the status is expected


def test_a_phone_shows_everything_without_scrolling_sideways(open_page, keep):
    """At 360 pixels nothing sticks out and the form is in reach."""
    page = open_page(viewport={"width": 360, "height": 640})
    ask(page)
    finished(page)
    keep(page, "phone")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    for part in ("#question", "#send", "#legend", "#new-chat"):
        assert page.is_visible(part)


def test_the_theme_can_be_chosen_and_is_remembered(open_page):
    """System, light, dark; a reload keeps the choice."""
    page = open_page(color_scheme="light")
    light = page.eval_on_selector("body", "body => getComputedStyle(body).backgroundColor")
    page.click("#theme")
    page.click("#theme")
    page.reload()
    assert page.get_attribute("html", "data-theme") == "dark"
    dark = page.eval_on_selector("body", "body => getComputedStyle(body).backgroundColor")
    assert light != dark


ANSWER = [
    *("Use ", "**two**", " steps:\n\n", "1. Read\n", "2. Write\n\n", "```python\n"),
    *("print('", "hi", "')\n", "```\n", "Done", "."),
]


@pytest.mark.parametrize("width", [360, 1100])
def test_a_long_line_of_code_scrolls_by_itself(open_page, gateway, width):
    """The answer around it stays as wide as the column, and the page does not move sideways."""
    gateway.texts = ["```python\n", "x = " + "1 + " * 200, "1\n```\n"]
    page = open_page(viewport={"width": width, "height": 780})
    ask(page, "Add ones.")
    finished(page)
    wider = (
        "one => document.querySelector(one).scrollWidth > document.querySelector(one).clientWidth"
    )
    assert page.evaluate(wider, ".code pre")
    assert not page.evaluate(wider, "main")
    assert not page.evaluate(wider, "html")


def test_an_answer_is_markdown_with_every_token_coloured(open_page, gateway, keep, accessible):
    """Lists, code with a button that copies it, and tokens across their bounds."""
    gateway.texts = ANSWER
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    ask(page, "How do I print hi?")
    finished(page)
    assert page.inner_text(".answer strong") == "two"
    assert page.locator(".answer ol li").all_inner_texts() == ["Read", "Write"]
    assert page.inner_text(".answer pre") == "print('hi')"
    assert page.locator(".answer pre .token").count() == 3
    page.click(".code .copy")
    playwright.expect(page.locator(".code .copy")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "print('hi')"
    page.click(".after .copy")
    playwright.expect(page.locator(".after .copy")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "".join(ANSWER)
    keep(page, "markdown")
    assert accessible(page) == []


def test_colours_can_be_turned_off(open_page):
    """The text is plain; the numbers stay on hover."""
    page = open_page()
    ask(page)
    finished(page).uncheck("#colours")
    assert set(colours(page)) == {"rgba(0, 0, 0, 0)"}
    page.hover(".token >> nth=1")
    assert page.inner_text("#tooltip").startswith("T 0.50")


def test_a_curve_follows_temperature_and_entropy(open_page, gateway):
    """It is there while the answer is written, and told in words."""
    gateway.hold.clear()
    page = open_page()
    ask(page)
    page.wait_for_selector(".curve svg")
    gateway.hold.set()
    finished(page)
    points = page.get_attribute(".curve polyline.temperature", "points").split()
    assert len(points) == 5
    heights = [float(point.split(",")[1]) for point in points]
    assert heights == sorted(heights, reverse=True)
    told = page.get_attribute(".curve svg", "aria-label")
    assert told.startswith("Over 5 tokens: temperature 0.10 to 2 (of 2), entropy 0.82 nats")


def test_regenerating_asks_again_and_tells_the_policy(open_page, gateway):
    """The old answer goes; the signal is sent with its decision."""
    page = open_page()
    ask(page)
    finished(page).click(".again")
    page.wait_for_selector(".thumb")
    playwright.expect(page.locator("#turns > li")).to_have_count(1)
    first, second = gateway.asked
    assert first["messages"] == second["messages"]
    (sent,) = gateway.feedback
    expected = {"decision_id": "dec-" + "0" * 32, "score": 0, "signal": "regenerate"}
    assert sent == {"id": sent["id"], **expected}


def test_an_earlier_question_can_be_edited(open_page, gateway):
    """Escape leaves it as it was; Enter asks it anew, and what followed goes."""
    page = open_page()
    ask(page, "first")
    finished(page)
    ask(page, "second")
    page.wait_for_selector(".thumb >> nth=3")
    page.click(".edit >> nth=0")
    page.keyboard.press("Escape")
    assert page.locator(".asked").all_inner_texts() == ["first", "second"]
    assert page.evaluate("document.activeElement.className") == "edit"
    page.keyboard.press("Enter")
    page.fill(".question textarea", "changed")
    page.keyboard.press("Enter")
    playwright.expect(page.locator(".asked")).to_have_text(["changed"])
    finished(page)
    assert [turn["content"] for turn in gateway.asked[-1]["messages"]] == ["changed"]


def test_chats_are_kept_in_this_browser(open_page, gateway, keep):
    """After a reload they can be opened, continued and deleted; tokens keep their numbers."""
    page = open_page()
    ask(page, "first chat")
    finished(page)
    page.click("#new-chat")
    ask(page, "second chat")
    finished(page)
    page.reload()
    playwright.expect(page.locator(".session")).to_have_text(["second chat", "first chat"])
    page.click(".session >> nth=1")
    assert page.inner_text(".asked") == "first chat"
    assert len(set(colours(page))) == 5
    keep(page, "chats")
    ask(page, "more")
    page.wait_for_selector(".thumb >> nth=3")
    assert len(gateway.asked[-1]["messages"]) == 3
    assert gateway.asked[-1]["thermesh"]["session_id"] == gateway.asked[0]["thermesh"]["session_id"]
    page.click(".drop >> nth=0")
    playwright.expect(page.locator(".session")).to_have_text(["second chat"])
    assert page.is_visible("#welcome")


def test_a_full_store_costs_the_oldest_chats_only(open_page):
    """What the browser has no room for is dropped from the end of the list."""
    page = open_page()
    page.evaluate("""async () => {
      const { keep } = await import("/page/sessions.js");
      for (let number = 0; number < 8; number += 1)
        keep(`chat-${number}`, [{ question: `${number}`, text: "x".repeat(1_000_000) }]);
    }""")
    page.reload()
    titles = page.locator(".session").all_inner_texts()
    assert titles[0] == "7"
    assert 0 < len(titles) < 8


def test_the_keyboard_reaches_everything_in_order(open_page):
    """Skip link, header, chats, conversation, form; shift and Enter begin a line."""
    page = open_page()
    page.focus(".skip")
    seen = ["skip"]
    for _ in range(14):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    order = [name for name in ("skip", "new-chat", "theme", "question") if name in seen]
    assert order == ["skip", "new-chat", "theme", "question"]
    page.fill("#question", "a")
    page.press("#question", "Shift+Enter")
    page.keyboard.type("b")
    assert page.input_value("#question") == "a\nb"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1100])
def test_axe_finds_nothing(open_page, accessible, keep, scheme, width):
    """Welcome, an answer with its plan open, and a conversation's list."""
    page = open_page(color_scheme=scheme, viewport={"width": width, "height": 780})
    assert accessible(page) == []
    ask(page)
    finished(page).click("summary")
    if width < 900:
        page.click("#chats")
        keep(page, f"chats-phone-{scheme}")
    assert accessible(page) == []


def test_a_key_is_asked_for_where_the_server_wants_one(open_page, gateway, accessible):
    """In a dialog that axe likes; the key stays in the tab."""
    gateway.models_need_key = True
    gateway.refusal = (401, "", None)
    page = open_page()
    page.wait_for_selector("#key")
    assert accessible(page) == []
    page.fill("#key", "tm-mine")
    page.press("#key", "Enter")
    playwright.expect(page.locator("#model")).to_have_text("smollm2-135m-instruct")
    assert page.evaluate("sessionStorage.getItem('thermesh-key')") == "tm-mine"
    assert page.evaluate("localStorage.getItem('thermesh-key')") is None
