"""What type checkers are told: the sample runs, and the stub of the extension names what is in it."""

import ast
import inspect
from pathlib import Path

import numpy as np

import cylstm
from cylstm.engine import _engine

from tests.builders.networks import linear_state_dict, lstm_state_dict
from tests.type_checking import sample

PACKAGE = Path(cylstm.__file__).parent


def test_the_sample_of_a_users_program_runs(rng, tmp_path):
    tensors = lstm_state_dict(rng, 3, 7) | linear_state_dict(rng, 7, 2)
    path = tmp_path / "a.cylstm"
    sample.build(tensors).save(path)
    model = sample.predict(path, rng.normal(size=(2, 5, 3)).astype(np.float32))
    sample.stream(model, rng.normal(size=(4, 2, 3)).astype(np.float32)[:2])


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").is_file() and (PACKAGE / "engine" / "_engine.pyi").is_file()


def test_the_stub_names_what_the_extension_has():
    module = ast.parse((PACKAGE / "engine" / "_engine.pyi").read_text())
    stub = {node.name: node for node in module.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    own = {name for name, item in vars(_engine).items() if getattr(item, "__module__", None) == _engine.__name__}
    own |= {name for name, item in vars(_engine).items() if inspect.isbuiltin(item)}
    assert set(stub) == {name for name in own if not name.startswith("_")}
    for name in ("EngineModel", "EngineStream"):
        members = {node.name: node for node in stub[name].body if isinstance(node, ast.FunctionDef)}
        found = vars(getattr(_engine, name))
        assert set(members) == {member for member in found if not member.startswith("__")}
        for member, node in members.items():
            if callable(found[member]):
                names = [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]
                assert list(inspect.signature(found[member]).parameters) == names, member
