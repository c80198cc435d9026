"""node-postgres, JDBC and tokio-postgres: programs of their own, run with the target's address, beside noise."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from target import REPOSITORY, Endpoint

pytestmark = pytest.mark.usefixtures("noise")

JDBC = Path("/usr/share/java/postgresql.jar")


def run_jdbc(environment: dict[str, str]) -> str:
    """The distribution's driver, by a program that is compiled as it starts."""
    if not JDBC.exists() or shutil.which("java") is None:
        pytest.fail("the JDBC driver is not installed: run `make setup`")
    done = subprocess.run(
        ["java", "-XX:TieredStopAtLevel=1", "-cp", JDBC, "Jdbc.java"],
        cwd=REPOSITORY / "tests/drivers",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0 and "10 checks passed" in done.stdout, done.stdout
    return done.stdout


def test_node_postgres(endpoint: Endpoint) -> None:
    directory = REPOSITORY / "tests/drivers"
    if not (directory / "node_modules/pg").exists():
        pytest.fail("node-postgres is not installed: run `make setup`")
    done = subprocess.run(
        ["node", "node_pg.mjs"],
        cwd=directory,
        env=endpoint.environment() | {"TARGET_KIND": endpoint.kind},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout
    assert "10 checks passed" in done.stdout, done.stdout


def test_jdbc(endpoint: Endpoint) -> None:
    run_jdbc(endpoint.environment() | {"TARGET_KIND": endpoint.kind})


@pytest.mark.timeout(600)  # cargo may have to build
def test_tokio_postgres(endpoint: Endpoint) -> None:
    cargo = shutil.which("cargo")
    if cargo is None:
        pytest.fail("cargo is not in the PATH")
    environment = dict(os.environ) | {"PGDOG_TEST_URL": endpoint.url(), "PGDOG_TEST_TARGET": endpoint.kind}
    done = subprocess.run(
        [cargo, "test", "--quiet", "--locked", "--test", "tokio_postgres", "--", "--nocapture"],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout, done.stdout
