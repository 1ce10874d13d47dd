"""Keys of pages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.inference.sequences.page_keys import PageKeys

IDS = st.lists(st.integers(0, 3), min_size=8, max_size=24)


def keys(token_ids: list[int], tenant: str = "t") -> list[bytes]:
    return PageKeys(tenant, 4).first(len(token_ids) // 4, token_ids)


@given(one=IDS, other=IDS)
def test_equal_keys_are_equal_beginnings(one: list[int], other: list[int]) -> None:
    """Two sequences have as many keys in common as full pages from the beginning on."""
    pages = min(len(one), len(other)) // 4
    common = [index for index in range(pages) if one[: 4 * index + 4] == other[: 4 * index + 4]]
    pairs = zip(keys(one), keys(other), strict=False)
    assert [index for index, (left, right) in enumerate(pairs) if left == right] == common


@given(IDS, st.data())
def test_keys_do_not_depend_on_when_they_are_asked_for(ids: list[int], data: st.DataObject) -> None:
    """A sequence that grows has the keys of one that came whole."""
    growing = PageKeys("t", 4)
    for length in sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=4))):
        growing.first(length // 4, ids[:length])
    assert growing.first(len(ids) // 4, ids) == keys(ids)


def test_tenants_have_keys_of_their_own() -> None:
    """No key of one tenant is another's, whatever the tokens."""
    assert not set(keys([1] * 24)) & set(keys([1] * 24, tenant="u"))
