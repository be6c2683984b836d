"""What ``visualise`` seeks, and how its searches go."""
