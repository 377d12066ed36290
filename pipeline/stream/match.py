"""Stage 1, MATCH: events in, observations out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from pipeline.assembly.match_stage import match_stage
from pipeline.engine.prefilter import Prefilter
from pipeline.stream.context import Context
from pipeline.stream.counts import RecordCounts
from pipeline.stream.judging import Judge, Judged
from pipeline.stream.match_filter import MatchFilter
from pipeline.stream.outbox import Outgoing
from pipeline.stream.transport import Delivered

STAGE = "match"


class MatchAgent:
    """Sends what the match stage found, and writes its dead letters."""

    def __init__(self, context: Context, match_filter: MatchFilter) -> None:
        settings, ruleset = context.settings, context.ruleset
        self._app = context.app
        self._topics = settings.topics
        self._counts = RecordCounts(context.metrics)
        self._dead_letters = context.dead_letters
        self._filter = match_filter
        self._dropped = 0
        # For records that reach the agent unjudged, which at `Depth.AGENT` are all of them. The
        # stage and the search of the filter belong to the consumer's thread.
        stage = match_stage(settings, ruleset, Prefilter.from_ruleset(ruleset))
        self._judge = Judge(settings, stage, context.metrics)

    async def handle(self, delivered: Sequence[Delivered]) -> None:
        """Handle bundles of records, or of what the filter has already judged."""
        observations: list[Outgoing] = []
        new_terms: list[Outgoing] = []
        try:
            for item in chain.from_iterable(bundle.items for bundle in delivered):
                judged = item if isinstance(item, Judged) else self._judge.judge(item)
                await self._take(judged)
                observations.extend(judged.observations)
                new_terms.extend(judged.new_terms)
        finally:
            self._judge.counts.export()
            self._counts.export()
        await self._app.outbox.send_keyed(self._topics.observations, observations)
        await self._app.outbox.send_keyed(self._topics.new_terms, new_terms)
        for bundle in delivered:
            self._app.consumer.acknowledge(bundle.message)

    async def _take(self, judged: Judged) -> None:
        """Count the records of a result, and write its dead letter if it has one."""
        if judged.dead is not None:
            record, error = judged.dead
            await self._dead_letters.write(record, code=error.reason, stage=STAGE, text=str(error))
        position = judged.position
        self._counts.ended(position.topic, judged.disposition, judged.records)
        self._counts.read_until(position.topic, position.partition, judged.timestamp_ms)
        # The records that the filter dropped before this one were good, and so are others in the
        # result.
        dropped = self._filter.dropped
        others = judged.records - 1 if judged.dead is None else 0
        self._dead_letters.count_good(dropped - self._dropped + others)
        self._dropped = dropped
        self._dead_letters.count(bad=judged.dead is not None)
