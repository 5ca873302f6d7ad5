"""Signed notes and checkpoints: published examples, what is refused, and other implementations."""

from __future__ import annotations

import base64
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from statecore.errors import InputError, InvalidKey, LimitExceeded, Malformed, Unproven
from statecore.transparency import (
    EMPTY_ROOT,
    Checkpoint,
    Cosigner,
    Ed25519Signer,
    Note,
    SignatureType,
    VerifierKey,
    parse_checkpoint,
    parse_note,
    parse_verifier_key,
    sign,
    verify,
    write_checkpoint,
    write_note,
)
from statecore.transparency.note import NOTE_BYTES_MAX, SIGNATURES_MAX, Signature
from statecore.transparency.verifiers import TIME_MAX, cosigned_at, cosigned_message

# https://c2sp.org/signed-note, "Verifier keys", "Example"
EXAMPLE_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE = """\
This is an example message.

— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
""".encode()  # noqa: E501 - a line of the format

# golang.org/x/mod/sumdb/note, note_test.go
PETER_SECRET = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PETER_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
ENOCH_KEY = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
PETER = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"  # noqa: E501 - a line of the format
ENOCH = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"  # noqa: E501 - a line of the format

# https://c2sp.org/tlog-checkpoint
CHECKPOINT = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"

# A checkpoint of Go's checksum database, and its key (transparency-dev/formats, log/note_test.go).
SUMDB_KEY = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
SUMDB = """\
go.sum database tree
6476701
mb8QLQIs0Z0yP5Cstq6guj87oXWeC9gEM8oVikmm9Wk=

— sum.golang.org Az3grsLX85Gz+s1SiTbgkuqxgItqFq7gsMUEyVnrsa9LM7Us9S+1xbFIGu95949rj4nPRYfvimWEPWL+o3GeoWwOoAw=
""".encode()  # noqa: E501 - a line of the format

# A witness' key (transparency-dev/formats, note/note_cosigv1_test.go).
REMORA_KEY = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"

# A tree head of the Sigsum log seasalp of 2025-08-01, cosigned by Glasklar's and Mullvad's
# witnesses (florolf/sigmon, tests). The formats are those of C2SP, the key names Sigsum's rule.
SEASALP = bytes.fromhex("0ec7e16843119b120377a73913ac6acbc2d03d82432e2c36b841b09a95841f25")
SEASALP_ORIGIN = f"sigsum.org/v1/tree/{sha256(SEASALP).hexdigest()}"
SEASALP_HEAD = Checkpoint(
    SEASALP_ORIGIN,
    12851,
    bytes.fromhex("4ccedda0c3e6afc83cfcddfad7df3d95cbd1e857ecf3cf0569b8f69ce32727f8"),
)
SEASALP_SIGNATURE = bytes.fromhex(
    "880207e73dbe7aa11ebab8118d4da67e59a2ff29d9b11e98b8d5d4062dbd4d12"
    "765b5389b4f0583130fa8573cf997d60b94c9e4d700469aba5a9f4383f619509"
)
WITNESSED_AT = 1754020861
WITNESSED = {
    "witness.glasklar.is": (
        "b2106db9065ec97f25e09c18839216751a6e26d8ed8b41e485a563d3d1498536",
        "9ab58c0f6cbfd02549891b3b9d7e68fd7fefd42b6dc22fbbee7ed3119d1ed180"
        "7edc74c8b12fd430e4ee6084b59077d4c8eafe09eefdbbe31666828c34d24702",
    ),
    "witness.mullvad.net": (
        "15d6d0141543247b74bab3c1076372d9c894f619c376d64b29aa312cc00f61ad",
        "82f16ff572ba54e6f0b2f27e0e34fa729ab42d566b1d54a0b689d345c373fd0d"
        "87a61a6b6e81b4d17b3ca9f13f01a6c1325d701e6350ecddfa54b6b453691d0f",
    ),
}

