"""Hostile files: each is made here, and refused quickly, in little memory, with one of our own errors.

The limits are enforced where they cannot flake: the reader runs in a process that may take 64 MB beyond the file's
size, and that is given far more time than it needs. (Keras's files are in tests/formats/keras/test_hostile.py.)
"""

import json
import struct
import zlib

import numpy as np
import pytest

from tests.builders.hostile import MB, needs_proc
from tests.builders.weight_files import (
    call,
    dictionary,
    global_,
    integer,
    linear_tensors,
    lstm_tensors,
    ordered_dict,
    program,
    storage,
    tensor,
    text,
    tuple_of,
    write_torch,
    write_zip,
)

pytestmark = needs_proc


def torch_file(path, body, storage_bytes=bytes(48), **options):
    return write_torch(path, {}, body=body, members=[("net/data/0", storage_bytes)], **options)


# Pickles


BIG = 3_000_000


@pytest.mark.parametrize(
    ("body", "message"),
    [
        # opcodes that no checkpoint has: PUT, GET, INST, OBJ, PERSID, INT, LONG, STRING, then EXT1, NEXT_BUFFER
        *((code + b"0\n", f"opcode b'{code.decode()}'") for code in (b"p", b"g", b"i", b"o", b"P", b"I", b"L", b"S")),
        (b"\x82\x01", "opcode b'.x82'"),
        (b"\x97", "opcode b'.x97'"),
        (b"\xff", "opcode b'.xff'"),
        # reductions
        (call("os.system", text("true")), r"calls os\.system, which is not run"),
        (call("builtins.eval", text("1")), r"calls builtins\.eval"),
        (call("builtins.getattr", global_("os.path"), text("x")) + b")R", r"calls builtins\.getattr"),
        (global_("subprocess.Popen") + b")\x81", r"calls subprocess\.Popen"),
        (global_("torch.hub.load") + b")}\x92", r"calls torch\.hub\.load"),
        (call("torch.load", text("x")), r"calls torch\.load"),
        (call("torch.storage._load_from_bytes", b"U\x01x"), r"_load_from_bytes"),
        (integer(3) + b")R", "a call of a int"),
        (ordered_dict({"a": call("torch._utils._rebuild_tensor_v2")}), "arguments it does not take"),
        # setting items and states of what is no dict (CVE-2026-24747)
        (storage("Float", "0", 12) + b"(" + text("key") + text("1") + b"u", "setting items of a StorageRef"),
        (tensor("Float", "0", 12, 0, (1,), (1,)) + b"}" + text("shape") + b"Nsb", "setting the state of a TensorRef"),
        (global_("torch.Tensor") + text("x") + b"Ns", "setting items of a Global"),
        (b")" + b"}" + text("x") + b"Nsb", "setting the state of a tuple"),
        # unlimited stack, memo, marks, entries and steps
        (b"N" * BIG, "operations"),
        (b"}" * BIG, "MB of objects"),
        (b"]" * BIG, "MB of objects"),
        (b"N" + b"".join(b"r" + i.to_bytes(4, "little") for i in range(BIG // 4)), "MB of objects"),
        (b"(" * BIG, "nested more than 1000 deep"),
        (b")" + b"\x85" * BIG, "MB of objects|operations"),
        (b"]q\x00" + b"h\x00a" * BIG, "operations|MB of objects"),
        (b"ca\nb\nq\x00" + b"h\x00)R" * BIG, "MB of objects"),
        (b"]q\x00(" + b"N" * 200_000 + b"e" + (global_("collections.OrderedDict") + b"h\x00\x85R0") * 1000, "Ordered"),
        (b"](" + b"N" * 200_000 + b"eq\x00" + (global_("torch.Size") + b"h\x00\x85R") * 2000, "MB of objects"),
        (b"}q\x00" + b"N0" * BIG, "operations"),
        # deep recursion, also through the memo
        (b"]q\x00h\x00a", "found a list"),
        (b"}q\x00" + text("x") + b"h\x00s", "no state dict found; the entries are 'x'"),
        (b")q\x00" + b"".join(b"0h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60)) + b"0}h\x3cNs", "no state dict"),
        (b"}q\x00" + b"".join(b"0}" + text("a") + b"h%cs" % i + text("b") + b"h%csq%c" % (i, i + 1)
                               for i in range(100)), "no state dict"),
        (global_("a.B") + b")\x81q\x05" + dictionary({"_parameters": b"}", "_modules": dictionary(
            {"a": b"h\x05", "b": b"h\x05"})}) + b"b", "nested without end"),
        # long names, repeated
        (text("x" * 1_000_000) + b"q\x000}h\x00}(" + b"".join(text(str(i)) + b"}" for i in range(20_000)) + b"us",
         "no state dict found"),
        (text("x" * 1_000_000) + b"q\x000" + ordered_dict({"a": tuple_of(
            text("storage"), global_("torch.FloatStorage"), b"h\x00", text("cpu"), integer(1)) + b"Q"}), "unknown way"),
        (ordered_dict({"x" * 1_000_000: tensor("Float", "0", 12, 0, (2,), (1,))}), "name of 1000000 characters"),
        # sizes that lie
        (b"\x8b\xff\xff\xff\x7f", "an integer of 2147483647 bytes"),
        (b"\x8b\x00\x00\x10\x00" + bytes(1 << 20), "an integer of 1048576 bytes"),
        (b"X\xff\xff\xff\xff", "4294967295 bytes expected"),
        (b"\x8d" + b"\xff" * 8, "bytes expected"),
        (b"\x8e" + b"\xff" * 8, "bytes expected"),
        (b"\x96" + b"\xff" * 8, "bytes expected"),
        (b"\x95" + b"\xff" * 8, "a frame longer than the file"),
        (text("x" * BIG) + b"q\x000" + b"h\x00h\x00\x930" * 100, "name is too long"),
        # persistent ids
        (text("x") + b"Q", "names no storage"),
        (tuple_of(text("storage"), b"N", b"N", b"N", b"N") + b"Q", "described in an unknown way"),
        (tuple_of(text("module"), text("x"), b"N", b"N") + b"Q", "calls a class|expected a state dict"),
    ],
)  # fmt: skip
def test_a_hostile_pickle_is_refused(tmp_path, refused, body, message):
    refused(torch_file(tmp_path / "a.pt", body), message)


# Tensors


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (tensor("Float", "0", 12, -1, (2,), (1,)), "natural numbers"),
        (tensor("Float", "0", 12, 0, (-2,), (1,)), "natural numbers"),
        (tensor("Float", "0", 12, 0, (2,), (-1,)), "natural numbers"),
        (tensor("Float", "0", 12, 11, (2,), (1,)), "reach element 12 of a storage of 12"),
        (tensor("Float", "0", 12, 0, (2, 2), (11, 1)), "reach element 12"),
        (tensor("Float", "0", 12, 1 << 61, (2,), (1,)), "reach element"),
        (tensor("Float", "0", 12, 0, (2,), (1 << 61,)), "reach element"),
        (tensor("Float", "0", 13, 0, (2,), (1,)), "expected 52 bytes, found 48"),
        (tensor("Double", "0", 12, 0, (2,), (1,)), "expected 96 bytes, found 48"),
        (tensor("Float", "0", 1 << 60, 0, (1 << 58,), (1,)), "found 48"),
        (tensor("Float", "0", 12, 0, (1 << 40,), (0,)), "from storages of only 48"),
        (tensor("Float", "0", 12, 0, (1 << 20, 1 << 20), (0, 0)), "from storages of only 48"),
        (tensor("Float", "0", 12, 0, (1 << 59,), (0,)), "natural numbers"),
        (tensor("Float", "0", 12, 0, (0, 1 << 61), (1, 1)), "natural numbers"),
        (tensor("Float", "0", 12, 0, (1,) * 40, (1,) * 40), "natural numbers"),
        (tensor("Float", "../../0", 12, 0, (2,), (1,)), "is missing"),
        (tensor("Float", "/etc/passwd", 12, 0, (2,), (1,)), "is missing"),
    ],
)
def test_a_tensor_that_lies_about_its_size_is_refused(tmp_path, refused, described, message):
    refused(torch_file(tmp_path / "a.pt", ordered_dict({"fc.weight": described})), message)


def test_many_views_of_one_storage_do_not_add_up_to_gigabytes(tmp_path, refused):
    state = {f"w{i}": tensor("Float", "0", 1 << 20, i, (1 << 19,), (1,)) for i in range(2000)}
    refused(torch_file(tmp_path / "a.pt", ordered_dict(state), bytes(4 << 20)), "from storages of only 4194304")


def test_many_sparse_views_of_one_storage_are_not_read_for_hours(tmp_path, refused):
    state = {f"w{i}": tensor("Float", "0", 1 << 20, 0, (2,), ((1 << 20) - 1 - i,)) for i in range(5000)}
    refused(torch_file(tmp_path / "a.pt", ordered_dict(state), bytes(4 << 20)), "from storages of only 4194304")


# PyTorch's stream


RECORD = struct.pack("<q", 12) + bytes(48)


def stream(body, keys=("0",), record=RECORD, little=b"\x88", protocol=1001):
    listed = program(b"](" + b"".join(map(text, keys)) + b"e")
    head = program(integer(0x1950A86A20F9469CFC6C)) + program(integer(protocol))
    return head + program(dictionary({"little_endian": little})) + program(body) + listed + record


ONE = ordered_dict({"fc.weight": tensor("Float", "0", 12, 0, (2, 6), (6, 1))})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (stream(ONE, record=struct.pack("<q", 12) + bytes(47)), "expected 12 elements, found a count of 12 and 47"),
        (stream(ONE, record=struct.pack("<q", 1 << 62) + bytes(48)), "found a count of 4611686018427387904"),
        (stream(ONE, record=struct.pack("<q", -1) + bytes(48)), "found a count of"),
        (stream(ONE, record=b""), "found a count of 0"),
        (stream(ONE, record=struct.pack("<q", 12) + bytes(49)), "1 bytes after the last storage"),
        (stream(ordered_dict({"a": tensor("Float", "0", 1 << 60, 0, (2,), (1,))})), "found a count of 12"),
        (stream(ONE, keys=()), "48 bytes|56 bytes after the last storage"),
        (stream(ONE, keys=("0", "0")), "different names"),
        (stream(ONE, keys=("0", "1")), "'1' belongs to no tensor"),
        (stream(ONE, little=b"N"), "does not tell the byte order"),
        (stream(ONE, protocol=1002), "protocol 1002"),
        (stream(b"N" * BIG), "operations"),
        (stream(call("os.system", text("true")), keys=(), record=b""), r"calls os\.system"),
        (stream(ordered_dict({"a": tensor("QUInt4x2", "0", 12, 0, (2,), (1,))})), "QUInt4x2Storage is not supported"),
        (stream(ordered_dict({"a": tensor("Float", "0", 12, 0, (2,), (1,)),
                              "b": tensor("Double", "0", 6, 0, (2,), (1,))})), "described in two ways"),
        (stream(tuple_of(text("storage"), global_("torch.FloatStorage"), text("0"), text("cpu"), integer(12),
                         tuple_of(text("1"), integer(0), integer(4))) + b"Q"), "views of storages"),
    ],
)  # fmt: skip
def test_a_hostile_stream_is_refused(tmp_path, refused, data, message):
    (tmp_path / "a.pt").write_bytes(data)
    refused(tmp_path / "a.pt", message)


