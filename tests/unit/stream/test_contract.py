"""What `pipeline.stream` takes from Faust and aiokafka is still there."""

import importlib
import inspect
from importlib.metadata import version

import pytest

from pipeline.stream.contract import AIOKAFKA_VERSION, FAUST_VERSION, MEMBERS, Member


def test_the_pinned_versions_are_the_ones_the_list_was_made_for():
    installed = (version("faust-streaming"), version("aiokafka"))

    assert (FAUST_VERSION, AIOKAFKA_VERSION) == installed


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.path)
def test_a_member_that_the_transport_relies_on_is_unchanged(member: Member):
    module, _, names = member.path.partition(":")
    found = importlib.import_module(module)
    for name in names.split("."):
        assert hasattr(found, name), f"{member.path} is gone: read what replaced it"
        found = getattr(found, name)

    if member.parameters is not None:
        found = inspect.unwrap(found)
        assert member.parameters == tuple(inspect.signature(found).parameters)
