"""Talk over a WebSocket with the official client: `python examples/realtime.py [QUESTION [WAV]]`.

Prints the answer as it is decoded. With a second argument, on a server with the
extra `voice`, the answer is spoken into that WAV file. Needs `openai[realtime]`.
"""

import asyncio
import base64
import os
import sys
import wave

import openai

QUESTION = sys.argv[1] if len(sys.argv) > 1 else "What is the capital of Japan?"
SPEECH = sys.argv[2] if len(sys.argv) > 2 else ""


async def main() -> None:
    """Ask once."""
    url = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1")
    key = os.environ.get("OPENAI_API_KEY", "none")
    client = openai.AsyncOpenAI(base_url=url, api_key=key)
    samples = b""
    async with client.realtime.connect(extra_query={}) as connection:
        modality = "audio" if SPEECH else "text"
        session = {"type": "realtime", "output_modalities": [modality], "max_output_tokens": 60}
        await connection.session.update(session=session)
        content = [{"type": "input_text", "text": QUESTION}]
        item = {"type": "message", "role": "user", "content": content}
        await connection.conversation.item.create(item=item)
        await connection.response.create()
        async for event in connection:
            if event.type == "error":
                raise SystemExit(event.error.message)
            if event.type.endswith(("output_text.delta", "output_audio_transcript.delta")):
                print(event.delta, end="", flush=True)
            elif event.type == "response.output_audio.delta":
                samples += base64.b64decode(event.delta)
            elif event.type == "response.done":
                print(f"\ntemperature {event.response.thermesh['mean_temperature']:.2f}")
                break
    if SPEECH:
        with wave.open(SPEECH, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(24_000)
            file.writeframes(samples)


asyncio.run(main())
