"""What `componentize-py` has for results."""

import dataclasses

Ok = dataclasses.make_dataclass("Ok", ["value"])
Err = dataclasses.make_dataclass("Err", ["value"])
