"""Lexical cues of the tasks: patterns in English that are evidence for one task.

Weights are log odds. They speak alone while the encoder is late, so a cue is
worth having where it is rarely wrong; a text without cues is left undecided.
Gaps are bounded, so that no pattern takes quadratic time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from services.feature.lexical import is_question
from thermesh.features import TASKS

HEAD_CHARACTERS, TAIL_CHARACTERS = 700, 300
"""Instructions stand at the start of a request or at its end; a text pasted
between must not vote, and cues cost the same for any length."""

QUESTION_WEIGHT = 0.6
"""Log odds that being a question gives to question answering."""


@dataclass(frozen=True)
class Cue:
    """Evidence that a pattern gives a task, in log odds."""

    task: str
    weight: float
    pattern: re.Pattern[str]


def log_odds(text: str) -> list[float]:
    """Return the sum of the cues' evidence for each of TASKS."""
    instructions = _instructions(text)
    odds = dict.fromkeys(TASKS, 0.0)
    for cue in CUES:
        if cue.pattern.search(instructions):
            odds[cue.task] += cue.weight
    odds["question_answering"] += QUESTION_WEIGHT * is_question(instructions)
    return list(odds.values())


def _instructions(text: str) -> str:
    if len(text) > HEAD_CHARACTERS + TAIL_CHARACTERS:
        text = f"{text[:HEAD_CHARACTERS]}\n{text[-TAIL_CHARACTERS:]}"
    return text.replace("\u2019", "'")


def _cue(task: str, weight: float, *patterns: str) -> Cue:
    return Cue(task, weight, re.compile("|".join(patterns), re.IGNORECASE))


def _words(*alternatives: str) -> str:
    return rf"\b(?:{'|'.join(alternatives)})\b"


def _opening(*alternatives: str) -> str:
    return rf"^\W*{_words(*alternatives)}"


_LANGUAGES = _words(
    *("arabic", "bengali", "chinese", "czech", "danish", "dutch", "english", "finnish", "french"),
    *("german", "greek", "hebrew", "hindi", "hungarian", "indonesian", "italian", "japanese"),
    *("korean", "latin", "mandarin", "norwegian", "persian", "polish", "portuguese", "romanian"),
    *("russian", "spanish", "swahili", "swedish", "tamil", "thai", "turkish", "ukrainian"),
    *("urdu", "vietnamese"),
)
_PROGRAMMING = _words(
    *("python", "javascript", "typescript", "java", "golang", "rust", "kotlin", "swift", "ruby"),
    *("php", "perl", "haskell", "sql", "html", "css", "bash", "regex", "json", "yaml", "api"),
    *("django", "react", "numpy", "pandas", "docker", "dockerfile", "git", "linux"),
)
_PROGRAM_PARTS = _words(
    *("function", "class", "method", "loop", "array", "recursion", "algorithm", "compile[rs]?"),
    *("debug", "refactor", "exception", "stack trace", "unit tests?", "script", "query", "async"),
    *("code", "program", "bug"),
)
_WRITINGS = _words(
    *("story", "poem", "haiku", "sonnet", "limerick", "essay", "e-?mail", "letter", "song"),
    *("lyrics", "speech", "blog", "article", "slogan", "tagline", "script", "dialogue", "scene"),
    *("paragraph", "description", "joke", "tale", "novel", "review", "toast", "caption"),
    *("headline", "names?", "post", "ad", "advertisement", "invitation"),
)
_MAKE = ("write", "compose", "draft", "create", "generate", "invent")
_OPERATOR = r"(?:[-+*/\u00d7\u00f7^=]|times|plus|minus|divided by|multiplied by|mod)"
_QUANTITY = r"\b\d[\d.,]{0,12}\s?(?:%|percent|km|miles?|kg|hours?|minutes?|dollars?|euros?)"
_QUOTED = r"[\"'\u201c\u2018]\w[\w ]{0,30}[\"'\u201d\u2019]"
_POLITE = r"(?:please\s+|can you\s+|could you\s+)?"

