"""An exhaustive model of one job: submit, record, callbacks, and what goes wrong."""
