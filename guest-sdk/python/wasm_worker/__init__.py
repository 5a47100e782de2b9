"""What an agent in Python needs to live in steps: asyncio's loop in `steps`, and HTTP for `httpx` in `http`."""