CUES: tuple[Cue, ...] = (
    _cue(
        *("translation", 4.0),
        r"\btranslat(?:e|ion|ing)\b",
        r"\b\u00fcbersetze",  # German
        r"\btradu(?:ce|is|ire|z)",  # Spanish, French, Italian, Portuguese
    ),
    _cue("translation", 3.0, rf"\b(?:in|into|to|from)\s+(?:\w+\s+)?{_LANGUAGES}"),
    _cue(
        *("translation", 2.5),
        _LANGUAGES + r"\s+(?:word|version|phrase|equivalent|translation)\b",
    ),
    _cue("translation", 1.0, r"\bhow (?:do|would|can) (?:you|i|we) say\b"),
    # the same text once more, word for word or but for words that are named
    _cue(
        *("translation", 2.5),
        _words("repeat", "copy", "reproduce", "retype", "echo", "recite")
        + r"[^.?!\n]{0,60}(?::|\b(?:this|these|following|below|above|back|after me)\b)",
    ),
    _cue(
        *("translation", 2.5),
        _words("verbatim", "unchanged", "(?:word|letter) (?:for|by) (?:word|letter)"),
        r"\bwithout (?:any |other )?chang(?:es?|ing)\b",
    ),
    _cue(
        *("translation", 2.5),
        _words("instead of", "in place of", "replace", "substitute", "swap", "becomes?")
        + rf"[^.?!\n]{{0,30}}{_QUOTED}",
    ),
    _cue("arithmetic", 3.5, rf"\d\s*{_OPERATOR}\s*\(?-?\d"),
    _cue(
        *("arithmetic", 2.0),
        _words("calculate", "compute", "solve", "add", "subtract", "multiply", "divide", "simplify")
        + r".{0,80}\d",
    ),
    _cue(
        *("arithmetic", 2.5),
        _words("square root", "cube root", "percent(?:age)? of", "derivative", "integral"),
        _words(r"\d\s*% of", "sum of", "product of", "average speed"),
    ),
    _cue("arithmetic", 2.0, _QUANTITY + r"\b.{0,120}\d"),
    _cue(
        *("arithmetic", 1.5),
        r"\b\d+\b.{0,120}\bhow (?:many|much|far|long|fast|old)\b",
        r"\b\d+\b[^?]{0,120}\bwhat (?:is|do|does|will)\b",
    ),
    _cue(
        *("code", 3.0),
        r"```|=>|\w\(\)|\w\[\w+\]|[;{]\s*$",
        r"\w\([^()]{0,80}\)\s*[;{:]",
        r"^\s*(?:def|class|import|from \w+ import|#include|public static|SELECT)\b",
    ),
    _cue("code", 2.5, _PROGRAMMING, r"\bc(?:\+\+|#)"),
    _cue("code", 1.2, _PROGRAM_PARTS),
    _cue("code", 1.0, r"\bimplement\b"),
    _cue(
        *("classification", 3.5),
        _words("classif(?:y|ication)", "categori[sz]e", "(?:label|tag) (?:the|this|each|these)"),
    ),
    _cue(
        *("classification", 3.0),
        _words("sentiment", "positive(?:,| or| and) (?:negative|neutral)"),
        _words("spam", "toxic", "sarcastic"),
    ),
    _cue(
        *("classification", 2.0),
        r"\b(?:determine|decide|identify|tell me)\s+(?:whether|if|which)\b",
    ),
    _cue(
        *("classification", 1.5),
        r"\b(?:which|what) (?:category|class|label|genre|type|topic)\b",
        r"\b(?:categories|labels|options|choices)\s*:",
    ),
    _cue("classification", 1.0, r"\b(?:is|are) (?:this|the following|these)\b.{0,120}\bor\b"),
    _cue(
        *("generation", 2.5),
        _words(*_MAKE, "make up", "come up with", "give me", "tell me", "need")
        + rf"[^.?!]{{0,40}}{_WRITINGS}",
    ),
    _cue(
        *("generation", 1.2),
        rf"^\W*{_POLITE}" + _words(*_MAKE, "imagine", "describe", "brainstorm", "continue"),
    ),
    _cue("question_answering", 1.8, _opening("who", "when", "where", "which")),
    _cue("question_answering", 1.2, _opening("what", "why", "how")),
    _cue(
        *("question_answering", 1.5),
        r"\baccording to\b",
        r"\bthe (?:name|capital|author|meaning|definition) of\b",
    ),
    _cue(
        *("chat", 3.0),
        _opening("hi", "hey", "hello", "thanks", "thank you", "bye", "goodbye", "sup", "yo"),
        _opening("good (?:morning|evening|night|afternoon)", "lol", "haha", "ok(?:ay)?", "cool"),
        _opening("wow", "nice", "yes", "no", "sure", "sorry"),
    ),
    _cue(
        *("chat", 1.5),
        _words("how are you", "are you", "you like", "nice to meet", "talk to you", "just talk"),
        _words("do you (?:ever|like|feel|have|think|want)", "your (?:name|favou?rite|day)"),
        r"\bmy name is\b",
    ),
    _cue("chat", 1.3, r"^\W*(?:i|i'm|im|i've|my)\s+(?!need|want|would)"),
)
