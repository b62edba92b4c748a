"""``python -m cylstm bench``: the numbers it computes with, what it finds out about a machine, the block it prints."""

import os
import subprocess
import sys

import numpy as np
import pytest

import cylstm
from cylstm import bench
from cylstm.cli import main


def test_the_numbers_are_those_of_a_linear_congruential_generator():
    state, expected = 7, []
    for _ in range(6):
        state = (1664525 * state + 1013904223) % 2**32
        expected.append((state // 256 - 2**23) / 2**23)
    found = bench.numbers(7, 2, 3)
    assert found.dtype == np.float32
    assert found.ravel().tolist() == expected


@pytest.mark.parametrize("isa", cylstm.engine._engine.isa_names())
def test_the_bits_are_the_expected_ones_on_every_instruction_set(isa, monkeypatch):
    monkeypatch.setenv("CYLSTM_ISA", isa)
    assert bench.output_bits() == bench.EXPECTED_BITS


def test_the_block_says_that_the_bits_are_as_expected_and_has_a_row_per_network(capsys):
    assert main(["bench", "--seconds", "0.001"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"bits:           {bench.EXPECTED_BITS[:16]} as expected" in lines
    rows = [line for line in lines if "->" in line]
    assert len(rows) == len(bench.CELLS) + 2 * len(bench.AUDIO_SIZES) + 2
    for row in rows:
        middle, high, most = (float(text.rstrip("%")) for text in row.split()[-3:])
        assert 0 <= middle <= high <= most


def test_other_bits_are_reported_and_fail(monkeypatch, capsys):
    monkeypatch.setattr(bench, "EXPECTED_BITS", "0" * 64)
    assert main(["bench", "--seconds", "0.001"]) == 1
    found = capsys.readouterr()
    assert "DIFFERS: please report" in found.out
    assert f"expected {'0' * 64}" in found.err


@pytest.mark.parametrize("text", ["-1", "61", "nan", "inf", "soon"])
def test_seconds_outside_0_to_60_are_refused(text, capsys):
    with pytest.raises(SystemExit):
        main(["bench", f"--seconds={text}"])
    assert text in capsys.readouterr().err


def test_an_instruction_set_that_the_machine_lacks_is_a_sentence():
    environment = os.environ | {"CYLSTM_ISA": "avx9", "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run([sys.executable, "-m", "cylstm", "bench"], capture_output=True, text=True, env=environment)
    assert found.returncode == 2
    assert found.stderr == (
        f"cylstm: CYLSTM_ISA=avx9: expected one that this machine has: {', '.join(cylstm.engine._engine.isa_names())}\n"
    )


PI = {
    "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    "proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n\nprocessor\t: 1\nCPU part\t: 0xd03\n",
    "proc/loadavg": "0.42 0.10 0.05 1/200 1234\n",
    "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1800000\n",
    "sys/class/thermal/thermal_zone0/temp": "48686\n",
}


@pytest.fixture
def vcgencmd(tmp_path, monkeypatch):
    """A program that answers as the Pi's does, the only one on the path."""

    def install(answer):
        program = tmp_path / "bin" / "vcgencmd"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n[ $1 = get_throttled ] && echo '{answer}'\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent))

    return install


def write_files(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_a_pi_is_described_by_its_files(tmp_path, vcgencmd):
    write_files(tmp_path, PI)
    vcgencmd("throttled=0x50005")
    found = dict(bench.machine(tmp_path))
    assert found["board"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert found["cpu"].startswith("Cortex-A72 (Pi 4), ")
    assert found["system"].startswith("Debian GNU/Linux 12 (bookworm), kernel ")
    assert found["governor"] == "ondemand, at most 1800 MHz"
    assert found["heat"] == "49 C, under-voltage, throttled, under-voltage since start, throttled since start"
    assert found["load"].startswith("0.42 ")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("throttled=0x0", "never throttled"),
        ("throttled=0x80000", "soft temperature limit since start"),
        ("error=1 error_msg", "throttling not readable"),
        ("", "throttling not readable"),
    ],
)
def test_the_throttling_of_a_pi_is_told_in_words(tmp_path, vcgencmd, answer, expected):
    vcgencmd(answer)
    assert dict(bench.machine(tmp_path))["heat"] == f"temperature not readable, {expected}"


def test_a_machine_that_tells_nothing_is_described_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    found = dict(bench.machine(tmp_path))
    assert "board" not in found
    assert found["governor"] == "not readable"
    assert found["heat"] == "temperature not readable, throttling not readable"
    assert found["load"] == "not readable"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CPU implementer : 0x41\nCPU part : 0xd4b\n", "CPU part 0xd4b of implementer 0x41"),
        ("model name : Some CPU\nCPU part : ?\n", "Some CPU"),
    ],
)
def test_an_unknown_cpu_is_named_as_the_kernel_does(tmp_path, text, expected):
    write_files(tmp_path, {"proc/cpuinfo": text})
    assert dict(bench.machine(tmp_path))["cpu"].startswith(f"{expected}, ")
