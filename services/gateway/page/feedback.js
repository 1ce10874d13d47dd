// Feedback: sent once however often it is tried, and followed until the policy has learned.

import { newId, request } from "/page/server.js";

const TRIES = 3;
const FIRST_WAIT_MS = 300;
const LONGEST_WAIT_MS = 3000;
const PATIENCE_MS = 45000;

/** Send {score, signal} for a decision; return the feedback's id. The id makes retries harmless. */
export async function sendFeedback(decisionId, told) {
  const id = newId("fb-");
  const body = JSON.stringify({ id, decision_id: decisionId, ...told });
  for (let left = TRIES; ; left -= 1) {
    try {
      const headers = { "Content-Type": "application/json" };
      await request("/v1/feedback", { method: "POST", headers, body });
      return id;
    } catch (error) {
      const mayPass = error.status === 0 || error.status >= 500;
      if (!mayPass || left <= 1) throw error;
    }
    await pause(FIRST_WAIT_MS);
  }
}

/** Return the policy version in which the feedback counts; null where that takes too long. */
export async function appliedVersion(id) {
  const end = performance.now() + PATIENCE_MS;
  for (let wait = FIRST_WAIT_MS; performance.now() < end; wait = Math.min(LONGEST_WAIT_MS, wait * 1.5)) {
    await pause(wait);
    const response = await request(`/v1/feedback/${id}`).catch(() => null);
    const receipt = await response?.json();
    if (receipt?.state === "applied") return receipt.applied_version;
  }
  return null;
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
