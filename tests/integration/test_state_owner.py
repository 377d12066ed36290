"""A state folder that belongs to other workers: it would make them miss what its owners have seen."""

from __future__ import annotations

from tests.deployment import Deployment, NewDeployment
from tests.events import encode, library_event


def work_off(stack: Deployment, begin: int, end: int) -> None:
    """Let a worker judge one event of each of these hosts, and stop it."""
    stack.produce([encode(library_event(number=n, host=f"h{n}")) for n in range(begin, end)])
    worker = stack.start_worker()
    worker.wait_ready()
    stack.wait_drained()
    assert worker.stop() == 0


def test_the_folder_of_another_group_is_refused_and_both_are_named(
    kafka_deployment: NewDeployment,
):
    ours, others = kafka_deployment(input_partitions=1), kafka_deployment(input_partitions=1)
    work_off(others, 0, 5)

    folder = others.directory / "a" / "state"
    worker = ours.start_worker("b", FIRSTSEEN_STATE__DIRECTORY=str(folder))

    assert worker.process.wait(60) == 3
    said = worker.tail()
    assert '"error.code":"state_owner"' in said
    assert f"the state in {folder} belongs to the group {others.prefix} " in said
    assert f"this worker to the group {ours.prefix} " in said


def test_a_worker_goes_on_with_its_own_folder(kafka_deployment: NewDeployment):
    stack = kafka_deployment(input_partitions=1)
    work_off(stack, 0, 5)

    work_off(stack, 5, 10)

    assert len(stack.alerts()) == 10
