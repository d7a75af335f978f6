"""Memories that cannot be imported, built or read: each is one clear message, and its neighbours run."""

from __future__ import annotations

from typing import Any

import pytest

from memspec.running.exits import Exit

GOOD = """
    import torch

    class Good:
        def __init__(self, key_dim, value_dim, capacity):
            self.value_dim = value_dim
        def reset(self):
            pass
        def update(self, keys, values):
            pass
        def query(self, keys):
            return torch.zeros(len(keys), self.value_dim)
"""

IMPORTS = {
    "import pytest; pytest.skip('no', allow_module_level=True)": "Skipped",
    "import pytest; pytest.exit('no', returncode=0)": "Exit: no",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
    "raise BaseException('no')": "BaseException: no",
    "raise GeneratorExit": "GeneratorExit",
    "raise SystemExit(0)": "SystemExit: 0",
    "raise ValueError('x' * 10**7)": "ValueError: xxx",
    "from memspec.errors import OutOfTime; raise OutOfTime": "OutOfTime",
    "from memspec.errors import NotAsked; raise NotAsked('no')": "NotAsked: no",
    "import os; os._exit(0)": "ended itself with exit code 0",
    "raise type('E', (Exception,), {'__str__': lambda s: 1 / 0})": ("its message raised ZeroDivisionError"),
    "x = = 3": "SyntaxError",
}

ODD = """
    import unittest.mock
    import pytest
    from good import Good
    from memspec import MemorySpec

    def raising(error):
        def read(self):
            raise error
        return property(read)

    class SpecIsADict(Good):
        spec = {"family": "delta"}
    class SpecIsAClass(Good):
        spec = MemorySpec
    class SpecRaises(Good):
        spec = raising(RuntimeError("not yet"))
    class SpecLacks(Good):
        spec = raising(AttributeError("not yet"))
    class SpecInterrupts(Good):
        spec = raising(KeyboardInterrupt())
    class SpecSkips(Good):
        spec = property(lambda self: pytest.skip("no"))
    class SpecWantsTooMuch(Good):
        spec = property(lambda self: MemorySpec(presentations=10**9))
    class DeviceRaises(Good):
        device = raising(RuntimeError("not yet"))
    class DeviceIsNone(Good):
        device = "nowhere"
    class AnswersToAll(Good):
        def __getattr__(self, name):
            return unittest.mock.MagicMock()
    class Refuses(Good):
        def __getattr__(self, name):
            raise RuntimeError("no " + name)
    class Interrupts(Good):
        def __init__(self, key_dim, value_dim, capacity):
            raise KeyboardInterrupt
    class Mute(Good):
        def query(self, keys):
            raise type("Silent", (Exception,), {"__str__": lambda self: 1 / 0})
    def mock(key_dim, value_dim, capacity):
        return unittest.mock.MagicMock()
"""

SAID = {
    "SpecIsADict": "SpecIsADict.spec is a dict; it must be a memspec.MemorySpec",
    "SpecIsAClass": "SpecIsAClass.spec is a type",
    "SpecRaises": "reading SpecRaises.spec raised RuntimeError: not yet",
    "SpecLacks": "reading SpecLacks.spec raised AttributeError: not yet",
    "SpecInterrupts": "KeyboardInterrupt",
    "SpecSkips": "Skipped: no",
    "SpecWantsTooMuch": "MemorySpec.presentations is 1000000000",
    "DeviceRaises": "reading DeviceRaises.device raised RuntimeError: not yet",
    "DeviceIsNone": "reading DeviceIsNone.device raised RuntimeError",
    "AnswersToAll": "AnswersToAll answers to any name at all",
    "Refuses": "RuntimeError: no ",
    "Interrupts": "KeyboardInterrupt",
    "Mute": "its message raised ZeroDivisionError",
    "mock": "MagicMock answers to any name at all",
}

CHECK = '''
    import pytest

    @pytest.mark.law
    def test_one(plug):
        """It can be built."""
        plug.build()
'''


@pytest.mark.parametrize("isolate", [True, False])
def test_each_is_one_message_and_the_others_run(folder: Any, isolate: bool) -> None:
    """Beside a neighbour in processes of their own; without, each by itself, since the first one ends the run."""
    folder.write("good.py", GOOD)
    folder.write("odd.py", ODD)
    folder.write("test_one.py", CHECK)
    said = {f"odd.py:{name}": text for name, text in SAID.items()}
    for n, (line, text) in enumerate(IMPORTS.items()):
        folder.write(f"imports{n}.py", f"from good import Good\n{line}\n")
        said[f"imports{n}.py:Good"] = text
    if isolate:
        names = [*said, "good.py:Good"]
        done = folder.pytest(*(f"--memory={n}" for n in names), "--memspec-scorecard=card.json", isolate=True)
        assert done.code == Exit.USAGE
        assert "Traceback" not in done.text
        cards = {c["memory"]["plug"]: c for c in folder.card()["cards"]}
        assert cards["good.py:Good"]["verdict"] == "pass"
        for name, text in said.items():
            refused = cards[name]["memory"]["refused"]
            assert text in refused, (name, refused)
            assert len(refused) < 3000
            assert cards[name]["verdict"] == "error"
        return
    for name, text in said.items():
        if "_exit" in name or text.startswith("ended") or "KeyboardInterrupt" in text:
            continue  # what only a process of its own can hold
        done = folder.pytest(f"--memory={name}", "-q")
        assert done.code == Exit.USAGE, (name, done.text)
        assert text in done.text, (name, done.text)
        assert len(done.text) < 4000
        assert "Traceback" not in done.text
