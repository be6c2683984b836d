"""Parts of an input that are hidden or kept, and what is estimated from doing so."""
