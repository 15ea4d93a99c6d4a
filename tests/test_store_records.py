"""Is every change of a segment found, and does every entry come back as it was?"""

from __future__ import annotations

import lzma
import os
import random
import struct
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kompyct.errors import BackendMissingError, CorruptStoreError, VersionError
from kompyct.lifecycle import Status
from kompyct.store import compression, records, segments
from kompyct.store.compression import LZMA, NONE, ZSTD, compress, decompress
from kompyct.store.records import HEADER_BYTES, SEAL_BYTES, Sealer
from kompyct.store.segments import Damage, Segment
from kompyct.store.snapshots import Entry, Mark, Removal, Snapshot

KEY = b"k" * 32
SALT = b"0123456789abcdef"
HEAD = struct.Struct("<4sBBHIQ")


def snapshot(
    sequence: int = 1,
    data: bytes | None = b"value",
    function: str | bytes = "m:f",
    path: str = "/a",
) -> Snapshot:
    return Snapshot(Mark(path, 1, sequence), function, data, 5.0, sequence, (), "3.11", "1")


def segment_of(*entries: Entry | bytes, key: bytes = b"", closed: bool = False) -> bytes:
    """The bytes of a segment that holds `entries`; bytes are taken as they are."""
    sealer = Sealer(SALT, key)
    data = segments.first_record(Segment(1, sealer, "", -1), key, replaces=False, when=0.0)
    for entry in entries:
        data += (
            entry if isinstance(entry, bytes) else records.encode_entry(entry, len(data), sealer)
        )
    if closed:
        data += records.encode_record(records.END, {}, len(data), sealer)
    return data