def test_a_tar_file_is_refused(tmp_path, refused):
    import tarfile

    (tmp_path / "storages").write_bytes(b"x")
    with tarfile.open(tmp_path / "a.pt", "w") as archive:  # CVE-2025-32434 came through tar
        archive.add(tmp_path / "storages", "storages")
    refused(tmp_path / "a.pt", "a tar archive")


# Zip archives


def zip_entry(name, offset, size, *, stored=None, method=0, flags=0, crc=0, extra=b""):
    stored = size if stored is None else stored
    sizes = struct.pack("<3I2H", crc, stored, size, len(name), len(extra))
    head = b"PK\x01\x02" + struct.pack("<4H", 20, 20, flags, method) + bytes(4) + sizes + bytes(10)
    return head + struct.pack("<I", offset) + name + extra


def zip_end(count, size, start):
    return b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, count, count, size, start, 0)


def zip_local(name, data, method=0):
    return (
        b"PK\x03\x04" + struct.pack("<3H", 20, 0, method) + bytes(16) + struct.pack("<2H", len(name), 0) + name + data
    )


def raw_zip(path, locals_, entries, count=None):
    body, directory = b"".join(locals_), b"".join(entries)
    path.write_bytes(body + directory + zip_end(len(entries) if count is None else count, len(directory), len(body)))
    return path


