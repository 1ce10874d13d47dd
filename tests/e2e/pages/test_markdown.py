"""Markdown on the chat page: what becomes what, and what never becomes markup."""

from __future__ import annotations

import random
import re
import shutil

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine"),
]

RENDER = """async (texts) => {
  const { Markdown } = await import("/page/markdown.js");
  return texts.map((text) => {
    const target = document.createElement("div");
    const shown = new Markdown(target, (from, to) => [text.slice(from, to)]);
    shown.update(text);
    target.querySelectorAll("button").forEach((button) => button.remove());
    for (const one of target.querySelectorAll("*"))
      for (const name of ["tabindex", "role", "aria-label", "target", "rel", "class"])
        one.removeAttribute(name);
    return target.innerHTML;
  });
}"""

GROW = """async ([text, steps]) => {
  const { Markdown } = await import("/page/markdown.js");
  const paint = (from, to) => [text.slice(from, to)];
  const [growing, whole] = [document.createElement("div"), document.createElement("div")];
  const shown = new Markdown(growing, paint);
  for (const step of steps) shown.update(text.slice(0, step));
  shown.update(text);
  new Markdown(whole, paint).update(text);
  return growing.innerHTML === whole.innerHTML;
}"""

ALLOWED = {"p", "h3", "h4", "h5", "h6", "hr", "ul", "ol", "li", "blockquote", "div", "span", "pre"}
ALLOWED |= {"code", "table", "thead", "tbody", "tr", "th", "td", "strong", "em", "del", "a"}
PIECES = ["*", "**", "_", "~~", "`", "```", "\n", "\n\n", "- ", "1. ", "> ", "# ", "|", "|-|-|"]
PIECES += ["    ", "[a](", "http://x.y/", ")", "![", "]", "\\", "<b onclick=x>", "</div>", "word "]
PIECES += ["é", " ", "&amp;"]


@pytest.fixture
def render(open_page):
    """Return a function that renders texts to HTML without what only serves the reader."""
    page = open_page()
    return lambda *texts: page.evaluate(RENDER, list(texts))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\ntwo\n\nthree", "<p>one\ntwo</p><p>three</p>"),
        ("# Title\ntext", "<h3>Title</h3><p>text</p>"),
        ("a **b *c* d** e", "<p>a <strong>b <em>c</em> d</strong> e</p>"),
        ("snake_case_name and 2 * 3 * 4", "<p>snake_case_name and 2 * 3 * 4</p>"),
        ("`a*b*` ~~no~~", "<p><code>a*b*</code> <del>no</del></p>"),
        (r"\*not\*", "<p>*not*</p>"),
        ("- a\n- b\n  - c", "<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul>"),
        ("3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
        ("> a\n> b", "<blockquote><p>a\nb</p></blockquote>"),
        ("---", "<hr>"),
        (
            "```python\nx = 1\n\n# no\n```\nafter",
            (
                "<div><div><span>python</span></div><pre><code>x = 1\n\n# no</code></pre></div>"
                "<p>after</p>"
            ),
        ),
        (
            "```\nunfinished",
            "<div><div><span>code</span></div><pre><code>unfinished</code></pre></div>",
        ),
        (
            "|a|b|\n|-|-|\n|1|2|",
            (
                "<div><table><thead><tr><th>a</th><th>b</th></tr></thead>"
                "<tbody><tr><td>1</td><td>2</td></tr></tbody></table></div>"
            ),
        ),
        ("[x](https://a.b/c)", '<p><a href="https://a.b/c">x</a></p>'),
        ("see https://a.b/c.", '<p>see <a href="https://a.b/c">https://a.b/c</a>.</p>'),
    ],
)
def test_what_models_write_is_shown_as_they_meant_it(render, text, expected):
    """Blocks, inline marks, links."""
    assert render(text) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "[x](javascript:alert(1))",
        "[x](data:text/html,hi)",
        "![x](https://a.b/track.png)",
        '<a href="https://a.b" onclick="alert(1)">x</a>',
        "```html\n<img src=x onerror=alert(1)>\n```",
    ],
)
def test_markup_and_scripts_stay_text(render, text):
    """No element but those that Markdown makes; links lead to the web only; no pictures."""
    (html,) = render(text)
    tags = set(re.findall(r"<([a-z0-9]+)", html))
    assert tags <= ALLOWED
    assert "javascript:" not in "".join(re.findall(r'href="([^"]*)"', html))
    assert "data:" not in "".join(re.findall(r'href="([^"]*)"', html))


def test_no_mixture_of_marks_makes_anything_else(render):
    """Random marks: only known elements, no handlers, and every word is still there."""
    dice = random.Random(5)
    texts = ["".join(dice.choices(PIECES, k=dice.randint(1, 40))) for _ in range(400)]
    for text, html in zip(texts, render(*texts), strict=True):
        assert set(re.findall(r"<([a-z0-9]+)", html)) <= ALLOWED, text
        assert not re.search(r"<[^>]*\son\w+=", html), text
        assert html.count("word") >= text.count("word ") - text.count("```"), text


def test_a_growing_answer_ends_as_one_shown_at_once(open_page):
    """Whatever the pieces it came in were."""
    page = open_page()
    dice = random.Random(6)
    for _ in range(60):
        text = "".join(dice.choices(PIECES, k=dice.randint(5, 60)))
        steps = sorted(dice.randint(0, len(text)) for _ in range(8))
        assert page.evaluate(GROW, [text, steps]), text
