"""What `componentize-py` makes of the contract, as far as the Python package needs it, with calls that only note that they were made."""
