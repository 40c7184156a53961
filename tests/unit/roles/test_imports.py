"""What a process need not have in memory."""

from __future__ import annotations

import subprocess
import sys


def test_a_webhook_has_no_database() -> None:
    program = "import sys, headrace.roles.admission; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
