"""The main job: every method that has something to say about a model, on some photos, in one report.

Which methods run, in which order and with which settings is theirs to say (``Method.plan``); nothing
here knows one by name. Work is done in parts, a step of a method on a few photos each. A finished part
is on disk before the next one starts, so an audit that was interrupted goes on where it stopped.
"""

from __future__ import annotations

from convlens.audit.entry import Entry, Outcome
from convlens.audit.job import audit

__all__ = ["Entry", "Outcome", "audit"]
