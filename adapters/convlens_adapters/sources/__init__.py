"""Where data sets come from: each module opens one kind and says None to what is of another.

A module's ``open_source(text, source, card)`` gives a :class:`convlens.recording.source.Source`.
"""