def deflated(data):
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return squeezer.compress(data) + squeezer.flush()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../b", "a\\b", "C:\\x", "net/data.pkl"])
def test_duplicate_and_unsafe_names_are_refused(tmp_path, refused, name):
    message = "two members are named" if name == "net/data.pkl" else "unsafe member name"
    refused(write_zip(tmp_path / "a.pt", [("net/data.pkl", program(b"}")), (name, b"x")]), message)


@pytest.mark.parametrize("name", [b"a\0b", b""])
def test_names_that_zipfile_would_not_write_are_refused(tmp_path, refused, name):
    refused(raw_zip(tmp_path / "a.pt", [zip_local(name, b"x")], [zip_entry(name, 0, 1)]), "unsafe member name")


def test_an_encrypted_member_is_refused(tmp_path, refused):
    name = b"net/data.pkl"
    entries = [zip_entry(name, 0, 1, flags=1)]
    refused(raw_zip(tmp_path / "a.pt", [zip_local(name, b"x")], entries), "is encrypted")


@pytest.mark.parametrize("extension", [".pt", ".npz"])
def test_a_zip_bomb_is_refused(tmp_path, refused, extension):
    name = b"net/data.pkl" if extension == ".pt" else b"a.npy"
    data = deflated(bytes(100 * MB))
    entries = [zip_entry(name, 0, 100 * MB, stored=len(data), method=8)]
    path = raw_zip(tmp_path / f"a{extension}", [zip_local(name, data, 8)], entries)
    refused(path, "claims 104857600 bytes from")


