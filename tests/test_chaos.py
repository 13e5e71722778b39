"""Commands that are killed at random moments leave what an undisturbed one leaves."""

import re
import subprocess
import sys

import pytest

from tests.support.paths import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "ddp", "stages", "sweep", "ray"])
def test_five_kills_change_nothing(command: str) -> None:
    words = [sys.executable, str(ROOT / "scripts" / "chaos.py"), "--command", command, "--kills", "5"]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"^5 times SIGKILL, \d rounds: \d+ files are (bitwise )?the same", result.stdout, re.MULTILINE)
