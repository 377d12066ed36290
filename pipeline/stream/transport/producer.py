"""Faust's producer with the one setting that it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from faust.transport.drivers import aiokafka as driver


class Producer(driver.Producer):
    """Faust's producer, idempotent unless the broker cannot do it (the embedded one)."""

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": self.transport.options.enable_idempotence}
