"""LiveKit's receiver of webhooks in PyPI's livekit-api: a token and a body as arguments, one line of JSON.

`webhook.mjs` prints the same; tests/all/interop.rs compares both with the post. A field that is not set is null.
"""

import json
import os
import sys

from livekit import api

token, body = sys.argv[1:]
verifier = api.TokenVerifier(os.environ["LIVEKIT_API_KEY"], os.environ["LIVEKIT_API_SECRET"])
try:
    event = api.WebhookReceiver(verifier).receive(body, token)
except Exception as error:  # Forged posts have several types of error.
    print(json.dumps({"error": str(error) or type(error).__name__}))
    sys.exit(1)
print(
    json.dumps(
        {
            "event": event.event,
            "id": event.id,
            "createdAt": str(event.created_at),
            "job": event.job.id if event.HasField("job") else None,
            "agent": event.job.agent_name if event.HasField("job") else None,
            "room": event.room.name if event.HasField("room") else None,
            "participant": event.participant.identity if event.HasField("participant") else None,
            "track": event.track.sid if event.HasField("track") else None,
        }
    )
)
