"""The compose file and the Dockerfile give each room what it needs and no more."""

from __future__ import annotations

import re

import compose_spec
import pytest
import yaml

ROOMS = ("feature", "controller", "inference", "gateway")
GATEWAYS = {"gateway", "gateway-voice"}
EXTRAS = {"gateway-voice": "gateway,voice", "bridge": "bridge"}
"""Targets for who wants them, and the extras of each."""


def interpolated(text: str) -> str:
    """The compose file as it reads where none of its variables is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


@pytest.fixture(scope="module")
def services(texts) -> dict[str, dict]:
    """The services of the compose file with anchors and defaults resolved."""
    return yaml.safe_load(interpolated(texts["docker-compose.yml"]))["services"]


@pytest.fixture(scope="module")
def stages(texts) -> dict[str, str]:
    """Text of each named stage of the Dockerfile."""
    parts = re.split(r"^FROM \S+ AS (\S+)\n", texts["deploy/Dockerfile"], flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_compose_file_is_valid_against_the_specification(texts):
    """An independent implementation of the compose specification accepts the file."""
    options = compose_spec.PyOptions(apply_merge=True)
    options.from_yaml(interpolated(texts["docker-compose.yml"])).validate()


def test_every_service_is_confined(services):
    """Each runs read-only, without capabilities, with bounded memory and processes."""
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"mem_limit", "pids_limit", "stop_grace_period"} <= set(service), name


def test_every_lasting_service_has_a_health_check(services):
    """Each service that runs on can be asked whether it is well."""
    lasting = {name for name, service in services.items() if service["restart"] != "no"}
    assert {name for name in lasting if "healthcheck" not in services[name]} == set()


def test_only_gateways_are_published_and_only_on_this_machine(services):
    """The rooms behind a gateway have no keys, so nothing but a gateway has a port."""
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(published) == GATEWAYS
    ports = [port for listed in published.values() for port in listed]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len({port.split(":")[1] for port in ports}) == len(ports)


def test_nothing_waits_for_health(services):
    """No start order depends on health checks, which some engines never run."""
    conditions = {
        condition["condition"]
        for service in services.values()
        for condition in service.get("depends_on", {}).values()
    }
    assert "service_healthy" not in conditions


@pytest.mark.parametrize("room", ROOMS)
def test_each_image_carries_its_room_and_no_other(room, stages):
    """A room's stage copies the room's own needs and code, and runs as the unprivileged user."""
    stage = stages[room]
    assert f"--from={room}-build" in stage
    assert re.findall(r"services/(\w+)/ ", stage) == [room]
    assert "USER thermesh" in stage
    assert "HEALTHCHECK" in stage
    assert stages[f"{room}-build"].strip().endswith(f"install_room.sh {room}")


@pytest.mark.parametrize("target", EXTRAS)
def test_what_not_everybody_wants_is_a_target_and_a_profile_of_its_own(target, stages, services):
    """The usual images and the usual start carry none of it; it runs unprivileged too."""
    assert stages[f"{target}-build"].strip().endswith(f"install_room.sh {EXTRAS[target]}")
    assert f"--from={target}-build" in stages[target]
    assert not [name for name in ROOMS if f"--from={target}-build" in stages[name]]
    assert services[target]["profiles"]
    assert services[target]["build"]["target"] == target
    usual = [name for name, service in services.items() if "profiles" not in service]
    assert set(usual) == {"redis", "models", "learner", *ROOMS}


def test_the_image_with_a_voice_is_the_gateway_but_for_what_is_installed(stages):
    """The same code, user, ports and command, with the packages of both extras."""
    same = stages["gateway"].replace("--from=gateway-build", "--from=gateway-voice-build")
    assert stages["gateway-voice"].split("\n\n")[0].strip() == same.split("\n\n")[0].strip()
    assert "USER thermesh" in stages["bridge"]


@pytest.mark.parametrize("room", ROOMS)
def test_compose_and_image_ask_alike(room, services, stages):
    """The health check of the compose file is the image's own."""
    words = re.search(r"HEALTHCHECK .* CMD \[(.*)\]", stages[room])[1].replace('"', "").split(", ")
    assert services[room]["healthcheck"]["test"] == ["CMD", *words]
