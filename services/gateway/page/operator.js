// The operator's page: asks for the overview every second and shows it; buttons change the policy.

import { at, confirmed, drawn, element } from "/page/dom.js";
import { number } from "/page/explain.js";
import { flags, named, strips } from "/page/heatmap.js";
import { newKey } from "/page/key.js";
import { request } from "/page/server.js";
import { themeBy } from "/page/theme.js";

const PAUSE_MS = 1000;
const shown = new Map(); // what each part shows, so that nothing is redrawn under a pointer

/** Fill a part of the page, where its facts are not those already there. */
function fill(id, facts, make) {
  const text = JSON.stringify(facts);
  if (shown.get(id) === text) return;
  shown.set(id, text);
  at(id).replaceChildren(...make(facts));
}

function show(overview) {
  const live = overview.policies?.find((policy) => policy.live)?.version ?? 0;
  fill("gauges", gaugesOf(overview, live), (gauges) => gauges.map(gauge));
  const minute = Math.floor(overview.now_unix_ms / 60000);
  fill("heat", [overview.heat_map, minute], ([map]) => strips(map, minute * 60000));
  fill("flags", overview.heat_map, flags);
  at("rule").textContent = overview.heat_map.rule;
  fill("policies", [overview.policies, live], ([policies]) => versions(policies, live));
  at("rollback").disabled = !live;
  at("rollback").onclick = () => rollBack(live);
  fill("modes", overview.modes, modes);
  fill("trial", overview.trial, trial);
  const others = (overview.policies ?? []).filter((policy) => !policy.live).map((policy) => policy.version);
  fill("trial-version", others, candidates);
  at("trial-form").hidden = !others.length || Boolean(overview.trial?.is_running);
  fill("feedback", [overview.feedback, minute], ([minutes]) => feedback(minutes, minute));
  fill("streams", overview.streams, streams);
}

function gaugesOf(overview, live) {
  const engine = overview.engine;
  const away = Object.keys(overview.peers).filter((name) => overview.peers[name] === "away");
  const heard = overview.feedback.reduce((sum, minute) => sum + minute.praised + minute.blamed, 0);
  return [
    ["open requests", overview.open_requests],
    ["sequences decoding", engine?.running],
    ["sequences waiting", engine?.waiting],
    ["KV pages used", engine && `${engine.kv_pages_used} / ${engine.kv_pages_total}`, engine && engine.kv_pages_used / engine.kv_pages_total],
    ["last engine step", engine && `${(engine.step_time_us / 1000).toFixed(1)} ms`],
    ["live policy version", live || null],
    ["feedback, last hour", heard],
    ["rooms", away.length ? `${away.join(", ")} away` : "all serving", null, away.length > 0],
  ];
}

function gauge([name, value, share, isAlarm]) {
  const isAway = value === undefined || value === null || isAlarm;
  const item = element("li", {
    className: isAway ? "away" : "",
    children: [element("strong", { text: String(value ?? "away") }), element("span", { text: name })],
  });
  if (typeof share === "number" && Number.isFinite(share)) {
    const meter = element("meter", { value: share, high: 0.9 });
    meter.setAttribute("aria-label", name);
    item.append(meter);
  }
  return item;
}

function table(headings, rows) {
  const head = element("tr", { children: headings.map((text) => element("th", { text, scope: "col" })) });
  return element("table", {
    children: [element("thead", { children: [head] }), element("tbody", { children: rows })],
  });
}

function row(cells, className = "") {
  const children = cells.map((cell) => element("td", { children: [cell instanceof Node ? cell : String(cell)] }));
  return element("tr", { className, children });
}

function quiet(text) {
  return [element("p", { className: "quiet", text })];
}

function versions(policies, live) {
  if (!policies) return quiet("The controller cannot be asked now.");
  const rows = policies.map((policy) => {
    const promoting = element("button", { type: "button", text: "Promote", onclick: () => promote(policy.version, live) });
    promoting.setAttribute("aria-label", `Promote version ${policy.version}`);
    const made = new Date(policy.created_unix_ms).toLocaleTimeString([], { hour12: false });
    const origin = policy.parent_version ? ` from ${policy.parent_version}` : "";
    const last = policy.live ? "live" : promoting;
    return row([policy.version, `${policy.reason.replaceAll("_", " ")}${origin}`, policy.feedback_count, made, last], policy.live ? "live" : "");
  });
  return [table(["version", "made by", "feedback", "at", "state"], rows)];
}

function modes(byRoute) {
  if (!byRoute) return quiet("The controller cannot be asked now.");
  const routes = Object.keys(byRoute).sort();
  if (!routes.length) return quiet("No route has a mode of its own; the controller's setting holds.");
  return [table(["route", "mode"], routes.map((route) => row([route === "*" ? "* (all others)" : route, byRoute[route]])))];
}

function trial(value) {
  if (!value) return quiet("No candidate was ever tried.");
  const facts = [
    ["stage", value.stage.replaceAll("_", " ") + (value.stage === "canary" ? `, ${number(value.share * 100)} % of sessions` : "")],
    ["candidate", `version ${value.candidate_version}`],
    ["earns", `${signed(value.candidate_value)} (95 %: ${signed(value.candidate_lower)} to ${signed(value.candidate_upper)}), ${value.candidate_count} rewards`],
    ["live policy earns", `${signed(value.live_value)}, ${value.live_count} rewards`],
    ["verdict", value.is_better ? "beats the live policy" : "not shown to be better"],
    ["would decide alike", `${(value.agreement * 100).toFixed(0)} % of decisions`],
  ];
  const list = element("dl", {
    children: facts.flatMap(([name, text]) => [element("dt", { text: name }), element("dd", { text })]),
  });
  if (!value.is_running) return [list];
  const stopping = element("button", { type: "button", className: "danger", text: "Stop the trial", onclick: stopTrial });
  return [list, element("p", { children: [stopping] })];
}