TWINS = (48221, 128134)  # their keys have the same id

LOG = Ed25519Signer("example.com/log", Ed25519PrivateKey.from_private_bytes(b"l" * 32))
HEAD = Checkpoint("example.com/log", 3, sha256(b"root").digest())
HEAD_TEXT = write_checkpoint(HEAD)
CLASSIC = Cosigner("example.com/w1", Ed25519PrivateKey.from_private_bytes(b"w" * 32), 1679315147)


def lasting() -> Cosigner:
    """A cosigner with ML-DSA-44."""
    mldsa = pytest.importorskip(
        "cryptography.hazmat.primitives.asymmetric.mldsa",
        reason="this cryptography package has no ML-DSA",
    )
    private = mldsa.MLDSA44PrivateKey.from_seed_bytes(b"w" * 32)
    return Cosigner("example.com/w2", private, 1679315147)


@pytest.fixture(params=["classic", "lasting"])
def cosigner(request: pytest.FixtureRequest) -> Cosigner:
    return lasting() if request.param == "lasting" else CLASSIC


@pytest.fixture(params=["plain", "classic", "lasting"])
def signer(request: pytest.FixtureRequest) -> Any:
    return {"plain": lambda: LOG, "classic": lambda: CLASSIC, "lasting": lasting}[request.param]()


def peter() -> Ed25519Signer:
    seed = base64.b64decode(PETER_SECRET.split("+", 4)[4])[1:]
    return Ed25519Signer("PeterNeumann", Ed25519PrivateKey.from_private_bytes(seed))


def seasalp() -> tuple[Note, list[VerifierKey]]:
    log = VerifierKey(SEASALP_ORIGIN, SignatureType.ED25519, SEASALP)
    signatures = [Signature(log.name, log.id, SEASALP_SIGNATURE)]
    keys = [log]
    for name, (public, signature) in WITNESSED.items():
        key = VerifierKey(name, SignatureType.COSIGNATURE, bytes.fromhex(public))
        cosignature = WITNESSED_AT.to_bytes(8) + bytes.fromhex(signature)
        signatures.append(Signature(name, key.id, cosignature))
        keys.append(key)
    return Note(write_checkpoint(SEASALP_HEAD), tuple(signatures)), keys


def test_the_published_example_verifies() -> None:
    note = parse_note(EXAMPLE)

    verified = verify(note, [parse_verifier_key(EXAMPLE_KEY)])

    assert note.text == "This is an example message.\n"
    assert [key.name for key, _ in verified] == ["example.com/foo"]
    assert write_note(note) == EXAMPLE


def test_the_note_of_gos_package_is_signed_byte_by_byte() -> None:
    signer = peter()

    signed = sign(Note(TEXT), signer)

    assert str(signer.verifier) == PETER_KEY
    assert write_note(signed).decode() == f"{TEXT}\n{PETER}"
    assert sign(signed, signer) == signed, "a key's signature is put in the place of its older one"


def test_signatures_of_unknown_keys_are_passed_over() -> None:
    note = parse_note(f"{TEXT}\n{PETER}{ENOCH}".encode())
    keys = [parse_verifier_key(key) for key in (PETER_KEY, ENOCH_KEY)]

    assert [key for key, _ in verify(note, keys[:1])] == keys[:1]
    assert [key for key, _ in verify(note, keys)] == keys
    assert [key for key, _ in verify(note, [*keys, keys[0]])] == keys
    with pytest.raises(Unproven, match="no signature of a known key"):
        verify(note, [])


def test_a_known_keys_name_or_id_alone_is_an_unknown_key() -> None:
    key = parse_verifier_key(PETER_KEY)
    for name, key_id in (("CarmenSandiego", key.id), ("PeterNeumann", b"xxxx")):
        forged = Note(TEXT, (Signature(name, key_id, bytes(64)),))

        with pytest.raises(Unproven, match="no signature of a known key"):
            verify(forged, [key])


