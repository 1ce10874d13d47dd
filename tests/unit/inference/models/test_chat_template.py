"""Chat templates: the environment of transformers, and its walls."""

import pytest

from services.inference.models.chat_template import ChatTemplate
from thermesh.errors import FailedPrecondition, InvalidArgument

CHAT = [("system", "Be <brief> & kind."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Bye")]

RENDERED = {
    "{{ messages | length }}{{ add_generation_prompt }}": "4True",
    "{{ bos_token }}|{{ eos_token }}|{{ pad_token }}": "<s>||",
    "{{ messages[0] | tojson }}": '{"role": "system", "content": "Be <brief> & kind."}',
    "{{ {'b': 1, 'a': 'é'} | tojson(indent=1, sort_keys=true) }}": '{\n "a": "é",\n "b": 1\n}',
    "{% for m in messages %}\n  {% if m.role == 'assistant' %}{% break %}{% endif %}\n"
    "{{ m.content }},{% endfor %}": "Be <brief> & kind.,Hi,",
    "{% generation %}{{ messages[1].content }}{% endgeneration %}!": "Hi!",
    "{% if tools %}tools{% endif %}{% if documents %}documents{% endif %}-": "-",
    "{% set ns = namespace(found=0) %}{% for m in messages %}{% set ns.found = ns.found + 1 %}"
    "{% endfor %}{{ ns.found }}": "4",
    "{{ strftime_now('%Y') | length }}": "4",
}


@pytest.mark.parametrize(("source", "expected"), RENDERED.items())
def test_templates_find_what_transformers_gives_them(source, expected):
    """Variables, filters, trimming and loop controls are those of the reference."""
    assert ChatTemplate(source, {"bos_token": "<s>"}).render(CHAT) == expected


def test_a_refusal_reaches_the_user_in_the_templates_words():
    """`raise_exception` becomes an error of the messages field."""
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}", {})

    with pytest.raises(InvalidArgument, match="roles must alternate") as raised:
        template.render(CHAT)

    assert raised.value.field == "chat.messages"


HOSTILE = [
    "{{ messages.__class__.__mro__ }}",
    "{{ messages.append(1) }}",
    "{% for i in range(10000000) %}{% endfor %}",
    "{{ 1 // 0 }}",
    "{{ missing.attribute }}",
    "{{ 'x' | unknown_at_run_time if false else undefined_function() }}",
]


@pytest.mark.parametrize("source", HOSTILE)
def test_templates_that_fail_or_reach_out_leak_nothing(source):
    """The sandbox holds, and the error shows no text of the exception."""
    with pytest.raises((FailedPrecondition, InvalidArgument)) as raised:
        ChatTemplate(source, {}).render(CHAT)

    assert raised.value.message in (
        "the model's chat template fails on this conversation",
        "the model's chat template does not compile",
    )
