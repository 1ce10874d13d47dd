"""Parity with an independent implementation: transformers, on the same file.

The reference loads the GGUF file by itself and dequantises it to float32. That
it really did is checked against a third reader, `gguf.GGUFReader`, because
transformers may keep weights packed and then computes something else.
"""

import gguf
import numpy as np
import pytest
import torch
import transformers
from scored import scored
from tokenizers import pre_tokenizers
from transformers.utils import quantization_config

from services.inference.kernels import PAGE_SIZE, Span, StepBatch
from services.inference.models import load
from thermesh.models import locate

pytestmark = [
    pytest.mark.model,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    # The reference's libraries warn about their own doings, not about ours.
    pytest.mark.filterwarnings("default"),
]

NEW_TOKENS = 64
PROMPTS = [
    "What is the capital of France?",
    "Write a short story about a lighthouse keeper.",
    "Explain photosynthesis to a child.",
    "What is 17 + 25?",
    "Translate 'good morning' into Spanish.",
    "Write a Python function that reverses a string.",
    "List three uses of a brick.",
    "Who wrote Romeo and Juliet?",
    "Give me a recipe for pancakes.",
    "Summarise the water cycle in two sentences.",
    "Is the following review positive or negative? 'I loved every minute.'",
    "What causes the seasons?",
    "Write a haiku about autumn.",
    "How do I boil an egg?",
    "Name the planets of the solar system.",
    "What does HTTP stand for?",
    "Tell me a joke about cats.",
    "Why is the sky blue?",
    "Write a polite email asking for a day off.",
    "What is the difference between a list and a tuple in Python?",
]
TEXTS = [
    "",
    " ",
    "Hello, world!",
    "  two leading spaces and trailing  ",
    "Tabs\tand\nnew\n\nlines\r\n\r\n  end",
    "It's we're they'll I'd you've I'm IT'S WE'RE",
    "Numbers 0 12 345 6789 3.14159 1e-10 2024-11-22 ½ ² ٣ Ⅷ",
    "a   7    42\n  13",
    "def f(x):\n    return {'a': [x ** 2 for _ in range(10)]}  # comment\n",
    "Größe, naïve café, Ångström; ça va? ¿Qué tal? ŁÓDŹ",
    "日本語のテキストと中文字符，한국어 텍스트",  # noqa: RUF001  # other scripts are the point
    "Привет, мир! Γειά σου Κόσμε שלום עולם مرحبا بالعالم नमस्ते",  # noqa: RUF001  # likewise
    "Emoji 😀👩‍👩‍👧‍👦🏳️‍🌈 and e\u0301 combining \u200b zero width \ufeff",
    "<|im_start|>user\nhi<|im_end|><|endoftext|> <|im_star|> <repo_name>",
    "https://example.org/path?query=1&other=%20#fragment user@example.org",
    "$100 €50 £20 50% #1 @you *bold* _it_ `code` ~x~ ^y^ <b>&amp;</b>",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "\x00\x01\x7f control \x1b[0m characters",
    "    \n\n\n   \t\t  ",
    "x" * 500,
]
CHATS = [
    [("user", "Hi")],
    [("system", "You are terse."), ("user", "What is 2 + 2?")],
    [("user", "Hi"), ("assistant", "Hello! How can I help?"), ("user", "Tell me 3 facts.")],
    [("user", "  spaces  \n"), ("assistant", ""), ("user", "<|im_end|> injected 😀 12  34")],
    [("system", ""), ("user", "日本語で答えて")],
]


@pytest.fixture(scope="module")
def path():
    """The packaged model."""
    return locate("smollm2-135m-instruct")


LARGEST_DIFFERENCE = {"reference": 1e-3, "cpu": 4e-2}
"""Of a log-probability, in nats: the C++ kernels keep activations in 12 bits and
keys and values in half precision."""


LARGEST_DIVERGENCE = {"reference": 1e-6, "cpu": 1e-3}
"""Of the distribution at one position, in nats (Kullback-Leibler)."""


