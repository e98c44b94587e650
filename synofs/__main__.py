"""`python -m synofs`: the command `synofs`, where no script of that name is on the PATH."""

from synofs.cli.main import main

main()
