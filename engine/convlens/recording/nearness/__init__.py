"""Which images of a recording are near another, by features and by pixels."""
