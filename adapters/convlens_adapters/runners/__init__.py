"""Who does the shards of a recording: other machines, found by entry points of ``convlens.runners``."""
