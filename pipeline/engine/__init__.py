"""The engine: makes the decisions and returns them as values.

It reads no clock, does no I/O and knows no framework. `pipeline.stream` drives it over Kafka,
`pipeline.replay` over files. A record goes through three stages: `MatchStage` turns it into
observations, `FirstSeen` says which of those are new, and `Quota` decides which new terms become
alerts.
"""
