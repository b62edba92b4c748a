"""What the engine says of itself and of the machine."""

import numpy as np

from cylstm.engine import _engine, choose


def test_instruction_sets_and_status_codes_have_names():
    assert _engine.isa_names()[0] == "scalar"
    assert choose.chosen_isa() in _engine.isa_names()
    texts = _engine.status_texts()
    assert len(set(texts)) == len(texts) and "unknown status" not in texts


def test_show_config_names_what_was_found(capsys):
    import cylstm

    cylstm.show_config()
    text = capsys.readouterr().out
    for word in ("cylstm", "instruction set", "available: scalar", "threads", "packed engine", "BLAS engine", "blas"):
        assert word in text
    assert np.__version__ in text
