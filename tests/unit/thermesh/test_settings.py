"""Settings are read from the environment and refused when bad."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass

import pytest

from thermesh.settings import BadSetting, between, describe, from_env, one_of, setting, state_dir


@dataclass(frozen=True)
class Config:
    port: int = setting("X_PORT", 8080, between(0, 65535), "port to listen on")
    level: str = setting("X_LEVEL", "INFO", one_of("INFO", "DEBUG"), "log level")
    quiet: bool = setting("X_QUIET", False, doc="say less")
    ratio: float | None = setting("X_RATIO", None, doc="share")


def test_defaults_hold_where_the_environment_is_silent():
    """Unset and empty variables leave the defaults."""
    assert from_env(Config, {"X_PORT": ""}) == Config(8080, "INFO", False, None)


def test_values_are_parsed_by_the_type_of_their_field():
    """Numbers, booleans and optional values come out typed."""
    environ = {"X_PORT": "1", "X_LEVEL": "DEBUG", "X_QUIET": "yes", "X_RATIO": "0.5"}

    assert from_env(Config, environ) == Config(1, "DEBUG", True, 0.5)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"X_PORT": "eighty"}, "X_PORT='eighty': expected a value of type int"),
        ({"X_PORT": "70000"}, "X_PORT='70000': expected a number from 0 to 65535"),
        ({"X_LEVEL": "LOUD"}, "X_LEVEL='LOUD': expected one of INFO, DEBUG"),
        ({"X_QUIET": "maybe"}, "X_QUIET='maybe': expected true or false"),
    ],
)
def test_a_bad_value_names_variable_value_and_what_is_allowed(environ, message):
    """A process with a bad setting stops with a message that tells how to mend it."""
    with pytest.raises(BadSetting) as caught:
        from_env(Config, environ)

    assert str(caught.value) == message


def test_describe_lists_every_variable():
    """Documentation and doctor see the same settings as the process."""
    assert describe(Config)[0] == ("X_PORT", "8080", "port to listen on")
    assert len(describe(Config)) == 4


def test_the_state_folder_is_the_users_choice_first():
    """THERMESH_STATE_DIR wins over XDG_STATE_HOME."""
    chosen = state_dir({"THERMESH_STATE_DIR": "/a", "XDG_STATE_HOME": "/b"})

    assert (chosen, state_dir({"XDG_STATE_HOME": "/b"})) == (
        pathlib.Path("/a"),
        pathlib.Path("/b/thermesh"),
    )
