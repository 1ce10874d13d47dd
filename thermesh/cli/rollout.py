"""Actions of `thermesh policy` around candidates: try, watch and stop one."""

from __future__ import annotations

import argparse
from typing import Any

from thermesh import wire
from thermesh.cli import console
from thermesh.v1 import controller_pb2

TIMEOUT_SECONDS = 10.0


async def start(controller: Any, arguments: argparse.Namespace) -> None:
    """Put a stored version on trial beside the live policy."""
    request = controller_pb2.StartRolloutRequest(
        version=arguments.version,
        stage=wire.number(controller_pb2.RolloutStage, arguments.stage, "ROLLOUT_STAGE_", "stage"),
        share=arguments.share,
        promotes=arguments.promotes,
    )
    print(text((await controller.StartRollout(request, timeout=TIMEOUT_SECONDS)).rollout))


async def show(controller: Any, _: argparse.Namespace) -> None:
    """Show the newest trial: what both earn, and how it ended."""
    request = controller_pb2.GetRolloutRequest()
    print(text((await controller.GetRollout(request, timeout=TIMEOUT_SECONDS)).rollout))


async def stop(controller: Any, _: argparse.Namespace) -> None:
    """End the running trial; the live policy decides all sessions again."""
    request = controller_pb2.StopRolloutRequest()
    print(text((await controller.StopRollout(request, timeout=TIMEOUT_SECONDS)).rollout))


def text(rollout: controller_pb2.Rollout) -> str:
    """Return a trial as a table and one line on what follows from it."""
    stage = wire.word(controller_pb2.RolloutStage, rollout.stage, "ROLLOUT_STAGE_")
    heading = ("trial", "version", "stage", "share", "live", "candidate", "earns", "95 %")
    row = (
        str(rollout.number),
        str(rollout.candidate_version),
        stage,
        f"{rollout.share:.0%}" if stage == "canary" else "",
        f"{rollout.live_value:+.3f} ({rollout.live_count})",
        str(rollout.candidate_count),
        f"{rollout.candidate_value:+.3f}",
        f"{rollout.candidate_lower:+.3f} to {rollout.candidate_upper:+.3f}",
    )
    verdict = "beats the live policy" if rollout.is_better else "is not shown to be better"
    agreed = f"would have decided {rollout.agreement:.0%} of decisions alike"
    return f"{console.table([heading, row])}\n  the candidate {verdict}; it {agreed}"
