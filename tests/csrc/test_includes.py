"""The folders of csrc include each other one way."""

import re
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
#: A file includes headers of its own folder and of those before it.
FOLDERS = ["include", "platform", "simd", "threads", "kernels", "model", "run", "layers", "isa"]
#: Headers that describe weights and activations, and include nothing else of model/.
DESCRIPTIONS = {"model/activations.h", "model/matrix.h", "model/weight_types.h"}
#: The table of kernels and its lists, and functions that are compiled once; the other headers of kernels/ are bodies,
#: which isa/ alone includes.
TABLE = {"kernels/kernels.h", "kernels/kernels.def", "kernels/weight_types.def", "kernels/doubles.h"}
FILES = sorted(str(path.relative_to(CSRC)) for path in CSRC.glob("*/*.[chd]*"))


def rank(file):
    """Return the place of a file in the order of folders."""
    folder = file.split("/")[0]
    if file in DESCRIPTIONS:
        folder = "kernels"
    elif folder == "kernels" and file not in TABLE:
        folder = "isa"
    return FOLDERS.index(folder)


def included(file):
    """Return the files of csrc that a file includes, as paths below csrc."""
    names = re.findall(r'^#include "(.+)"$', (CSRC / file).read_text(), re.MULTILINE)
    beside = Path(file).parent
    for name in names:
        for path in (Path(name), beside / name, Path("include", name)):
            if (CSRC / path).exists():
                yield str(path)
                break
        else:
            raise AssertionError(f"{file} includes {name}, which does not exist")


@pytest.mark.parametrize("file", FILES)
def test_a_file_includes_headers_of_its_own_folder_and_of_those_before_it(file):
    assert [header for header in included(file) if rank(header) > rank(file)] == []
