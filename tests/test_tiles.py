"""Tiles: their paths, which of them a tree has, and proofs made from nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statecore.errors import InputError, Malformed
from statecore.transparency.merkle import (
    Frontier,
    covering,
    leaf_hash,
    prove,
    prove_consistency,
    prove_inclusion,
    verify_consistency,
    verify_inclusion,
)
from statecore.transparency.tiles import (
    ENTRIES,
    Tile,
    bundles_of,
    hash_in,
    nodes_of,
    pack_bundle,
    parse_tile_path,
    tile_path,
    tile_with,
    tiles_of,
    unpack_bundle,
)

tiles = st.builds(Tile, st.integers(ENTRIES, 63), st.integers(0, 2**56 - 1), st.integers(1, 256))


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 999), "tile/0/999"),
        (Tile(0, 1000), "tile/0/x001/000"),
        (Tile(1, 1234067), "tile/1/x001/x234/067"),  # the example of the standard
        (Tile(0, 273, 112), "tile/0/273.p/112"),
        (Tile(63, 1234067, 1), "tile/63/x001/x234/067.p/1"),
        (Tile(ENTRIES, 0), "tile/entries/000"),
        (Tile(ENTRIES, 1234067, 255), "tile/entries/x001/x234/067.p/255"),
    ],
)
def test_a_tile_is_at_one_path(tile: Tile, path: str) -> None:
    assert tile_path(tile) == path
    assert parse_tile_path(path) == tile


@given(tiles)
def test_a_path_leads_back_to_its_tile(tile: Tile) -> None:
    assert parse_tile_path(tile_path(tile)) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile",
        "tile/0",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001",
        "tile/0/x001/x002",
        "tile/00/000",
        "tile/01/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/8/0/000",
        "tile/data/000",
        "tile/Entries/000",
        "tile/0/000.p",
        "tile/0/000.p/",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/1000",
        "/tile/0/000",
        "tile/0/000/",
        "tile/0/000\n",
        "tile/0/../000",
        "tile/0/x018/x446/x744/x073/x709/x551/616",  # 2**64
        "tile/0/00\N{ARABIC-INDIC DIGIT ONE}",
        f"tile/0/x{'999/x' * 9}000/000",
    ],
)
def test_another_spelling_is_no_path(path: str) -> None:
    with pytest.raises(Malformed):
        parse_tile_path(path)


@pytest.mark.parametrize("parts", [(-2, 0, 1), (64, 0, 1), (0, -1, 1), (0, 0, 0), (0, 0, 257)])
def test_there_is_no_such_tile(parts: tuple[int, int, int]) -> None:
    with pytest.raises(Malformed):
        Tile(*parts)


def test_the_published_tree_has_the_published_tiles() -> None:
    found = list(tiles_of(70_000))

    assert found == [
        *(Tile(0, index) for index in range(273)),
        Tile(0, 273, 112),
        Tile(1, 0),
        Tile(1, 1, 17),
        Tile(2, 0, 1),
    ]
    assert list(tiles_of(256)) == [Tile(0, 0), Tile(1, 0, 1)]
    assert list(tiles_of(0)) == []


@given(st.integers(0, 200_000))
def test_partial_tiles_are_as_wide_as_the_standard_says(size: int) -> None:
    partial = {tile.level: tile.width for tile in tiles_of(size) if tile.width < 256}

    for level in range(4):
        assert partial.get(level, 0) == size // 256**level % 256


@given(st.integers(0, 200_000), st.integers(0, 2_000))
def test_the_tiles_since_are_what_a_larger_tree_has_more(old: int, added: int) -> None:
    has = {*tiles_of(old), *bundles_of(old)}
    new = {*tiles_of(old + added), *bundles_of(old + added)}

    since = [*tiles_of(old + added, old), *bundles_of(old + added, old)]

    assert {*since} == new - has
    assert len({*since}) == len(since)


@pytest.fixture(scope="module")
def rows() -> list[list[bytes]]:
    """The hashes of a tree of 70,000 entries, level by level."""
    return Frontier().extend(leaf_hash(number.to_bytes(4)) for number in range(70_000))


@pytest.fixture(scope="module")
def files(rows: list[list[bytes]]) -> dict[str, bytes]:
    """The same tree as tiles, by their paths."""
    return {
        tile_path(tile): b"".join(rows[level][index] for level, index in nodes_of(tile))
        for tile in tiles_of(len(rows[0]))
    }


@given(st.data())
def test_proofs_are_made_from_tiles_alone(
    rows: list[list[bytes]], files: dict[str, bytes], data: st.DataObject
) -> None:
    size = len(rows[0])
    index = data.draw(st.integers(0, size - 1))
    old_size = data.draw(st.integers(1, size))

    def at(level: int, number: int) -> bytes:
        tile = tile_with((level, number), size)
        return hash_in(tile, files[tile_path(tile)], (level, number))

    inclusion = prove_inclusion(index, size, at)
    consistency = prove_consistency(old_size, size, at)

    old_root, root = prove(
        [covering(0, old_size), covering(0, size)], lambda level, number: rows[level][number]
    )
    assert verify_inclusion(rows[0][index], index, size, inclusion, root)
    assert verify_consistency(old_size, old_root, size, root, consistency)


@pytest.mark.parametrize("node", [(0, 300), (-1, 0), (0, -1), (9, 0), (8, 1), (1, 150)])
def test_no_tile_has_what_the_tree_has_not(node: tuple[int, int]) -> None:
    with pytest.raises(InputError):
        tile_with(node, 300)


def test_a_tile_of_another_width_or_place_is_refused() -> None:
    tile = tile_with((0, 260), 300)
    assert tile == Tile(0, 1, 44)

    with pytest.raises(Malformed, match="44 hashes"):
        hash_in(tile, bytes(43 * 32), (0, 260))
    for node in ((0, 255), (0, 300), (8, 1), (2, 75)):
        with pytest.raises(Malformed, match="another"):
            hash_in(tile, bytes(44 * 32), node)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=256))
def test_a_bundle_comes_back_as_it_was(entries: list[bytes]) -> None:
    assert unpack_bundle(pack_bundle(entries), len(entries)) == entries


def test_a_bundle_has_each_entrys_length_before_it() -> None:
    assert pack_bundle([b"one", b"", b"x" * 258]) == b"\0\3one\0\0\1\2" + b"x" * 258


@pytest.mark.parametrize("entries", [[], [b""] * 257, [bytes(65_536)]])
def test_no_bundle_is_made_that_could_not_be_read(entries: list[bytes]) -> None:
    with pytest.raises(Malformed):
        pack_bundle(entries)


@pytest.mark.parametrize(
    ("data", "width"),
    [
        (b"", 1),
        (b"\0", 1),
        (b"\0\1", 1),
        (b"\0\2x", 1),
        (b"\0\1x\0", 1),
        (b"\0\1x\0\1y", 1),
        (b"\0\1x\0\1y", 3),
    ],
)
def test_what_is_no_bundle_is_refused(data: bytes, width: int) -> None:
    with pytest.raises(Malformed):
        unpack_bundle(data, width)
