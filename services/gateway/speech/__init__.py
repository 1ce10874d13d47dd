"""Hearing and speaking, in a process of its own for each voice session.

Voice activity, recognition and synthesis compute, so none of them runs on the
gateway's event loop. `process` (imported by the gateway) starts
`python -m services.gateway.speech` and talks to it over its pipes in the
frames of `frames`; everything else here is imported by that process alone and
needs the extra `voice`. A process hears one session only and ends with it, so
nothing said by one user is in the memory another is served from. espeak-ng is
under the GPL: it is loaded by that process only, and only where installed.
"""
