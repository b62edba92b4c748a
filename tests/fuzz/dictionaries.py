"""The dictionaries of the targets: ``python -m tests.fuzz.dictionaries`` writes ``corpora/<target>/words.dict``.

They are the texts in the code of the readers that have the form of a name, and what else a format is made of. Targets
whose bytes are choices, not text, have none.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests import ROOT
from tests.fuzz import corpora, targets

#: what a name in a file may look like
_WORD = re.compile(r"[A-Za-z_|<>=.][\w.:<>|/\-]{0,39}")
#: words in all, of which those of the first modules come first
_MOST = 400


def _words(texts: str) -> list[bytes]:
    """Words between spaces, written as in a dictionary of libFuzzer."""
    return [corpora.unescaped(text) for text in texts.split()]


_JSON = _words(r"""
    null true false NaN -Infinity 1e999 -0.0 \x22\x22 {\x22 \x22: [] {} , \x5cu0000 \x5cud800 \x5cudfff \x5c\x22
    \xef\xbb\xbf 9223372036854775808 1e-400
""")
_ZIP = _words(r"""
    PK\x01\x02 PK\x03\x04 PK\x05\x06 PK\x06\x06 PK\x06\x07 PK\x07\x08 \x00\x00\xff\xff \xff\xff\xff\xff ../ /
    \x5c C: \x08\x00 \x01\x00\x10\x00 up
""")
_PICKLE = _words(r"""
    \x80\x02 \x80\x04\x95 }q\x00 ( . 0 2 a b e h\x00 j\x00\x00\x00\x00 q\x00 r\x00\x00\x00\x00 s u t \x85 \x86
    \x87 R \x81 \x92 Q ] ) \x8f \x90 \x91 \x93 \x94 \x95\x00\x00\x00\x00\x00\x00\x00\x00 \x8a\x01\x00 \x8b K\x01
    M\x00\x01 J\xff\xff\xff\xff G?\xf0\x00\x00\x00\x00\x00\x00 X\x01\x00\x00\x00a \x8c\x01a \x8d C\x01a
    B\x01\x00\x00\x00a U\x01a N \x88 \x89 I1\x0a L1L\x0a ccollections\x0aOrderedDict\x0a
    ctorch._utils\x0a_rebuild_tensor_v2\x0a ctorch._utils\x0a_rebuild_parameter\x0a ctorch\x0aFloatStorage\x0a
    ctorch\x0aLongStorage\x0a ctorch\x0afloat32\x0a cos\x0asystem\x0a ibuiltins\x0aeval\x0a \x97 \x98 \x82\x01
""")
_HDF5 = _words(r"""
    \x89HDF\x0d\x0a\x1a\x0a OHDR OCHK FRHP FHDB FHIB BTHD BTIN BTLF TREE SNOD HEAP GCOL FSHD FADB EAHD
    \xff\xff\xff\xff\xff\xff\xff\xff \x03\x00\x08\x00 \x11\x00\x10\x00 \x0c\x00 \x08\x00\x18\x00 layer_names
    weight_names model_config vars cell
""")
_PROTOBUF = _words(r"""
    \x0a\x00 \x12\x00 \x1a\x00 \x22\x00 *\x00 2\x00 :\x00 \x08\x01 \x10\x01
    \x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01 \xa0\x01\x02 \x0b\x0c \x80\x80\x00 ai.onnx.ml com.microsoft
""")
_NUMPY = _words(r"""
    'descr':\x20 'fortran_order':\x20 'shape':\x20 '<f4' '>f8' '|b1' '<f2' '|O' '<U3' '<M8[s]' '<c16'
    [('a',\x20'<f4')] True False (1,) () (0,\x203) (-1,) \x93NUMPY 0x10 1_0 __import__('os') .npy
