// Plans and tokens in words. Pure: values in, text out.

export const HOTTEST = 2;

const TASKS = {
  generation: "open writing",
  classification: "choosing a label",
  question_answering: "a question",
  code: "programming",
  translation: "translation",
  arithmetic: "a calculation",
  chat: "conversation",
};

/** Return where a temperature lies on the scale, from 0 (cool) to 1 (hot). */
export function heat(temperature) {
  return Math.min(1, Math.max(0, temperature / HOTTEST));
}

/** Return a plan in one sentence. */
export function explainPlan(plan) {
  const task = TASKS[String(plan.task ?? "").toLowerCase().replace("task_", "")];
  const opening = task ? `Took this for ${task}` : "Could not tell what kind of task this is";
  return `${opening}; ${manner(plan)}${origin(plan)}.`;
}

/** Return the members of a plan as [name, text] rows. */
export function planRows(plan) {
  const rows = [
    ["decision", plan.decision_id || "none"],
    ["policy version", plan.policy_version || "none"],
    ["source", plan.source],
    ["scenario", plan.scenario],
    ["program", members(plan.program)],
    ["guard", members(plan.guard) || "none"],
    ["token budget", plan.token_budget || "the model's context"],
    ["compute path", plan.compute_path],
    ["expected", plan.forecast ? expected(plan.forecast) : null],
    ["policy's own T", plan.policy_temperature ? number(plan.policy_temperature) : null],
    ["log density", plan.explored ? number(plan.log_density) : null],
    ["seed", plan.seed],
  ];
  return rows.filter(([, value]) => value !== null && value !== undefined && value !== "");
}

/** Return the numbers of one token. */
export function explainToken(token) {
  const probability = Math.exp(token.logprob) * 100;
  const percent = probability >= 1 ? probability.toFixed(0) : probability.toPrecision(1);
  const revision = token.revision ? ` · revision ${token.revision}` : "";
  return (
    `T ${number(token.temperature)} · entropy ${number(token.entropy)} nats` +
    ` · probability ${percent} %${revision}`
  );
}

/** Return a number with two decimals, or as it is where it is whole. */
export function number(value) {
  return Number.isInteger(value) ? String(value) : Number(value).toFixed(2);
}

function manner(plan) {
  const kind = plan.program?.kind;
  const temperature = number(plan.temperature);
  if (kind === "edt") return `answering at up to T=${temperature}, cooler where the model is sure`;
  if (kind === "dynatemp") return `answering around T=${temperature}, hotter where the model doubts`;
  if (kind === "residual") return `answering around T=${temperature}, corrected at each token`;
  if (plan.temperature === 0) return "answering with the most probable token each time, T=0";
  return `answering ${warmth(plan.temperature)} at T=${temperature}`;
}

function warmth(temperature) {
  if (temperature <= 0.45) return "cool";
  if (temperature <= 0.8) return "mild";
  return temperature <= 1.1 ? "warm" : "hot";
}

function origin(plan) {
  const version = `policy version ${plan.policy_version}`;
  const would = plan.policy_temperature
    ? `, where the policy would use ${number(plan.policy_temperature)}`
    : "";
  switch (plan.source) {
    case "pinned":
      return `, as you pinned it${would}`;
    case "static":
      return `, the fixed value of this kind of request${would}`;
    case "fallback":
      return ", the last good plan, because the controller did not answer in time";
    default:
      return plan.explored ? `, drawn by ${version}` : `, chosen by ${version}`;
  }
}

function expected(forecast) {
  const parts = [
    `${forecast.output_tokens} tokens, ${forecast.output_tokens_high} at most in nine of ten`,
    `first after ${number(forecast.prefill_seconds)} s`,
    `all after ${number(forecast.total_seconds)} s`,
  ];
  if (forecast.bounds_budget) parts.push("which bounds the token budget");
  if (forecast.misses_deadline) parts.push("after the deadline");
  return parts.join(", ");
}

function members(value) {
  return Object.entries(value ?? {})
    .map(([name, member]) => `${name} ${typeof member === "number" ? number(member) : member}`)
    .join(", ");
}
