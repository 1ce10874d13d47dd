// One turn on the page: the question, the plan, the coloured answer, and what can be done with it.
// Everything that comes from the model or the server is inserted as text, never as markup.

import { Curve } from "/page/curve.js";
import { copyButton, element } from "/page/dom.js";
import { explainPlan, explainToken, heat, number, planRows } from "/page/explain.js";
import { Markdown } from "/page/markdown.js";
import { thumbs } from "/page/thumbs.js";

export class Turn {
  /** Show `question` and an empty answer at the end of `list`.
   *
   * `doors` is {say, edit(turn, question), regenerate(turn), isBusy()}.
   */
  constructor(list, question, doors) {
    Object.assign(this, { question, doors, text: "", tokens: [], decision: null, note: "", figures: [] });
    this.starts = []; // where each token begins in the text
    this.startedAt = performance.now();
    this.firstTokenAt = null;
    this.plan = element("p", { className: "plan heat", text: "Deciding how to decode…" });
    this.answer = element("div", { className: "answer waiting" });
    this.answer.setAttribute("aria-label", "Answer");
    this.answer.setAttribute("role", "group");
    this.markdown = new Markdown(this.answer, (start, end) => this.paint(start, end));
    this.curve = new Curve();
    this.after = element("div", { className: "after" });
    this.asked = element("div", { className: "question", children: this.questionParts() });
    this.item = element("li", { children: [this.asked, this.plan, this.answer, this.curve.element, this.after] });
    list.append(this.item);
  }

  /** Show a turn as it was kept. */
  static restored(list, kept, doors) {
    const turn = new Turn(list, String(kept.question), doors);
    Object.assign(turn, { note: kept.note ?? "", figures: kept.figures ?? [] });
    if (kept.plan) turn.showPlan(kept.plan);
    for (const [text, temperature, entropy, logprob, revision] of kept.tokens ?? [])
      turn.addToken({ text, temperature, entropy, logprob, revision });
    if (!turn.tokens.length) turn.text = String(kept.text ?? "");
    turn.draw();
    turn.close();
    return turn;
  }

  /** Return what `restored` needs. */
  kept() {
    const tokens = this.tokens.map((token) => [token.text, token.temperature, token.entropy, token.logprob, token.revision]);
    const { question, decision: plan, note, figures } = this;
    return { question, plan, note, figures, tokens, text: tokens.length ? "" : this.text };
  }

  /** Show one chunk of the stream. */
  take(chunk) {
    const told = chunk.thermesh ?? {};
    if (told.plan) this.showPlan(told.plan);
    if (told.tokens?.length) told.tokens.forEach((token) => this.addToken(token));
    else this.text += chunk.choices?.[0]?.delta?.content ?? "";
    if (told.finish_reason) this.ended = told;
    if (chunk.usage) this.usage = chunk.usage;
    this.drawing ??= requestAnimationFrame(() => this.draw());
  }

  /** Show what was decided. */
  showPlan(plan) {
    this.decision = plan;
    this.plan.textContent = explainPlan(plan);
    this.plan.dataset.heat = "";
    this.plan.style.setProperty("--heat", heat(plan.temperature));
  }

  addToken(token) {
    this.firstTokenAt ??= performance.now();
    this.starts.push(this.text.length);
    this.text += token.text;
    this.tokens.push(token);
  }

  /** Show the text and the curve so far. */
  draw() {
    cancelAnimationFrame(this.drawing);
    this.drawing = null;
    const stay = this.doors.isNearTheEnd();
    this.markdown.update(this.text);
    // One tab stop an answer; arrow keys move along it.
    if (!this.answer.querySelector(".token[tabindex='0']")) this.answer.querySelector(".token")?.setAttribute("tabindex", "0");
    this.curve.draw(this.tokens);
    this.doors.follow(stay);
  }

  /** Return the nodes of a range of the text, each token in the colour of its temperature. */
  paint(start, end) {
    if (!this.tokens.length) return [this.text.slice(start, end)];
    const nodes = [];
    let index = this.tokenAt(start);
    for (let at = start; at < end; index += 1) {
      const stop = Math.min(end, this.starts[index + 1] ?? this.text.length);
      if (stop > at) nodes.push(this.span(this.tokens[index], this.text.slice(at, stop)));
      at = Math.max(at, stop);
    }
    return nodes;
  }