def test_one_false_signature_of_a_known_key_condemns_the_note() -> None:
    bad = PETER[:60] + "ABCD" + PETER[60:]

    for lines in (bad, ENOCH + bad, PETER + bad):
        with pytest.raises(Unproven, match="PeterNeumann does not hold"):
            verify(
                parse_note(f"{TEXT}\n{lines}".encode()),
                [parse_verifier_key(PETER_KEY), parse_verifier_key(ENOCH_KEY)],
            )


def test_two_keys_that_cannot_be_told_apart_are_refused() -> None:
    # Four bytes collide for whoever tries some ten thousand keys.
    one, other = (
        VerifierKey("twin", SignatureType.ED25519, number.to_bytes(32)) for number in TWINS
    )
    assert one.id == other.id

    with pytest.raises(InvalidKey, match="two verifier keys"):
        verify(Note(TEXT), [one, other])


@pytest.mark.parametrize(
    "data",
    [
        TEXT,
        TEXT + "\n",
        f"{TEXT}\n{PETER[:-1]}",
        f"\x01{TEXT}\n{PETER}",
        f"{TEXT}\r\n{PETER}",
        f"{TEXT}\n{PETER}Unexpected line.\n",
        f"{TEXT}\n{PETER}\n",
        f"{TEXT}\n— Bad Name {PETER.split()[2]}\n",
        f"{TEXT}\n— Bad+Name {PETER.split()[2]}\n",
        f"{TEXT}\n— Bad\N{NO-BREAK SPACE}Name {PETER.split()[2]}\n",
        f"{TEXT}\n—  {PETER.split()[2]}\n",
        f"{TEXT}\n— PeterNeumann\n",
        f"{TEXT}\n— PeterNeumann \n",
        f"{TEXT}\n— PeterNeumann  {PETER.split()[2]}\n",
        f"{TEXT}\n— PeterNeumann x08gow==\n",
        f"{TEXT}\n— PeterNeumann {PETER.split()[2][:-1]}\n",
        f"{TEXT}\n— PeterNeumann {PETER.split()[2][:-2]}N=\n",
        f"{TEXT}\n- {PETER[2:]}",
        f"{TEXT}\n\N{EN DASH}{PETER[1:]}",
        f"\n{PETER}",
        "",
        PETER,
    ],
)
def test_what_is_no_note_is_refused(data: str) -> None:
    with pytest.raises(Malformed):
        parse_note(data.encode())


def test_what_is_not_utf_8_is_no_note() -> None:
    for bad in (b"\xff", b"\xed\xa0\x80", b"\xc0\x80"):
        with pytest.raises(Malformed, match="UTF-8"):
            parse_note(bad + EXAMPLE)


def test_a_note_has_limits() -> None:
    line = EXAMPLE[EXAMPLE.index("—".encode()) :]

    assert len(parse_note(b"text\n\n" + line * SIGNATURES_MAX).signatures) == SIGNATURES_MAX
    with pytest.raises(LimitExceeded, match="101 signatures"):
        parse_note(b"text\n\n" + line * (SIGNATURES_MAX + 1))
    with pytest.raises(LimitExceeded, match="bytes"):
        parse_note(b"x" * NOTE_BYTES_MAX + EXAMPLE)
    with pytest.raises(LimitExceeded, match="bytes"):
        write_note(Note("x" * NOTE_BYTES_MAX + "\n", parse_note(EXAMPLE).signatures))


@pytest.mark.parametrize("text", ["", "no newline", "a\tb\n", "\ud800\n"])
def test_no_note_is_made_of_what_could_not_be_read(text: str) -> None:
    with pytest.raises(Malformed):
        Note(text)


def test_a_note_that_nobody_signed_is_not_written() -> None:
    with pytest.raises(Malformed, match="without a signature"):
        write_note(Note(TEXT))


