"""The command `abixio` with one volume whose disk can be made slow: `python -m tests.slow_server FLAGS`. While the file that
SLOW_WHEN names is there, every call on the disk of the volume SLOW_VOLUME takes SLOW_SECONDS.
"""

from __future__ import annotations

import os
import sys
import threading
import time

from abixio.cli import main
from abixio.volume.company import Company
from abixio.volume.files import Files
from abixio.volume.local import LocalVolume
from tests.volume_slow import SlowFiles

_slow = SlowFiles()
_open = LocalVolume.open


def _opened(cls: type[LocalVolume], path: str, files: Files | None = None, company: Company | None = None) -> LocalVolume:
    return _open(path, _slow if os.path.samefile(path, os.environ["SLOW_VOLUME"]) else files, company)


def _watch() -> None:
    while True:
        wanted = float(os.environ["SLOW_SECONDS"]) if os.path.exists(os.environ["SLOW_WHEN"]) else 0.0
        if wanted != _slow.sleeper.seconds:
            _slow.sleeper.sleep(wanted) if wanted else _slow.sleeper.wake()
        time.sleep(0.05)


if __name__ == "__main__":
    LocalVolume.open = classmethod(_opened)  # type: ignore[method-assign, assignment]
    threading.Thread(target=_watch, daemon=True).start()
    sys.exit(main())
