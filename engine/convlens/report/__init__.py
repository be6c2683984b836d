"""Results as one page: templates by kind of Result, never by name of a method."""