""")
_SIZES = _words(r"""
    s0 s77 u0 // % ** max( min( Add( Mul( Integer( Symbol('s0',\x20 positive=True integer=True Mod( FloorDiv(
    Pow( Max( Min( -1 1.0 1e3 ceiling( Rational(1,\x202) oo nan True 999999999999999999999999999999
""")
_CSV = _words(r"""
    , ; \x09 \x22 \x22\x22 \x0d\x0a \x0a # \xef\xbb\xbf nan inf - 1e999 0x1p3 1_000 1,5 load wind yes \xff\xfe
    \x00 \xd9\xa1 1d3 True
""")
_LINES = _words(r"""
    {\x22load\x22:\x20 \x22wind\x22 \x22first\x22:\x20[ \x22second\x22:\x20[ [1,\x202] [[1,\x202]] null 1e999
    NaN , \x0a \x0d\x0a load,wind\x0a } \x22 \xef\xbb\xbf true
""")
#: what would act on a terminal, turn the writing or end a tag
_HOSTILE = _words(r"""
    \x1b[2J \x1b]0;a\x07 \x9b \xc2\x9b \xe2\x80\xae \xe2\x81\xa6 \xe2\x80\xa8 \xe2\x80\x8f \xef\xbb\xbf
    \xf3\xa0\x80\x81 \xed\xa0\x80 \x0d \x08 \x00 \x7f <script> &amp; '\x22><img\x20src=x> ]]> --> %s {0} \x5cn
    aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
""")

_TORCH = ["formats/torch/tensors.py", "formats/torch/checkpoint.py", "formats/state_dict/*.py"]
_STATE = ["formats/state_dict/names.py", "formats/state_dict/*.py"]
_PROGRAM = ["formats/torch/pt2.py", "formats/torch/exported.py", "formats/torch/aten/*.py"]
_NATIVE = ["formats/native/*.py", "graph/*.py", "graph/layers/*.py"]
_KERAS = ["formats/keras/*.py", "formats/keras/layers/*.py"]
_ONNX = ["formats/onnx/*.py", "formats/onnx/operators/*.py"]

#: target -> what no code has as a text, and the modules of its reader
_OF: dict[str, tuple[list[bytes], list[str]]] = {
    "pickle": (_PICKLE, ["formats/torch/tensors.py"]),
    "json": (_JSON, []),
    "zip": (_ZIP, []),
    "torch": (_PICKLE, _TORCH),
    "torch_archive": (_PICKLE, _TORCH),
    "torch_stream": (_PICKLE, _TORCH),
    "pt2": (_JSON, _PROGRAM),
    "pt2_network": (_JSON, _PROGRAM),
    "pt2_archive": (_JSON, _PROGRAM),
    "pt2_config": (_JSON, _PROGRAM[:1]),
    "pt2_size": (_SIZES, []),
    "safetensors": (_JSON, ["formats/untrusted/safetensors.py", *_STATE]),
    "safetensors_header": (_JSON, ["formats/untrusted/safetensors.py"]),
    "arrays": (_NUMPY, []),
    "trace_archive": (_NUMPY, ["trace.py"]),
    "cylstm": (_JSON, _NATIVE),
    "check": (_JSON, _NATIVE[:1]),
    "packed": (_JSON, _NATIVE),
    "npz": (_NUMPY, []),
    "npz_archive": (_NUMPY, _STATE),
    "index": (_JSON, ["formats/sharded.py", *_STATE]),
    "guitarml": (_JSON, ["formats/guitarml.py"]),
    "guitarml_state": (_JSON, ["formats/guitarml.py"]),
    "rtneural": (_JSON, ["formats/rtneural.py"]),
    "onnx": (_PROTOBUF, _ONNX),
    "onnx_graph": (_PROTOBUF, _ONNX),
    "onnx_message": (_PROTOBUF, ["formats/onnx/tensors.py"]),
    "shown": (_HOSTILE, []),
    "names": (_HOSTILE, []),
    "file": ([*_ZIP, *_PICKLE[:20], *_NUMPY[:4], *_JSON[:9]], ["formats/*.py"]),
    "forecaster": (_JSON, ["forecasting/description.py", "forecasting/scaling.py", "forecasting/windows.py"]),
    "csv": (_CSV, []),
    "lines": (_LINES, []),
    "keras_config": (_JSON, _KERAS),
    "keras_config_2": (_JSON, _KERAS),
    "keras_op_layer": (_JSON, ["formats/keras/operations/op_layers.py", "formats/keras/operations/tensorflow.py"]),
    "keras_archive": (_JSON, _KERAS),
    "keras_hdf5": (_HDF5, []),
    "keras_hdf5_layers": (_HDF5, []),
    "keras_h5": (_HDF5, _KERAS[:1]),
    "keras_ordered": (_NUMPY, []),
    "keras_index": (_JSON, ["formats/keras/alone.py", "formats/keras/files.py"]),
}


def _texts(pattern: str) -> Iterator[bytes]:
    """The names among the texts in modules of the package."""
    for path in sorted((ROOT / "cylstm").glob(pattern)):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and _WORD.fullmatch(node.value):
                yield node.value.encode()


def words_of(target: str) -> list[bytes]:
    """A target's dictionary; none for one whose bytes are choices."""
    plain, modules = _OF.get(target, ([], []))
    found = dict.fromkeys([*plain, *(word for pattern in modules for word in _texts(pattern))])
    return list(found)[:_MOST]


def main() -> None:
    for target in targets.TARGETS:
        if found := words_of(target):
            corpora.write_words(target, found)


if __name__ == "__main__":
    main()
