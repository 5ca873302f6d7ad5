"""The SQLite module passes the recorder and factory test cases that ship with eventsourcing.

All of them apply. Their throughput tests print figures and assert nothing, so only the assertions
of the others count for anything here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from eventsourcing.persistence import IntegrityError, StoredEvent, Tracking
from eventsourcing.tests import persistence as cases
from eventsourcing.utils import Environment

from statecore.recorders.sqlite import (
    Factory,
    SqliteAggregateRecorder,
    SqliteApplicationRecorder,
    SqliteProcessRecorder,
    SqliteTrackingRecorder,
)


class OnAFile:
    """Gives each test a file of its own."""

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> Any:
        self.env = Environment(
            "App",
            {
                "PERSISTENCE_MODULE": "statecore.recorders.sqlite",
                "SQLITE_DBNAME": str(tmp_path / "events.db"),
            },
        )
        factories: list[Factory] = []

        def factory() -> Factory:
            factories.append(Factory(self.env))
            return factories[-1]

        self.new_factory = factory
        yield
        for each in factories:
            each.close()


class TestAggregateRecorder(OnAFile, cases.AggregateRecorderTestCase):
    def create_recorder(self) -> Any:
        return self.new_factory().aggregate_recorder()


class TestSnapshotRecorder(OnAFile, cases.AggregateRecorderTestCase):
    def create_recorder(self) -> Any:
        return self.new_factory().aggregate_recorder("snapshots")


class TestApplicationRecorder(OnAFile, cases.ApplicationRecorderTestCase[Any]):
    def create_recorder(self) -> Any:
        return self.new_factory().application_recorder()


class TestTrackingRecorder(OnAFile, cases.TrackingRecorderTestCase):
    def create_recorder(self) -> Any:
        return self.new_factory().tracking_recorder()


class TestProcessRecorder(OnAFile, cases.ProcessRecorderTestCase):
    def create_recorder(self) -> Any:
        return self.new_factory().process_recorder()


class TestNonInterleavingNotificationIDs(OnAFile, cases.NonInterleavingNotificationIDsBaseCase):
    def create_recorder(self) -> Any:
        return self.new_factory().application_recorder()


class TrackingRecorderSubclass(SqliteTrackingRecorder):
    pass


class TestFactory(OnAFile, cases.InfrastructureFactoryTestCase[Factory]):
    def expected_factory_class(self) -> Any:
        return Factory

    def expected_aggregate_recorder_class(self) -> Any:
        return SqliteAggregateRecorder

    def expected_application_recorder_class(self) -> Any:
        return SqliteApplicationRecorder

    def expected_tracking_recorder_class(self) -> Any:
        return SqliteTrackingRecorder

    def tracking_recorder_subclass(self) -> Any:
        return TrackingRecorderSubclass

    def expected_process_recorder_class(self) -> Any:
        return SqliteProcessRecorder


def test_text_ids_come_back_as_text(tmp_path: Path) -> None:
    factory = Factory({"SQLITE_DBNAME": str(tmp_path / "events.db")})
    recorder = factory.process_recorder()
    first, second = StoredEvent("order-1", 1, "t", b"1"), StoredEvent(uuid4(), 1, "t", b"2")

    recorder.insert_events([first, second], tracking=Tracking("upstream", 7))

    assert recorder.select_events("order-1") == [first]
    found = [n.originator_id for n in recorder.select_notifications(1, 10)]
    assert found == ["order-1", second.originator_id]
    with pytest.raises(IntegrityError):
        recorder.insert_tracking(Tracking("upstream", 7))
    factory.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({}, "database name not found"), ({"SQLITE_DURABILITY": "none"}, "full or relaxed, not none")],
)
def test_a_factory_says_what_its_settings_lack(
    settings: dict[str, str], message: str, tmp_path: Path
) -> None:
    name = {"SQLITE_DBNAME": str(tmp_path / "events.db")} if settings else {}
    with pytest.raises(OSError, match=message):
        Factory({**name, **settings})


def test_there_are_no_tables_for_other_purposes(tmp_path: Path) -> None:
    factory = Factory({"SQLITE_DBNAME": str(tmp_path / "events.db")})

    with pytest.raises(ValueError, match="tables for events and snapshots"):
        factory.aggregate_recorder("ledger")
    factory.close()