def test_a_bomb_that_claims_to_be_small_is_refused(tmp_path, refused):
    data = deflated(bytes(100 * MB))
    entries = [zip_entry(b"a.npy", 0, 1000, stored=len(data), method=8)]
    refused(raw_zip(tmp_path / "a.npz", [zip_local(b"a.npy", data, 8)], entries), "expands to another size")


def test_many_small_bombs_are_refused(tmp_path, refused):
    data = deflated(bytes(1 << 20))
    locals_, entries, place = [], [], 0
    for i in range(3000):
        name = b"%d.npy" % i
        locals_.append(zip_local(name, data, 8))
        entries.append(zip_entry(name, place, 1 << 20, stored=len(data), method=8))
        place += len(locals_[-1])
    refused(raw_zip(tmp_path / "a.npz", locals_, entries), "the members claim 3145728000 bytes")


def test_members_that_overlap_are_refused(tmp_path, refused):
    # every entry points at one local header: the bomb without recursion
    data = zip_local(b"0.npy", bytes(1000))
    entries = [zip_entry(b"%d.npy" % i, 0, 1000) for i in range(1000)]
    refused(raw_zip(tmp_path / "a.npz", [data], entries), "overlaps what follows it")


def test_a_member_that_reaches_into_the_next_by_its_padding_is_refused(tmp_path, refused):
    first = bytearray(zip_local(b"0.npy", bytes(100)))
    first[28:30] = struct.pack("<H", 50)  # an extra field that shifts the data
    entries = [zip_entry(b"0.npy", 0, 100), zip_entry(b"1.npy", len(first), 100)]
    refused(raw_zip(tmp_path / "a.npz", [bytes(first), zip_local(b"1.npy", bytes(100))], entries), "overlaps")


