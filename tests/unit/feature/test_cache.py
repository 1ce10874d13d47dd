"""What is kept of an encoding, and what is believed when it comes back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.feature.cache import EncodingCache, MemoryStore, digest
from services.feature.encoding import Encoding, cosine, pack, settle, unpack
from services.feature.tally import Tally

DIMENSIONS = 8


def encoding_of(seed=0):
    vector = np.random.default_rng(seed).normal(size=DIMENSIONS).astype(np.float32)
    return Encoding(vector / np.linalg.norm(vector), 0.25, 0.5, 0.125)


@pytest.fixture
def tally():
    return Tally()


@pytest.fixture
def shared(clock):
    return MemoryStore(100, clock)


def cache_of(shared, clock, tally, encoder="mini", dimensions=DIMENSIONS):
    local = MemoryStore(100, clock)
    return EncodingCache(
        local=local,
        shared=shared,
        tally=tally,
        encoder=encoder,
        dimensions=dimensions,
        ttl_seconds=60,
    )


async def test_a_replica_finds_what_another_read(shared, clock, tally):
    """The second replica has it from the shared store, then from its own memory."""
    first, second = cache_of(shared, clock, tally), cache_of(shared, clock, tally)
    await first.put("acme", "a text", encoding_of())
    for _ in range(2):
        found = await second.get("acme", "a text")
        np.testing.assert_allclose(found.embedding, encoding_of().embedding, atol=1e-3)
    assert tally.lookups == {"shared": 1, "local": 1}


async def test_tenants_do_not_see_each_others_texts(shared, clock, tally):
    """Whether a text was read before is told only to the tenant who sent it."""
    cache = cache_of(shared, clock, tally)
    await cache.put("acme", "a text", encoding_of())
    assert await cache.get("other", "a text") is None
    assert tally.lookups == {"miss": 1}


async def test_another_encoder_does_not_share(shared, clock, tally):
    """Embeddings of two encoders have nothing in common."""
    await cache_of(shared, clock, tally, "mini").put("acme", "a text", encoding_of())
    assert await cache_of(shared, clock, tally, "maxi").get("acme", "a text") is None


async def test_an_encoding_ends_with_its_time_to_live(shared, clock, tally):
    """After the time to live it is read anew."""
    cache = cache_of(shared, clock, tally)
    await cache.put("acme", "a text", encoding_of())
    clock.advance(61)
    assert await cache.get("acme", "a text") is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda value: b"",
        lambda value: value[:-1],
        lambda value: value + b"x",
        lambda value: b"x" * len(value),
        lambda value: value[16:],
        lambda value: digest("acme", "other text") + value[16:],
        lambda value: value[:-4] + b"\xff\xff\xff\xff",
    ],
)
async def test_a_value_that_is_not_ours_is_a_miss(shared, clock, tally, spoil):
    """Cut, strange, foreign or not finite: it is not believed."""
    await cache_of(shared, clock, tally).put("acme", "a text", encoding_of())
    ((key, (_, value)),) = shared._values.items()
    await shared.put(key, spoil(value), 60)
    assert await cache_of(shared, clock, tally).get("acme", "a text") is None


def test_fresh_and_cached_are_the_same_bits():
    """What is settled once stays as it is through any number of caches."""
    settled = settle(encoding_of())
    again = unpack(pack(settled), DIMENSIONS)
    np.testing.assert_array_equal(settled.embedding, again.embedding)
    assert settled.semantic_complexity == again.semantic_complexity


def test_the_cosine_without_length_is_zero():
    """No direction, no similarity, no division by zero."""
    assert cosine(np.zeros(3, np.float32), np.ones(3, np.float32)) == 0.0
    assert cosine(np.ones(3, np.float32), -np.ones(3, np.float32)) == -1.0


@given(st.lists(st.text(), max_size=3), st.lists(st.text(), max_size=3))
def test_digests_tell_sequences_apart(left, right):
    """("a", "bc") and ("ab", "c") are different contents."""
    assert (digest(*left) == digest(*right)) == (left == right)


@given(st.binary(max_size=64))
def test_no_bytes_make_unpack_fail(value):
    """Whatever a shared store holds, it is an encoding or nothing."""
    found = unpack(value, DIMENSIONS)
    assert found is None or found.embedding.size == DIMENSIONS
