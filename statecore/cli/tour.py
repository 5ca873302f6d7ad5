"""The tour: tells what the demonstration recorded and found."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from statecore import AgentState
from statecore.cli import trip
from statecore.cli.demo import Run
from statecore.cli.render import change_lines, printable, shortened, size_text
from statecore.cli.screen import Screen


def tell(run: Run, screen: Screen) -> None:
    """Tell it, from the recorded run to its size."""
    end = run.states[-1]
    screen.title(
        "An agent plans a week in Portugal",
        f"{end.version} events, just recorded: messages, a plan, tool results, counters, drafts\n"
        "made and deleted, bookings. Each says who, when and why. Something went wrong.",
    )
    screen.chapter("1. How it ended", "agent.at()")
    screen.say(f"  {end['spent']} euros are spent, of {end['budget']}. The planner's last words:")
    screen.say(f'  "{end["messages"][-1]["content"]}"')
    _tell_search(run, screen)
    _tell_history(run, screen)
    _tell_change(run, screen)
    _tell_branches(run, screen)
    _tell_states(run, screen)
    _tell_size(run, screen)
    _tell_more(run, screen)


def _tell_search(run: Run, screen: Screen) -> None:
    last = run.states[-1].version
    screen.chapter("2. When did it go wrong?", f"agent.bisect(1, {last}, adds_up)")
    screen.say(
        "  At some version `spent` stopped being the sum of the bookings. Every past state is\n"
        f"  there to be asked, so we halve: {run.looks} looks among {last} versions find version"
        f" {run.slip.version}."
    )


def _tell_history(run: Run, screen: Screen) -> None:
    screen.chapter("3. Who was it, and why?", 'agent.history("spent", since="approved")')
    rows = [
        (
            "->" if event is run.slip else "",
            str(event.version),
            f"{event.time:%H:%M:%S}",
            event.actor or "",
            event.reason or "",
            str(event.change.operations["spent"]),
        )
        for event in run.spendings
    ]
    screen.table(
        ("", "version", "time", "who", "why", "spent"), rows, run.spendings.index(run.slip)
    )


def _tell_change(run: Run, screen: Screen) -> None:
    slip = run.slip.version
    screen.chapter("4. What exactly happened there?", f"agent.diff({slip - 1}, {slip})")
    screen.say("\n".join(map(shortened, change_lines(run.change))))
    screen.say("  The point slipped: 450.00 for 45.00.")


def _tell_branches(run: Run, screen: Screen) -> None:
    slip, end = run.slip.version, run.states[-1]
    screen.chapter(
        "5. What if it had not slipped?",
        f'agent.what_if("no-slip", replace={{{slip}: ...}}), agent.merge("fix")',
    )
    screen.say(
        f"  A branch begins before version {slip}, adds {trip.PRICE} there, and does the rest"
        " again. All that\n  differs on it today:"
    )
    screen.say("\n".join(change_lines(run.without)))
    screen.say(
        f"  So another branch, begun at the slip, takes {trip.SLIP} off. Merged into all that came"
        " since:"
    )
    screen.say("\n".join(change_lines(run.correction)))
    screen.say(
        f"  `spent` is {run.corrected['spent']} at version {run.corrected.version}, and stays"
        f" {end['spent']} at version {end.version}. History is never rewritten."
    )


def _tell_states(run: Run, screen: Screen) -> None:
    screen.chapter(
        "6. The state at any moment", f'agent.at({run.slip.version}), agent.at("{trip.APPROVED}")'
    )
    rows = [tuple(_facts(state)) for state in (*run.states, run.corrected)]
    screen.table(
        ("version", "phase", "days planned", "messages", "bookings", "spent", "tokens"), rows
    )


def _facts(state: AgentState) -> Iterator[str]:
    """Yield what is worth seeing side by side."""
    yield str(state.version)
    yield state["phase"]
    yield str(len(state["plan"]["days"]))
    yield str(len(state["messages"]))
    yield str(len(state.get("bookings", [])))
    yield str(state["spent"])
    yield f"{state['tokens']:,}"


def _tell_size(run: Run, screen: Screen) -> None:
    sizes = run.sizes
    screen.chapter("7. What does it take to keep every moment?")
    rows = [
        ("the whole state after each event, as JSON", sizes.snapshots),
        ("the same, each compressed by itself", sizes.compressed),
        ("this store, encrypted, with branches, indexes, keys", sizes.store),
    ]
    screen.table(("", "size", ""), [(n, size_text(s), _times(s / sizes.store)) for n, s in rows], 2)
    screen.say(
        f"  An empty store takes {size_text(sizes.empty)} of it: {sizes.events} events, those of"
        f" branches too, added\n  {(sizes.store - sizes.empty) / sizes.events:,.0f} bytes each."
    )


def _times(ratio: float) -> str:
    return f"{ratio:.1f} x"


def _tell_more(run: Run, screen: Screen) -> None:
    if not run.place.kept:
        screen.chapter(
            "This store was a temporary one, and is gone. Keep one, and look around in it:"
        )
        screen.say("  statecore demo trip.db")
        return
    store = printable(shlex.quote(str(run.place.path)))
    more = " --passphrase" if run.place.passphrase else ""
    slip = run.slip.version
    screen.chapter("Look around:")
    for command in (
        f"log {store} --limit 10",
        f"history {store} {trip.AGENT} plan",
        f"show {store} {trip.AGENT} --at {trip.APPROVED}",
        f"diff {store} {trip.AGENT} {slip - 1} {slip}",
        f"branch {store} {trip.AGENT}",
        f"blame {store} {trip.AGENT} plan --path days.3.morning",
        f"set {store} {trip.AGENT} note '\"call home\"' --actor me",
        f"stats {store}",
    ):
        screen.say(f"  statecore {command}{more}")
