"""The strongest places of a recording, read again and cut out."""
