// The chat page: wires the form, the stream, the turns and the kept conversations together.

import { at } from "/page/dom.js";
import { number } from "/page/explain.js";
import { sendFeedback } from "/page/feedback.js";
import { newId, postEvents, request } from "/page/server.js";
import * as sessions from "/page/sessions.js";
import { themeBy } from "/page/theme.js";
import { explainTokensOf } from "/page/tooltip.js";
import { Turn } from "/page/turn.js";

const NEAR_THE_END_PX = 120;

const scroller = document.querySelector("main");

/** What the page remembers of the conversation it shows. */
const chat = { session: newId("page-"), turns: [], running: null, model: null };

const doors = { say, edit, regenerate, isBusy: () => Boolean(chat.running), isNearTheEnd, follow };

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
  const turn = new Turn(at("turns"), question, doors);
  at("welcome").hidden = true;
  setRunning(abort);
  say("Answering…");
  follow(true);
  let note = "";
  try {
    const body = await requestFor(question);
    for await (const chunk of postEvents("/v1/chat/completions", body, abort.signal)) turn.take(chunk);
  } catch (error) {
    note = abort.signal.aborted ? "stopped" : "";
    if (!abort.signal.aborted) turn.fail(error, () => askAnew(turn, turn.question));
  }
  if (chat.running !== abort) return; // another chat was opened meanwhile
  const stay = isNearTheEnd();
  turn.finish(note);
  chat.turns.push(turn);
  setRunning(null);
  keepChat();
  follow(stay);
}

/** Ask from `turn` on once more: it and what follows it go. */
function askAnew(turn, question) {
  if (chat.running) return;
  const from = chat.turns.indexOf(turn);
  chat.turns.splice(from).forEach((gone) => gone.item.remove());
  ask(question);
}

function edit(turn, question) {
  askAnew(turn, question);
}

function regenerate(turn) {
  if (chat.running) return;
  // Asking again says something of the answer; whether it is heard is no one's worry here.
  const id = turn.decision?.decision_id;
  if (id && turn.text) sendFeedback(id, { score: 0, signal: "regenerate" }).catch(() => {});
  askAnew(turn, turn.question);
}

function keepChat() {
  sessions.keep(chat.session, chat.turns.filter((turn) => turn.text).map((turn) => turn.kept()));
  showSessions();
}

function showSessions() {
  sessions.show(at("session-list"), chat.session, openSession, (session) => {
    sessions.forget(session.id);
    if (session.id === chat.session) newChat();
    showSessions();
    at("session-list").querySelector("button")?.focus();
  });
}

function openSession(session) {
  show(session.id, session.turns);
  at("turns").querySelector(".question button")?.focus({ preventScroll: true });
  say(`Chat: ${session.title}`);
}

function newChat() {
  show(newId("page-"), []);
  at("question").focus();
  say("New chat.");
}

function show(id, turns) {
  stop();
  setRunning(null);
  at("turns").replaceChildren();
  Object.assign(chat, { session: id, turns: turns.map((kept) => Turn.restored(at("turns"), kept, doors)) });
  at("welcome").hidden = turns.length > 0;
  setOpen(false);
  showSessions();
  follow(true);
}

function setOpen(isOpen) {
  at("sessions").dataset.open = isOpen;
  at("chats").setAttribute("aria-expanded", isOpen);
}

function setRunning(abort) {
  chat.running = abort;
  document.body.classList.toggle("busy", Boolean(abort));
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

function showTemperature() {
  at("pin").disabled = pinned() === null;
  at("pin-value").textContent = number(Number(at("pin").value));
}

at("ask").addEventListener("submit", submit);
at("ask").addEventListener("input", showTemperature);
at("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  stop();
  setOpen(false);
});
at("stop").addEventListener("click", stop);
at("new-chat").addEventListener("click", newChat);
at("chats").addEventListener("click", () => setOpen(at("sessions").dataset.open !== "true"));
at("examples").addEventListener("click", (event) => {
  if (event.target.matches("button") && !chat.running) ask(event.target.textContent);
});
at("colours").addEventListener("change", (event) => {
  document.body.classList.toggle("plain", !event.target.checked);
});
explainTokensOf(at("turns"), at("tooltip"));
themeBy(at("theme"));
showTemperature();
showSessions();
model().catch((error) => {
  at("model").textContent = `no model: ${error.message}`;
});
