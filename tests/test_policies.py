"""Trust policies and proofs in a file: what satisfies them, what is refused, and by others."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from statecore.errors import InputError, InvalidKey, LimitExceeded, Malformed, Unproven
from statecore.transparency import (
    Checkpoint,
    Cosigner,
    Ed25519Signer,
    Frontier,
    Group,
    Log,
    Note,
    Policy,
    Proof,
    Witness,
    judge,
    leaf_hash,
    parse_checkpoint,
    parse_note,
    parse_policy,
    parse_proof,
    parse_tile_path,
    parse_verifier_key,
    require,
    sign,
    verify_proof,
    write_checkpoint,
    write_note,
    write_policy,
    write_proof,
)
from statecore.transparency.merkle import prove_inclusion
from statecore.transparency.policy import POLICY_BYTES_MAX
from statecore.transparency.proof import PROOF_BYTES_MAX
from statecore.transparency.tiles import pack_bundle, unpack_bundle
from tests.test_notes import HEAD, LOG, lasting, seasalp

HEAD_TEXT = write_checkpoint(HEAD)
ENTRIES = [f"entry {number}".encode() for number in range(7)]


def cosigner(name: str, time_s: int = 1000) -> Cosigner:
    private = Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest())
    return Cosigner(f"example.com/{name}", private, time_s)


def key(name: str) -> str:
    return str(cosigner(name).verifier)


def signed(*signers: Any, text: str = HEAD_TEXT) -> bytes:
    return write_note(sign(Note(text), *signers))


LOG_LINE = f"log {LOG.verifier}\n"
WITNESSES = "".join(
    f"witness {name} {key(name)}\n" for name in ("X1", "X2", "X3", "Y1", "Y2", "Y3")
)

# https://c2sp.org/tlog-policy, "Example policy", with keys
EXAMPLE = f"""
{LOG_LINE}
witness X1 {key("X1")}
witness X2 {key("X2")}
witness X3 {key("X3")}
group X-witnesses 2 X1 X2 X3

witness Y1 {key("Y1")}
witness Y2 {key("Y2")}
witness Y3 {key("Y3")}
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""


@pytest.mark.parametrize(
    ("names", "has_quorum"),
    [
        ("", False),
        ("X1 X2", False),
        ("X1 Y1", False),
        ("X1 Y1 Y2 Y3", False),
        ("X1 X2 X3", False),
        ("X1 X2 Y1", True),
        ("X3 X1 Y3", True),
        ("X1 X2 X3 Y1 Y2 Y3", True),
    ],
)
def test_the_published_example_needs_two_of_one_and_one_of_the_other(
    names: str, has_quorum: bool
) -> None:
    policy = parse_policy(EXAMPLE.encode())
    checkpoint = signed(LOG, *map(cosigner, names.split()))

    verdict = judge(policy, checkpoint)

    assert verdict.checkpoint == HEAD
    assert verdict.log == policy.logs[0]
    assert verdict.cosigned == dict.fromkeys(names.split(), 1000)
    assert verdict.has_quorum is has_quorum
    if has_quorum:
        assert require(policy, checkpoint) == verdict
    else:
        with pytest.raises(Unproven, match="no quorum"):
            require(policy, checkpoint)


def test_a_real_tree_head_satisfies_a_policy_of_its_real_witnesses() -> None:
    note, (log, glasklar, mullvad) = seasalp()
    lines = f"log {log} https://seasalp.glasklar.is\nwitness g {glasklar}\nwitness m {mullvad}\n"

    both = parse_policy(f"{lines}group two all g m\nquorum two\n".encode())

    assert require(both, write_note(note)).cosigned == {"g": 1754020861, "m": 1754020861}
    with pytest.raises(Unproven, match="1 of the policy's 2 witnesses"):
        require(both, write_note(replace(note, signatures=note.signatures[:2])))


def test_a_policy_without_a_quorum_needs_the_log_only() -> None:
    policy = parse_policy(f"{LOG_LINE}quorum none\n".encode())

    assert require(policy, signed(LOG, cosigner("X1"))).cosigned == {}


