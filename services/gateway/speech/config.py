"""Settings of speech."""

from __future__ import annotations

from dataclasses import dataclass

from thermesh.settings import between, not_empty, one_of, setting


@dataclass(frozen=True)
class VoiceConfig:
    """Which engines hear and speak, and for how many sessions at once."""

    enabled: str = setting(
        "THERMESH_VOICE", "auto", one_of("auto", "off"), "auto: audio where its engines are there"
    )
    sessions: int = setting(
        "THERMESH_VOICE_SESSIONS", 4, between(1, 1000), "sessions that hear or speak at once"
    )
    preempt: bool = setting(
        "THERMESH_VOICE_PREEMPT", True, doc="begin to answer in a speaker's first pause"
    )
    lead_tokens: int = setting(
        "THERMESH_VOICE_LEAD_TOKENS",
        48,
        between(0, 1024),
        "tokens decoded ahead of those heard, where speaking stops the answer; 0: no bound",
    )
    language: str = setting("THERMESH_VOICE_LANGUAGE", "en-us", not_empty, "voice of espeak-ng")
    recogniser_url: str = setting(
        "THERMESH_VOICE_RECOGNISER_URL",
        "",
        doc="OpenAI-compatible base URL that transcribes (ends in /v1); empty: pocketsphinx",
    )
    recogniser_model: str = setting(
        "THERMESH_VOICE_RECOGNISER_MODEL", "whisper-1", not_empty, "model asked for there"
    )
    speaker_url: str = setting(
        "THERMESH_VOICE_SPEAKER_URL",
        "",
        doc="OpenAI-compatible base URL that speaks (ends in /v1); empty: espeak-ng",
    )
    speaker_model: str = setting(
        "THERMESH_VOICE_SPEAKER_MODEL", "tts-1", not_empty, "model asked for there"
    )
    key: str = setting("THERMESH_VOICE_KEY", "", doc="key for both URLs; never logged")
