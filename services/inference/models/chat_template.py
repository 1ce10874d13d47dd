"""Chat templates: a conversation -> the text that the model continues.

Templates are programs written by the model's authors, in Jinja, for the
environment that transformers gives them
(https://huggingface.co/docs/transformers/chat_templating): the immutable
sandbox, trimmed blocks, loop controls, `raise_exception`, `strftime_now` and a
`tojson` that does not escape HTML. This is that environment, so that the same
template renders the same text. A template is not trusted: the sandbox keeps it
from everything but its variables.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import jinja2.ext
import jinja2.sandbox

from thermesh.errors import FailedPrecondition, InvalidArgument

_FIELD = "chat.messages"


class _Refusal(jinja2.TemplateError):
    """The template called `raise_exception`: its author's words for the user."""


class ChatTemplate:
    """One compiled template with the names of the special tokens it may use."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        self._special_tokens = dict(special_tokens)
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise InvalidArgument(
                "the model's chat template does not compile",
                field="model",
                reason="MALFORMED_MODEL",
            ) from error

    def render(self, messages: Sequence[tuple[str, str]]) -> str:
        """Return the text of (role, content) `messages`, the assistant's turn opened.

        Raises InvalidArgument where the template refuses the conversation (its
        own words tell why, e.g. that roles must alternate) and
        FailedPrecondition where the template itself fails.
        """
        try:
            return self._template.render(
                messages=[{"role": role, "content": content} for role, content in messages],
                tools=None,
                documents=None,
                add_generation_prompt=True,
                **self._special_tokens,
            )
        except _Refusal as error:
            raise InvalidArgument(
                f"the model's chat template refuses the conversation: {error.message}", field=_FIELD
            ) from error
        except Exception as error:  # whatever a program that is not ours may raise
            raise FailedPrecondition(
                "the model's chat template fails on this conversation", field=_FIELD
            ) from error


def _environment() -> jinja2.Environment:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks the assistant's words for training; here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012  # as jinja2 declares it

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> None:
    raise _Refusal(str(message))


def _strftime_now(format_: str) -> str:
    # The wall clock of the server without a zone, as transformers has it.
    return dt.datetime.now().strftime(format_)  # noqa: DTZ005


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