def test_a_local_header_of_another_name_is_refused(tmp_path, refused):
    refused(raw_zip(tmp_path / "a.npz", [zip_local(b"b.npy", b"x")], [zip_entry(b"a.npy", 0, 1)]), "another name")


def test_too_many_members_are_refused(tmp_path, refused):
    locals_ = [zip_local(b"%06d.npy" % i, b"") for i in range(101_000)]
    entries = [zip_entry(b"%06d.npy" % i, 40 * i, 0) for i in range(101_000)]
    path = tmp_path / "a.npz"
    body, directory = b"".join(locals_), b"".join(entries)
    wide = b"PK\x06\x06" + struct.pack("<Q2H2I4Q", 44, 45, 45, 0, 0, 101_000, 101_000, len(directory), len(body))
    locator = b"PK\x06\x07" + struct.pack("<IQI", 0, len(body) + len(directory), 1)
    path.write_bytes(body + directory + wide + locator + zip_end(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF))
    refused(path, "101000 members")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (zip_entry(b"a.npy", 1 << 31, 1), "lies outside"),
        (zip_entry(b"a.npy", 0, 1 << 31), "lies outside"),
        (zip_entry(b"a.npy", 0, 0xFFFFFFFF), "has no 64-bit sizes"),
        (zip_entry(b"a.npy", 0, 0xFFFFFFFF, extra=struct.pack("<2H2Q", 1, 16, 1 << 63, 1 << 63)), "lies outside"),
        (zip_entry(b"a.npy", 0, 1, method=12), "compressed by method 12"),
        (zip_entry(b"a.npy", 0, 5, stored=1), "is stored in 1 bytes and has 5"),
        (zip_entry(b"a.npy", 3, 1), "no local header"),
        (zip_entry(b"\xff.npy", 0, 1, flags=0x800), "a member's name is not UTF-8"),
        (zip_entry(b"a.npy", 0, 1, crc=5), "checksum is wrong"),
        (zip_entry(b"a.npy", 0, 1, method=8), "is damaged|expands to another size"),
        (zip_entry(b"a.npy", 0, 1)[:-2], "an entry of its directory"),
        (zip_entry(b"a.npy", 0, 1) + b"x", "holds more than its 1 entries"),
    ],
)
def test_a_directory_that_lies_is_refused(tmp_path, refused, entry, message):
    refused(raw_zip(tmp_path / "a.npz", [zip_local(b"a.npy", b"x"), bytes(9)], [entry]), message)


def test_a_directory_with_fewer_entries_than_it_says_is_refused(tmp_path, refused):
    path = raw_zip(tmp_path / "a.npz", [zip_local(b"a.npy", b"x")], [zip_entry(b"a.npy", 0, 1)], count=2)
    refused(path, "its directory ends before its 2 entries do")


