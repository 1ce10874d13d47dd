// The heat map: a strip a task, minutes to the right, temperature upwards, darker where more answers are.

import { drawn, element } from "/page/dom.js";
import { heat } from "/page/explain.js";

const FAINTEST = 25; // percent: one answer among many must still be seen

/** Return the strips of a heat map; `now` in milliseconds since the epoch. */
export function strips(map, now) {
  const last = Math.floor(now / 60000);
  const tasks = Map.groupBy(map.cells, (cell) => cell.task);
  if (!tasks.size) return [element("p", { className: "quiet", text: "No answers yet." })];
  return [...tasks.keys()].sort().map((task) => strip(task, tasks.get(task), map, last));
}

/** Return the list of what is flagged. */
export function flags(map) {
  const odd = map.cells.filter((cell) => cell.is_odd);
  if (!odd.length) return [element("p", { className: "quiet", text: "Nothing is flagged." })];
  const items = odd.reverse().map((cell) =>
    element("li", { text: `${clock(cell.minute)} ${named(cell.task)}: median T ${cell.median.toFixed(2)} of ${answers(cell)}` }),
  );
  return [element("ul", { children: items })];
}

/** Return a task's name as people say it. */
export function named(task) {
  return task ? task.replaceAll("_", " ") : "unknown";
}

function strip(task, cells, map, last) {
  const total = cells.reduce((sum, cell) => sum + count(cell), 0);
  const odd = cells.filter((cell) => cell.is_odd).length;
  const about = `${named(task)}: ${plural(total)}, ${odd ? `${odd} flagged` : "nothing flagged"}`;
  const first = last - map.minutes + 1;
  const picture = drawn(
    "svg",
    { viewBox: `0 0 ${map.minutes} ${map.bins}`, preserveAspectRatio: "none", role: "img", "aria-label": about },
    [...lines(map), ...cells.flatMap((cell) => column(cell, cell.minute - first, map))],
  );
  const note = element("span", { className: "quiet", text: ` ${plural(total)}` });
  const title = element("h3", { text: named(task), children: [note] });
  const top = (map.bins * map.bin_width).toFixed(0);
  const axis = element("div", { className: "axis", children: [top, "1", "0"].map((text) => element("span", { text })) });
  axis.setAttribute("aria-hidden", "true");
  const times = element("div", {
    className: "times",
    children: [first, first + map.minutes / 2, last].map((minute) => element("span", { text: clock(minute) })),
  });
  return element("div", { className: "task", children: [title, axis, picture, times] });
}

function lines(map) {
  return [0.5, 1, 1.5].map((temperature) => {
    const y = map.bins - temperature / map.bin_width;
    return drawn("line", { class: "grid", x1: 0, x2: map.minutes, y1: y, y2: y });
  });
}

function column(cell, x, map) {
  const all = count(cell);
  const boxes = cell.counts.flatMap((answersHere, bin) => (answersHere ? [box(cell, x, bin, answersHere / all, map)] : []));
  if (cell.is_odd) boxes.push(drawn("rect", { class: "flag", x, y: 0, width: 1, height: map.bins }));
  return boxes;
}

function box(cell, x, bin, share, map) {
  const low = bin * map.bin_width;
  const text = `${clock(cell.minute)}, T ${low.toFixed(1)} to ${(low + map.bin_width).toFixed(1)}: ${cell.counts[bin]} of ${answers(cell)}`;
  const made = drawn("rect", { class: "cell heat", x, y: map.bins - bin - 1, width: 1, height: 1 }, [drawn("title")]);
  made.firstChild.textContent = text;
  made.style.setProperty("--heat", heat(low + map.bin_width / 2));
  made.style.setProperty("--share", `${FAINTEST + (100 - FAINTEST) * share}%`);
  return made;
}

function answers(cell) {
  return plural(count(cell));
}

function plural(count) {
  return count === 1 ? "1 answer" : `${count} answers`;
}

function count(cell) {
  return cell.counts.reduce((sum, one) => sum + one, 0);
}

function clock(minute) {
  return new Date(minute * 60000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
}