class Reader:
    """Reads a folder with one segment, of whatever bytes it is given."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self.folder = folder
        self.log = folder / f"snapshots-00000001-{SALT.decode()}.log"
        self.log.touch(0o600)

    def read(
        self, data: bytes, key: bytes = b""
    ) -> tuple[dict[str, Snapshot], list[Damage], bool]:
        """The newest whole snapshot of each path, all damages, and whether it was closed."""
        self.log.write_bytes(data)
        contents = segments.read_folder(str(self.folder), key, local=True)
        try:
            found = {}
            for path, places in contents.kept.items():
                for place in places[::-1]:
                    got = segments.read_snapshot(place)
                    if isinstance(got, Snapshot):
                        found[path] = got
                    else:
                        contents.damages.append(got)
            return found, contents.damages, contents.segments[0].closed
        finally:
            contents.close()


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path / "state")


def decoded(record: bytes) -> Entry | None:
    """What the record holds, of whatever segment it is."""
    header = records.decode_header(record[:HEADER_BYTES])
    assert header is not None
    assert header.length == len(record)
    return records.decode_entry(header, records.decode_meta(header, record), record)


# -- changes --------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [b"", KEY], ids=["plain", "key"])
def test_every_flip_of_a_bit_is_found_and_no_wrong_value_returned(
    reader: Reader, key: bytes
) -> None:
    """B-77: the component has one of the values that were saved, and the damage is told.

    Two snapshots of one component; every bit of the file in turn. CRC-32 finds every single
    flipped bit of a header, BLAKE2b those of the rest.
    """
    first, second = snapshot(1, b"the first"), snapshot(2, b"the second")
    data = segment_of(first, second, key=key, closed=True)
    assert reader.read(data, key) == ({"/a": second}, [], True)
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        found, damages, _ = reader.read(bytes(changed), key)
        assert damages, f"bit {bit} of {len(data) * 8}"
        assert found.get("/a") in (first, second), f"bit {bit} of {len(data) * 8}"


@pytest.mark.parametrize("key", [b"", KEY], ids=["plain", "key"])
def test_every_truncation_is_found_and_no_wrong_value_returned(reader: Reader, key: bytes) -> None:
    """B-76: what is left is what was saved up to there; a cut is never taken for a closed end."""
    first, second = snapshot(1, b"the first"), snapshot(2, b"the second")
    one, two = len(segment_of(first, key=key)), len(segment_of(first, second, key=key))
    none = len(segment_of(key=key))
    data = segment_of(first, second, key=key, closed=True)
    for size in range(len(data)):
        found, damages, closed = reader.read(data[:size], key)
        expected = {} if size < one else {"/a": first} if size < two else {"/a": second}
        assert found == expected, size
        assert not closed, size
        whole = size in (none, one, two)  # an empty file is what a crash may leave of one
        assert [damage.torn for damage in damages] == ([] if whole else [True]), size


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_bytes_in_place_of_any_part_are_found(reader: Reader, seed: int) -> None:
    """B-77: as for single bits, for whole stretches."""
    chance = random.Random(seed)
    entries = [snapshot(number, bytes([number]) * 50) for number in range(1, 5)]
    data = segment_of(*entries, closed=True)
    for _ in range(150):
        begin = chance.randrange(len(data))
        stretch = chance.randbytes(chance.randrange(1, len(data) - begin + 1))
        changed = data[:begin] + stretch + data[begin + len(stretch) :]
        try:
            found, damages, _ = reader.read(changed)
        except VersionError:
            pytest.fail("random bytes were taken for a newer format")
        assert damages or changed == data
        assert found.get("/a") in [None, *entries]


# -- records where they do not belong -------------------------------------------------------


def test_a_record_that_was_moved_is_none(reader: Reader) -> None:
    """The module: a record that is found elsewhere than where it was written is none."""
    data = segment_of(snapshot(1))
    begin = len(segment_of())
    record = data[begin:]
    found, damages, _ = reader.read(data + record)  # a copy behind itself
    assert found == {"/a": snapshot(1)}
    assert len(damages) == 1
    found, damages, _ = reader.read(data[:begin] + b"\0" + record)
    assert found == {}
    assert damages


def test_records_that_were_swapped_are_none(reader: Reader) -> None:
    """The seal covers the offset: the order in the file is the order in which they were saved."""
    one, two = snapshot(1, b"one"), snapshot(2, b"two")
    begin, middle = len(segment_of()), len(segment_of(one))
    data = segment_of(one, two)
    found, damages, _ = reader.read(data[:begin] + data[middle:] + data[begin:middle])
    assert found == {}
    assert damages


def test_a_record_of_another_segment_is_none(reader: Reader) -> None:
    """The seal covers the segment, even at the same offset."""
    begin = len(segment_of())
    stranger = records.encode_entry(snapshot(9), begin, Sealer(b"f" * 16, b""))
    found, damages, _ = reader.read(segment_of(stranger))
    assert found == {}
    assert len(damages) == 1


def test_a_record_in_the_data_of_another_one_is_none(reader: Reader) -> None:
    """A snapshot may hold a log; when its own header is damaged, what it holds is not taken."""
    inner = records.encode_entry(snapshot(9, b"inner"), 0, Sealer(SALT, b""))
    begin = len(segment_of())
    data = bytearray(segment_of(snapshot(1, inner * 3), snapshot(1, b"behind", path="/b")))
    data[begin] ^= 1
    found, damages, _ = reader.read(bytes(data))
    assert found == {"/b": snapshot(1, b"behind", path="/b")}
    assert damages


def test_a_header_of_a_newer_format_in_the_data_of_a_damaged_record_is_none(
    reader: Reader,
) -> None:
    """B-79 is about records: bytes within a snapshot that look like one refuse nothing."""
    head = HEAD.pack(records.MAGIC, records.FORMAT + 1, records.SNAPSHOT, 0, 10, 10)
    inner = head + crc32(head).to_bytes(4, "little")
    begin = len(segment_of())
    data = bytearray(segment_of(snapshot(1, inner), snapshot(1, b"behind", path="/b")))
    data[begin] ^= 1
    found, damages, _ = reader.read(bytes(data))
    assert found == {"/b": snapshot(1, b"behind", path="/b")}
    assert damages


@pytest.mark.parametrize(
    ("meta_bytes", "payload_bytes"),
    [
        (2**32 - 1, 0),
        (0, 2**64 - 1),
        (2**32 - 1, 2**64 - 1),
        (10, records.MAX_PAYLOAD),
        (records.MAX_META, 0),
        (0, 2**63),
    ],
)
def test_huge_lengths_are_found_without_taking_memory(
    reader: Reader, meta_bytes: int, payload_bytes: int
) -> None:
    """A header with a right checksum that claims more than there is, or than may be."""
    head = HEAD.pack(records.MAGIC, records.FORMAT, records.SNAPSHOT, 0, meta_bytes, payload_bytes)
    bad = head + crc32(head).to_bytes(4, "little") + b"x" * 100
    data = segment_of(snapshot(1), bad)
    found, damages, _ = reader.read(data)
    assert found == {"/a": snapshot(1)}
    assert len(damages) == 1
    begin = len(segment_of(bad))
    behind = records.encode_entry(snapshot(2), begin, Sealer(SALT, b""))
    found, damages, _ = reader.read(segment_of(bad, behind))
    assert found == {"/a": snapshot(2)}
    assert len(damages) == 1


def test_a_seal_tells_keys_apart() -> None:
    """S-28: what is sealed without the key, or with another one, does not hold."""
    record = records.encode_entry(snapshot(), 7, Sealer(SALT, KEY))
    assert Sealer(SALT, KEY).holds(7, record)
    assert not Sealer(SALT, KEY).holds(8, record)
    assert not Sealer(SALT, b"").holds(7, record)
    assert not Sealer(SALT, b"o" * 32).holds(7, record)
    long = b"l" * 100
    record = records.encode_entry(snapshot(), 7, Sealer(SALT, long))
    assert Sealer(SALT, long).holds(7, record)
    assert not Sealer(SALT, long[:64]).holds(7, record)
    assert len({records.key_id(key) for key in (b"", KEY, long, long[:64])}) == 4


# -- sizes and compression ------------------------------------------------------------------


def test_a_snapshot_bigger_than_allowed_is_refused_before_it_is_made() -> None:
    """MAX_SNAPSHOT: what claims more is corrupt; nothing is decompressed."""
    record = records.encode_entry(snapshot(1, bytes(5000)), 0, Sealer(SALT, b""))
    header = records.decode_header(record)
    assert header is not None
    meta = records.decode_meta(header, record)
    meta["data_bytes"] = records.MAX_SNAPSHOT + 1
    with pytest.raises(CorruptStoreError, match="too big"):
        records.decode_entry(header, meta, record)


def zstd_bomb() -> bytes:
    zstd = compression._zstd()
    if zstd is None:
        pytest.skip("needs the extra zstd")
    return bytes(zstd.compress(bytes(50_000_000), 3))


def lzma_bomb() -> bytes:
    return lzma.compress(bytes(50_000_000), preset=0, check=lzma.CHECK_NONE)


@pytest.mark.parametrize(("method", "bomb"), [(ZSTD, zstd_bomb), (LZMA, lzma_bomb)])
def test_a_bomb_is_corrupt_and_makes_no_more_than_it_claims(method: int, bomb: Any) -> None:
    """`decompress`: no more than `size` bytes are ever made; 50 MB claim to be 1000 bytes."""
    with pytest.raises(CorruptStoreError, match="1001 bytes"):
        decompress(method, bomb(), 1000)


@pytest.mark.parametrize("method", [ZSTD, LZMA])
def test_what_no_compressor_has_made_is_corrupt(method: int) -> None:
    """`decompress`: CorruptStoreError for rubbish, for what was cut off, and for nothing."""
    if method == ZSTD and compression._zstd() is None:
        pytest.skip("needs the extra zstd")
    data = bytes(range(256)) * 40
    good = (
        compression._zstd().compress(data, 3)
        if method == ZSTD
        else lzma.compress(data, preset=0, check=lzma.CHECK_NONE)
    )
    assert decompress(method, good, len(data)) == data
    for bad in (b"rubbish" * 20, good[: len(good) // 2], b""):
        with pytest.raises(CorruptStoreError):
            decompress(method, bad, len(data))
    for size in (len(data) - 1, len(data) + 1):
        with pytest.raises(CorruptStoreError):
            decompress(method, good, size)


def test_a_method_that_does_not_exist_is_corrupt() -> None:
    """0, 1 and 2 are all there are."""
    with pytest.raises(CorruptStoreError, match="method 3"):
        decompress(3, b"", 0)


@pytest.fixture
def without_zstd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "_zstd", lambda: None)


def test_large_values_are_compressed_by_zstd() -> None:
    """The module: by zstd where it is available; the frame begins as RFC 8878 says."""
    if compression._zstd() is None:
        pytest.skip("needs the extra zstd")
    method, smaller = compress(bytes(100_000))
    assert method == ZSTD
    assert smaller[:4] == bytes.fromhex("28b52ffd")
    assert len(smaller) < 1000
    assert decompress(method, smaller, 100_000) == bytes(100_000)


def test_large_values_are_compressed_by_lzma_where_zstd_is_missing(without_zstd: None) -> None:
    """The module: else by lzma; the standard library's reads it."""
    method, smaller = compress(bytes(100_000))
    assert method == LZMA
    assert len(smaller) < 1000
    assert lzma.decompress(smaller) == bytes(100_000)
    assert decompress(method, smaller, 100_000) == bytes(100_000)


