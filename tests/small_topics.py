"""Topics with few partitions, for tests in which a worker should start quickly."""

from __future__ import annotations

from pathlib import Path

from pipeline.kafka.topics import topics_directory
from tests.deployment import Deployment, NewDeployment


def small_topics(directory: Path, partitions: int) -> dict[str, str]:
    """Write our topic files with so many partitions each; return the setting that uses them."""
    directory.mkdir()
    for file in topics_directory().glob("*.yml"):
        text = file.read_text().replace("partitions: 12", f"partitions: {partitions}")
        (directory / file.name).write_text(text)
    return {"FIRSTSEEN_TOPICS__DIRECTORY": str(directory)}


def small_deployment(
    kafka: NewDeployment, tmp_path: Path, partitions: int, **settings: str
) -> Deployment:
    """Return a deployment whose inputs and our topics have so many partitions each."""
    return kafka(
        settings={**small_topics(tmp_path / "topics", partitions), **settings},
        input_partitions=partitions,
    )
