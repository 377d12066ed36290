"""The engine: decides, and returns facts.

It reads no clock, does no input or output, and knows no framework; `pipeline.stream` drives it over
Kafka, `pipeline.replay` over files. A record goes through three stages: `MatchStage` turns it into
observations, `FirstSeen` says which of them are new, `Quota` says which new ones become alerts.
"""
