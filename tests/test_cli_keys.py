"""The command line of keys: listed, checked, changed, destroyed, backed up."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import termios
from pathlib import Path

import pyrage
import pytest

import statecore
from tests.test_cli import ACTS_ON_TERMINAL, HOSTILE, KEY, await_prompt, fails, run, start
from tests.test_cli_branches import EXAMPLE

WORDS = "correct horse"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATECORE_KEY", KEY)
    monkeypatch.delenv("STATECORE_PASSPHRASE", raising=False)
    monkeypatch.setenv("STATECORE_BACKUP_PASSPHRASE", WORDS)
    monkeypatch.setenv("STATECORE_NEW_PASSPHRASE", "battery staple")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "agents.db"
    with statecore.open(path) as store:
        store.manager("chat", subject="user-42").set_state("n", 1)
        store.manager("plan").set_state("n", 2)
    return path


def test_keys_are_listed_for_people_and_programs(path: Path) -> None:
    assert run("keys", "rotate-data", path, "plan", "--actor", "ops").out == "new keys: main\n"
    assert json.loads(run("keys", "erase", path, "user-42", "--yes", "--json").out) == {
        "erased": ["chat"]
    }

    lines = run("keys", "list", path).out.splitlines()
    log, chat, first, second = run("keys", "list", path, "--json").lines

    assert [line.split("  ")[0] for line in (lines[0], *lines[2:])] == ["(the log)", "plan", "plan"]
    assert lines[1].endswith("destroyed")
    assert "user-42" not in "".join(lines)
    assert (log["epoch"], chat["destroyed"], chat["agent"]) == (0, True, None)
    assert (first["since"], second["since"], second["epoch"]) == (1, 2, 2)
    assert run("keys", "check", path).out == "4 keys, 1 destroyed; the key is from: environment\n"


def test_a_check_that_finds_something_has_an_exit_code(path: Path) -> None:
    keys = path.with_name("agents.db-keys")
    import apsw

    database = apsw.Connection(str(keys))
    database.execute("DELETE FROM keys WHERE epoch = 1")
    database.close()

    answer = run("keys", "check", path, "--json")

    assert answer.code == 5
    assert len(answer.data["problems"]) == 2
    assert "2 of its keys" in answer.err


def test_the_key_of_a_store_is_changed(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = tmp_path / "new.key"
    assert run("keys", "rotate", path, "--to-key-file", new).out == (
        "3 keys are wrapped by the new key\n"
    )
    assert "not this store's key" in fails(4, "show", path, "plan")
    monkeypatch.delenv("STATECORE_KEY")
    monkeypatch.setenv("STATECORE_KEY_FILE", str(new))
    assert run("get", path, "plan", "n").out == "2\n"

    assert run("keys", "rotate", path, "--to-passphrase", "--json").data == {"keys": 3}
    monkeypatch.setenv("STATECORE_PASSPHRASE", "battery staple")
    assert run("get", path, "plan", "n", "--passphrase").out == "2\n"
    monkeypatch.setenv("NEW_ONE", KEY)
    assert run("keys", "rotate", path, "--passphrase", "--to-env", "NEW_ONE").code == 0
    monkeypatch.setenv("STATECORE_KEY", KEY)
    assert run("get", path, "plan", "n").out == "2\n"
    assert "one place" in fails(2, "keys", "rotate", path)
    assert "one place" in fails(2, "keys", "rotate", path, "--to-passphrase", "--to-env", "X")
    assert "is not set" in fails(4, "keys", "rotate", path, "--to-env", "NO_SUCH_VARIABLE")


def test_erasing_asks_first_and_says_what_is_not_there(path: Path) -> None:
    declined = run("keys", "erase", path, "user-42", stdin="n\n")
    assert (declined.code, declined.out) == (2, "")
    assert declined.err.endswith("statecore: nothing was changed\n")
    unanswered = run("keys", "erase", path, "user-42")
    assert unanswered.code == 2
    assert unanswered.err.endswith(
        "\nstatecore: nobody answered, and nothing was changed: say --yes\n"
    )
    assert run("get", path, "chat", "n").code == 0
    assert "no state that holds data of chat" in fails(1, "keys", "erase", path, "chat", "--yes")
    assert "no agent user-42" in fails(1, "keys", "erase", path, "user-42", "--agent", "--yes")

    assert run("keys", "erase", path, "user-42", stdin="y\n").out.endswith("erased chat\n")
    said = ("--actor", "dpo", "--reason", "ticket 7")
    assert run("keys", "erase", path, "plan", "--agent", "--yes", *said).out == "erased plan\n"
    listed = run("audit", "list", path, "--actor", "dpo", "--json").out
    assert '"ticket 7"' in listed

    assert "was erased" in fails(1, "get", path, "chat", "n")
    assert "was erased" in fails(1, "get", path, "plan", "n")


@pytest.mark.parametrize("to_age", [False, True])
def test_keys_are_backed_up_and_put_back(path: Path, tmp_path: Path, to_age: bool) -> None:
    target, identity = tmp_path / "keys.backup", pyrage.x25519.Identity.generate()
    (tmp_path / "identity").write_text(str(identity))
    to = ["--to", str(identity.to_public())] if to_age else []
    by = ["--identity", tmp_path / "identity"] if to_age else []

    assert run("keys", "backup", path, target, *to).out == f"3 keys are in {target}\n"
    assert "not written over" in fails(2, "keys", "backup", path, target, *to)
    assert "move it away" in fails(2, "keys", "restore", path, target, *by)
    path.with_name("agents.db-keys").unlink()
    assert fails(4, "get", path, "plan", "n")
    assert run("keys", "restore", path, target, *by, "--json").data == {"keys": 3}

    assert run("get", path, "plan", "n").out == "2\n"


def test_nothing_of_a_key_acts_on_the_terminal(path: Path) -> None:
    with statecore.open(path) as store:
        store.manager(f"agent{HOSTILE}", subject=f"who{HOSTILE}").set_state("n", 1)

    for arguments in (["list"], ["list", "--json"], ["check"]):
        answer = run("keys", arguments[0], path, *arguments[1:])
        assert answer.code == 0
        assert not ACTS_ON_TERMINAL.search(answer.out)
    answer = run("keys", "erase", path, f"who{HOSTILE}", stdin="y\n")
    assert answer.code == 0
    assert not ACTS_ON_TERMINAL.search(answer.out + answer.err)


def test_every_command_has_examples() -> None:
    for command in ("list", "check", "backup", "restore", "rotate", "rotate-data", "erase"):
        assert EXAMPLE.findall(run("keys", command, "--help").out)


@pytest.mark.parametrize(("typed", "code"), [("n\n", 2), ("\x04", 2), ("\x03", 130)])
def test_who_does_not_say_yes_at_a_terminal_changes_nothing(
    path: Path, typed: str, code: int
) -> None:
    person, program = pty.openpty()
    with start("keys", "erase", path, "user-42", stdin=program, preexec_fn=_at_terminal) as process:
        await_prompt(process, "[y/N]: ")
        os.write(person, typed.encode())
        out, _ = process.communicate(timeout=30)
    os.close(person)
    os.close(program)

    assert (process.returncode, out.strip()) == (code, "")
    with statecore.open(path) as store:
        assert store.manager("chat").get_state("n") == 1


def _at_terminal() -> None:
    """Make standard input the terminal of a session of its own: its Ctrl-C is a signal then."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_no_passphrase_at_a_terminal_is_no_key(path: Path) -> None:
    person, program = pty.openpty()
    arguments = ("show", path, "chat", "--passphrase")
    with start(*arguments, stdin=program, start_new_session=True) as process:
        await_prompt(process, "Passphrase: ")
        os.write(person, b"\x04")
        _, err = process.communicate(timeout=30)
    os.close(person)
    os.close(program)

    assert process.returncode == 4
    assert "no passphrase was given" in err