def test_a_log_speaks_for_its_own_origin_only() -> None:
    other = replace(LOG, name="example.com/other")
    policy = parse_policy(f"log {other.verifier}\nquorum none\n".encode())

    with pytest.raises(Unproven):
        judge(policy, signed(other))
    with pytest.raises(Unproven):
        judge(policy, signed(LOG))


def test_witnesses_alone_are_not_the_log() -> None:
    policy = parse_policy(EXAMPLE.encode())

    with pytest.raises(Unproven, match="no log"):
        judge(policy, signed(*map(cosigner, ("X1", "X2", "Y1"))))


def test_a_false_cosignature_of_a_known_witness_condemns_the_checkpoint() -> None:
    policy = parse_policy(EXAMPLE.encode())
    moved = sign(Note(HEAD_TEXT.replace("3", "4")), cosigner("X1")).signatures
    good = sign(Note(HEAD_TEXT), LOG, cosigner("X2"), cosigner("X3"), cosigner("Y1"))

    with pytest.raises(Unproven, match="does not hold"):
        judge(policy, write_note(replace(good, signatures=(*good.signatures, *moved))))


def test_what_the_witness_said_last_counts_and_only_once() -> None:
    policy = parse_policy(EXAMPLE.encode())
    later, sooner = (sign(Note(HEAD_TEXT), cosigner("X1", at)).signatures for at in (30, 20))
    note = sign(Note(HEAD_TEXT), LOG)

    verdict = judge(policy, write_note(replace(note, signatures=note.signatures + later + sooner)))

    assert verdict.cosigned == {"X1": 30}
    assert not verdict.has_quorum