lines = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]))
names = lines.filter(lambda n: n and "+" not in n and not any(c.isspace() for c in n))
signatures = st.builds(Signature, names, st.binary(min_size=4, max_size=4), st.binary(min_size=1))
notes = st.builds(
    Note,
    st.lists(lines, min_size=1).map(lambda each: "".join(f"{line}\n" for line in each)),
    st.lists(signatures, min_size=1, max_size=5).map(tuple),
)


@given(notes)
def test_a_note_comes_back_as_it_was(note: Note) -> None:
    assert parse_note(write_note(note)) == note


@given(st.data())
def test_only_one_sequence_of_bytes_is_a_note(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(EXAMPLE) - 1))
    changed = EXAMPLE[:at] + data.draw(st.binary(max_size=3)) + EXAMPLE[at + 1 :]

    try:
        note = parse_note(changed)
    except Malformed:
        return
    assert write_note(note) == changed


def test_a_signature_holds_for_its_text_its_key_and_its_name_only(signer: Any) -> None:
    signed = parse_note(write_note(sign(Note(HEAD_TEXT), signer)))
    key = parse_verifier_key(str(signer.verifier))
    (line,) = signed.signatures

    assert verify(signed, [key]) == [(key, line)]
    for at in range(0, len(line.signature), 97):
        flipped = bytearray(line.signature)
        flipped[at] ^= 1
        assert not key.verifies(HEAD_TEXT.encode(), bytes(flipped))
    for other in (HEAD_TEXT.replace("3", "4"), "text\n", ""):
        assert not key.verifies(other.encode(), line.signature)
    assert not key.verifies(HEAD_TEXT.encode(), line.signature[:-1])
    assert not key.verifies(HEAD_TEXT.encode(), line.signature + b"\0")
    assert not key.verifies(HEAD_TEXT.encode(), b"")


def test_a_signature_of_one_type_is_none_of_another() -> None:
    private = Ed25519PrivateKey.from_private_bytes(b"w" * 32)
    plain = Ed25519Signer("example.com/w1", private)
    cosigner = Cosigner("example.com/w1", private, 7)
    text = HEAD_TEXT.encode()

    assert plain.key_id != cosigner.key_id
    assert not plain.verifier.verifies(text, cosigner.sign(text))
    assert not cosigner.verifier.verifies(text, plain.sign(text))
    assert not cosigner.verifier.verifies(text, bytes(8) + plain.sign(text))


def test_the_key_for_lasting_signatures_has_the_cosigners_name_in_what_is_signed() -> None:
    cosigner = lasting()
    key = cosigner.verifier
    renamed = VerifierKey("example.com/other", key.type, key.public_key)

    assert not renamed.verifies(HEAD_TEXT.encode(), cosigner.sign(HEAD_TEXT.encode()))


def test_extension_lines_are_under_classic_cosignatures_only() -> None:
    plain, extended = HEAD_TEXT.encode(), f"{HEAD_TEXT}an extension\n".encode()
    post_quantum = lasting()

    assert not CLASSIC.verifier.verifies(extended, CLASSIC.sign(plain))
    assert post_quantum.verifier.verifies(extended, post_quantum.sign(plain))


def test_a_cosignature_says_when() -> None:
    signature = CLASSIC.sign(HEAD_TEXT.encode())

    assert cosigned_at(signature) == 1679315147
    too_late = cosigned_message(CLASSIC.verifier, HEAD_TEXT.encode(), TIME_MAX + 1)
    late = (TIME_MAX + 1).to_bytes(8) + CLASSIC.private_key.sign(too_late)
    assert not CLASSIC.verifier.verifies(HEAD_TEXT.encode(), late)
    for time in (-1, TIME_MAX + 1):
        with pytest.raises(InputError):
            Cosigner("example.com/w1", CLASSIC.private_key, time)
    latest = Cosigner("example.com/w1", CLASSIC.private_key, TIME_MAX)
    assert latest.verifier.verifies(HEAD_TEXT.encode(), latest.sign(HEAD_TEXT.encode()))


