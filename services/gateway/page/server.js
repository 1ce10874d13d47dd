// Talks to the gateway: plain requests, and server-sent events over fetch, because the
// browser's EventSource can only GET.

import { kept, newKey } from "/page/key.js";

/** An answer of the server that says no; `retryAfterSeconds` null where waiting does not help. */
export class Refusal extends Error {
  constructor(message, status, field, retryAfterSeconds) {
    super(message);
    this.status = status;
    this.field = field;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** Fetch `url`; throw a Refusal where the server cannot be reached or says no. */
export async function request(url, options) {
  let response = await fetchWithKey(url, options);
  while (response.status === 401 && (await newKey())) response = await fetchWithKey(url, options);
  if (!response.ok) throw await refusalOf(response);
  return response;
}

async function fetchWithKey(url, options = {}) {
  const key = kept();
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  return fetch(url, { ...options, headers }).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new Refusal("The server cannot be reached.", 0, null, null);
  });
}

/** Return an id that nobody else has. (crypto.randomUUID exists on secure origins only.) */
export function newId(prefix) {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return prefix + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Yield the parsed JSON of every event of a POST, until `[DONE]`. */
export async function* postEvents(url, body, signal) {
  const response = await request(url, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
    body: JSON.stringify(body),
    signal,
  });
  const text = response.body.pipeThrough(new TextDecoderStream());
  for await (const data of eventsOf(text)) {
    if (data === "[DONE]") return;
    const event = JSON.parse(data);
    if (event.error) throw refusalFrom(event.error, response.status, null);
    yield event;
  }
  throw new Refusal("The answer was cut off: the connection ended early.", 0, null, null);
}

async function refusalOf(response) {
  const after = Number.parseFloat(response.headers.get("Retry-After"));
  const seconds = Number.isFinite(after) ? after : null;
  const body = await response.json().catch(() => ({}));
  const fallback = { message: `The server answered ${response.status} ${response.statusText}.` };
  return refusalFrom(body.error ?? fallback, response.status, seconds);
}

function refusalFrom(error, status, retryAfterSeconds) {
  const message = String(error.message ?? "The server gave no reason.");
  return new Refusal(message, status, error.param ?? null, retryAfterSeconds);
}

/** Yield the data of each event; comments, such as keep-alive pings, are skipped. */
async function* eventsOf(stream) {
  const reader = stream.getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const events = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = events.pop();
      for (const event of events) {
        const data = dataOf(event);
        if (data !== "") yield data;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function dataOf(event) {
  const lines = event.split("\n").filter((line) => line.startsWith("data:"));
  return lines.map((line) => line.slice(5).trimStart()).join("\n");
}
