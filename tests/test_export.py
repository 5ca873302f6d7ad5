"""Exported audit records: what the script that goes with them takes and refuses; and others do."""

from __future__ import annotations

import ast
import base64
import functools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

import statecore
from statecore.codec.leaf import read_entry
from statecore.errors import InputError, StoreBusy, Unproven
from statecore.exporting import Exported, SealedStore, export, script
from statecore.exporting.ed25519 import is_signed
from statecore.exporting.folder import Folder
from statecore.transparency.checkpoint import parse_checkpoint
from statecore.transparency.note import parse_note
from statecore.transparency.policy import parse_policy
from statecore.transparency.proof import parse_proof
from statecore.transparency.tiles import bundles_of, tile_path, unpack_bundle
from tests.conftest import environment
from tests.test_audit import copy

KEY = b"k" * 32
EVENTS = 600  # over a tile, and with a partial one at two levels
VECTORS = Path(os.environ.get("STATECORE_VECTORS", "../shared/vectors"))


def exported(path: Path, folder: Path, *, opened: bool = False, **selection: Any) -> Exported:
    with statecore.open(path, key=KEY) as store:
        chosen = store.audit(**selection) if selection else ()
        head, policy = store.signed_head(), store.audit_policy()
        return export(path, folder, head, policy, chosen=chosen, opened=opened)


