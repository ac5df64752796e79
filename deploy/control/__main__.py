"""`python -m deploy.control`: the control process."""

from deploy.control.server import main

main()
