"""Rules over every backend: schemas, types and functions; what they refuse, and how it is told."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import pytest
from annotated_types import Gt
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from statecore import BlockingManager, InputError, ValidationFailed
from statecore.json_schema import JsonSchema

SECRET = "swordfish"
USER = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


class Address(BaseModel):
    city: str
    zip_code: str = Field(alias="zip", pattern=r"^\d{5}$")


class Person(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1)
    born: datetime
    worth: Decimal = Field(ge=0)
    id: UUID
    home: Address | None = None

    @field_validator("name")
    @classmethod
    def _no_digits(cls, name: str) -> str:
        if any(letter.isdigit() for letter in name):
            raise ValueError(f"{name} has digits")
        return name


ADA = Person(
    name="Ada", born=datetime(1815, 12, 10, tzinfo=UTC), worth=Decimal("12.50"), id=UUID(int=1)
)


def refused(call: Any, *arguments: Any, **options: Any) -> list[tuple[Any, ...]]:
    """Call what must be refused by rules, and return where it violates them."""
    with pytest.raises(ValidationFailed) as caught:
        call(*arguments, **options)
    assert SECRET not in str(caught.value)
    assert not any(SECRET in str(each) for each in caught.value.violations)
    return [violation.path for violation in caught.value.violations]


# JSON Schema


def test_a_write_that_fits_no_schema_leaves_no_event(agent: BlockingManager) -> None:
    agent.set_schema("user/*", USER)
    agent.set_state("user/1", {"name": "Ada", "age": 36})

    assert refused(agent.set_state, "user/2", {"name": SECRET, "age": -1}) == [("user/2", "age")]
    assert refused(agent.patch, "user/1", {"age": SECRET}) == [("user/1", "age")]
    assert agent.version() == 1
    assert agent.at().data == {"user/1": {"name": "Ada", "age": 36}}
    assert agent.set_state("other", SECRET) == 2


def test_all_violations_are_told_in_the_order_of_their_paths(agent: BlockingManager) -> None:
    agent.set_schema("user/*", USER)
    agent.set_schema("list", {"items": {"type": "integer"}})

    def work(tx: Any) -> None:
        tx.set("user/b", {"age": SECRET, "shoe": SECRET})
        tx.set("user/a", SECRET)
        tx.set("list", [SECRET, *range(10), SECRET])

    with pytest.raises(ValidationFailed) as caught:
        agent.atomic_transaction(work)

    told = [(each.path, each.message) for each in caught.value.violations]
    assert told == [
        (("list", 0), 'does not fit type: "integer"'),
        (("list", 11), 'does not fit type: "integer"'),
        (("user/a",), 'does not fit type: "object"'),
        (("user/b",), "'name' is a required property"),
        (("user/b", "age"), 'does not fit type: "integer"'),
        (("user/b", "shoe"), "is not allowed"),
    ]
    assert {each.rule for each in caught.value.violations} == {
        "schema 'list', version 2",
        "schema 'user/*', version 1",
    }
    assert str(caught.value).startswith("list[0]: does not fit type")


def test_a_message_tells_ten_violations_and_the_error_has_them_all(agent: BlockingManager) -> None:
    agent.set_schema("list", {"items": {"type": "null"}})

    with pytest.raises(ValidationFailed, match="; and 15 more") as caught:
        agent.set_state("list", [SECRET] * 25)

    assert [each.path for each in caught.value.violations] == [("list", at) for at in range(25)]


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer"}, [1, 2**900, 1.0, Decimal(3)], [True, "1", 1.5, float("nan")]),
        ({"multipleOf": 0.1}, [0.3, Decimal("0.3"), 7], [0.35, Decimal("1e-400")]),
        ({"const": 0.1}, [0.1, Decimal("0.10")], [0.1 + 1e-17 + 0.01]),
        ({"format": "date-time"}, [datetime(2026, 1, 1, tzinfo=UTC)], ["2026-01-01", SECRET]),
        ({"format": "uuid", "type": "string"}, [UUID(int=7)], [SECRET, 7]),
        ({"type": "string", "maxLength": 4}, [b"abc"], [b"abcd"]),
        ({"enum": [None, False, 0.0]}, [None, False, 0], [True, ""]),
        ({"pattern": r"^\p{Lu}+$"}, ["ÄB", 5], ["äb"]),
        ({"patternProperties": {"^x": {"type": "null"}}}, [{"x1": None, "y": 1}], [{"x1": 1}]),
        ({"properties": {"a": True}, "additionalProperties": {"type": "null"}},
         [{"a": 1, "b": None}], [{"b": 1}]),
        ({"$defs": {"t": {"items": {"$ref": "#/$defs/t"}, "type": "array"}}, "$ref": "#/$defs/t"},
         [[], [[[], []]]], [[[1]]]),
        ({"not": {}}, [], [None, 1]),
    ],
)  # fmt: skip
def test_a_schema_sees_values_as_json(schema: Any, good: list[Any], bad: list[Any]) -> None:
    held = JsonSchema(schema)

    assert [value for value in good if list(held.violations(value))] == []
    assert [value for value in bad if not list(held.violations(value))] == []


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"$ref": "https://example.com/schema"}, "leads out of it"),
        ({"$ref": "#/nowhere"}, "does not exist"),
        ({"$ref": "#"}, "without end"),
        ({"pattern": "(?=a)b"}, "looks around"),
        ({"properties": {"a": {"pattern": "("}}}, "no pattern"),
        ({"patternProperties": {"(a{1000}){1000}": True}}, "too large"),
        ({"patternProperties": {}, "allOf": [{"unevaluatedProperties": False}]}, "don't go"),
        ({"type": "number", "minimum": float("nan")}, "JSON"),
        ({"type": "nothing"}, "nothing"),
        ({"enum": {1, 2}}, "set is no JSON"),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, "2020-12"),
        ("type: object", "not str"),
        (test_a_schema_sees_values_as_json, "not function"),
    ],
)
def test_what_is_no_schema_is_refused(agent: BlockingManager, schema: Any, why: str) -> None:
    with pytest.raises(InputError, match=why):
        agent.set_schema("key", schema)

    assert agent.rules().version == 0


def test_no_pattern_takes_long(agent: BlockingManager) -> None:
    agent.set_schema("key", {"pattern": "^(a+)+$", "patternProperties": {"^(b|b)*$": False}})

    assert refused(agent.set_state, "key", "a" * 100_000 + "!") == [("key",)]
    assert agent.set_state("key", {"b" * 1000 + "!": 1}) == 1


def test_a_value_of_any_depth_is_held_against_a_schema_that_refers_to_itself(
    agent: BlockingManager,
) -> None:
    agent.set_schema("tree", {"anyOf": [{"type": "integer"}, {"items": {"$ref": "#"}}]})
    deep: Any = 1
    for _ in range(60):
        deep = [deep]

    assert agent.set_state("tree", deep) == 1


def test_setting_what_is_set_records_nothing_and_none_takes_it_back(agent: BlockingManager) -> None:
    assert agent.set_schema("n", {"type": "integer"}) == 1
    assert agent.set_schema("n", {"type": "integer"}) == 1
    assert agent.set_schema("n", {"type": "number"}, reason="fractions") == 2
    assert agent.schemas()["n"].version == 2
    assert agent.set_schema("n", None) == 3
    assert agent.set_schema("never", None) == 3
    assert agent.set_schema("any", {}) == 4
    assert agent.schemas()["any"].schema == {}
    assert agent.set_schema("any", None) == 5

    assert agent.schemas() == {}
    agent.set_state("n", "anything")


def test_all_schemas_that_fit_a_key_hold(agent: BlockingManager) -> None:
    agent.set_schema("n*", {"type": "integer"})
    agent.set_schema("*", {"maximum": 10})

    assert refused(agent.set_state, "n", 1.5) == [("n",)]
    assert refused(agent.set_state, "n", 11) == [("n",)]
    assert agent.set_state("n", 10) == 1


# Types


def test_a_model_holds_its_data_with_all_its_validators(agent: BlockingManager) -> None:
    agent.set_schema("person/*", Person)
    agent.set_state("person/ada", ADA)

    data = ADA.model_dump()
    assert agent.get_state("person/ada", into=Person) == ADA
    assert refused(agent.set_state, "person/b", {**data, "name": f"{SECRET}1"}) == [
        ("person/b", "name")
    ]
    assert refused(agent.set_state, "person/b", {**data, "worth": "1.5", "extra": SECRET}) == [
        ("person/b", "extra"),
        ("person/b", "worth"),
    ]
    assert refused(agent.patch, "person/ada", {"worth": Decimal(-1)}) == [("person/ada", "worth")]
    del data["born"]
    assert refused(agent.set_state, "person/b", data) == [("person/b",)]


def test_a_field_with_an_alias_is_held_under_its_name(agent: BlockingManager) -> None:
    agent.set_schema("home", Address)
    agent.set_state("home", Address.model_validate({"city": "Rom", "zip": "00118"}))

    assert agent.get_state("home") == {"city": "Rom", "zip_code": "00118"}
    assert agent.get_state("home", into=Address).zip_code == "00118"
    assert refused(agent.patch, "home", {"zip_code": SECRET}) == [("home", "zip_code")]


def test_constraints_of_annotated_types_hold(agent: BlockingManager) -> None:
    agent.set_schema("age", Annotated[int, Gt(0)])
    agent.set_schema("tags", list[Annotated[str, Field(max_length=3)]])

    assert refused(agent.set_state, "age", 0) == [("age",)]
    assert refused(agent.set_state, "tags", ["a", SECRET, "b", SECRET]) == [
        ("tags", 1),
        ("tags", 3),
    ]
    agent.extend("tags", ["abc"])
    agent.add("age", 1)
    assert refused(agent.add, "age", -1) == [("age",)]


def test_a_validator_that_changes_what_it_gets_changes_nothing(agent: BlockingManager) -> None:
    class Greedy(BaseModel):
        name: str

        @model_validator(mode="before")
        @classmethod
        def _take(cls, data: dict[str, Any]) -> dict[str, Any]:
            return {"name": data.pop("name")}

    agent.set_schema("a*", Greedy)
    agent.set_schema("*", {"required": ["name"]})
    agent.set_state("a", {"name": "x"})

    assert agent.get_state("a") == {"name": "x"}


@pytest.mark.parametrize("given", ["int", len, 5, lambda: 0, [int]])
def test_what_is_no_type_is_refused(agent: BlockingManager, given: Any) -> None:
    with pytest.raises(InputError, match="a schema is a map or a type"):
        agent.set_schema("key", given)


def test_a_type_that_no_schema_can_be_made_of_is_refused(agent: BlockingManager) -> None:
    class Odd:
        pass

    with pytest.raises(InputError, match="no schema can be made"):
        agent.set_schema("key", Odd)


# Functions


def even(value: Any) -> bool:
    return bool(value % 2 == 0)


def small(value: Any) -> None:
    if value > 100:
        raise ValueError(f"{value} is large, and {SECRET}")


def test_functions_hold_values(agent: BlockingManager) -> None:
    agent.constrain("n*", even)
    agent.constrain("n*", small)
    agent.set_state("n", 2)

    with pytest.raises(ValidationFailed) as caught:
        agent.set_state("n", 101)
    assert [each.rule for each in caught.value.violations] == [
        "constraint 'even' of 'n*'",
        "constraint 'small' of 'n*'",
    ]
    assert SECRET not in str(caught.value)
    assert agent.rules().constraints == {"n*": ("even", "small")}


def test_what_a_function_can_t_tell_is_refused_and_told_with_the_rest(
    agent: BlockingManager,
) -> None:
    agent.set_schema("n", {"type": "integer"})
    agent.constrain("n", even)
    agent.constrain("n", lambda value: {}[value], name="broken")

    with pytest.raises(ValidationFailed) as caught:
        agent.set_state("n", SECRET)

    told = sorted(each.message for each in caught.value.violations)
    assert told == [
        "can't be told to hold: KeyError was raised",
        "can't be told to hold: TypeError was raised",
        'does not fit type: "integer"',
    ]
    assert SECRET not in str(caught.value)


def test_a_function_is_taken_back_by_name_or_with_all_of_its_pattern(
    agent: BlockingManager,
) -> None:
    agent.constrain("n", even)
    agent.constrain("n", small)
    agent.constrain("n", even, name="pair")
    agent.constrain("n", None, name="even")
    assert agent.rules().constraints == {"n": ("small", "pair")}
    agent.constrain("n", None)

    assert agent.rules().constraints == {}
    agent.set_state("n", 101)


async def _later(value: Any) -> bool:
    return True


@pytest.mark.parametrize(
    ("function", "why"), [(lambda value: True, "needs a name"), (_later, "coroutine")]
)
def test_a_function_has_a_name_and_answers_at_once(
    agent: BlockingManager, function: Any, why: str
) -> None:
    with pytest.raises(InputError, match=why):
        agent.constrain("n", function)
