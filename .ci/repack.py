"""repack.py WHEEL...: writes wheels again, each as small as deflate makes it, and equal wheels as equal bytes.

Needs zopfli, which finds the shortest deflate stream that it can; whatever reads zip files reads it. Names are sorted
with those of .dist-info last, there are no entries for folders, times are $SOURCE_DATE_EPOCH (1980 if that is not set)
and modes 644 or 755. Contents and so RECORD stay as they are.
"""

import os
import stat
import struct
import sys
import time
import zipfile
import zlib
from pathlib import Path

import zopfli.zlib

#: of zopfli; 15 would take 1.3 times as long for 0.02% less
ITERATIONS = 5
#: of a megabyte, each with codes of its own; zopfli's 15 would take 2 KB more, and any number of them no less
BLOCKS = 40
DEFLATED, VERSION, UNIX = 8, 20, 3
FIRST_TIME = 315532800  # a zip file's times begin in 1980


def deflate(data: bytes) -> bytes:
    # without the header and checksum of zlib
    return zopfli.zlib.compress(data, numiterations=ITERATIONS, blocksplittingmax=BLOCKS)[2:-4] if data else b"\x03\x00"


def dos_time() -> tuple[int, int]:
    """Time and date of every entry as zip files have them."""
    seconds = max(FIRST_TIME, int(os.environ.get("SOURCE_DATE_EPOCH", FIRST_TIME)))
    year, month, day, hour, minute, second = time.gmtime(seconds)[:6]
    return hour << 11 | minute << 5 | second // 2, (year - 1980) << 9 | month << 5 | day


def order(info: zipfile.ZipInfo) -> tuple[bool, bool, str]:
    is_about = info.filename.split("/")[0].endswith(".dist-info")
    return is_about, info.filename.endswith("/RECORD"), info.filename


def packed(wheel: zipfile.ZipFile) -> bytes:
    """The bytes of the new wheel."""
    entries, directory = [], []
    offset = 0
    for info in sorted((info for info in wheel.infolist() if not info.is_dir()), key=order):
        name, data = info.filename.encode("ascii"), wheel.read(info)
        content = deflate(data)
        mode = stat.S_IFREG | (0o755 if info.external_attr >> 16 & 0o111 else 0o644)
        common = struct.pack(
            "<HHHHHIIIHH", VERSION, 0, DEFLATED, *dos_time(), zlib.crc32(data), len(content), len(data), len(name), 0
        )
        entries += [b"PK\x03\x04", common, name, content]
        more = struct.pack("<HHHII", 0, 0, 0, mode << 16, offset)
        directory += [b"PK\x01\x02", bytes([VERSION, UNIX]), common, more, name]
        offset += 4 + len(common) + len(name) + len(content)
    count, size = len(directory) // 5, sum(map(len, directory))
    return b"".join([*entries, *directory, b"PK\x05\x06", struct.pack("<HHHHIIH", 0, 0, count, count, size, offset, 0)])


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as wheel:
        return {info.filename: wheel.read(info) for info in wheel.infolist() if not info.is_dir()}


def main(paths: list[str]) -> int:
    for path in map(Path, paths):
        new = path.with_suffix(".repacked")
        with zipfile.ZipFile(path) as wheel:
            new.write_bytes(packed(wheel))
        if contents(new) != contents(path):
            print(f"repack: {new} has not the contents of {path}", file=sys.stderr)
            return 1
        new.replace(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