  tokenAt(place) {
    let [low, high] = [0, this.starts.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.starts[middle] <= place) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  span(token, text) {
    const span = element("span", { className: "token heat", text, tabIndex: -1 });
    span.dataset.about = explainToken(token);
    span.style.setProperty("--heat", heat(token.temperature));
    return span;
  }

  /** The stream is over: show figures, thumbs and the plan's details. */
  finish(note) {
    this.note = note;
    this.figures = this.measured();
    this.draw();
    this.close();
    if (this.text || note) this.doors.say(this.text ? `Answer: ${this.text}` : note);
  }

  close() {
    this.answer.classList.remove("waiting");
    this.plan.hidden = !this.decision;
    const figures = [this.note, ...this.figures].filter(Boolean).join(" · ");
    if (this.text) this.after.append(...thumbs(this.decision), copyButton("Copy answer", () => this.text));
    this.again = element("button", { type: "button", className: "again", text: "Regenerate", onclick: () => this.doors.regenerate(this) });
    this.after.append(this.again);
    if (figures) this.after.append(element("p", { className: "quiet", text: figures }));
    if (this.decision) this.after.append(details(this.decision));
  }

  /** Show an error, and a way to try again. */
  fail(error, retry) {
    const seconds = Math.ceil(error.retryAfterSeconds ?? 0);
    const field = error.field ? ` Field: ${error.field}.` : "";
    const wait = seconds ? ` Possible again in ${seconds} s.` : "";
    const message = error.message.replace(/[^.!?]$/, "$&.");
    const again = element("button", { type: "button", text: "Try again", onclick: retry });
    const problem = element("p", {
      className: "problem",
      children: [element("strong", { text: this.text ? "Cut off. " : "No answer. " }), `${message}${field}${wait} `, again],
    });
    problem.setAttribute("role", "alert");
    this.item.insertBefore(problem, this.after);
  }

  questionParts() {
    const edit = element("button", { type: "button", className: "edit", text: "Edit", onclick: () => this.startEditing() });
    return [edit, element("p", { className: "asked", text: this.question })];
  }

  startEditing() {
    if (this.doors.isBusy()) return;
    const field = element("textarea", { value: this.question, rows: 2, maxLength: 200000 });
    field.setAttribute("aria-label", "Your message, edited");
    const done = () => {
      this.asked.replaceChildren(...this.questionParts());
      this.asked.querySelector("button").focus();
    };
    const send = () => {
      const question = field.value.trim();
      if (question) this.doors.edit(this, question);
    };
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        send();
      }
      if (event.key === "Escape") done();
    });
    const buttons = [
      element("button", { type: "button", className: "primary", text: "Send", onclick: send }),
      element("button", { type: "button", text: "Cancel", onclick: done }),
    ];
    const row = element("div", { className: "choices", children: [element("span", { className: "quiet", text: "What follows is asked anew." }), ...buttons] });
    this.asked.replaceChildren(field, row);
    field.focus();
  }

  measured() {
    const count = this.usage?.completion_tokens ?? this.tokens.length;
    if (!count || !this.firstTokenAt) return [];
    const first = (this.firstTokenAt - this.startedAt) / 1000;
    const rate = (count - 1) / ((performance.now() - this.firstTokenAt) / 1000);
    const mean = this.ended?.mean_temperature;
    return [
      `${count} tokens`,
      `first after ${first.toFixed(2)} s`,
      count > 1 && Number.isFinite(rate) ? `${rate.toFixed(1)} tokens/s` : "",
      mean === undefined ? "" : `mean T ${number(mean)}`,
      this.ended?.finish_reason === "length" ? "ended by the token budget" : "",
    ];
  }
}

function details(plan) {
  const rows = planRows(plan).flatMap(([name, value]) => [
    element("dt", { text: name }),
    element("dd", { text: String(value) }),
  ]);
  const summary = element("summary", { text: "The plan in full" });
  return element("details", { children: [summary, element("dl", { children: rows })] });
}
