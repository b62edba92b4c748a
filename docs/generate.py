"""Write what these pages take from the code: the options of the command line, and the lists of what is read.

``python docs/generate.py`` writes them between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``; with ``--check`` it
only compares, names the pages that differ, and exits with 1.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))


def code(text: str) -> str:
    """`text` as code in a cell of a table."""
    return f"`{text}`".replace("|", "\\|")


def codes(names: Iterable[str]) -> str:
    return " ".join(map(code, names))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def command_line() -> str:
    """Each command with its arguments, from the parsers."""
    from cylstm.cli import _parser
    from cylstm.cli.commands import COMMANDS

    parser = _parser()
    parser.prog = "python -m cylstm"
    actions = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    parts = []
    for command in COMMANDS:
        one = actions[0].choices[command.name]
        one.prog = f"python -m cylstm {command.name}"
        rows = [
            [code(_call(action)), _help(one, action)] for action in one._actions if action.dest not in ("help", "debug")
        ]
        about = f"{command.help[0].upper()}{command.help[1:]}."
        example = f"```sh\npython -m cylstm {command.example}\n```"
        parts += [f"### {command.name}", about, example]
        if rows:
            parts.append(table(["argument", "what it says"], rows))
    return "\n\n".join(parts)


def _call(action: argparse.Action) -> str:
    """How an argument is written."""
    value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if action.choices is not None and action.metavar is None:
        value = "|".join(map(str, action.choices))
    if not action.option_strings:
        return value if action.metavar else action.dest
    name = ", ".join(action.option_strings)
    return name if action.nargs == 0 else f"{name} {value}"


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    if action.help is None:
        raise ValueError(f"{parser.prog}: {_call(action)} has no help")
    return " ".join(parser._get_formatter()._expand_help(action).split()).replace("|", "\\|")


def keras_layers() -> str:
    from cylstm.formats.keras.layers.table import INSTEAD, LAYERS

    refused = table(["refused by name", "what to do"], [[code(name), text] for name, text in sorted(INSTEAD.items())])
    return f"{codes(sorted(LAYERS))}\n\n{refused}"


def keras_operations() -> str:
    from cylstm.formats.keras.operations import arithmetic, axes, nn, products, shapes

    kinds: Mapping[str, Mapping[str, object]] = {
        "element by element": arithmetic.ARITHMETIC,
        "shapes, parts, places": shapes.SHAPES,
        "over axes": axes.AXES,
        "products": products.PRODUCTS,
        "of neural networks": nn.NN,
    }
    return table(["kind", "supported"], [[kind, ", ".join(sorted(names))] for kind, names in kinds.items()])


def keras_operations_refused() -> str:
    from cylstm.formats.keras.operations.table import REFUSED

    return table(["operation", "why it is refused"], [[code(name), why] for name, why in sorted(REFUSED.items())])


def tensorflow_functions() -> str:
    from cylstm.formats.keras.operations.tensorflow import FUNCTIONS

    return codes(sorted(FUNCTIONS))


def tensorflow_op_layers() -> str:
    from cylstm.formats.keras.operations.op_layers import OPERATIONS

    return codes(sorted(OPERATIONS))


def torch_operations() -> str:
    from cylstm.formats.torch.aten.run import ARITHMETIC, LAYERS, PLACES, SHAPES

    kinds = {
        "layers": LAYERS,
        "arithmetic and reductions": ARITHMETIC,
        "shapes and constants": SHAPES,
        "computed places": PLACES,
    }
    return table(["kind", "`torch.ops.aten`"], [[kind, codes(sorted(names))] for kind, names in kinds.items()])


def onnx_operators() -> str:
    from cylstm.formats.onnx import operators

    names = ("recurrent", "linear", "conv", "norm", "attention", "quantised", "elementwise", "shapes", "indexing")
    kinds = {name: getattr(operators, name).OPERATORS for name in (*names, "resizing", "reductions")}
    known = {name for kind in kinds.values() for name in kind}
    kinds["of whole numbers alone"] = {name: None for name in operators.OPERATORS if name not in known}
    return table(["kind", "operators"], [[kind, codes(sorted(found))] for kind, found in kinds.items() if found])


def graph_layers() -> str:
    from cylstm.graph.layers import LAYER_KINDS

    rows = []
    for kind in sorted(LAYER_KINDS):
        about = " ".join((type(LAYER_KINDS[kind]).__doc__ or "").strip().split("\n\n")[0].split())
        rows.append([code(kind), re.sub(r"``(.*?)``", r"`\1`", about).replace("|", "\\|")])
    return table(["kind", "what it computes"], rows)


def activations() -> str:
    from cylstm.graph.activations import ACTIVATIONS, ALIASES

    return f"{codes(sorted(ACTIVATIONS))}\n\nOther names of these: {codes(sorted(ALIASES))}"


def functions() -> str:
    from cylstm.graph.functions import FUNCTIONS

    return codes(sorted(FUNCTIONS))


def formats() -> str:
    from cylstm.formats.registry import all_formats

    rows = [[one.name, codes(one.extensions), codes(one.options)] for one in all_formats()]
    return table(["file", "usual extensions", "options of `load`"], rows)


#: page -> section -> what writes it
SECTIONS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "command-line.md": {"commands": command_line},
    "files.md": {"formats": formats},
    "layers.md": {"keras operations": keras_operations},
    "supported.md": {
        "graph layers": graph_layers,
        "activations": activations,
        "functions": functions,
        "keras layers": keras_layers,
        "refused keras operations": keras_operations_refused,
        "tensorflow functions": tensorflow_functions,
        "tensorflow op layers": tensorflow_op_layers,
        "torch operations": torch_operations,
        "onnx operators": onnx_operators,
    },
}


def written(page: str, text: str) -> str:
    """The text of a page with its sections as they are to be. Raises `ValueError` where the page lacks one."""
    for name, section in SECTIONS[page].items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"{page}: expected {begin} and {end} once each")
        before, rest = text.split(begin)
        text = f"{before}{begin}\n\n{section()}\n\n{end}{rest.split(end)[1]}"
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the sections; 1 if `--check` finds others."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page differs")
    options = parser.parse_args(arguments)
    stale = []
    for page in SECTIONS:
        path = DOCS / page
        before = path.read_text(encoding="utf-8")
        after = written(page, before)
        if after != before:
            stale.append(page)
            if not options.check:
                path.write_text(after, encoding="utf-8")
    if options.check and stale:
        print(f"docs/generate.py: not as the code is: {', '.join(stale)}; run python docs/generate.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
