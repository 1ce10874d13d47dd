// Markdown, as models write it, into elements, while it still grows.
//
// Every character of the answer keeps its place in the source, so that `paint(start, end)`
// can give it the colour of its token. Elements are made one by one and texts are inserted as
// text: markup in an answer stays the text it is. Only links of the web become links, and no
// picture is ever loaded. What is not understood is shown as it was written.

import { copyButton, element } from "/page/dom.js";

const MAX_DEPTH = 6;
const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]{0,30})/;
const HEADING = /^ {0,3}(#{1,6})\s+(?=\S)/;
const RULE = /^ {0,3}(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])( +|$)/;
const TABLE_RULE = /^ {0,3}\|?(?:\s*:?-+:?\s*\|)+(?:\s*:?-+:?\s*)?$/;
const LINK = /!?\[([^[\]\n]*)\]\(([^()\s]*)\)/y;
const ADDRESS = /https?:\/\/[^\s<>()[\]"'`]*[^\s<>()[\]"'`.,;:!?*_~]/y;
const WEB = /^(?:https?:\/\/|mailto:)/i;
const WORD = /\w/;

/** Shows a growing text in `target`; blocks that are already right are left alone. */
export class Markdown {
  constructor(target, paint) {
    this.target = target;
    this.paint = paint;
    this.sources = [];
  }

  /** Show `source`, which begins with what was shown before. */
  update(source) {
    const blocks = blocksOf({ source, paint: this.paint }, linesOf(source), 0);
    const same = blocks.findIndex((block, index) => source.slice(block.start, block.end) !== this.sources[index]);
    const kept = same < 0 ? blocks.length : same;
    while (this.target.children.length > kept) this.target.lastElementChild.remove();
    this.target.append(...blocks.slice(kept).map((block) => block.make()));
    this.sources = blocks.map((block) => source.slice(block.start, block.end));
  }
}

function linesOf(source) {
  const lines = [];
  for (let start = 0; start <= source.length; ) {
    const found = source.indexOf("\n", start);
    const end = found < 0 ? source.length : found;
    lines.push({ start, end });
    start = end + 1;
  }
  return lines;
}

/** Return the blocks of some lines as {start, end, make}. */
function blocksOf(doc, lines, depth) {
  const blocks = [];
  for (let at = 0; at < lines.length; ) {
    const text = textOf(doc, lines[at]);
    if (!text.trim()) {
      at += 1;
      continue;
    }
    const [end, make] = blockAt(doc, lines, at, text, depth);
    blocks.push({ start: lines[at].start, end: lines[end - 1].end, make });
    at = end;
  }
  return blocks;
}

function blockAt(doc, lines, at, text, depth) {
  if (FENCE.test(text)) return fence(doc, lines, at, text);
  const heading = HEADING.exec(text);
  if (heading) {
    const title = { start: lines[at].start + heading[0].length, end: lines[at].end };
    // The page has its own h1 and h2.
    const level = Math.min(6, heading[1].length + 2);
    return [at + 1, () => inline(doc, element(`h${level}`), [title])];
  }
  if (RULE.test(text)) return [at + 1, () => element("hr")];
  if (QUOTE.test(text) && depth < MAX_DEPTH) return quote(doc, lines, at, depth);
  if (ITEM.test(text) && depth < MAX_DEPTH) return list(doc, lines, at, depth);
  if (isTable(doc, lines, at)) return table(doc, lines, at);
  const end = whileSo(lines, at + 1, (line) => !endsParagraph(textOf(doc, line)));
  return [end, () => inline(doc, element("p"), lines.slice(at, end).map((line) => trimmed(doc, line)))];
}

function endsParagraph(text) {
  return !text.trim() || FENCE.test(text) || HEADING.test(text) || QUOTE.test(text) || ITEM.test(text);
}

function fence(doc, lines, at, text) {
  const [, mark, language] = FENCE.exec(text);
  const closes = (line) => {
    const found = textOf(doc, line).trim();
    return found.length >= mark.length && found === mark[0].repeat(found.length);
  };
  const end = whileSo(lines, at + 1, (line) => !closes(line));
  const inside = lines.slice(at + 1, end);
  return [Math.min(lines.length, end + 1), () => codeBlock(doc, inside, language)];
}

function codeBlock(doc, lines, language) {
  const code = element("code");
  // Inside a quote or a list, lines begin later than in the source.
  for (const { from, to } of joined(doc, lines)) code.append(...doc.paint(from, to));
  const copy = copyButton("Copy code", () => lines.map((line) => textOf(doc, line)).join("\n"));
  const bar = element("div", { className: "bar", children: [element("span", { text: language || "code" }), copy] });
  const pre = element("pre", { children: [code], tabIndex: 0 });
  pre.setAttribute("role", "group");
  pre.setAttribute("aria-label", language ? `Code, ${language}` : "Code");
  return element("div", { className: "code", children: [bar, pre] });
}

function quote(doc, lines, at, depth) {
  const end = whileSo(lines, at, (line) => QUOTE.test(textOf(doc, line)));
  const inside = lines.slice(at, end).map((line) => after(line, QUOTE.exec(textOf(doc, line))[0].length));
  return [end, () => nested(doc, "blockquote", inside, depth)];
}

function list(doc, lines, at, depth) {
  const items = [];
  const isNumbered = isNumber(doc, lines[at]);
  let end = at;
  while (end < lines.length) {
    const found = ITEM.exec(textOf(doc, lines[end]));
    if (!found || isNumber(doc, lines[end]) !== isNumbered) break;
    const indent = found[0].length;
    const next = whileSo(lines, end + 1, (line, index) => continues(doc, lines, index, Math.min(indent, 2)));
    const first = after(lines[end], indent);
    items.push([first, ...lines.slice(end + 1, next).map((line) => outdented(doc, line, indent))]);
    end = next;
  }
  const start = isNumbered ? Number.parseInt(textOf(doc, lines[at]).trim(), 10) : 1;
  const make = () => {
    const made = element(isNumbered ? "ol" : "ul", { children: items.map((item) => nested(doc, "li", item, depth)) });
    if (start !== 1) made.start = start;
    return made;
  };
  return [end, make];
}

function isNumber(doc, line) {
  return /^ {0,3}\d/.test(textOf(doc, line));
}

/** Whether a line belongs to the item before: indented, lazily continued, or blank before such. */
function continues(doc, lines, index, indent) {
  const text = textOf(doc, lines[index]);
  const depth = text.length - text.trimStart().length;
  if (text.trim()) return depth >= indent || !(endsParagraph(text) || !textOf(doc, lines[index - 1]).trim());
  const next = lines[index + 1];
  if (!next) return false;
  const following = textOf(doc, next);
  return Boolean(following.trim()) && following.length - following.trimStart().length >= indent;
}

function nested(doc, name, lines, depth) {
  const blocks = blocksOf(doc, lines, depth + 1);
  const made = element(name);
  blocks.forEach((block) => made.append(block.make()));
  // A list of short items is set close.
  if (name === "li" && made.firstChild?.tagName === "P") made.firstChild.replaceWith(...made.firstChild.childNodes);
  return made;
}

function isTable(doc, lines, at) {
  const [head, rule] = [lines[at], lines[at + 1]];
  return Boolean(rule) && textOf(doc, head).includes("|") && TABLE_RULE.test(textOf(doc, rule));
}

function table(doc, lines, at) {
  const end = whileSo(lines, at + 2, (line) => textOf(doc, line).includes("|"));
  const row = (line, name) => element("tr", { children: cellsOf(doc, line).map((cell) => inline(doc, element(name), [cell])) });
  const make = () => {
    const head = element("thead", { children: [row(lines[at], "th")] });
    const body = element("tbody", { children: lines.slice(at + 2, end).map((line) => row(line, "td")) });
    const frame = element("div", { className: "table", children: [element("table", { children: [head, body] })], tabIndex: 0 });
    frame.setAttribute("role", "group");
    frame.setAttribute("aria-label", "Table");
    return frame;
  };
  return [end, make];
}

function cellsOf(doc, line) {
  const cells = [];
  let { start, end } = trimmed(doc, line);
  if (doc.source[start] === "|") start += 1;
  if (doc.source[end - 1] === "|" && end > start) end -= 1;
  for (let at = start; at <= end; at += 1) {
    if (at < end && (doc.source[at] !== "|" || doc.source[at - 1] === "\\")) continue;
    cells.push(trimmed(doc, { start, end: at }));
    start = at + 1;
  }
  return cells;
}

/** Fill `parent` with the inline content of some lines; return it. */
function inline(doc, parent, lines) {
  const parts = joined(doc, lines);
  const text = parts.map(({ from, to }) => doc.source.slice(from, to)).join("");
  new Inline(doc, text, parts).walk(0, text.length, parent, 0);
  return parent;
}

/** Return lines as runs of the source, line ends between them included. */
function joined(doc, lines) {
  return lines.map(({ start, end }, index) => ({ from: start, to: index < lines.length - 1 ? end + 1 : end }));
}

class Inline {
  constructor(doc, text, parts) {
    Object.assign(this, { doc, text, parts });
  }

  /** Append what stands from `from` to `to` of the text to `parent`. */
  walk(from, to, parent, depth) {
    let plain = from;
    for (let at = from; at < to; ) {
      const found = depth < MAX_DEPTH ? this.special(at, to) : null;
      if (!found) {
        at += 1;
        continue;
      }
      this.emit(plain, at, parent);
      if (found.name) {
        const made = element(found.name, found.properties);
        if (found.isVerbatim) this.emit(found.from, found.to, made);
        else this.walk(found.from, found.to, made, depth + 1);
        parent.append(made);
      }
      at = found.end;
      plain = found.name ? at : at - 1;
    }
    this.emit(plain, to, parent);
  }

  /** Append characters as they are, in the colours of their tokens. */
  emit(from, to, parent) {
    let passed = 0;
    for (const part of this.parts) {
      const length = part.to - part.from;
      const [first, last] = [Math.max(from - passed, 0), Math.min(to - passed, length)];
      if (first < last) parent.append(...this.doc.paint(part.from + first, part.from + last));
      passed += length;
      if (passed >= to) return;
    }
  }

  special(at, to) {
    switch (this.text[at]) {
      case "\\":
        return /[!-/:-@[-`{-~]/.test(this.text[at + 1] ?? "") && at + 1 < to ? { end: at + 2 } : null;
      case "`":
        return this.code(at, to);
      case "*":
      case "_":
      case "~":
        return this.emphasis(at, to);
      case "!":
      case "[":
        return this.link(at, to);
      case "h":
        return this.address(at, to);
      default:
        return null;
    }
  }

  code(at, to) {
    let run = 1;
    while (this.text[at + run] === "`") run += 1;
    const close = this.text.indexOf("`".repeat(run), at + run);
    if (close < 0 || close + run > to) return null;
    return { name: "code", isVerbatim: true, from: at + run, to: close, end: close + run };
  }

  emphasis(at, to) {
    const mark = this.text[at];
    const run = this.text[at + 1] === mark ? 2 : 1;
    if (mark === "~" && run < 2) return null;
    if (mark === "_" && WORD.test(this.text[at - 1] ?? "")) return null;
    if (/\s/.test(this.text[at + run] ?? " ")) return null;
    const close = this.closing(mark, run, at + run, to);
    if (close < 0) return null;
    const name = mark === "~" ? "del" : run === 2 ? "strong" : "em";
    return { name, from: at + run, to: close, end: close + run };
  }

  closing(mark, run, from, to) {
    for (let at = from; at < to; at += 1) {
      if (this.text[at] !== mark) continue;
      let length = 1;
      while (this.text[at + length] === mark) length += 1;
      const isEnd = at > from && !/\s/.test(this.text[at - 1]) && at + run <= to;
      const isWhole = length === run || length >= 3;
      if (isEnd && isWhole && !(mark === "_" && WORD.test(this.text[at + length] ?? ""))) return at + length - run;
      at += length - 1;
    }
    return -1;
  }

  link(at, to) {
    const found = this.match(LINK, at, to);
    if (!found || !WEB.test(found[2]) || !found[1]) return null;
    const from = at + found[0].indexOf("[") + 1;
    return { name: "a", properties: linkTo(found[2]), from, to: from + found[1].length, end: at + found[0].length };
  }

  address(at, to) {
    if (WORD.test(this.text[at - 1] ?? "")) return null;
    const found = this.match(ADDRESS, at, to);
    if (!found) return null;
    const end = at + found[0].length;
    return { name: "a", properties: linkTo(found[0]), isVerbatim: true, from: at, to: end, end };
  }

  match(pattern, at, to) {
    pattern.lastIndex = at;
    const found = pattern.exec(this.text);
    return found && at + found[0].length <= to ? found : null;
  }
}

function linkTo(href) {
  return { href, target: "_blank", rel: "noopener noreferrer nofollow" };
}

function textOf(doc, { start, end }) {
  return doc.source.slice(start, end);
}

function after({ start, end }, count) {
  return { start: Math.min(start + count, end), end };
}

function outdented(doc, line, most) {
  const text = textOf(doc, line);
  return after(line, Math.min(most, text.length - text.trimStart().length));
}

function trimmed(doc, { start, end }) {
  const text = doc.source.slice(start, end);
  const first = start + text.length - text.trimStart().length;
  return { start: first, end: Math.max(first, start + text.trimEnd().length) };
}

function whileSo(lines, from, isSo) {
  let at = from;
  while (at < lines.length && isSo(lines[at], at)) at += 1;
  return at;
}
