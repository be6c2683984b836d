"""The command line. Every registered method is a command; nothing here knows one by name."""

from __future__ import annotations

from convlens.cli.app import main

__all__ = ["main"]
