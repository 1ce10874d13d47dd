// One turn on the page: the question, the plan, the coloured answer, and what can be said of it.
// Everything that comes from the model or the server is inserted as text, never as markup.

import { element } from "/page/dom.js";
import { explainPlan, explainToken, heat, number, planRows } from "/page/explain.js";
import { appliedVersion, sendFeedback } from "/page/feedback.js";

export class Turn {
  /** Show `question` and an empty answer at the end of `list`; `say` announces to screen readers. */
  constructor(list, question, say) {
    this.question = question;
    this.text = "";
    this.decision = null;
    this.say = say;
    this.tokenCount = 0;
    this.startedAt = performance.now();
    this.firstTokenAt = null;
    this.plan = element("p", { className: "plan heat", text: "Deciding how to decode…" });
    this.answer = element("p", { className: "answer waiting" });
    this.answer.setAttribute("aria-label", "Answer");
    this.answer.setAttribute("role", "group");
    this.after = element("div", { className: "after" });
    const asked = element("p", { className: "asked", text: question });
    const item = element("li", { children: [asked, this.plan, this.answer, this.after] });
    list.append(item);
    this.item = item;
  }

  /** Show one chunk of the stream. */
  take(chunk) {
    const told = chunk.thermesh ?? {};
    if (told.plan) this.showPlan(told.plan);
    const text = chunk.choices?.[0]?.delta?.content ?? "";
    this.text += text;
    if (told.tokens?.length) told.tokens.forEach((token) => this.showToken(token));
    else if (text) this.answer.append(text);
    if (told.finish_reason) this.ended = told;
    if (chunk.usage) this.usage = chunk.usage;
  }

  /** Show what was decided. */
  showPlan(plan) {
    this.decision = plan;
    this.plan.textContent = explainPlan(plan);
    this.plan.dataset.heat = "";
    this.plan.style.setProperty("--heat", heat(plan.temperature));
  }

  /** Append one token in the colour of its temperature; only the first is a tab stop. */
  showToken(token) {
    this.tokenCount += 1;
    this.firstTokenAt ??= performance.now();
    if (!token.text) return;
    const span = element("span", { className: "token heat", text: token.text });
    span.tabIndex = this.answer.querySelector(".token") ? -1 : 0;
    span.dataset.about = explainToken(token);
    span.style.setProperty("--heat", heat(token.temperature));
    this.answer.append(span);
  }

  /** The stream is over: show figures, thumbs and the plan's details. */
  finish(note) {
    this.answer.classList.remove("waiting");
    this.plan.hidden = !this.decision;
    const figures = [note, ...this.figures()].filter(Boolean).join(" · ");
    this.after.append(...this.thumbs());
    if (figures) this.after.append(element("p", { className: "quiet", text: figures }));
    if (this.decision) this.after.append(details(this.decision));
    if (this.text || note) this.say(this.text ? `Answer: ${this.text}` : note);
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

  figures() {
    const count = this.usage?.completion_tokens ?? this.tokenCount;
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

  thumbs() {
    if (!this.text) return [];
    const learned = element("p", { className: "learned" });
    learned.setAttribute("role", "status");
    const choices = [["up", "Good answer", 1], ["down", "Bad answer", -1]];
    const buttons = choices.map(([way, label, score]) => {
      const properties = { type: "button", className: `thumb ${way}`, title: label };
      const button = element("button", { ...properties, children: [thumb()] });
      button.setAttribute("aria-label", label);
      button.setAttribute("aria-pressed", "false");
      button.disabled = !this.decision?.decision_id;
      button.onclick = () => this.rate(button, score, buttons, learned);
      return button;
    });
    if (buttons[0].disabled) learned.textContent = "Nothing can be learned from a fallback plan.";
    return [...buttons, learned];
  }

  async rate(pressed, score, buttons, learned) {
    buttons.forEach((button) => { button.disabled = true; });
    pressed.setAttribute("aria-pressed", "true");
    const before = this.decision.policy_version;
    learned.textContent = `Sent. This answer came from policy version ${before}; learning…`;
    try {
      const id = await sendFeedback(this.decision.decision_id, score);
      const after = await appliedVersion(id);
      learned.textContent = after
        ? `Learned: policy version ${before} → ${after}.`
        : "Stored. It will count when the learner comes to it.";
    } catch (error) {
      pressed.setAttribute("aria-pressed", "false");
      buttons.forEach((button) => { button.disabled = false; });
      learned.textContent = `Not sent: ${error.message}`;
    }
  }
}

/** Return a thumb pointing up, drawn, because not every system has a font with one. */
function thumb() {
  const namespace = "http://www.w3.org/2000/svg";
  const drawing = document.createElementNS(namespace, "svg");
  const path = document.createElementNS(namespace, "path");
  path.setAttribute("d", "M2 9h3v8H2zM5 9.5 9 2c1.6 0 2.3 1 2 2.5L10.4 8H16c1.4 0 2 1 1.8 2l-1.3 5.6c-.2.9-.8 1.4-1.7 1.4H5z");
  drawing.setAttribute("viewBox", "0 0 20 20");
  drawing.setAttribute("aria-hidden", "true");
  drawing.append(path);
  return drawing;
}

function details(plan) {
  const rows = planRows(plan).flatMap(([name, value]) => [
    element("dt", { text: name }),
    element("dd", { text: String(value) }),
  ]);
  const summary = element("summary", { text: "The plan in full" });
  return element("details", { children: [summary, element("dl", { children: rows })] });
}