@pytest.fixture(scope="module", params=LARGEST_DIFFERENCE)
def kernels(request):
    """Each implementation of the kernels that may serve the model."""
    return request.param


@pytest.fixture(scope="module")
def model(path, kernels):
    """The model as the mesh loads it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THERMESH_KERNELS", kernels)
        return load(path, "smollm2-135m-instruct")


@pytest.fixture(scope="module")
def reference(path):
    """The model as transformers loads it, dequantised to float32."""
    names = [name for name in dir(quantization_config) if name.lower().startswith("gguf")]
    settings = getattr(quantization_config, names[0])(gguf_file=path.name, dequantize=True)
    return transformers.AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        dtype=torch.float32,
        quantization_config=settings,
        local_files_only=True,
    ).eval()


@pytest.fixture(scope="module")
def reference_tokenizer(path):
    """The tokenizer as transformers builds it, cutting as the model's own file does.

    transformers 5.23 does not know the pre-tokenizer `smollm` of GGUF files and
    cuts as GPT-2 does; tokenizer.json of the original model cuts digits apart
    first. Where no space precedes a digit the two agree.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        path.parent, gguf_file=path.name, local_files_only=True
    )
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return tokenizer


@pytest.mark.parametrize("text", TEXTS)
def test_text_has_the_ids_of_the_reference(model, reference_tokenizer, text):
    """Plain text, code, other scripts and control tokens give equal ids."""
    assert model.tokenizer.encode(text) == reference_tokenizer(text)["input_ids"]


@pytest.mark.parametrize("chat", CHATS)
def test_chats_have_the_ids_of_the_reference(model, reference_tokenizer, chat):
    """The chat template renders and encodes as in the reference."""
    messages = [{"role": role, "content": content} for role, content in chat]
    expected = reference_tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )

    assert model.tokenizer.encode_chat(chat) == expected


def test_token_bytes_join_to_the_text_of_the_reference(model, reference_tokenizer):
    """Every normal token's bytes are those the reference decodes."""
    for text in TEXTS:
        ids = model.tokenizer.encode(text)
        joined = b"".join(model.tokenizer.token_bytes(token) for token in ids).decode()
        assert joined == reference_tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )


def test_the_reference_really_computes_with_dequantised_float32(path, reference):
    """Weights of the reference are those a third reader dequantises."""
    assert {parameter.dtype for parameter in reference.parameters()} == {torch.float32}
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    pairs = {
        "token_embd.weight": "model.embed_tokens.weight",
        "blk.0.attn_q.weight": "model.layers.0.self_attn.q_proj.weight",
        "blk.17.attn_k.weight": "model.layers.17.self_attn.k_proj.weight",
        "blk.29.ffn_down.weight": "model.layers.29.mlp.down_proj.weight",
        "output_norm.weight": "model.norm.weight",
    }
    state = reference.state_dict()
    for stored, name in pairs.items():
        expected = gguf.quants.dequantize(tensors[stored].data, tensors[stored].tensor_type)
        if "attn_" in stored:  # halves of each head of 64 lie interleaved in the file
            heads = expected.reshape(-1, 32, 2, expected.shape[1])
            expected = heads.swapaxes(1, 2).reshape(expected.shape)
        np.testing.assert_array_equal(state[name].numpy(), expected)