def verified(folder: Path, *arguments: object) -> tuple[int, str]:
    """Run the script with nothing but Python: no site packages, no environment."""
    command = [sys.executable, "-I", "-S", str(folder / "verify.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A store of a few events, one state of which was erased, and its export, made in two steps."""
    path = tmp_path_factory.mktemp("small") / "agents.db"
    with statecore.open(path, key=KEY) as store:
        ada, bob = store.manager("ada", actor="planner"), store.manager("bob")
        for number in range(3):
            ada.set_state("n", number, reason="counts")
            bob.add("n", 1)
    exported(path, path.parent / "record")
    with statecore.open(path, key=KEY) as store:
        store.erase("bob")
        store.manager("ada").set_state("note", "the end")
    exported(path, path.parent / "record", opened=True, key="note")
    return path, path.parent / "record"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    path = tmp_path_factory.mktemp("large") / "agents.db"
    with statecore.open(path, key=KEY) as store:
        agents = [store.manager(name) for name in ("one", "two", "three")]
        for number in range(EVENTS):
            agents[number % 3].set_state("n", number)
    exported(path, path.parent / "record", positions=(250, 260))
    return path, path.parent / "record"


def test_the_script_asks_for_nothing_but_an_old_python() -> None:
    tree = ast.parse(script(), feature_version=(3, 8))

    modules = {each.name for node in ast.walk(tree) if isinstance(node, ast.Import)
               for each in node.names}  # fmt: skip
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
                and node.module}  # fmt: skip
    assert {module.split(".")[0] for module in modules} <= sys.stdlib_module_names
    assert "statecore" not in {module.split(".")[0] for module in modules}
    assert "__future__" not in modules, "which is a file, too, that a folder could have"


def test_a_stranger_verifies_it_and_is_told_what_is_proved(small: tuple[Path, Path]) -> None:
    path, folder = small
    with statecore.open(path, key=KEY) as store:
        policy = folder.parent / "given.policy"
        policy.write_bytes(store.audit_policy())

    code, said = verified(folder)
    assert code == 0
    assert "HOLDS: 8 events in 2 streams" in said
    assert "- 1 older heads are signed" in said
    assert "- 1 chosen events are in the log" in said
    assert "the policy came with the record" in said
    assert "what 1 events say opened" in said
    for name in ("README.md", "verify.py"):
        assert f"- what this file says: {name}" in said

    code, said = verified(folder, "--policy", policy, "--head", folder / "heads/6")
    assert code == 0
    assert "goes on from 1 heads that you kept" in said
    assert "came with the record" not in said


def test_a_larger_one_has_all_tiles(large: tuple[Path, Path]) -> None:
    _, folder = large

    code, said = verified(folder)

    assert (code, "HOLDS: 600 events in 3 streams" in said) == (0, True)
    names = {p.relative_to(folder).as_posix() for p in folder.glob("tile/**/*") if p.is_file()}
    assert names == {
        "tile/entries/000", "tile/entries/001", "tile/entries/002.p/88",
        "tile/0/000", "tile/0/001", "tile/0/002.p/88", "tile/1/000.p/2",
    }  # fmt: skip


def test_what_is_opened_is_what_was_recorded(small: tuple[Path, Path]) -> None:
    _, folder = small

    told = json.loads((folder / "events/000000000007.json").read_text())

    assert (told["agent"], told["version"], told["keys"]) == ("ada", 4, ["note"])
    assert told["change"]["operations"][0]["value"] == "the end"


def test_an_export_without_open_has_nothing_in_clear(large: tuple[Path, Path]) -> None:
    _, folder = large

    assert len(list(folder.glob("events/*.sealed"))) == 11
    assert list(folder.glob("events/*.json")) == []
    for file in folder.glob("tile/**/*"):
        assert not file.is_file() or b"three" not in file.read_bytes()


# Tampering


@functools.cache
def loaded() -> dict[str, Any]:
    """The script, as it is, but that a signature looked at once is not looked at again."""
    names: dict[str, Any] = {"__name__": "verify", "__file__": "verify.py"}
    exec(compile(script(), "verify.py", "exec"), names)
    names["is_signed"] = functools.lru_cache(names["is_signed"])
    return names


def findings(folder: Path) -> list[str]:
    """Return what the script refuses; empty where it holds."""
    names = loaded()
    try:
        record, _ = names["verify"](folder, None, [])
    except names["Refused"] as refused:
        return [str(refused)]
    found: list[str] = record.findings
    return found


def proven_files(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(path for path in files if path.suffix not in (".md", ".py", ".json"))


def test_no_byte_of_what_is_proved_can_be_changed(small: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "record"
    shutil.copytree(small[1], folder)
    assert findings(folder) == []
    assert len(proven_files(folder)) == 8

    for file in proven_files(folder):
        whole = file.read_bytes()
        for at in range(len(whole)):
            flipped = bytes((whole[at] ^ 1 << at % 8,))
            file.write_bytes(whole[:at] + flipped + whole[at + 1 :])
            assert findings(folder), (file.name, at)
        more = b"?" if file.name == "policy" else b"\n"  # a blank line more is the same policy
        for changed in (b"", whole[:-1], whole + more, whole + whole):
            file.write_bytes(changed)
            assert findings(folder), (file.name, len(changed))
        file.write_bytes(whole)
    assert findings(folder) == []


def test_no_file_of_what_is_proved_can_be_missing(small: tuple[Path, Path], tmp_path: Path) -> None:
    for number, file in enumerate(proven_files(small[1])):
        folder = tmp_path / str(number)
        shutil.copytree(small[1], folder)
        (folder / file.relative_to(small[1])).unlink()

        if file.parent.name == "heads":  # one kept head less is one less to be held against
            assert findings(folder) == []
        else:
            assert findings(folder) != [], file


def test_the_script_itself_refuses_with_its_code(small: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "record"
    shutil.copytree(small[1], folder)
    sealed = folder / "events/000000000007.sealed"
    sealed.write_bytes(sealed.read_bytes()[::-1])
    (folder / "added").write_text("?")

    code, said = verified(folder)
    assert code == 1
    assert "REFUSED: events/000000000007: its sealed bytes are not those" in said
    assert "HOLDS" not in said

    (folder / "policy").unlink()
    assert verified(folder)[0] == 1
    assert verified(small[1], tmp_path / "nowhere")[0] == 1
    assert verified(small[1], "--policy", tmp_path / "nowhere")[0] == 2


@pytest.mark.parametrize(
    ("environs", "names"),
    [
        ({}, sys.stdlib_module_names),
        ({"PYTHONPATH": ":"}, {"argparse", "__future__", "re", "typing"}),  # which is this folder
    ],
)
def test_nothing_beside_the_script_is_taken_for_python(
    small: tuple[Path, Path], tmp_path: Path, environs: dict[str, str], names: set[str]
) -> None:
    folder = tmp_path / "record"
    shutil.copytree(small[1], folder)
    (folder / "tile/entries/000.p/8").write_bytes(b"forged")
    planted = "print('HOLDS: all of it')\nimport os\nos._exit(0)\n"
    for name in names:
        (folder / f"{name}.py").write_text(planted)

    command = [sys.executable, "verify.py"]  # as somebody may type it, in the folder
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, env=environs
    )

    assert "HOLDS" not in done.stdout
    assert (done.returncode, done.stdout[:8]) == (1, "REFUSED:")


def test_the_record_says_how_it_is_verified_safely(small: tuple[Path, Path]) -> None:
    told = (small[1] / "README.md").read_text()

    assert "python3 -I verify.py" in told
    assert "Take `verify.py` from the project, not from here" in told


def test_a_record_that_is_made_to_last_is_refused_soon(
    small: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "record"
    shutil.copytree(small[1], folder)
    head = (folder / "checkpoint").read_bytes()
    text, _, signature = head.rpartition(b"\n\n")

    (folder / "checkpoint").write_bytes(text + b"\n\n" + signature * 101)
    assert "more than 100 signatures" in verified(folder)[1]
    (folder / "checkpoint").write_bytes(head)
    bundle = folder / "tile/entries/000.p/8"
    os.truncate(bundle, 20_000_000_000)
    code, said = verified(folder)
    assert (code, "more in it than belongs there" in said) == (1, True)
    os.truncate(bundle, 0)
    for name in ("checkpoint", "policy", "tile/entries/000.p/8", "events/000000000007.sealed"):
        (folder / name).unlink()
        os.mkfifo(folder / name)
        code, said = verified(folder)
        assert (code, "REFUSED" in said) == (1, True)


def test_what_is_outside_is_said_to_be(small: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "record"
    shutil.copytree(small[1], folder)
    (folder / "events/000000000007.json").write_text("{}")
    (folder / "README.md").write_text("all is well")
    (folder / "tile/0/001").write_bytes(bytes(32))

    code, said = verified(folder)

    assert code == 0
    limits = said.partition("Not proved:")[2]
    assert "events/*.json" in limits
    assert "README.md" in limits
    assert "tile/0/001" in limits


def test_a_head_of_another_history_is_refused(small: tuple[Path, Path], tmp_path: Path) -> None:
    """Whoever has the log's key can sign another history; a head kept elsewhere tells."""
    path, folder = small
    fork = tmp_path / "agents.db"
    copy(path, fork)
    with statecore.open(fork, key=KEY) as store:
        store.manager("ada").set_state("n", 7)
        (tmp_path / "kept").write_bytes(store.signed_head())
    with statecore.open(path, key=KEY) as store:
        policy = store.audit_policy()

    code, said = verified(folder, "--head", tmp_path / "kept")
    assert (code, "more than there are here" in said) == (1, True)

    other = tmp_path / "other.db"
    with statecore.open(other, key=KEY) as store:
        store.manager("ada").set_state("n", 7)
        (tmp_path / "others").write_bytes(store.signed_head())
        (tmp_path / "policy").write_bytes(store.audit_policy())
    assert verified(folder, "--head", tmp_path / "others")[0] == 1
    assert verified(folder, "--policy", tmp_path / "policy")[0] == 1
    assert policy != (tmp_path / "policy").read_bytes()


# Again, and again


def test_an_older_export_is_brought_up_to_date(tmp_path: Path) -> None:
    path, folder = tmp_path / "agents.db", tmp_path / "record"
    for events in (0, 200, 100, 300, 0):
        with statecore.open(path, key=KEY) as store:
            for number in range(events):
                store.manager("one").set_state("n", number)
        done = exported(path, folder)
        assert done.new_events == events
        assert verified(folder)[0] == 0

    again = exported(path, tmp_path / "again")
    assert again.events == 600
    for file in (tmp_path / "again").rglob("*"):
        if file.is_file():
            assert file.read_bytes() == (folder / file.relative_to(tmp_path / "again")).read_bytes()
    assert sorted(p.name for p in folder.glob("heads/*")) == ["0", "200", "300"]
    assert exported(path, folder).files_written == 0


def test_an_export_that_was_killed_is_gone_on_with(tmp_path: Path) -> None:
    path, folder = tmp_path / "agents.db", tmp_path / "record"
    with statecore.open(path, key=KEY) as store:
        for number in range(EVENTS):
            store.manager("one").set_state("n", number)
    code = (
        "import os, signal, sys, statecore; from statecore.exporting import export\n"
        "from pathlib import Path\n"
        "def die(done):\n    if done >= 512: os.kill(os.getpid(), signal.SIGKILL)\n"
        "with statecore.open(sys.argv[1], key=b'k' * 32) as store:\n"
        "    export(Path(sys.argv[1]), Path(sys.argv[2]), store.signed_head(),"
        " store.audit_policy(), on_progress=die)\n"
    )
    died = subprocess.run(
        [sys.executable, "-c", code, str(path), str(folder)], env=environment(), check=False
    )
    assert died.returncode == -9
    assert not (folder / "checkpoint").exists()
    (folder / "tile/entries/002.p.draft").write_bytes(b"cut sh")

    exported(path, folder)

    assert verified(folder)[0] == 0


def test_what_is_not_ours_is_left_alone(small: tuple[Path, Path], tmp_path: Path) -> None:
    path, _ = small
    full, other = tmp_path / "full", tmp_path / "other"
    full.mkdir()
    (full / "thesis.tex").write_text("work of years")
    with pytest.raises(InputError, match="not empty"):
        exported(path, full)
    assert [p.name for p in full.iterdir()] == ["thesis.tex"]

    with statecore.open(tmp_path / "other.db", key=KEY) as store:
        store.manager("ada").set_state("n", 7)
    exported(tmp_path / "other.db", other)
    before = {p: p.read_bytes() for p in other.rglob("*") if p.is_file()}
    with pytest.raises(InputError, match="another log"):
        exported(path, other)
    assert before == {p: p.read_bytes() for p in other.rglob("*") if p.is_file()}


def test_a_log_that_does_not_go_on_from_the_export_is_not_put_over_it(
    large: tuple[Path, Path], tmp_path: Path
) -> None:
    path, folder = tmp_path / "agents.db", tmp_path / "record"
    with statecore.open(path, key=KEY) as store:
        store.manager("one").set_state("n", 1)
    copy(path, tmp_path / "old.db")
    with statecore.open(path, key=KEY) as store:
        store.manager("one").set_state("n", 2)
    exported(path, folder)

    with pytest.raises(Unproven, match="its end was cut off"):
        exported(tmp_path / "old.db", folder)
    with statecore.open(tmp_path / "old.db", key=KEY) as store:
        store.manager("one").set_state("n", 3)
    with pytest.raises(Unproven, match="not those that the store has now"):
        exported(tmp_path / "old.db", folder)
    shutil.copytree(large[1], tmp_path / "changed")
    tile = tmp_path / "changed/tile/0/001"
    tile.write_bytes(tile.read_bytes()[::-1])
    with pytest.raises(Unproven, match="its files were changed"):
        exported(large[0], tmp_path / "changed")


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE events SET state = CAST(state || x'00' AS BLOB) WHERE position = 300",
        "UPDATE events SET version = -1 WHERE position = 300",
        "DELETE FROM events WHERE position = 550",
    ],
)
def test_a_store_that_is_not_what_was_signed_is_not_exported(
    large: tuple[Path, Path], tmp_path: Path, tampering: str
) -> None:
    path = tmp_path / "agents.db"
    with statecore.open(large[0], key=KEY) as store:
        policy = store.audit_policy()
    copy(large[0], path)
    with sqlite3.connect(path) as database:
        database.execute(tampering)

    with SealedStore(path) as sealed, pytest.raises((Unproven, statecore.Damage)):
        export(path, tmp_path / "record", sealed.signed_head(), policy)

    assert not (tmp_path / "record/checkpoint").exists()


def test_what_is_kept_of_the_tree_is_not_believed(large: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "agents.db"
    copy(large[0], path)
    policy = (large[1] / "policy").read_bytes()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE tree SET hash = zeroblob(32)")

    with SealedStore(path) as sealed:
        export(path, tmp_path / "record", sealed.signed_head(), policy)

    assert verified(tmp_path / "record")[0] == 0


def test_two_processes_do_not_export_to_one_folder(
    small: tuple[Path, Path], tmp_path: Path
) -> None:
    with Folder(tmp_path / "record"), pytest.raises(StoreBusy):
        exported(small[0], tmp_path / "record")


def test_an_export_takes_no_key_where_the_policy_is_known(
    small: tuple[Path, Path], tmp_path: Path
) -> None:
    path, _ = small
    with statecore.open(path, key=KEY) as store:
        policy = store.audit_policy()
    (tmp_path / "agents.db").write_bytes(path.read_bytes())

    with SealedStore(tmp_path / "agents.db") as sealed:
        chosen = sealed.audit(positions=(3, 4))
        head = sealed.signed_head()
        done = export(tmp_path / "agents.db", tmp_path / "record", head, policy, chosen=chosen)

    assert (done.events, done.chosen) == (8, 2)
    assert verified(tmp_path / "record")[0] == 0


# What others say


def test_others_accept_the_tree_the_proofs_and_the_checkpoint(large: tuple[Path, Path]) -> None:
    pymerkle = pytest.importorskip("pymerkle", reason="needs the extra dev")
    bundle = pytest.importorskip("proofbundle.tlogproof", reason="needs the extra dev")
    reader = pytest.importorskip("sigstore._internal.rekor.checkpoint", reason="needs extra dev")
    from sigstore._internal.trust import Keyring
    from sigstore_models.common.v1 import PublicKey, PublicKeyDetails

    _, folder = large
    note = (folder / "checkpoint").read_bytes()
    said = parse_checkpoint(parse_note(note).text)
    log = parse_policy((folder / "policy").read_bytes()).logs[0].key

    tree = pymerkle.InmemoryTree(algorithm="sha256")
    for each in bundles_of(said.size):
        for entry in unpack_bundle((folder / tile_path(each)).read_bytes(), each.width):
            tree.append_entry(entry)
    assert tree.get_root() == said.root

    proofs = sorted(folder.glob("events/*.tlog-proof"))
    assert len(proofs) == 11
    for proof in proofs:
        entry = proof.with_suffix(".entry").read_bytes()
        found = bundle.verify_tlog_proof(proof.read_text(), entry, str(log), [], threshold=0)
        assert found["ok"], found
        sealed = proof.with_suffix(".sealed").read_bytes()
        assert sha256(sealed).digest() == read_entry(entry).digest
        assert parse_proof(proof.read_bytes()).extra == entry

    public = Ed25519PublicKey.from_public_bytes(log.public_key)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key = PublicKey(raw_bytes=base64.b64encode(der), key_details=PublicKeyDetails.PKIX_ED25519)
    read = reader.SignedCheckpoint.from_text(note.decode())
    read.signed_note.verify(Keyring([key]), log.id)
    assert read.checkpoint.log_hash == said.root.hex()


# RFC 8032, 7.1: tests 1 to 3 and SHA(abc): public key, message, signature.
RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.mark.parametrize(("key", "message", "signature"), RFC_8032)
def test_the_published_signatures_hold(key: str, message: str, signature: str) -> None:
    parts = bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature)

    assert is_signed(*parts)
    assert not is_signed(parts[0], parts[1] + b"x", parts[2])


def test_wycheproofs_signatures_are_judged_as_published() -> None:
    file = VECTORS / "wycheproof" / "ed25519_test.json"
    if not file.exists():
        pytest.skip("the published vectors are not here")
    count = 0
    for group in json.loads(file.read_text())["testGroups"]:
        key = bytes.fromhex(group["publicKey"]["pk"])
        for test in group["tests"]:
            parts = bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"])
            assert is_signed(key, *parts) is (test["result"] == "valid"), test
            count += 1
    assert count > 100


@settings(max_examples=25)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=100), st.integers(0, 511))
def test_signatures_of_another_implementation_hold_and_nothing_beside_them(
    seed: bytes, message: bytes, bit: int
) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    key, signature = private.public_key().public_bytes_raw(), private.sign(message)
    flipped = bytearray(signature)
    flipped[bit // 8] ^= 1 << bit % 8

    assert is_signed(key, message, signature)
    assert not is_signed(key, message, bytes(flipped))
