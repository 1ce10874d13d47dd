// Conversations kept in this browser, newest first, and the list to choose from.

import { element } from "/page/dom.js";

const NAME = "thermesh-sessions";
const MOST = 50;
const TITLE_CHARACTERS = 60;

/** Return the conversations of this browser: {id, title, at, turns}. */
export function all() {
  try {
    const found = JSON.parse(localStorage.getItem(NAME) ?? "[]");
    return Array.isArray(found) ? found.filter((one) => one?.id && Array.isArray(one.turns)) : [];
  } catch {
    return []; // what cannot be read is not worth a broken page
  }
}

/** Keep a conversation; the oldest go where the browser's room ends. */
export function keep(id, turns) {
  if (!turns.length) return;
  const title = turns[0].question.slice(0, TITLE_CHARACTERS);
  const others = all().filter((one) => one.id !== id);
  write([{ id, title, at: Date.now(), turns }, ...others].slice(0, MOST));
}

/** Forget a conversation. */
export function forget(id) {
  write(all().filter((one) => one.id !== id));
}

/** Fill `list` with a button a conversation. */
export function show(list, current, open, remove) {
  const items = all().map((session) => {
    const choose = element("button", { type: "button", className: "session", text: session.title, onclick: () => open(session) });
    if (session.id === current) choose.setAttribute("aria-current", "true");
    const drop = element("button", { type: "button", className: "drop", text: "×", onclick: () => remove(session) });
    drop.setAttribute("aria-label", `Delete: ${session.title}`);
    return element("li", { children: [choose, drop] });
  });
  const none = element("li", { className: "quiet", text: "None yet. They stay in this browser." });
  list.replaceChildren(...(items.length ? items : [none]));
}

function write(sessions) {
  for (let count = sessions.length; count >= 0; count -= 1) {
    try {
      localStorage.setItem(NAME, JSON.stringify(sessions.slice(0, count)));
      return;
    } catch {
      continue; // no room: without the oldest, then
    }
  }
}