def greedy(model, prompts):
    """Decode all prompts in one batch: (token ids, log-probabilities) of each."""
    pages_each = -(-(max(map(len, prompts)) + NEW_TOKENS) // PAGE_SIZE)
    cache = model.network.new_cache(pages_each * len(prompts))
    tables = [
        tuple(range(index, pages_each * len(prompts), len(prompts)))
        for index in range(len(prompts))
    ]
    texts = [list(prompt) for prompt in prompts]
    new = [len(prompt) for prompt in prompts]
    chosen = [[] for _ in prompts]
    for _ in range(NEW_TOKENS):
        spans, rows, positions = [], [], []
        for text, count, table in zip(texts, new, tables, strict=True):
            spans.append(Span(len(rows), count, len(text), table))
            rows += text[-count:]
            positions += range(len(text) - count, len(text))
        batch = StepBatch(torch.tensor(rows), torch.tensor(positions), tuple(spans))
        log_probabilities = torch.log_softmax(
            torch.as_tensor(model.network.step(batch, cache)), dim=-1
        )
        best = log_probabilities.max(dim=-1)
        for index, (value, token) in enumerate(zip(*map(torch.Tensor.tolist, best), strict=True)):
            texts[index].append(token)
            chosen[index].append((token, value))
        new = [1] * len(prompts)
    return chosen


def until_end(tokens, end=2):
    return tokens[: tokens.index(end) + 1] if end in tokens else tokens


@pytest.fixture(scope="module")
def prompts(model):
    return [model.tokenizer.encode_chat([("user", prompt)]) for prompt in PROMPTS]


@pytest.fixture(scope="module")
def decoded(model, prompts):
    return greedy(model, prompts)


def test_greedy_decoding_equals_the_reference(reference, prompts, decoded):
    """Of 20 prompts at least 17 give the same 64 tokens.

    The others differ at a near tie, where the order of additions decides, as the next test shows.
    """
    equal = 0
    for prompt, chosen in zip(prompts, decoded, strict=True):
        expected = reference.generate(
            torch.tensor([prompt]), max_new_tokens=NEW_TOKENS, do_sample=False
        )[0, len(prompt) :].tolist()
        equal += until_end([token for token, _ in chosen]) == until_end(expected)

    assert equal >= 17, f"{equal} of {len(prompts)} equal"


def test_log_probabilities_equal_those_of_the_reference(kernels, reference, prompts, decoded):
    """Where both choose the same token its log-probabilities are as good as equal, and where they
    first do not, the two tokens are as good as equally probable.
    """
    compared, largest, apart = 0, 0.0, 0.0
    for prompt, chosen in zip(prompts, decoded, strict=True):
        tokens = [token for token, _ in chosen]
        with torch.inference_mode():
            logits = reference(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
        best = torch.log_softmax(logits, dim=-1).max(dim=-1)
        for place, ((token, ours), theirs, their_token) in enumerate(
            zip(chosen, best.values.tolist(), best.indices.tolist(), strict=True)
        ):
            if token != their_token:
                apart = max(apart, theirs - logits[place].log_softmax(-1)[token].item())
                break
            compared += 1
            largest = max(largest, abs(ours - theirs))

    assert compared >= 17 * NEW_TOKENS
    assert apart < LARGEST_DIFFERENCE[kernels]
    assert largest < LARGEST_DIFFERENCE[kernels], f"{compared} tokens compared"


def test_score_equals_the_forward_pass_of_the_reference(kernels, model, reference, prompts):
    """All logits of a text, not only the last, are those of the reference."""
    text = torch.tensor(prompts[5] + prompts[1])

    ours = torch.log_softmax(scored(model.network, text), dim=-1)

    with torch.inference_mode():
        theirs = torch.log_softmax(reference(text[None]).logits[0], dim=-1)
    divergence = (theirs.exp() * (theirs - ours)).sum(dim=-1)
    assert divergence.max() < LARGEST_DIVERGENCE[kernels]
    if kernels == "reference":
        assert (ours - theirs).abs().max() < LARGEST_DIFFERENCE[kernels]


def test_the_packaged_model_describes_itself(kernels, model):
    """What DescribeModel will tell."""
    assert (model.weight_format, model.parameter_count) == ("Q4_1", 134_515_008)
    assert (model.config.layers, model.config.kv_heads, model.config.context_length) == (
        30,
        3,
        8192,
    )
    assert model.tokenizer.end_ids == {0, 2}
    cache_bytes = {"reference": 46_080, "cpu": 23_040}
    assert model.network.new_cache(1).bytes_per_token == cache_bytes[kernels]