def test_a_log_whose_signature_leaves_out_the_extensions_must_have_none() -> None:
    log = replace(lasting(), name=HEAD.origin)
    policy = parse_policy(f"log {log.verifier}\nquorum none\n".encode())
    extended = replace(HEAD, extensions=("put in by somebody",))

    assert require(policy, signed(log)).log.key == log.verifier
    with pytest.raises(Unproven, match="whole"):
        judge(policy, signed(log, text=write_checkpoint(extended)))


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("", "0 quorum lines"),
        ("quorum none\nquorum none\n", "2 quorum lines"),
        ("quorum none", "line 1: does not end"),
        (f"{LOG_LINE}quorum none\nwitne", "line 3: does not end"),
        ("quorum X1\n", "line 1: the quorum names nothing"),
        (f"quorum X1\nwitness X1 {key('X1')}\n", "line 1: the quorum names nothing"),
        ("quorum\n", "line 1: is no line"),
        ("quorum none none\n", "line 1: is no line"),
        ("Quorum none\n", "line 1: is no line"),
        ("log\n", "line 1: is no line"),
        ("\n\nlog example.com/log\n", "line 3: a verifier key"),
        (f"log {LOG.verifier} https://a https://b\n", "line 1: is no line"),
        (LOG_LINE * 2, "line 2: the key is there already"),
        (f"{LOG_LINE}log {replace(LOG, name='other').verifier}\n", "line 2: the key is there"),
        (f"witness X1 {key('X1')}\nwitness X2 {key('X1')}\n", "line 2: the key is there"),
        (f"witness X1 {key('X1')}\nwitness X1 {key('X2')}\n", "line 2: the name is taken"),
        (f"witness none {key('X1')}\n", "line 1: the name is taken"),
        (f"witness X1 {LOG.verifier}\n", "line 1: a witness has a key for cosignatures"),
        (f"witness X1 {key('X1')}\ngroup X1 any X1\n", "line 2: the name is taken"),
        (f"witness X1 {key('X1')}\ngroup none any X1\n", "line 2: the name is taken"),
        ("group g any X1\n", "line 1: a member of the group is not defined"),
        ("group g any g\n", "line 1: a member of the group is not defined"),
        (f"group g any X1\nwitness X1 {key('X1')}\n", "line 1: a member"),
        ("group g any none\n", "line 1: a member"),
        (f"witness X1 {key('X1')}\ngroup g any X1 X1\n", "line 2: a member of the group is a mem"),
        (f"{WITNESSES}group g any X1\ngroup h any X1\n", "line 8: a member of the group is a mem"),
        (f"{WITNESSES}group g any\n", "line 7: is no line"),
        (f"{WITNESSES}group g 0 X1\n", "line 7: all, any or a number"),
        (f"{WITNESSES}group g 01 X1\n", "line 7: all, any or a number"),
        (f"{WITNESSES}group g -1 X1\n", "line 7: all, any or a number"),
        (f"{WITNESSES}group g one X1\n", "line 7: all, any or a number"),
        (f"{WITNESSES}group g 2 X1\n", "line 7: 2 of the group's 1"),
        (f"{WITNESSES}group g {'9' * 5000} X1\n", "line 7: all, any or a number"),
        ("quorum none\r\n", "line 1: a control character"),
        ("# \x7f\nquorum none\n", "line 1: a control character"),
        ("quorum\fnone\n", "line 1: a control character"),
    ],
)
def test_what_is_no_policy_is_refused_with_its_line(lines: str, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        parse_policy(lines.encode())


def test_comments_blanks_and_tabs_mean_nothing() -> None:
    text = f"# a policy\n\n \t# of one log\n \tlog\t{LOG.verifier}  \n\n\tquorum \t none \t\n"

    assert parse_policy(text.encode()) == Policy((Log(LOG.verifier),))


def test_names_are_octets() -> None:
    kelvin, raw = "\N{KELVIN SIGN}".encode(), b"\xff\xfe"
    text = b"".join(
        b"witness %b %b\n" % (name, key(of).encode())
        for name, of in ((b"K", "X1"), (kelvin, "X2"), (raw, "X3"))
    )

    policy = parse_policy(text + b"group %b 2 K %b\nquorum %b\n" % (b"\xfe", raw, b"\xfe"))

    assert len({witness.name for witness in policy.witnesses}) == 3
    assert write_policy(policy) == text + b"group \xfe 2 K \xff\xfe\nquorum \xfe\n"


def test_a_policy_has_a_limit() -> None:
    with pytest.raises(LimitExceeded):
        parse_policy(b"#" * POLICY_BYTES_MAX + b"\nquorum none\n")


def test_groups_as_deep_as_there_are_lines_are_decided() -> None:
    chain = "".join(f"group g{at + 1} all g{at}\n" for at in range(3000))
    text = f"{LOG_LINE}witness X1 {key('X1')}\ngroup g0 any X1\n{chain}quorum g3000\n"

    policy = parse_policy(text.encode())

    assert policy.is_met_by({"X1"})
    assert not policy.is_met_by(())


items = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1).filter(
    lambda item: " " not in item
)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    logs = [
        Log(
            Ed25519Signer(
                f"log-{at}", Ed25519PrivateKey.from_private_bytes(bytes([at] * 32))
            ).verifier,
            draw(st.none() | items),
        )
        for at in range(draw(st.integers(0, 3)))
    ]
    names = draw(st.lists(items.filter(lambda n: n != "none"), unique=True, max_size=7))
    free: list[str] = []
    witnesses, groups = [], []
    for at, name in enumerate(names):
        if free and draw(st.booleans()):
            members = draw(st.lists(st.sampled_from(free), min_size=1, unique=True))
            groups.append(Group(name, draw(st.integers(1, len(members))), tuple(members)))
            free = [each for each in free if each not in members]
        elif not groups:
            key = cosigner(f"w{at}").verifier
            witnesses.append(Witness(name, key, draw(st.none() | items)))
        else:
            continue
        free.append(name)
    quorum = draw(st.sampled_from(["none", *free]))
    return Policy(tuple(logs), tuple(witnesses), tuple(groups), quorum)


@given(policies())
def test_a_policy_comes_back_as_it_was(policy: Policy) -> None:
    assert parse_policy(write_policy(policy)) == policy


@given(policies(), st.randoms())
def test_a_quorum_is_met_as_its_definition_says(policy: Policy, random: Any) -> None:
    cosigned = {each.name for each in policy.witnesses if random.random() < 0.6}
    groups = {group.name: group for group in policy.groups}

    def witnessed(name: str) -> bool:
        if name not in groups:
            return name in cosigned
        return sum(map(witnessed, groups[name].members)) >= groups[name].needed

    expected = policy.quorum == "none" or witnessed(policy.quorum)
    assert policy.is_met_by(cosigned) is expected


