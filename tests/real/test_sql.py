"""What pgdog's reading of SQL predicts: the tables that its unit tests (src/sql/tests.rs) hold it to, asked of PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from postgres import Cluster


def table(name: str) -> Iterator[list[str]]:
    for line in (Path(__file__).parent / name).read_text().splitlines():
        if not line.startswith("#"):
            yield line.split("\t")


def test_values_of_settings(cluster: Cluster) -> None:
    for statement, parameter, value in table("sql_values.tsv"):
        with cluster.superuser() as wire:
            wire.ask(statement)
            assert wire.value(f"SHOW {parameter}") == value, statement


def test_completion_tags(cluster: Cluster) -> None:
    version = int(cluster.sql("SHOW server_version_num")[0][0]) // 10000
    with cluster.superuser() as wire:
        for statement, tag in table("sql_tags.tsv"):
            if version < 15 and statement.startswith("MERGE"):
                continue
            messages = wire.ask(statement)
            tags = [message.body.rstrip(b"\0").decode() for message in messages if message.kind == "C"]
            assert tags == [tag], (statement, messages)