function candidates(versions) {
  return versions.map((version) => element("option", { value: version, text: version }));
}

function signed(value) {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;
}

function feedback(minutes, now) {
  const praised = minutes.reduce((sum, minute) => sum + minute.praised, 0);
  const blamed = minutes.reduce((sum, minute) => sum + minute.blamed, 0);
  const signals = {};
  for (const minute of minutes)
    for (const [name, count] of Object.entries(minute.signals)) signals[name] = (signals[name] ?? 0) + count;
  const words = Object.entries(signals).map(([name, count]) => `${count} ${name}`).join(", ");
  const text = `${praised} praised, ${blamed} blamed${words ? ` (${words})` : ""}`;
  const most = Math.max(1, ...minutes.flatMap((minute) => [minute.praised, minute.blamed]));
  const picture = drawn("svg", { class: "bars", viewBox: `0 ${-most} 60 ${2 * most}`, preserveAspectRatio: "none", role: "img", "aria-label": text });
  for (const minute of minutes) {
    const x = minute.minute - now + 59.1;
    picture.append(drawn("rect", { class: "praised", x, y: -minute.praised, width: 0.8, height: minute.praised }));
    picture.append(drawn("rect", { class: "blamed", x, y: 0, width: 0.8, height: minute.blamed }));
  }
  return [picture, element("p", { className: "quiet", text })];
}

function streams(running) {
  if (!running.length) return quiet("None now.");
  const rows = running.map((stream) =>
    row([
      stream.request_id,
      stream.route,
      stream.tenant,
      stream.task ? named(stream.task) : "deciding",
      stream.source || "–",
      stream.temperature === null ? "–" : number(stream.temperature),
      stream.token_count,
      `${stream.seconds.toFixed(1)} s`,
    ]),
  );
  return [table(["request", "route", "tenant", "task", "source", "mean T", "tokens", "for"], rows)];
}

async function promote(version, live) {
  const text = `Its parameters decide all new requests, in the place of version ${live}, under a new number.`;
  if (!(await confirmed(`Promote version ${version}?`, text, "Promote"))) return;
  await change("/admin/policies/promote", { version, expected_live_version: live }, liveNow);
}

async function rollBack(live) {
  const text = `The parameters before version ${live} decide all new requests, under a new number.`;
  if (!(await confirmed("Roll back?", text, "Roll back"))) return;
  await change("/admin/policies/rollback", { expected_live_version: live }, liveNow);
}

async function startTrial(body) {
  const { version, stage, share, promotes } = body;
  const decides = `It decides ${number(share * 100)} % of sessions; a drop ends the trial${promotes ? ", and a proof that it is better makes it live" : ""}.`;
  const text = stage === "canary" ? decides : "It decides nothing; what it would do is logged.";
  if (!(await confirmed(`Try version ${version}?`, text, "Start"))) return;
  await change("/admin/trial/start", body, () => `Version ${version} is on trial.`);
}

async function stopTrial() {
  const text = "The live policy decides all sessions again.";
  if (!(await confirmed("Stop the trial?", text, "Stop"))) return;
  await change("/admin/trial/stop", {}, () => "The trial is over.");
}

function liveNow(policy) {
  return `Version ${policy.version} is live.`;
}

async function change(url, body, told) {
  const headers = { "Content-Type": "application/json" };
  try {
    const response = await request(url, { method: "POST", headers, body: JSON.stringify(body) });
    at("live").textContent = told(await response.json());
    await refresh();
  } catch (error) {
    complain(error);
  }
}

function complain(error) {
  const problem = at("problem");
  problem.textContent = error.message;
  problem.hidden = false;
  if (error.status !== 403) return;
  const button = element("button", { type: "button", text: "Use another key", onclick: () => newKey("A key with the admin right") });
  problem.append(" ", button);
}

let isReachable = true;

async function refresh() {
  try {
    const response = await request("/admin/overview");
    show(await response.json());
    at("state").textContent = "live, every second";
    if (!isReachable) at("problem").hidden = true;
    isReachable = true;
  } catch (error) {
    if (isReachable) complain(error);
    isReachable = false;
    at("state").textContent = "not up to date";
  }
}

async function follow() {
  if (!document.hidden) await refresh();
  setTimeout(follow, PAUSE_MS);
}

at("mode-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const [route, mode] = [at("mode-route").value, at("mode-mode").value || null];
  change("/admin/modes", { route, mode }, () => `The mode of ${route} is set.`);
});
at("trial-stage").addEventListener("change", () => {
  for (const id of ["trial-share", "trial-promotes"]) at(id).disabled = at("trial-stage").value !== "canary";
});
at("trial-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const [version, stage] = [Number(at("trial-version").value), at("trial-stage").value];
  const canary = { share: at("trial-share").value / 100, promotes: at("trial-promotes").checked };
  startTrial({ version, stage, ...(stage === "canary" ? canary : {}) });
});
themeBy(at("theme"));
follow();
