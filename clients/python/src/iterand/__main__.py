"""python -m iterand: the command `iterand`."""

from iterand._program import main

main()
