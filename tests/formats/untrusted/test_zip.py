"""Zip archives whose members' sizes and places stand in 64 bits, as those beyond 4 GB have them."""

import io
import struct
import zipfile

import pytest

from cylstm.errors import FormatError
from cylstm.formats.untrusted.zip import Archive

NAMES = ("first", "second")
CONTENTS = {name: bytes(range(40 + len(name))) * 3 for name in NAMES}


def with_wide_sizes(field):
    """An archive whose second entry has all three in a field, which `field` makes of size, stored size and place."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in CONTENTS.items():
            archive.writestr(name, content)
    data = file.getvalue()
    entry = data.rindex(b"PK\x01\x02")
    stored, size = struct.unpack_from("<2I", data, entry + 20)
    assert stored < size == len(CONTENTS["second"])
    offset = struct.unpack_from("<I", data, entry + 42)[0]
    another = struct.pack("<2HI", 0x5455, 4, 12345)  # a time, which comes first in many files
    extra = another + field(size, stored, offset)
    changed = bytearray(data[entry:])
    struct.pack_into("<2I", changed, 20, 0xFFFFFFFF, 0xFFFFFFFF)
    struct.pack_into("<H", changed, 30, len(extra))
    struct.pack_into("<I", changed, 42, 0xFFFFFFFF)
    name_end = 46 + len("second")
    changed[name_end:name_end] = extra
    end = changed.rindex(b"PK\x05\x06")
    directory = struct.unpack_from("<I", changed, end + 12)[0] + len(extra)
    struct.pack_into("<I", changed, end + 12, directory)
    return io.BytesIO(data[:entry] + bytes(changed))


def test_sizes_and_places_of_64_bits_are_read():
    archive = Archive("wide.zip", with_wide_sizes(lambda *three: struct.pack("<2H3Q", 1, 24, *three)))
    assert archive.names == list(NAMES)
    for name, content in CONTENTS.items():
        assert archive.read(name, 1000) == content


@pytest.mark.parametrize(
    "field",
    [
        lambda *three: b"",
        lambda *three: struct.pack("<2H2Q", 1, 16, *three[:2]),
        lambda *three: struct.pack("<2H2Q", 1, 24, *three[:2]),
        lambda *three: struct.pack("<2H3Q", 2, 24, *three),
    ],
    ids=["none", "no place", "shorter than it says", "another field"],
)
def test_a_member_without_its_64_bit_sizes_is_refused(field):
    with pytest.raises(FormatError, match=r"wide\.zip: a damaged .* second has no 64-bit sizes"):
        Archive("wide.zip", with_wide_sizes(field))