def test_only_checkpoints_are_cosigned(cosigner: Cosigner) -> None:
    for text in (b"any text\n", b"", b"\xff\n1\n"):
        with pytest.raises(Malformed):
            cosigner.sign(text)


def test_a_name_too_long_for_a_lasting_cosignature_is_refused() -> None:
    long = Cosigner("n" * 256, lasting().private_key, 0)

    with pytest.raises(Malformed, match="255"):
        long.sign(HEAD_TEXT.encode())


def test_a_real_tree_head_and_its_real_cosignatures_verify() -> None:
    note, keys = seasalp()

    assert [key for key, _ in verify(parse_note(write_note(note)), keys)] == keys
    assert {cosigned_at(line.signature) for _, line in verify(note, keys[1:])} == {WITNESSED_AT}


def test_no_private_key_is_shown(signer: Any) -> None:
    assert "rivate" not in repr(signer)


@pytest.mark.parametrize("text", [EXAMPLE_KEY, PETER_KEY, ENOCH_KEY, SUMDB_KEY, REMORA_KEY])
def test_published_keys_come_back_as_they_were(text: str) -> None:
    assert str(parse_verifier_key(text)) == text


def test_a_key_that_is_cut_or_changed_is_refused() -> None:
    for begin in range(len(PETER_KEY)):
        for end in range(begin, len(PETER_KEY)):
            with pytest.raises(InvalidKey):
                parse_verifier_key(PETER_KEY[begin:end])
    for at, character in enumerate(PETER_KEY):
        changed = PETER_KEY[:at] + chr(ord(character) + 1) + PETER_KEY[at + 1 :]
        with pytest.raises(InvalidKey):
            parse_verifier_key(changed)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        # Of a wrong length and of an unknown type, with ids that go with them (note_test.go).
        (
            "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
            "base64|bytes",
        ),
        ("PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "unknown type"),
        ("PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "the id"),
        ("Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "spaces"),
        ("rekor.sigstore.dev+12345678+THIS_IS_NOT_BASE64!", "base64"),
        ("rekor.sigstore.dev+12345678+", "unknown type"),
        ("bananas.sigstore.dev+12344556", "joined"),
    ],
)
def test_what_is_no_key_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidKey, match=why):
        parse_verifier_key(text)


def test_the_published_checkpoint_is_read_and_written() -> None:
    checkpoint = parse_checkpoint(CHECKPOINT)

    assert checkpoint.origin == "example.com/behind-the-sofa"
    assert checkpoint.size == 20852163
    assert checkpoint.root == base64.b64decode("CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=")
    assert write_checkpoint(checkpoint) == CHECKPOINT


def test_a_checkpoint_of_gos_checksum_database_verifies() -> None:
    note = parse_note(SUMDB)

    ((key, _),) = verify(note, [parse_verifier_key(SUMDB_KEY)])

    assert key.name == "sum.golang.org"
    assert parse_checkpoint(note.text).size == 6476701


ROOT = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="