@given(policies(), st.data())
def test_more_witnesses_never_break_a_quorum(policy: Policy, data: st.DataObject) -> None:
    names = [each.name for each in policy.witnesses]
    fewer = data.draw(st.sets(st.sampled_from(names))) if names else set()

    assert policy.is_met_by(names) or not policy.is_met_by(fewer)


@pytest.mark.parametrize(
    "parts",
    [
        {"quorum": "nobody"},
        {"witnesses": (Witness("a b", cosigner("X1").verifier),)},
        {"witnesses": (Witness("", cosigner("X1").verifier),)},
        {"witnesses": (Witness("\ud800", cosigner("X1").verifier),)},
        {"witnesses": (Witness("\udcc3\udca9", cosigner("X1").verifier),)},
        {"logs": (Log(LOG.verifier, "a\nquorum none"),)},
        {"logs": (Log(LOG.verifier), Log(LOG.verifier))},
        {"groups": (Group("g", 0, ()),)},
    ],
)
def test_no_policy_is_made_that_no_file_says(parts: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        Policy(**{"logs": (), **parts})


def proven(index: int = 2, extra: bytes = b"") -> tuple[Proof, bytes]:
    """A proof that the log has an entry, and the entry."""
    frontier = Frontier()
    rows = frontier.extend(leaf_hash(entry) for entry in ENTRIES)
    hashes = prove_inclusion(index, len(ENTRIES), lambda level, at: rows[level][at])
    text = write_checkpoint(Checkpoint(LOG.name, len(ENTRIES), frontier.root()))
    checkpoint = signed(LOG, cosigner("X1"), cosigner("X2"), cosigner("Y1"), text=text)
    return Proof(index, tuple(hashes), checkpoint, extra), ENTRIES[index]


@pytest.mark.parametrize("index", range(len(ENTRIES)))
def test_a_proof_convinces_of_its_own_entry_only(index: int) -> None:
    policy = parse_policy(EXAMPLE.encode())
    proof, entry = proven(index)

    verdict = verify_proof(parse_proof(write_proof(proof)), leaf_hash(entry), policy)

    assert (verdict.checkpoint.size, verdict.has_quorum) == (len(ENTRIES), True)
    for other in {*ENTRIES} - {entry}:
        with pytest.raises(Unproven, match="not proven"):
            verify_proof(proof, leaf_hash(other), policy)
    with pytest.raises(Unproven, match="not proven"):
        verify_proof(replace(proof, index=index ^ 1), leaf_hash(entry), policy)


def test_a_proof_under_too_few_cosignatures_convinces_nobody() -> None:
    proof, entry = proven()
    strict = parse_policy(f"{LOG_LINE}{WITNESSES}group g 4 X1 X2 Y1 Y2\nquorum g\n".encode())

    with pytest.raises(Unproven, match="no quorum"):
        verify_proof(proof, leaf_hash(entry), strict)


def test_a_proof_is_written_as_the_standard_says() -> None:
    proof, _ = proven(extra=b"what the leaf is made of")

    version, extra, index, *hashes = write_proof(proof).split(b"\n\n")[0].decode().splitlines()

    assert version == "c2sp.org/tlog-proof@v1"
    assert extra == "extra d2hhdCB0aGUgbGVhZiBpcyBtYWRlIG9m"
    assert index == "index 2"
    assert len(hashes) == 3
    assert write_proof(proof).endswith(b"\n\n" + proof.checkpoint)


@given(
    st.integers(0, 2**64 - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=64),
    st.binary(),
)
def test_a_proof_comes_back_as_it_was(index: int, hashes: list[bytes], extra: bytes) -> None:
    proof = Proof(index, tuple(hashes), signed(LOG), extra)

    assert parse_proof(write_proof(proof)) == proof


ROOT = "gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ="


@pytest.mark.parametrize(
    "head",
    [
        "wrong-header\nindex 0\n\n",
        "c2sp.org/tlog-proof@v1\n\n",
        "c2sp.org/tlog-proof@v1\n\n\n",
        "c2sp.org/tlog-proof@v1\nindex 0\n",
        "c2sp.org/tlog-proof@v1 \nindex 0\n\n",
        "c2sp.org/tlog-proof@v1\r\nindex 0\r\n\r\n",
        "c2sp.org/tlog-proof@v1\nextra !!notbase64!!\nindex 0\n\n",
        "c2sp.org/tlog-proof@v1\nextra \nindex 0\n\n",
        "c2sp.org/tlog-proof@v1\nextra AA==\nextra AA==\nindex 0\n\n",
        "c2sp.org/tlog-proof@v1\nindex 0\nextra AA==\n\n",
        "c2sp.org/tlog-proof@v1\nindex notanumber\n\n",
        "c2sp.org/tlog-proof@v1\nindex -5\n\n",
        "c2sp.org/tlog-proof@v1\nindex 05\n\n",
        f"c2sp.org/tlog-proof@v1\nindex {2**64}\n\n",
        "c2sp.org/tlog-proof@v1\nindex 0\n!!notbase64!!\n\n",
        "c2sp.org/tlog-proof@v1\nindex 0\nAAAA\n\n",
        f"c2sp.org/tlog-proof@v1\nindex 0\n{ROOT} \n\n",
        f"c2sp.org/tlog-proof@v1\nindex 0\n{ROOT}\n\n\n",
        f"c2sp.org/tlog-proof@v1\nindex 0\n{ROOT}\nindex 0\n\n",
        "c2sp.org/tlog-proof@v1\nindex 0\n" + f"{ROOT}\n" * 65 + "\n",
    ],
)
def test_what_is_no_proof_is_refused(head: str) -> None:
    with pytest.raises(Malformed):
        parse_proof(head.encode() + signed(LOG))


def test_a_proof_without_a_signed_checkpoint_is_refused() -> None:
    head = b"c2sp.org/tlog-proof@v1\nindex 0\n\n"
    for rest in (b"", HEAD_TEXT.encode(), signed(LOG)[:-1]):
        with pytest.raises(Malformed):
            parse_proof(head + rest)


def test_a_proof_has_a_limit() -> None:
    proof, _ = proven(extra=bytes(PROOF_BYTES_MAX))

    with pytest.raises(LimitExceeded):
        write_proof(proof)
    with pytest.raises(LimitExceeded):
        parse_proof(bytes(PROOF_BYTES_MAX + 1))


WELL_FORMED: list[tuple[Any, bytes]] = [
    (parse_note, signed(LOG, cosigner("X1"))),
    (lambda data: parse_checkpoint(data.decode(errors="replace")), HEAD_TEXT.encode()),
    (parse_policy, EXAMPLE.encode()),
    (parse_proof, write_proof(proven(extra=b"extra")[0])),
    (lambda data: parse_verifier_key(data.decode(errors="replace")), key("X1").encode()),
    (lambda data: parse_tile_path(data.decode(errors="replace")), b"tile/1/x001/x234/067.p/8"),
    (lambda data: unpack_bundle(data, 2), pack_bundle([b"one", b"two"])),
]


@given(st.sampled_from(WELL_FORMED), st.data())
def test_whatever_is_read_is_taken_or_refused(case: Any, data: st.DataObject) -> None:
    parse, text = case
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(begin, min(begin + 5, len(text))))
        text = text[:begin] + data.draw(st.binary(max_size=5)) + text[end:]

    with contextlib.suppress(InputError, InvalidKey):
        parse(text)


def test_proofbundle_accepts_our_proofs() -> None:
    theirs = pytest.importorskip("proofbundle.tlogproof", reason="needs the extra dev")
    witnesses = [key(name) for name in ("X1", "X2", "Y1")]
    for index in range(len(ENTRIES)):
        proof, entry = proven(index, extra=b"extra")
        text = write_proof(proof).decode()

        found = theirs.verify_tlog_proof(text, entry, str(LOG.verifier), witnesses, threshold=3)

        assert found["ok"], found
        assert (found["origin"], found["index"]) == (LOG.name, index)
        other = theirs.verify_tlog_proof(text, b"x", str(LOG.verifier), witnesses, threshold=3)
        assert not other["ok"]


def test_a_proof_is_kept_in_a_file(tmp_path: Path) -> None:
    proof, _ = proven()
    file = tmp_path / "entry-2.tlog-proof"
    file.write_bytes(write_proof(proof))

    assert parse_proof(file.read_bytes()) == proof
