"""The chat page in a real browser, against a server that plays the gateway."""

from __future__ import annotations

import http.server
import json
import math
import os
import pathlib
import shutil
import threading

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PAGE = pathlib.Path(__file__).resolve().parents[2] / "services" / "gateway" / "page"
POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; base-uri 'none';"
    " form-action 'none'; script-src 'self'; style-src 'self'"
)
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
HOSTILE = "<img src=x onerror=alert(1)>"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine"),
]


class Gateway(http.server.ThreadingHTTPServer):
    """Plays the gateway: answers from `temperatures`, remembers what it was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Door)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked = []
        self.feedback = []
        self.polls = 0
        self.temperatures = [0.1, 0.5, 1.0, 1.5, 2.0]
        self.plan = {"task": "question_answering", "source": "policy", "temperature": 0.31}
        self.refusal = None
        self.hold = threading.Event()
        self.hold.set()
        self.left = threading.Event()


class Door(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Stay quiet."""

    def do_GET(self):
        if self.path == "/v1/models":
            self._json(200, {"object": "list", "data": [{"id": "smollm2-135m-instruct"}]})
        elif self.path.startswith("/v1/feedback/"):
            self.server.polls += 1
            applied = self.server.polls > 1
            state = {"state": "applied", "applied_version": 8} if applied else {"state": "pending"}
            self._json(200, state)
        else:
            self._file("index.html" if self.path == "/" else self.path.removeprefix("/page/"))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v1/feedback":
            self.server.feedback.append(body)
            self._json(202, {"id": body["id"], "state": "pending", "applied_version": None})
        elif self.server.refusal:
            status, message, param = self.server.refusal
            error = {"message": message, "type": "x", "param": param, "code": "x"}
            self._json(status, {"error": error}, {"Retry-After": "3"})
        else:
            self.server.asked.append(body)
            self._stream(body)

    def _stream(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            self.wfile.write(b": ping\n\n")
            for chunk in self._chunks(body):
                # Split inside an event, as networks do.
                data = f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode()
                self.wfile.write(data[:17])
                self.wfile.flush()
                self.wfile.write(data[17:])
                self.wfile.flush()
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            self.server.left.set()

    def _chunks(self, body):
        server = self.server
        pinned = body.get("temperature")
        plan = {
            "decision_id": "dec-" + "0" * 32,
            "policy_version": 7,
            "program": {"kind": "fixed", "temperature": 0.31},
            "guard": {"top_n_sigma": 1.0},
            "token_budget": 128,
            "explored": pinned is None,
            "log_density": 0.4,
            "seed": 42,
            "policy_temperature": 0.31,
            **server.plan,
        }
        if pinned is not None:
            plan |= {"source": "pinned", "temperature": pinned}
        yield {"choices": [_choice("")], "thermesh": {"decision_id": "x", "plan": plan}}
        for index, temperature in enumerate(server.temperatures):
            text = f" tök{index}" if index else HOSTILE
            token = {
                "index": index,
                "text": text,
                "temperature": temperature,
                "entropy": 0.82,
                "logprob": math.log(0.25),
                "revision": 0,
            }
            yield {"choices": [_choice(text)], "thermesh": {"tokens": [token]}}
            if index == 1:
                while not server.hold.wait(0.01):
                    yield {"choices": []}
        ended = {"finish_reason": "stop", "mean_temperature": 1.02}
        yield {"choices": [_choice("", "stop")], "thermesh": ended}
        yield {"choices": [], "usage": {"completion_tokens": len(server.temperatures)}}

    def _file(self, name):
        path = PAGE / name
        if not path.is_file():
            self._json(404, {"error": {"message": f"there is no {self.path}"}})
            return
        self._send(200, TYPES[path.suffix], path.read_bytes(), {"Content-Security-Policy": POLICY})

    def _json(self, status, value, headers=None):
        self._send(status, "application/json", json.dumps(value).encode(), headers or {})

    def _send(self, status, kind, content, headers):
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": len(content),
            **headers,
        }.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)


def _choice(text, finish=None):
    delta = {"content": text} if finish is None else {}
    return {"index": 0, "delta": delta, "finish_reason": finish}


@pytest.fixture
def gateway():
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
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield running
        running.close()


@pytest.fixture
def open_page(browser, gateway):
    """Return a function that opens the page; at the end nothing may have been complained of."""
    opened, complaints = [], []

    def opening(**options):
        context = browser.new_context(**{"viewport": {"width": 1100, "height": 800}, **options})
        context.set_default_timeout(15_000)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else 0)
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(gateway.url)
        opened.append(context)
        return page

    yield opening
    for context in opened:
        context.close()
    expected = "the server responded with a status of" if gateway.refusal else "nothing"
    assert [line for line in complaints if expected not in line] == []


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


def keep(page, name):
    """Keep a picture where the person who runs the tests wants to look at one."""
    if folder := os.environ.get("THERMESH_SCREENSHOTS"):
        page.screenshot(path=pathlib.Path(folder) / f"{name}.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_tokens_are_coloured_from_blue_over_amber_to_red(open_page, scheme):
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


def test_a_token_tells_its_numbers_on_hover_and_by_keyboard(open_page):
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


def test_feedback_is_sent_once_and_followed_until_it_counts(open_page, gateway):
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


def test_an_error_is_told_clearly_and_can_be_tried_again(open_page, gateway):
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


def test_a_phone_shows_everything_without_scrolling_sideways(open_page):
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
