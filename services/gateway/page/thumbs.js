// Thumbs: what a person says of an answer, and what becomes of it.

import { drawn, element } from "/page/dom.js";
import { appliedVersion, sendFeedback } from "/page/feedback.js";

const CHOICES = [["up", "Good answer", 1], ["down", "Bad answer", -1]];
const OUTLINE = "M2 9h3v8H2zM5 9.5 9 2c1.6 0 2.3 1 2 2.5L10.4 8H16c1.4 0 2 1 1.8 2l-1.3 5.6c-.2.9-.8 1.4-1.7 1.4H5z";

/** Return the thumbs of an answer and the line that tells what was learned. */
export function thumbs(decision) {
  const learned = element("p", { className: "learned" });
  learned.setAttribute("role", "status");
  const buttons = CHOICES.map(([way, label, score]) => {
    const button = element("button", { type: "button", className: `thumb ${way}`, title: label, children: [thumb()] });
    button.setAttribute("aria-label", label);
    button.setAttribute("aria-pressed", "false");
    button.disabled = !decision?.decision_id;
    button.onclick = () => rate(decision, button, score, buttons, learned);
    return button;
  });
  if (buttons[0].disabled) learned.textContent = "Nothing can be learned from a fallback plan.";
  return [...buttons, learned];
}

async function rate(decision, pressed, score, buttons, learned) {
  buttons.forEach((button) => { button.disabled = true; });
  pressed.setAttribute("aria-pressed", "true");
  const before = decision.policy_version;
  learned.textContent = `Sent. This answer came from policy version ${before}; learning…`;
  try {
    const after = await appliedVersion(await sendFeedback(decision.decision_id, { score }));
    learned.textContent = after
      ? `Learned: policy version ${before} → ${after}.`
      : "Stored. It will count when the learner comes to it.";
  } catch (error) {
    pressed.setAttribute("aria-pressed", "false");
    buttons.forEach((button) => { button.disabled = false; });
    learned.textContent = `Not sent: ${error.message}`;
  }
}

/** Return a thumb pointing up, drawn, because not every system has a font with one. */
function thumb() {
  return drawn("svg", { viewBox: "0 0 20 20", "aria-hidden": "true" }, [drawn("path", { d: OUTLINE })]);
}
