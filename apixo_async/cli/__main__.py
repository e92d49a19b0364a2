"""`python -m apixo_async.cli`, for where `apixo` is not on the path."""

from apixo_async.cli import main

main()
