"""The story of the demonstration: agents plan and book a week in Portugal. Always the same one.

Towards its end one of them slips: the boat tour costs 45.00, and 450.00 is added to what is spent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from statecore import EMPTY, Change

AGENT: Final = "trip-planner"
APPROVED: Final = "approved"
BEGIN: Final = datetime(2026, 3, 2, 9, tzinfo=UTC)
PRICE: Final = Decimal("45.00")  # of the boat tour
SLIP: Final = Decimal("405.00")  # so much too much was added


@dataclass(frozen=True, slots=True)
class Step:
    """One event of the story."""

    actor: str
    reason: str
    change: Change = EMPTY
    tag: str | None = None
    seconds: int = 20  # since the step before


class Stay(NamedTuple):
    """Nights in a city, and the rooms there are: name, price in all, rating, metres away."""

    city: str
    nights: int
    rooms: tuple[tuple[str, str, float, int], ...]


class Day(NamedTuple):
    """A day: what it is about, three ideas to take and one to leave, and its weather."""

    city: str
    theme: str
    ideas: tuple[str, str, str, str]
    sky: str
    degrees: int
    minutes: tuple[int, int, int]  # from one idea to the next


_STAYS: Final = (
    Stay(
        "Lisbon",
        3,
        (
            ("Casa do Largo", "387.00", 9.1, 350),
            ("Hotel Mirante", "462.00", 8.9, 900),
            ("Pensao Graca", "254.00", 7.8, 1200),
        ),
    ),
    Stay(
        "Coimbra",
        1,
        (
            ("Quinta da Ponte", "96.00", 8.7, 600),
            ("Hotel do Rio", "118.00", 8.4, 250),
            ("Casa da Colina", "88.00", 8.1, 1500),
        ),
    ),
    Stay(
        "Porto",
        3,
        (
            ("Residencia Ribeira", "342.00", 9.0, 700),
            ("Hotel do Mercado", "411.00", 8.8, 300),
            ("Casa Vitoria", "279.00", 8.2, 1100),
        ),
    ),
)

_DAYS: Final = (
    Day(
        "Lisbon",
        "arriving and wandering",
        (
            "a walk down through the Alfama before dinner",
            "grilled fish on the steps of a square",
            "the last tram up to the viewpoint",
            "a museum of tiles that is closed on Mondays",
        ),
        "sunny",
        23,
        (10, 15, 20),
    ),
    Day(
        "Lisbon",
        "the river",
        (
            "the monastery in Belem early, before the buses come",
            "custard tarts, warm, with cinnamon",
            "the riverside by bicycle at sunset",
            "a tower with a queue of two hours",
        ),
        "sunny",
        24,
        (25, 5, 30),
    ),
    Day(
        "Lisbon",
        "the hills",
        (
            "the train to Sintra at nine",
            "the palace gardens, not the rooms",
            "a late swim at the Atlantic",
            "a bus tour with lunch and four photo stops",
        ),
        "misty until noon",
        20,
        (40, 20, 35),
    ),
    Day(
        "Coimbra",
        "students and fado",
        (
            "the old library of the university, with a timed ticket",
            "lunch in the botanical garden",
            "fado in a chapel at six",
            "a second library, for those who like libraries",
        ),
        "cloudy",
        21,
        (15, 10, 15),
    ),
    Day(
        "Porto",
        "the water",
        (
            "the boat up the Douro in the morning",
            "a tasting with a view of the terraces",
            "the slow train back along the river",
            "a helicopter over the valley",
        ),
        "sunny",
        22,
        (12, 120, 20),
    ),
    Day(
        "Porto",
        "bridges and books",
        (
            "across the upper bridge on foot, back on the lower one",
            "the bookshop with the red staircase, at opening",
            "dinner at the market of Bolhao",
            "six bridges by boat in fifty minutes",
        ),
        "rainy",
        18,
        (15, 15, 10),
    ),
    Day(
        "Porto",
        "a slow goodbye",
        (
            "coffee and toast on the Rua das Flores",
            "a last look from the cathedral's terrace",
            "the metro to the airport at four",
            "a souvenir shop the size of a hangar",
        ),
        "sunny",
        21,
        (5, 10, 35),
    ),
)

# What is booked and the price in all; where something else is added to what is spent, that too.
_BOOKINGS: Final = (
    ("flights for two", "398.00", None),
    ("Casa do Largo", "387.00", None),
    ("train to Coimbra", "41.50", None),
    ("Quinta da Ponte", "96.00", None),
    ("university library", "25.00", None),
    ("train to Porto", "27.80", None),
    ("boat up the Douro", "45.00", "450.00"),
    ("Residencia Ribeira", "342.00", None),
    ("fado in the chapel", "30.00", None),
    ("bookshop vouchers", "16.00", None),
)


def story() -> Iterator[Step]:
    """Yield the steps, in order."""
    yield from _begin()
    for stay in _STAYS:
        yield from _find_room(stay)
    for number, day in enumerate(_DAYS, 1):
        yield from _plan_day(number, day)
    yield from _approve()
    for item, price, added in _BOOKINGS:
        yield from _book(item, Decimal(price), Decimal(added or price))
    words = "All is booked, but by my count it came out above the budget. That can't be right."
    yield Step("planner", "sums up", _said(EMPTY.put("phase", "review"), words))


def _begin() -> Iterator[Step]:
    wish = (
        "A week in Portugal for two in May, please: Lisbon, something small in between, Porto. "
        "We have 1,800 euros, we like trains and food, and one day should be on the water."
    )
    asked = EMPTY.put("goal", "a week in Portugal for two, by train, one day on the water")
    asked = asked.put("budget", Decimal("1800.00"))
    yield Step("ada", "asks", asked.extend("messages", [_message("user", wish)]), seconds=0)
    reply = "Three nights in Lisbon, one in Coimbra, three in Porto. I look for rooms first."
    plan = {"route": [stay.city for stay in _STAYS], "rooms": {}, "days": {}}
    begun = EMPTY.put("plan", plan).put("phase", "rooms").put("spent", Decimal("0.00"))
    yield Step("planner", "sketches the route", _said(begun, reply))


def _find_room(stay: Stay) -> Iterator[Step]:
    key, city = f"rooms:{stay.city}", stay.city
    names = {"city": city, "nights": stay.nights, "rooms": [room[0] for room in stay.rooms]}
    yield _tool("researcher", f"looks for rooms in {city}", EMPTY.put(key, {}), names)
    for name, price, rating, metres in stay.rooms:
        room = {"price": Decimal(price), "rating": rating, "metres": metres, "checked": BEGIN}
        told = {"room": name, "nights": stay.nights, "free": True, "cancel_until": "1 May", **room}
        found = EMPTY.patch(key, {name: room})
        yield _tool("researcher", f"checks {name}", found, told)
    best, price, rating, _ = max(stay.rooms, key=lambda room: room[2])
    why = f"In {city} I take {best}: at {rating} nothing is rated higher, and {price} is fair."
    chosen = EMPTY.patch("plan", EMPTY.patch("rooms", {city: best}))
    yield Step("planner", f"chooses {best}", _said(chosen, why))
    yield Step("planner", "clears its desk", EMPTY.remove(key), seconds=2)


def _plan_day(number: int, day: Day) -> Iterator[Step]:
    key, name = f"draft:{number}", f"day {number}"
    first, second, third, left_out = day.ideas
    begun = EMPTY.put("phase", "days").put(key, {"city": day.city, "theme": day.theme})
    yield Step("planner", f"drafts {name}", _said(begun, f"Day {number} is for {day.theme}."))
    weather = {"sky": day.sky, "degrees": day.degrees}
    looked = EMPTY.patch(key, {"weather": weather})
    yield _tool("researcher", f"checks the weather of {name}", looked, {"day": number, **weather})
    found = EMPTY.patch(key, {"ideas": list(day.ideas)})
    told = {"city": day.city, "theme": day.theme, "ideas": list(day.ideas)}
    yield _tool("researcher", f"finds ideas for {name}", found, told)
    legs = [{"to": to, "minutes": it} for to, it in zip(day.ideas, day.minutes, strict=False)]
    yield _tool(
        "researcher", f"measures the ways of {name}", EMPTY.patch(key, {"legs": legs}), legs
    )
    kept = {"city": day.city, "morning": first, "noon": second, "late": third}
    settled = EMPTY.patch("plan", EMPTY.patch("days", {str(number): kept}))
    why = f"It will be {day.sky}, {day.degrees} degrees: {first}, then {second}, and {third}."
    yield Step("planner", f"settles {name}", _said(settled, f"{why} I leave out {left_out}."))
    yield Step("planner", "clears its desk", EMPTY.remove(key), seconds=2)


def _approve() -> Iterator[Step]:
    wish = "Lovely. On day 3 we would rather sleep in, so take the train at ten. Then book it all."
    yield Step("ada", "comments", EMPTY.extend("messages", [_message("user", wish)]), seconds=600)
    later = EMPTY.patch("days", EMPTY.patch("3", {"morning": "the train to Sintra at ten"}))
    reply = "The train at ten it is. I book the flights, the rooms, the trains and the tickets now."
    yield Step("planner", "moves the train", _said(EMPTY.patch("plan", later), reply))
    yield Step("ada", "is happy with the plan", tag=APPROVED)
    yield Step("planner", "hands over", EMPTY.put("phase", "booking"))


def _book(item: str, price: Decimal, added: Decimal) -> Iterator[Step]:
    asked = {"item": item, "price": price, "state": "asked"}
    yield Step("booker", f"asks for the {item}", EMPTY.put("booking", asked).add("calls", 1))
    held = EMPTY.patch("booking", {"state": "held"})
    answer = {"item": item, "price": price, "state": "held", "for_minutes": 15}
    yield _tool("booker", f"holds the {item}", held, answer)
    paid = EMPTY.remove("booking").extend("bookings", [{"item": item, "price": price}])
    answer = {"item": item, "charged": price, "state": "confirmed", "cancel_until": "1 May"}
    yield _tool("booker", f"pays: {item}", paid.add("spent", added), answer)


def _tool(actor: str, reason: str, change: Change, result: Any) -> Step:
    """Call a tool, and keep what it says."""
    change = change.add("calls", 1).extend("messages", [_message("tool", result)])
    return Step(actor, reason, change)


def _said(change: Change, words: str) -> Change:
    """Say something, which costs tokens."""
    tokens = 300 + len(words)
    change = change.extend("messages", [_message("assistant", words)])
    return change.add("tokens", tokens).add("cost", tokens * Decimal("0.00001"))


def _message(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}
