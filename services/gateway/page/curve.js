// Temperature and entropy of an answer, token by token, while it is written.

import { drawn, element } from "/page/dom.js";
import { HOTTEST, number } from "/page/explain.js";

const MOST_POINTS = 400;
const HEIGHT = 40;
const LEAST_ENTROPY = 3; // nats at the top of the scale, so that small ones look small

export class Curve {
  constructor() {
    this.temperature = drawn("polyline", { class: "temperature" });
    this.entropy = drawn("polyline", { class: "entropy" });
    this.picture = drawn("svg", { role: "img", preserveAspectRatio: "none" }, [this.entropy, this.temperature]);
    this.legend = element("figcaption", { className: "quiet" });
    this.element = element("figure", { className: "curve", children: [this.picture, this.legend] });
    this.element.hidden = true;
  }

  /** Draw `tokens`; one is no curve yet. */
  draw(tokens) {
    this.element.hidden = tokens.length < 2;
    if (this.element.hidden) return;
    const step = Math.ceil(tokens.length / MOST_POINTS);
    const points = tokens.filter((_, index) => index % step === 0);
    const top = Math.max(LEAST_ENTROPY, ...points.map((token) => token.entropy));
    this.picture.setAttribute("viewBox", `0 0 ${points.length - 1} ${HEIGHT}`);
    this.temperature.setAttribute("points", line(points, (token) => token.temperature / HOTTEST));
    this.entropy.setAttribute("points", line(points, (token) => token.entropy / top));
    this.tell(tokens, top);
  }

  tell(tokens, top) {
    const [coolest, hottest] = extremes(tokens.map((token) => token.temperature));
    const mean = tokens.reduce((sum, token) => sum + token.entropy, 0) / tokens.length;
    const range = coolest === hottest ? number(coolest) : `${number(coolest)} to ${number(hottest)}`;
    const text = `temperature ${range} (of ${HOTTEST}), entropy ${number(mean)} nats on the mean (of ${number(top)})`;
    this.picture.setAttribute("aria-label", `Over ${tokens.length} tokens: ${text}`);
    this.legend.replaceChildren(
      element("span", { className: "temperature", text: `T ${range}` }),
      element("span", { className: "entropy", text: `entropy ${number(mean)} nats` }),
    );
    this.legend.title = text;
  }
}

function line(points, height) {
  return points.map((point, x) => `${x},${(HEIGHT - 1 - (HEIGHT - 2) * Math.min(1, height(point))).toFixed(1)}`).join(" ");
}

function extremes(values) {
  return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
}
