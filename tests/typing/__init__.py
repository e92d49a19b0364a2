"""What type checkers make of the public surface; never run, only checked (`make types`)."""
