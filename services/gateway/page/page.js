// The chat page: wires the form, the stream and the turns together.

import { at } from "/page/dom.js";
import { number } from "/page/explain.js";
import { newId, postEvents, request } from "/page/server.js";
import { themeBy } from "/page/theme.js";
import { explainTokensOf } from "/page/tooltip.js";
import { Turn } from "/page/turn.js";

const NEAR_THE_END_PX = 120;

const scroller = document.querySelector("main");

/** What the page remembers of the conversation it shows. */
const chat = { session: newId("page-"), turns: [], running: null, model: null };

function say(text) {
  at("live").textContent = text;
}

async function model() {
  if (chat.model) return chat.model;
  const response = await request("/v1/models");
  const { data } = await response.json();
  if (!data.length) throw new Error("The server has no model.");
  chat.model = data[0].id;
  at("model").textContent = chat.model;
  return chat.model;
}

function pinned() {
  const isPinned = new FormData(at("ask")).get("mode") === "pinned";
  return isPinned ? Number(at("pin").value) : null;
}

async function requestFor(question) {
  const before = chat.turns.filter((turn) => turn.text);
  const messages = before.flatMap((turn) => [
    { role: "user", content: turn.question },
    { role: "assistant", content: turn.text },
  ]);
  const temperature = pinned();
  return {
    model: await model(),
    messages: [...messages, { role: "user", content: question }],
    stream: true,
    stream_options: { include_usage: true },
    ...(temperature === null ? {} : { temperature }),
    thermesh: { telemetry: true, session_id: chat.session, priority: "interactive" },
  };
}

async function ask(question) {
  const abort = new AbortController();
  const turn = new Turn(at("turns"), question, say);
  at("welcome").hidden = true;
  setRunning(abort);
  say("Answering…");
  follow(true);
  let note = "";
  try {
    const body = await requestFor(question);
    for await (const chunk of postEvents("/v1/chat/completions", body, abort.signal)) {
      const stay = isNearTheEnd();
      turn.take(chunk);
      follow(stay);
    }
  } catch (error) {
    note = abort.signal.aborted ? "stopped" : "";
    if (!abort.signal.aborted) turn.fail(error, () => retry(turn));
  }
  if (chat.running !== abort) return; // a new chat was begun meanwhile
  const stay = isNearTheEnd();
  turn.finish(note);
  chat.turns.push(turn);
  setRunning(null);
  follow(stay);
}

function retry(turn) {
  if (chat.running) return;
  chat.turns = chat.turns.filter((kept) => kept !== turn);
  turn.item.remove();
  ask(turn.question);
}

function setRunning(abort) {
  chat.running = abort;
  at("send").hidden = Boolean(abort);
  at("stop").hidden = !abort;
}

function isNearTheEnd() {
  return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_THE_END_PX;
}

function follow(wanted) {
  if (wanted) scroller.scrollTop = scroller.scrollHeight;
}

function stop() {
  chat.running?.abort();
}

function submit(event) {
  event?.preventDefault();
  const question = at("question").value.trim();
  if (!question || chat.running) return;
  at("question").value = "";
  ask(question);
}

function newChat() {
  stop();
  setRunning(null);
  Object.assign(chat, { session: newId("page-"), turns: [] });
  at("turns").replaceChildren();
  at("welcome").hidden = false;
  at("question").focus();
  say("New chat.");
}

function showTemperature() {
  at("pin").disabled = pinned() === null;
  at("pin-value").textContent = number(Number(at("pin").value));
}

at("ask").addEventListener("submit", submit);
at("ask").addEventListener("input", showTemperature);
at("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") stop();
});
at("stop").addEventListener("click", stop);
at("new-chat").addEventListener("click", newChat);
at("examples").addEventListener("click", (event) => {
  if (event.target.matches("button") && !chat.running) ask(event.target.textContent);
});
explainTokensOf(at("turns"), at("tooltip"));
themeBy(at("theme"));
showTemperature();
model().catch((error) => {
  at("model").textContent = `no model: ${error.message}`;
});
