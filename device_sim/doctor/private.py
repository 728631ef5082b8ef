"""Text for others to read: no path of this user's, no name, no host, no address."""

from __future__ import annotations

import getpass
import os
import platform
import re
import sys
from pathlib import Path
from typing import Final

_ADDRESS: Final = re.compile(r"\b\w[\w+.-]*://[^\s'\")]+")


def without_names(text: str) -> str:
    """A text with `PYTHON` for where packages lie, `.` for this folder, `~` for the home folder, `USER` and
    `HOST` for those names, and `URL` for addresses."""
    text = _ADDRESS.sub("URL", text)
    for folder, shown in ((sys.prefix, "PYTHON"), (Path.cwd(), "."), (Path.home(), "~")):
        for path in {str(folder), os.path.realpath(folder)} - {os.sep}:
            text = re.sub(rf"{re.escape(path)}(?=/|\W|$)", shown, text)
    for name, shown in ((_user(), "USER"), (platform.node(), "HOST")):
        if name:
            text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", shown, text)
    return text


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a number without a name, as in containers
        return ""
