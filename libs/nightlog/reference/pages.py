"""Which pages there are."""

from __future__ import annotations

from collections.abc import Callable

from nightlog.reference.commands import commands_page
from nightlog.reference.settings_page import settings_page
from nightlog.reference.system_page import system_page

PAGES: dict[str, Callable[[], str]] = {"cli.md": commands_page, "system-toml.md": system_page, "settings.md": settings_page}
