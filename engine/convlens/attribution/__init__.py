"""What the methods share that say where in the input a target comes from; it knows none of them."""