@pytest.mark.parametrize(
    "text",
    [
        "",
        "log\n1\n",
        f"log\n1\n{ROOT}",
        f"\n1\n{ROOT}\n",
        f"log\n\n{ROOT}\n",
        f"log\n01\n{ROOT}\n",
        f"log\n-1\n{ROOT}\n",
        f"log\n+1\n{ROOT}\n",
        f"log\n1_0\n{ROOT}\n",
        f"log\n\N{ARABIC-INDIC DIGIT ONE}\n{ROOT}\n",
        f"log\n 1\n{ROOT}\n",
        f"log\n0x1\n{ROOT}\n",
        f"log\n{2**64}\n{ROOT}\n",
        f"log\n{'9' * 5000}\n{ROOT}\n",
        f"log\n0\n{ROOT}\n",
        "log\n1\nYmFuYW5hcw==\n",
        f"log\n1\n{ROOT[:-1]}\n",
        f"log\n1\n{ROOT[:-2]}J=\n",
        f"log\n1\n{ROOT} \n",
        f"log\n1\n{ROOT}\n\n",
        f"log\n1\n{ROOT}\nextension\n\nextension\n",
        f"log\n1\n{ROOT}\nextension",
        f"lo\tg\n1\n{ROOT}\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        parse_checkpoint(text)


heads = st.builds(
    Checkpoint,
    lines.filter(bool),
    st.integers(1, 2**64 - 1),
    st.binary(min_size=32, max_size=32),
    st.lists(lines.filter(bool), max_size=3).map(tuple),
)


@given(heads)
def test_a_checkpoint_comes_back_as_it_was(checkpoint: Checkpoint) -> None:
    assert parse_checkpoint(write_checkpoint(checkpoint)) == checkpoint


@pytest.mark.parametrize(
    "parts",
    [
        {"origin": ""},
        {"origin": "evil\n999"},
        {"size": -1},
        {"size": 2**64},
        {"size": 0},
        {"root": b"short"},
        {"extensions": ("",)},
        {"extensions": ("a\nb",)},
    ],
)
def test_no_checkpoint_is_made_that_could_not_be_read(parts: dict[str, Any]) -> None:
    usual: dict[str, Any] = {"origin": "log", "size": 1, "root": sha256(b"x").digest()}

    with pytest.raises(Malformed):
        Checkpoint(**{**usual, **parts})


def test_an_empty_log_has_the_root_of_the_empty_tree() -> None:
    empty = Checkpoint("log", 0, EMPTY_ROOT)

    assert parse_checkpoint(write_checkpoint(empty)) == empty


def test_sigstore_accepts_our_notes_and_checkpoints() -> None:
    reader = pytest.importorskip("sigstore._internal.rekor.checkpoint", reason="needs extra dev")
    from sigstore._internal.trust import Key, Keyring
    from sigstore.errors import VerificationError
    from sigstore_models.common.v1 import PublicKey, PublicKeyDetails

    public = LOG.private_key.public_key()
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    keyring = Keyring(
        [PublicKey(raw_bytes=base64.b64encode(der), key_details=PublicKeyDetails.PKIX_ED25519)]
    )
    assert isinstance(next(iter(keyring._keyring.values())), Key)
    signed = write_note(sign(Note(HEAD_TEXT), LOG, CLASSIC)).decode()

    read = reader.SignedCheckpoint.from_text(signed)
    read.signed_note.verify(keyring, LOG.key_id)

    assert read.signed_note.note == HEAD_TEXT
    assert [each.name for each in read.signed_note.signatures] == [
        LOG.name,
        CLASSIC.name,
    ]
    assert (read.checkpoint.origin, read.checkpoint.log_size) == (HEAD.origin, HEAD.size)
    assert read.checkpoint.log_hash == HEAD.root.hex()
    changed = reader.SignedCheckpoint.from_text(signed.replace("\n3\n", "\n4\n"))
    with pytest.raises(VerificationError):
        changed.signed_note.verify(keyring, LOG.key_id)


def test_proofbundle_accepts_our_checkpoints_and_cosignatures(cosigner: Cosigner) -> None:
    theirs = pytest.importorskip("proofbundle.checkpoint", reason="needs extra dev")
    signed = write_note(sign(Note(HEAD_TEXT), LOG, cosigner)).decode()

    read = theirs.verify_checkpoint(signed, str(LOG.verifier))
    cosigned = theirs.verify_cosignature(signed, str(cosigner.verifier))

    assert (read["ok"], read["origin"], read["tree_size"]) == (True, HEAD.origin, HEAD.size)
    assert (cosigned["ok"], cosigned["timestamp"]) == (True, cosigner.time_s)
    changed = signed.replace("\n3\n", "\n4\n")
    assert not theirs.verify_cosignature(changed, str(cosigner.verifier))["ok"]
