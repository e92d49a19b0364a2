"""An exhaustive model of one job: its submit, its record, its callbacks, and all that goes wrong."""
