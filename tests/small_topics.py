"""Topic files with few partitions, for tests in which a worker should start quickly."""

from __future__ import annotations

from pathlib import Path

from pipeline.kafka.topics import topics_directory


def small_topics(directory: Path, partitions: int) -> dict[str, str]:
    """Write our topic files with so many partitions each; return the setting that uses them."""
    directory.mkdir()
    for file in topics_directory().glob("*.yml"):
        text = file.read_text().replace("partitions: 12", f"partitions: {partitions}")
        (directory / file.name).write_text(text)
    return {"FIRSTSEEN_TOPICS__DIRECTORY": str(directory)}
