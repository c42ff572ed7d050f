"""scripts/gate.py: what runs once more alone, and what never does."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
ONE = """.F..
FAILED tests/worker/test_udp_live.py::test_late[a - b] - assert 1 == 0
FAILED tests/worker/test_udp_live.py::test_late[a - b] - assert 1 == 0
1 failed, 3 passed in 2.00s
"""


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("gate", ROOT / "scripts" / "gate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gate", module)
    spec.loader.exec_module(module)
    module.TEMPORARY.rmdir()
    monkeypatch.setattr(module, "LOGS", tmp_path)
    return module


def test_a_test_that_failed_beside_others_runs_once_more_alone(gate: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "live.log").write_text(ONE.replace("[a - b]", ""))
    again = gate.alone(gate.pytest("live", "live", "-n", "4", options=("-o", "pythonpath=debug"), env={"A": "1"}))
    assert (again.name, again.env) == ("live-alone", {"A": "1"})
    assert again.command[1:] == ("--basetemp", str(gate.TEMPORARY / "live"), "-q", "-o", "pythonpath=debug",
                                 "tests/worker/test_udp_live.py::test_late")


@pytest.mark.parametrize("log", [
    "".join(f"FAILED tests/a.py::test_{i} - x\n" for i in range(4)),
    ONE + "worker 'gw0' crashed while running 'tests/a.py::test_b'\n",
    "ImportError\n",
])
def test_many_failures_and_crashes_stand(gate: ModuleType, tmp_path: Path, log: str) -> None:
    (tmp_path / "live.log").write_text(log)
    assert gate.alone(gate.pytest("live", "live")) is None


def test_what_runs_no_tests_has_one_chance(gate: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "ruff.log").write_text(ONE)
    assert gate.alone(gate.Step("ruff", ("ruff",))) is None


def test_the_result_that_counts_is_the_second_one(gate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "live.log").write_text(ONE)
    step, ok = gate.pytest("live", "live"), gate.Step("disk", ())
    monkeypatch.setattr(gate, "run", lambda again: (again, 1, 3.0))
    assert [(done.name, code) for done, code, _ in gate.second([(step, 1, 2.0), (ok, 0, 1.0)])] == [("live-alone", 1), ("disk", 0)]
    assert "once more alone: tests/worker/test_udp_live.py" in capsys.readouterr().out
