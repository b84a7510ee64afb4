"""What is deployed is well-formed: image, compose, workflows, ports, wheel, completion, and the scanner's verdict."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
TOKEN = "0123456789abcdef0123"


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(TOOLS / words[0]), *words[1:]],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


def test_the_dockerfile_pleases_its_linter() -> None:
    done = run("hadolint", "-c", ".hadolint.yaml", "Dockerfile")
    assert done.returncode == 0, done.stdout


def test_the_image_is_small_in_what_it_takes_and_runs_as_nobody() -> None:
    text = (ROOT / "Dockerfile").read_text()
    last = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9]\d+$", last, re.MULTILINE)
    assert "HEALTHCHECK" in last
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        allowed = (ROOT / ".dockerignore").read_text().split()
        assert all(f"!{name}" in allowed for name in source.split()), source


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.compose-spec", ["compose.yaml", "compose.cuda.yaml"]),
        ("vendor.github-workflows", [".github/workflows/ci.yml", ".github/workflows/release.yml"]),
    ],
)
def test_files_keep_to_their_schema(schema: str, files: list[str]) -> None:
    done = run("check-jsonschema", "--builtin-schema", schema, *files)
    assert done.returncode == 0, done.stdout


def test_compose_understands_itself() -> None:
    words = ("docker-compose", "-f", "compose.yaml", "-f", "compose.cuda.yaml", "config", "--format", "json")
    services = json.loads(run(*words, FOLIOCAST_API_TOKEN=TOKEN).stdout)["services"]
    assert set(services) == {"api", "app", "mlflow"}
    published = [port for service in services.values() for port in service["ports"]]
    assert len({port["published"] for port in published}) == 3, "ports collide"
    assert all(port["host_ip"] == "127.0.0.1" for port in published), "open to the network"
    assert all(service["volumes"] and service["read_only"] for service in services.values())
    refused = run("docker-compose", "config", "-q", FOLIOCAST_API_TOKEN="")
    assert refused.returncode != 0
    assert "FOLIOCAST_API_TOKEN" in refused.stderr


def test_commands_of_the_services_exist() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    fixed = [service["command"] for service in services.values()]
    default = re.findall(r"^CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for words in [*fixed, json.loads(default[-1])]:
        verbs = words[: 2 if words[0] == "track" else 1]
        shown = run("foliocast", *verbs, "--help", COLUMNS="200", TERM="dumb").stdout
        for flag in (word for word in words if word.startswith("--")):
            assert flag in shown, (verbs, flag)


def test_fly_serves_the_port_of_the_service() -> None:
    fly = tomllib.loads((ROOT / "fly.toml").read_text())
    assert fly["http_service"]["internal_port"] == 8600
    assert fly["http_service"]["checks"][0]["path"] == "/health"
    assert fly["mounts"]["destination"] == fly["env"]["FOLIOCAST_HOME"]
    assert fly["build"]["dockerfile"] == "Dockerfile"


def test_targets_that_workflows_call_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for file in (ROOT / ".github" / "workflows").glob("*.yml"):
        assert set(re.findall(r"make ([a-z-]+)", file.read_text())) <= targets


def test_bandit_finds_nothing_that_is_not_explained() -> None:
    done = run("bandit", "-q", "-r", "src", "-c", "pyproject.toml")
    assert done.returncode == 0, done.stdout
    page = (ROOT / "docs" / "explain" / "security.md").read_text()
    for rule in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["bandit"]["skips"]:
        assert rule in page


def test_every_pin_can_be_installed_by_anyone() -> None:
    for line in (ROOT / "constraints.txt").read_text().split():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), line


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_verbs(shell: str) -> None:
    script = run("foliocast", "completion", shell).stdout
    assert "_FOLIOCAST_COMPLETE" in script
    if shell == "bash":
        asked = {"_FOLIOCAST_COMPLETE": "complete_bash", "COMP_WORDS": "foliocast ba", "COMP_CWORD": "1"}
        assert run("foliocast", **asked).stdout.split() == ["backtest"]