@pytest.mark.parametrize(
    ("signature", "shift", "disks", "message"),
    [
        (b"PK\x06\x05", 0, 1, "its 64-bit directory has no signature"),
        (b"PK\x06\x06", 1, 1, "its 64-bit directory is not where it should be"),
        (b"PK\x06\x06", 0, 2, "its 64-bit directory is not where it should be"),
    ],
)
def test_a_64_bit_directory_that_lies_is_refused(tmp_path, refused, signature, shift, disks, message):
    body, directory = zip_local(b"a.npy", b"x"), zip_entry(b"a.npy", 0, 1)
    wide = signature + struct.pack("<Q2H2I4Q", 44, 45, 45, 0, 0, 1, 1, len(directory), len(body))
    locator = b"PK\x06\x07" + struct.pack("<IQI", 0, len(body) + len(directory) + shift, disks)
    path = tmp_path / "a.npz"
    path.write_bytes(body + directory + wide + locator + zip_end(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF))
    refused(path, message)


@pytest.mark.parametrize("at", [4, 6, 8], ids=["this volume", "the directory's volume", "entries on this volume"])
def test_one_of_several_volumes_is_refused(tmp_path, refused, at):
    path = raw_zip(tmp_path / "a.npz", [zip_local(b"a.npy", b"x")], [zip_entry(b"a.npy", 0, 1)])
    data = bytearray(path.read_bytes())
    place = len(data) - 22 + at
    data[place : place + 2] = struct.pack("<H", 2)
    path.write_bytes(data)
    refused(path, "one of several volumes")


def test_a_compressed_storage_of_a_checkpoint_is_refused(tmp_path, refused):
    import zipfile

    path = torch_file(tmp_path / "a.pt", ONE, compression=zipfile.ZIP_DEFLATED)
    refused(path, "net/data/0 is compressed")


# JSON and safetensors


def header_file(path, header, data=b""):
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b'{"a":' + b"[" * 5_000_000, "nested too deeply"),
        (b'{"a":' + b'{"a":' * 1_000_000, "nested too deeply|too many"),
        (b'{"a":[' + b"[]," * 2_000_000 + b"0]}", "too many elements"),
        (b'{"a":[' + b"0," * 5_000_000 + b"0]}", "too many elements"),
        (b"{" + b",".join(b'"%d":{}' % i for i in range(500_000)) + b"}", "too many elements"),
        (b'{"a":1,"a":2}', "the key 'a' stands twice"),
        (b'{"a":NaN}', "NaN is not JSON"),
        (b'{"a":-Infinity}', "-Infinity is not JSON"),
        (b'{"a":1e400}', "out of range"),
        (b'{"a":' + b"9" * 3_000_000 + b"}", "an integer of 3000000 digits"),
        (b'{"a":"' + b'\\"' * 2_000_000, "not valid JSON"),
        (b'{"' + b"\\u00e9" * 500_000 + b'":1}', "tensor 'é"),
        (b'{"a":"\xff"}', "not UTF-8"),
    ],
)
def test_hostile_json_is_refused(tmp_path, refused, header, message):
    refused(header_file(tmp_path / "a.safetensors", header), message)


def entry(dtype="F32", shape=(2,), offsets=(0, 8), **other):
    return {"fc.weight": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)} | other}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (entry(shape=(1 << 40,), offsets=(0, 1 << 42)), "the tensors end at byte"),
        (entry(shape=(1 << 30, 1 << 30)), "too large"),
        (entry(shape=(1 << 62, 4)), "natural numbers|too large"),
        (entry(shape=(0, 1 << 62), offsets=(0, 0)), "natural numbers|too large"),
        (entry(shape=(3,)), "takes 12 bytes, found 8"),
        (entry(shape=(1,)), "takes 4 bytes, found 8"),
        (entry(shape=(-2,)), "natural numbers"),
        (entry(shape=(2.0,)), "natural numbers"),
        (entry(shape=(1,) * 10_000), "natural numbers"),
        (entry(offsets=(8, 0)), "takes 8 bytes, found -8"),
        (entry(offsets=(4, 12)), "a gap or an overlap"),
        (entry(offsets=(0, 1 << 70)), "an integer of 22 digits"),
        (entry() | {"b": entry()["fc.weight"]}, "a gap or an overlap"),
        (entry() | {"b": entry(offsets=(9, 17))["fc.weight"]}, "a gap or an overlap"),
        (entry(dtype="F8_E4M3"), "type 'F8_E4M3' is not supported"),
        (entry(extra=1), "expected dtype, shape and data_offsets"),
        ({"__metadata__": {"a": ["x"]}}, "expected strings only"),
    ],
)
def test_a_safetensors_header_that_lies_is_refused(tmp_path, refused, header, message):
    refused(header_file(tmp_path / "a.safetensors", json.dumps(header).encode(), bytes(8)), message)


