"""Events are facts: immutable, each with its stage."""

from dataclasses import FrozenInstanceError

import pytest

from reputation.events import Event, Stage
from tests.builders import EVENTS


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.stage)
def test_an_event_cannot_be_changed(event: Event) -> None:
    with pytest.raises(FrozenInstanceError):
        event.stage = Stage.HELO  # type: ignore[misc]  # that is the point


def test_every_stage_has_its_event() -> None:
    assert {event.stage for event in EVENTS} == set(Stage)
