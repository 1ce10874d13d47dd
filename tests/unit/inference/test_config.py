"""Settings of the inference service."""

from __future__ import annotations

import pytest

from services.inference.config import Config
from services.inference.cores import physical_cores
from thermesh.settings import BadSetting, from_env


def test_defaults_serve_the_packaged_model() -> None:
    """Nothing need be set."""
    config = from_env(Config, {})
    assert (config.port, config.model) == (50053, "smollm2-135m-instruct")
    assert (config.max_running, config.max_waiting, config.kv_pages) == (32, 64, 0)


def test_a_bad_value_stops_the_start() -> None:
    """The message names the variable and what is allowed."""
    with pytest.raises(BadSetting, match=r"THERMESH_KV_PAGES.*from 0"):
        from_env(Config, {"THERMESH_KV_PAGES": "-1"})


def test_at_least_one_core_is_used() -> None:
    """Whatever the system tells about its cores."""
    assert physical_cores() >= 1