@pytest.mark.parametrize("length", [1 << 63, 1 << 40, 100, 2**64 - 1])
def test_a_safetensors_length_that_lies_is_refused(tmp_path, refused, length):
    (tmp_path / "a.safetensors").write_bytes(length.to_bytes(8, "little") + b"{}")
    refused(tmp_path / "a.safetensors", "a header of")


def test_bytes_after_the_last_tensor_are_refused(tmp_path, refused):
    header = json.dumps(entry()).encode()
    refused(header_file(tmp_path / "a.safetensors", header, bytes(9)), "the tensors end at byte")


def test_a_header_of_very_many_layers_is_refused(tmp_path, refused):
    header, end = {}, 0
    for i in range(40_000):
        header["a." * 20 + f"{i}.weight"] = {"dtype": "F32", "shape": [1, 1], "data_offsets": [end, end + 4]}
        end += 4
    path = header_file(tmp_path / "a.safetensors", json.dumps(header).encode(), bytes(end))
    refused(path, "tensor 'lstm.weight_ih_l0' is missing")
    refused(path, "No proposal for 40000 tensors", layers=False)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"weight_map": {"a": "../a.safetensors"}}, "unsafe file name"),
        ({"weight_map": {"a": "/etc/passwd"}}, "unsafe file name"),
        ({"weight_map": {"a": "x\\y"}}, "unsafe file name"),
        ({"weight_map": {"a": ".."}}, "unsafe file name"),
        ({"weight_map": {"a": "none.safetensors"}}, r"none\.safetensors is missing beside it"),
        ({"weight_map": {"a": "a.index.json"}}, "a header of|too few|expected"),
        ({"weight_map": {"a": 3}}, "does not say the file of each tensor"),
        ({"weight_map": {}}, "does not say the file of each tensor"),
        ({"metadata": {}}, "config without weights"),
    ],
)
def test_a_hostile_index_is_refused(tmp_path, refused, index, message):
    (tmp_path / "a.index.json").write_text(json.dumps(index))
    refused(tmp_path / "a.index.json", message)


# npz


def npz_file(path, header, data=b"", version=b"\x01\x00", length=None):
    size = len(header) if length is None else length
    encoded = struct.pack("<H" if version == b"\x01\x00" else "<I", size)
    return write_zip(path, [("a.npy", b"\x93NUMPY" + version + encoded + header + data)])


def npy_header(descr="'<f4'", order="False", shape="(2,)"):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (npy_header("'|O'"), "an array of objects is a pickle"),
        (npy_header("[('a', '<f4')]"), "is not supported; floats, integers and bool are"),
        (npy_header("'<U4'"), "is not supported"),
        (npy_header("'<M8[s]'"), "is not supported"),
        (npy_header("'<c8'"), "is not supported"),
        (npy_header("'|V8'"), "is not supported"),
        (npy_header("('<f4', (1000000,))"), "is not supported"),
        (npy_header(shape="(1 << 40,)"), "no Python literal"),
        (npy_header(shape="(1099511627776,)"), "takes 4398046511104 bytes, found 8"),
        (npy_header(shape="(-2,)"), "natural numbers"),
        (npy_header(shape="(0, 9999999999999999999)"), "natural numbers"),
        (npy_header(shape="(2.0,)"), "natural numbers"),
        (npy_header(shape="[2]"), "natural numbers"),
        (npy_header(shape="(3,)"), "takes 12 bytes, found 8"),
        (npy_header(order="1"), "fortran_order expected"),
        (b"__import__('os').system('true')\n", "no Python literal"),
        (b"{'descr': '<f4'}\n", "without exactly"),
        (b"(" * 9000, "no Python literal"),
        (b"-" * 9000 + b"1", "no Python literal"),
        (b"9" * 9000, "no Python literal"),
        (b"{" * 9000, "no Python literal"),
        (b"[" + b"[]," * 3000 + b"]", "without exactly"),
        (b"\x00", "no Python literal"),
        (b" " * 20_000, "a header of 20000 bytes"),
    ],
)
def test_a_hostile_array_is_refused(tmp_path, refused, header, message):
    refused(npz_file(tmp_path / "a.npz", header, bytes(8)), message)


