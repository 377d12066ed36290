"""`firstseen topics`: compares the topic files with the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import click

from pipeline.cli.lazy import SuggestingGroup
from pipeline.cli.options import SettingsFlags, json_option, settings_options
from pipeline.cli.output import write_json
from pipeline.errors import EXIT_CANNOT_START, EXIT_FINDINGS, EXIT_OK
from pipeline.kafka.clients import admin_client
from pipeline.kafka.topics import (
    ClusterTopic,
    Plan,
    TopicSpec,
    apply,
    describe_cluster,
    load_topic_specs,
    plan,
    render_strimzi,
)
from pipeline.terminal import printable_lines

directory_option = click.option(
    "--directory",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of topic files; default: `topics.directory`, or those in the package.",
)
repartition_option = click.option(
    "--accept-repartition",
    is_flag=True,
    help="Also add partitions to topics whose keys have state. Known terms will then raise alerts "
    "again as new; stop the workers first.",
)
inputs_option = click.option(
    "--create-inputs",
    "input_partitions",
    metavar="PARTITIONS",
    type=click.IntRange(min=1),
    help="Also create missing input topics, with this many partitions; by default, that is left "
    "to their owner.",
)


@click.group(cls=SuggestingGroup)
def topics() -> None:
    """Plan and create the Kafka topics, from topic files.

    The commands never delete anything or shrink a topic. Input topics are only checked.

    \b
    Examples:
      firstseen topics plan
      firstseen topics apply --set topics.replication=1
      firstseen topics render --cluster my-cluster > topics.yml
    """


@topics.command("plan")
@directory_option
@repartition_option
@inputs_option
@settings_options
@json_option
def plan_topics(
    *,
    settings_flags: SettingsFlags,
    directory: Path | None,
    accept_repartition: bool,
    input_partitions: int | None,
    as_json: bool,
) -> int:
    """Show what `apply` would change; exit 1 if there is anything to do or to look at."""
    settings = settings_flags.load()
    specs = load_topic_specs(directory, settings)
    admin = admin_client(settings)
    cluster = describe_cluster(admin, settings, [spec.name for spec in specs]).topics
    specs = _own_missing_inputs(specs, cluster, input_partitions)
    planned = plan(specs, cluster, accept_repartition=accept_repartition)
    _report(planned, as_json=as_json)
    return EXIT_FINDINGS if planned.changes or planned.has_errors else EXIT_OK


@topics.command("apply")
@directory_option
@repartition_option
@inputs_option
@settings_options
@json_option
def apply_topics(
    *,
    settings_flags: SettingsFlags,
    directory: Path | None,
    accept_repartition: bool,
    input_partitions: int | None,
    as_json: bool,
) -> int:
    """Create missing topics and set what differs; exit 4 if a worker still could not run.

    Repeating it changes nothing.
    """
    settings = settings_flags.load()
    specs = load_topic_specs(directory, settings)
    admin = admin_client(settings)
    cluster = describe_cluster(admin, settings, [spec.name for spec in specs]).topics
    specs = _own_missing_inputs(specs, cluster, input_partitions)
    planned = plan(specs, cluster, accept_repartition=accept_repartition)
    _report(planned, as_json=as_json)
    apply(planned, admin)
    if planned.changes and not as_json:
        click.echo(f"{len(planned.changes)} changes made", err=True)
    return EXIT_CANNOT_START if planned.has_errors else EXIT_OK


@topics.command()
@directory_option
@settings_options
@click.option(
    "--cluster",
    default="kafka",
    show_default=True,
    help="Name of the Kafka object that the Strimzi operator runs.",
)
def render(settings_flags: SettingsFlags, directory: Path | None, cluster: str) -> None:
    """Write our topics as KafkaTopic objects for the Strimzi operator (YAML)."""
    settings = settings_flags.load()
    specs = load_topic_specs(directory, settings)
    click.echo(render_strimzi(specs, cluster=cluster), nl=False)


def _own_missing_inputs(
    specs: tuple[TopicSpec, ...], cluster: Mapping[str, ClusterTopic], partitions: int | None
) -> tuple[TopicSpec, ...]:
    """Treat inputs that do not exist as our own topics, with as many replicas as those have."""
    if partitions is None:
        return specs
    replication = next(spec.replication for spec in specs if not spec.external)
    return tuple(
        replace(spec, external=False, partitions=partitions, replication=replication)
        if spec.external and spec.name not in cluster
        else spec
        for spec in specs
    )


def _report(planned: Plan, *, as_json: bool) -> None:
    if as_json:
        write_json(planned.to_dict())
    else:
        click.echo(printable_lines(planned.to_text()))
