/** How far the batch, the budget and the worker are, in words. */

/** @typedef {import("./api.js").Progress} Progress @typedef {import("./outbox.js").Entry} Entry */

const STATES = { requested: "waiting for the worker", running: "learning from the labels" };

/**
 * What the server said last, plus what is still on its way there.
 *
 * @param {Progress} progress @param {Entry[]} waiting @returns {Progress}
 */
export function projected(progress, waiting) {
  let labels = 0;
  let batch = 0;
  for (const { kind, outcome, reserve } of waiting) {
    const step = kind === "undo" ? -1 : 1;
    if (outcome === "label") labels += step;
    if (outcome !== "skip" && !reserve) batch += step;
  }
  return {
    ...progress,
    labels_used: clamp(progress.labels_used + labels, progress.budget),
    batch_answered: clamp(progress.batch_answered + batch, progress.batch_size),
  };
}

/** @param {Progress} progress @param {boolean} isReserve whether the image on screen is beyond the batch */
export function progressText({ batch_answered, batch_size, labels_used, budget, round_number }, isReserve) {
  const parts = [];
  if (batch_size) parts.push(`${grouped(batch_answered)} of ${grouped(batch_size)} in this batch`);
  parts.push(`${grouped(labels_used)} of ${grouped(budget)} labels`);
  if (batch_size) parts.push(`round ${round_number}`);
  if (isReserve) parts.push("ahead of the next batch");
  return parts.join(" · ");
}

/** What the worker does, from an event of the project; null when the event does not say. @param {any} event */
export function workerText(event) {
  if (event.kind === "progress") return stageText(event);
  if (event.kind !== "round") return null;
  if (event.state in STATES) return STATES[event.state];
  if (event.state === "failed") return "the last round failed; the project's page says why";
  if (event.state !== "done") return null;
  return typeof event.accuracy === "number" ? `new model ready: ${percent(event)}` : "new queries are ready";
}

/** How far a stage is. @param {{stage?: string, done?: number, total?: number}} progress */
export function stageText({ stage, done, total }) {
  if (!stage) return null;
  if (!total || done === undefined) return STATES[stage] ?? stage;
  if (stage === "fitting") return `fitting, epoch ${grouped(done)} of ${grouped(total)}`;
  return `${stage}, ${grouped(done)} of ${grouped(total)} images`;
}

function percent({ accuracy, accuracy_low: low, accuracy_high: high }) {
  const shown = (share) => (share * 100).toFixed(1);
  const interval = typeof low === "number" && typeof high === "number" ? ` (${shown(low)} to ${shown(high)}%)` : "";
  return `${shown(accuracy)}%${interval}`;
}

function grouped(number) {
  return number.toLocaleString("en").replaceAll(",", "\u202f"); // as the other pages write numbers
}

function clamp(value, highest) {
  return Math.max(0, Math.min(value, highest));
}
