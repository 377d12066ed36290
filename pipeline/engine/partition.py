"""Which partition a key goes to, on the topics between firstseen's own stages.

Only firstseen produces to these topics, so it can choose the partitioner: a checksum that, in
Python, costs a tenth of Kafka's murmur2. It must not change, because a term finds its row only in
the partition that it was first sent to.
"""

from __future__ import annotations

from zlib import crc32


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of a key: its CRC-32 modulo the number of partitions."""
    return crc32(key) % partitions