def test_an_array_whose_header_length_lies_is_refused(tmp_path, refused):
    path = npz_file(tmp_path / "a.npz", npy_header(), bytes(8), version=b"\x02\x00", length=2**32 - 1)
    refused(path, "a header of 4294967295 bytes")
    refused(npz_file(tmp_path / "b.npz", npy_header(), bytes(8), version=b"\x09\x00"), "of version 1 to 3")


def test_an_archive_of_pickled_objects_is_refused(tmp_path, refused):
    np.savez(tmp_path / "a.npz", a=np.array([{"x": 1}], dtype=object))
    refused(tmp_path / "a.npz", "an array of objects is a pickle")


# The native file


def native_file(path, edit):
    import cylstm
    from cylstm.formats.state_dict import wiring as L

    rng = np.random.default_rng(5)
    tensors = lstm_tensors(rng, "lstm", 3, 5) | linear_tensors(rng, "fc", 5, 2)
    cylstm.from_state_dict(tensors, [L.LSTM("lstm"), L.Last(), L.Linear("fc")]).save(path)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    graph = json.loads(header["__metadata__"]["graph"])
    header["__metadata__"]["graph"] = edit(graph) or json.dumps(graph)
    return header_file(path, json.dumps(header).encode(), data[8 + length :])


def chain_of_dropouts(graph, count):
    """Layers that each pass on what the one before gives."""
    value = graph["outputs"][0]
    for i in range(count):
        node = {"inputs": {"x": value}, "name": f"n{i}", "op": "dropout", "options": {}, "outputs": {"y": f"v{i}"}}
        graph["nodes"].append({**node, "weights": {}})
        value = f"v{i}"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda g: "[" * 1_000_000, "nested too deeply"),
        (lambda g: "[" + "{}," * 1_000_000 + "0]", "too many elements"),
        (lambda g: '{"nodes": [], "nodes": []}', "stands twice"),
        (lambda g: g["values"][0].update(shape=[1 << 40]), "positive integers"),
        (lambda g: g["values"][0].update(shape=[10**30]), "an integer of 31 digits"),
        (lambda g: g["values"][0].update(shape=[None] * 1000 + [3]), "neither|unused|not follow|no value"),
        (lambda g: g["nodes"].reverse(), "which nothing before it gives"),
        (lambda g: g["nodes"][1]["inputs"].update(x="fc"), "which nothing before it gives"),
        (lambda g: g["nodes"].extend([g["nodes"][1]] * 20_000), "two layers of the graph have one name"),
        (lambda g: g["nodes"].extend({**g["nodes"][1], "name": f"n{i}"} for i in range(20_000)), "two values"),
        (lambda g: chain_of_dropouts(g, 10_000), "do not follow from its layers"),
        (lambda g: chain_of_dropouts(g, 60_000), "too many elements"),
        (lambda g: g["nodes"][0].update(op="__import__"), "no layer of kind '__import__'"),
    ],
)
def test_a_hostile_graph_is_refused(tmp_path, refused, edit, message):
    refused(native_file(tmp_path / "a.cylstm", edit), message)