def test_zstd_data_without_zstd_names_the_extra(without_zstd: None) -> None:
    """Conventions 2: absence raises BackendMissingError naming the extra to install."""
    with pytest.raises(BackendMissingError, match=r"kompyct\[zstd\]"):
        decompress(ZSTD, b"anything", 10)


@pytest.mark.parametrize("missing", [False, True])
def test_small_values_and_such_as_get_no_smaller_stay_as_they_are(
    missing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SMALL is 4096 bytes; random bytes cannot be compressed."""
    if missing:
        monkeypatch.setattr(compression, "_zstd", lambda: None)
    assert compress(bytes(4095)) == (NONE, bytes(4095))
    assert compress(bytes(4096))[0] != NONE
    noise = random.Random(1).randbytes(10_000)
    assert compress(noise) == (NONE, noise)
    assert compress(b"") == (NONE, b"")


def test_a_compressed_snapshot_beside_a_pickled_function_comes_back(without_zstd: None) -> None:
    """Function and data lie in one payload, and only the data is compressed."""
    entry = snapshot(1, bytes(50_000), b"\x80function")
    record = records.encode_entry(entry, 0, Sealer(SALT, b""))
    assert len(record) < 2000
    assert decoded(record) == entry


# -- round trips ----------------------------------------------------------------------------

TEXT = st.text(max_size=30) | st.sampled_from(
    ["", "\ud800", '"\\', "\0", "\u2028", "\U0001f600", "ä/ö", "\x7f\x1b", "null", '","path":"/x']
)
COUNT = st.integers(0, 2**70)
MARKS = st.builds(
    Mark,
    TEXT,
    COUNT,
    COUNT,
    st.sampled_from(Status),
    st.booleans(),
    COUNT,
    COUNT,
    st.none() | COUNT,
)
DATA = st.none() | st.binary(max_size=200) | st.integers(4000, 5000).map(bytes)
SNAPSHOTS = st.builds(
    Snapshot,
    MARKS,
    TEXT.filter(bool) | st.binary(max_size=100),
    DATA,
    st.floats(allow_nan=False, allow_infinity=False),
    COUNT,
    st.lists(COUNT, max_size=4).map(tuple),
    TEXT,
    TEXT,
)


@settings(max_examples=200, deadline=None)
@given(SNAPSHOTS | MARKS | st.builds(Removal, TEXT), st.integers(0, 2**40), st.booleans())
def test_every_entry_comes_back_as_it_was(entry: Entry, offset: int, keyed: bool) -> None:
    """S-28: recovery sees what was saved; and its seal holds there and nowhere else."""
    sealer = Sealer(SALT, KEY if keyed else b"")
    record = records.encode_entry(entry, offset, sealer)
    assert decoded(record) == entry
    assert sealer.holds(offset, record)
    assert not sealer.holds(offset + 1, record)


@settings(max_examples=100, deadline=None)
@given(SNAPSHOTS)
def test_what_is_read_without_the_data_tells_all_but_function_and_data(entry: Snapshot) -> None:
    """`decode_entry` with None for the record: for looking over a folder."""
    record = records.encode_entry(entry, 0, Sealer(SALT, b""))
    header = records.decode_header(record)
    assert header is not None
    found = records.decode_entry(header, records.decode_meta(header, record), None)
    assert isinstance(found, Snapshot)
    assert (found.mark, found.saved_at, found.generation, found.keeps) == (
        entry.mark,
        entry.saved_at,
        entry.generation,
        entry.keeps,
    )
    assert found.data is None


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda rest: records.MAGIC + rest))
def test_no_bytes_are_taken_for_a_header_by_chance(data: bytes) -> None:
    """A header needs its own checksum, also to be taken for one of a newer format."""
    assert records.decode_header(data[:HEADER_BYTES]) is None


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=6), st.integers(0, 10_000))
def test_a_scan_gives_all_records_and_all_bytes(parts: list[bytes], at: int) -> None:
    """Records and damages lie one behind the other and cover the whole segment."""
    data = segment_of(*[snapshot(n + 1, part) for n, part in enumerate(parts)])
    data = data[: at % (len(data) + 1)] + b"\xffKSR" + data[at % (len(data) + 1) :]
    descriptor = os.memfd_create("segment") if hasattr(os, "memfd_create") else -1
    if descriptor < 0:
        pytest.skip("needs memfd_create")
    try:
        os.write(descriptor, data)
        end = 0
        for offset, found in segments.scan(Segment(1, Sealer(SALT, b""), "segment", descriptor)):
            assert offset == end
            end += found.length if isinstance(found, Damage) else found[0].length
        assert end == len(data)
    finally:
        os.close(descriptor)


def test_a_seal_has_the_size_the_format_says() -> None:
    """The module's table: header 24 bytes, seal 16; a removal is both and its meta."""
    record = records.encode_entry(Removal("/a"), 0, Sealer(SALT, b""))
    assert (HEADER_BYTES, SEAL_BYTES) == (24, 16)
    assert record[24:-16] == b'{"path":"/a"}'
    assert record[:4] == b"\xffKSR"
