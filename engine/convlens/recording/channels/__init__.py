"""What a recording says of channels: whether they fire, what they tell apart, what is unusual for them."""
