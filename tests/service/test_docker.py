"""What the Dockerfile and the compose files say; nothing is built or started here, for want of an engine."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from importlib.metadata import distribution

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from app.settings import Settings
from tests.containers import (
    GIVEN,
    ROOT,
    VARIABLE,
    compose,
    image_environment,
    image_healthcheck,
    last,
    needed,
    services,
    targets,
)

ONE_SHOT = {"migrate", "benchmark"}
LONG_RUNNING = {"db", "redis", "web", "worker", "beat"}
OURS = {"migrate", "web", "worker", "beat", "benchmark"}
WITHOUT_SERVERS = {"benchmark"}
IMAGES = ("web", "worker")
OF_IMAGES = {"python_version": "3.11", "python_full_version": "3.11.14"}
READ_BY_SETTINGS = {"DATABASE_URL", "REDIS_URL"} | {f"QUERENT_{name.upper()}" for name in Settings.model_fields}
FILES = ("docker-compose.yml", "docker-compose.gpu.yml")
DOCUMENTATION = ROOT / "docs" / "docker.md"


def locked() -> dict[str, Version]:
    pins = (line.partition(";")[0].strip() for line in (ROOT / "requirements.lock").read_text().splitlines())
    return {canonicalize_name(name): Version(version) for name, _, version in (pin.partition("==") for pin in pins)}


def is_in_context(path: str) -> bool:
    """Say whether .dockerignore lets a path at the top of this folder through; its last matching line decides."""
    let_through = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#") and fnmatch(path, line.removeprefix("!")):
            let_through = line.startswith("!")
    return let_through


def runs(target: str) -> list[str]:
    return [it.value for it in targets()[target] if it.name == "RUN"]


def test_the_services_are_those_of_a_whole_product() -> None:
    assert set(services()) == ONE_SHOT | LONG_RUNNING
    profiles = {name: told["profiles"] for name, told in compose()["services"].items() if "profiles" in told}
    assert profiles == {"benchmark": ["benchmark"]}


@pytest.mark.parametrize("name", sorted(LONG_RUNNING))
def test_a_long_running_service_is_watched_and_started_again(name: str) -> None:
    told = compose()["services"][name]
    assert services()[name].healthcheck
    assert {"interval", "timeout", "retries", "start_period"} <= set(told["healthcheck"])
    assert told["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(ONE_SHOT))
def test_a_one_shot_runs_once_and_is_not_asked_for_its_health(name: str) -> None:
    assert services()[name].healthcheck == []
    assert compose()["services"][name]["restart"] == "no"


def test_who_depends_on_a_one_shot_waits_for_its_end_and_on_others_for_their_health() -> None:
    found = {service.name: service.depends_on for service in services().values()}
    for dependencies in found.values():
        for other, condition in dependencies.items():
            assert condition == ("service_completed_successfully" if other in ONE_SHOT else "service_healthy")
    assert set(found["migrate"]) == {"db", "redis"}
    assert all("migrate" in found[name] for name in OURS - WITHOUT_SERVERS - {"migrate"})
    assert all(not found[name] for name in WITHOUT_SERVERS)


@pytest.mark.parametrize("file", FILES)
def test_every_image_has_a_tag_that_is_not_latest(file: str) -> None:
    images = [told["image"] for told in compose(file)["services"].values()]
    images += [it.value for it in targets()["base"] if it.name == "FROM"]
    for image in images:
        assert re.search(r":(?!latest)[\w.-]+$", image), image


def test_the_servers_are_the_supported_ones() -> None:
    told = compose()["services"]
    assert (told["db"]["image"], told["redis"]["image"]) == ("postgres:17", "redis:7")
    assert services()["redis"].command == ["redis-server", "--appendonly", "yes"]


@pytest.mark.parametrize("file", FILES)
def test_every_variable_set_for_our_services_is_a_setting(file: str) -> None:
    set_here = {variable for name, told in compose(file)["services"].items() if name in OURS
                for variable in told.get("environment", {})}  # fmt: skip
    set_here |= {name for image in IMAGES for name in image_environment(image) if name.startswith("QUERENT_")}
    assert set_here
    assert set_here <= READ_BY_SETTINGS


@pytest.mark.parametrize("name", sorted(OURS))
def test_the_settings_accept_the_environment_of_each_service(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in READ_BY_SETTINGS:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in services()[name].environment.items():
        monkeypatch.setenv(variable, value)
    read, has_servers = Settings(), name not in WITHOUT_SERVERS
    assert read.database_url == ("postgresql+psycopg://querent:a-password@db:5432/querent" if has_servers else None)
    assert read.redis_url == ("redis://redis:6379/0" if has_servers else None)


@pytest.mark.parametrize("variable", sorted(GIVEN))
def test_nothing_starts_without_its_secrets(variable: str) -> None:
    with pytest.raises(LookupError, match=variable):
        compose(variables={**GIVEN, variable: ""})


def test_only_the_web_is_given_the_key_that_signs_sessions() -> None:
    having = {name for name, told in services().items() if "QUERENT_SECRET_KEY" in told.environment}
    assert having == {"web"}


def test_only_the_web_is_published_and_only_on_this_machine() -> None:
    published = {name: told["ports"] for name, told in compose()["services"].items() if "ports" in told}
    assert published == {"web": ["127.0.0.1:8000:8000"]}


def test_the_documentation_tells_every_variable_and_every_service() -> None:
    text = DOCUMENTATION.read_text()
    names = {found["name"] for file in FILES for found in VARIABLE.finditer((ROOT / file).read_text()) if found["name"]}
    assert names >= set(GIVEN)
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []
    assert [name for name in sorted(services()) if f"`{name}`" not in text] == []


def test_web_and_worker_share_the_storage_as_one_user_that_is_not_root() -> None:
    assert last("web", "USER") == last("worker", "USER")
    user, group = last("web", "USER").split(":")
    assert int(user) > 0
    assert f"--uid {user}" in runs("base")[0]
    assert f"--gid {group}" in runs("base")[0]
    home = image_environment("web")["QUERENT_HOME"]
    for name in sorted(OURS):
        told = compose()["services"][name]
        assert told["volumes"] == [f"home:{home}"]
        assert "user" not in told
    assert {last(image, "VOLUME") for image in IMAGES} == {home}


def test_the_benchmark_writes_where_the_web_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {}
    for name in ("benchmark", "web"):
        for variable in READ_BY_SETTINGS:
            monkeypatch.delenv(variable, raising=False)
        for variable, value in services()[name].environment.items():
            monkeypatch.setenv(variable, value)
        folders[name] = Settings().results_folder
    assert folders["benchmark"] == folders["web"]
    mounted = [volume.partition(":")[2] for volume in compose()["services"]["web"]["volumes"]]
    assert any(folders["web"].is_relative_to(place) for place in mounted)
    assert services()["benchmark"].target == "worker"
    assert "--out" not in " ".join(services()["benchmark"].command)


@pytest.mark.parametrize("image", IMAGES)
def test_nothing_is_done_as_root_after_the_user_is_chosen(image: str) -> None:
    names = [it.name for it in targets()[image]]
    assert names.count("USER") == 1
    assert "RUN" not in names[names.index("USER") :]
    assert "COPY" not in names[names.index("USER") :]


@pytest.mark.parametrize("image", IMAGES)
def test_the_image_and_the_compose_file_ask_for_health_in_the_same_way(image: str) -> None:
    assert services()[image].healthcheck == image_healthcheck(image)
    assert services()[image].target == image


def test_the_web_image_holds_neither_torch_nor_what_comes_with_it() -> None:
    web, worker = needed(["querent"]), needed(["querent[worker]"])
    assert {"torch", "torchvision", "numpy", "scikit-learn"} <= worker
    assert {"fastapi", "celery", "redis", "psycopg-binary"} <= web  # the walk follows requirements and their extras
    assert not web & {"torch", "torchvision", "numpy", "scikit-learn", "scipy"}
    assert not any("torch" in command for command in runs("web"))
    assert any("-e ." in command for command in runs("web"))


def test_everything_that_is_installed_has_a_locked_version() -> None:
    installed = needed(["querent", "numpy", "scikit-learn"], OF_IMAGES) | {"torch", "torchvision"}
    assert installed - {"querent"} <= set(locked())  # torch itself names the versions of its CUDA libraries
    for image in IMAGES:
        for command in runs(image):
            for install in re.findall(r"pip install [^&]*", command):
                assert "-c requirements.lock" in install


def test_the_build_of_torch_is_the_one_of_the_chosen_index() -> None:
    (command,) = (command for command in runs("worker") if "torch" in command)
    first, second = command.split(" && ")
    assert '--no-deps --index-url "${TORCH_INDEX}" torch torchvision' in first
    assert second.endswith('-e ".[worker]"')
    assert [it.value for it in targets()["worker"] if it.value.startswith("TORCH_INDEX=")] == [
        "TORCH_INDEX=https://download.pytorch.org/whl/cpu"
    ]
    wanted = [Requirement(text) for text in distribution("querent").requires or [] if text.startswith("torch")]
    assert {it.name for it in wanted} == {"torch", "torchvision"}
    for requirement in wanted:  # else the second command would take the build away again
        for build in ("cpu", "cu130"):
            assert requirement.specifier.contains(f"{locked()[requirement.name]}+{build}")


@pytest.mark.parametrize("image", IMAGES)
def test_a_change_of_code_installs_nothing_anew(image: str) -> None:
    order = [it for it in targets()[image] if it.name in {"RUN", "COPY"}]
    installs = [place for place, it in enumerate(order) if "pip install" in it.value]
    code = [place for place, it in enumerate(order) if it.name == "COPY" and it.value.startswith("app ")]
    assert installs
    assert max(installs) < min(code)
    assert image_environment(image)["PIP_NO_CACHE_DIR"] == "1"


def test_the_build_context_is_what_the_images_copy_and_nothing_else() -> None:
    copied = {source for image in IMAGES for it in targets()[image] if it.name == "COPY"
              for source in it.value.split()[:-1]}  # fmt: skip
    let_through = {path.name for path in ROOT.iterdir() if is_in_context(path.name)}
    assert let_through == copied
    assert not is_in_context(".env")
    assert not is_in_context("querent.env")


def test_the_gpu_file_gives_the_worker_a_gpu_and_torch_for_it() -> None:
    changed = compose("docker-compose.gpu.yml")["services"]
    assert set(changed) == {"worker"}
    worker = changed["worker"]
    assert worker["build"]["args"] == {"TORCH_INDEX": "https://download.pytorch.org/whl/cu130"}
    assert worker["environment"] == {"QUERENT_DEVICE": "cuda"}
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert worker["image"] not in {told["image"] for told in compose()["services"].values()}


def test_no_service_of_ours_keeps_a_privilege() -> None:
    for name in OURS:
        told = compose()["services"][name]
        assert told["cap_drop"] == ["ALL"]
        assert told["security_opt"] == ["no-new-privileges:true"]
        assert not {"privileged", "cap_add", "network_mode", "pid"} & set(told)


def test_volumes_that_are_mounted_are_declared() -> None:
    whole = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    mounted = {mount.partition(":")[0] for told in whole["services"].values() for mount in told.get("volumes", [])
               if isinstance(mount, str)}  # fmt: skip
    assert mounted == set(whole["volumes"])
