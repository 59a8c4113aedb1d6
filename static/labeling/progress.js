/** How far the batch, the budget and the worker are, in words; and why there is nothing to label. */

import { grouped, hasText, percent, text, timeOfDay } from "./texts.js";

/** @typedef {import("./api.js").Progress} Progress @typedef {import("./outbox.js").Entry} Entry */

/**
 * What the server said last, plus what is still on its way there.
 *
 * @param {Progress} progress @param {Entry[]} waiting @returns {Progress}
 */
export function projected(progress, waiting) {
  let labels = 0;
  let batch = 0;
  for (const { kind, outcome, reserve, corrects, was } of waiting) {
    if (kind === "put_back") continue;
    const step = kind === "undo" ? -1 : 1;
    labels += step * (isLabel(outcome) - (corrects ? isLabel(was) : 0));
    if (!reserve) batch += step * (closes(outcome) - (corrects ? closes(was) : 0));
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
  if (batch_size) {
    parts.push(text("progress.batch", { done: grouped(batch_answered), total: grouped(batch_size) }));
  }
  parts.push(text("progress.labels", { done: grouped(labels_used), total: grouped(budget) }));
  if (batch_size) parts.push(text("progress.round", { number: round_number }));
  if (isReserve) parts.push(text("progress.reserve"));
  return parts.join(" · ");
}

/** What the worker does, from an event of the project; null when the event does not say. @param {any} event */
export function workerText(event) {
  if (event.kind === "progress") return stageText(event);
  if (event.kind !== "round") return null;
  if (event.state === "done" && typeof event.accuracy === "number") {
    return text("worker.ready", { accuracy: accuracyText(event) });
  }
  return hasText(`worker.${event.state}`) ? text(`worker.${event.state}`) : null;
}

/** How far a stage is. @param {{stage?: string, done?: number, total?: number}} progress */
export function stageText({ stage, done, total }) {
  if (!stage) return null;
  if (hasText(`worker.${stage}`)) return text(`worker.${stage}`);
  const name = hasText(`stage.${stage}`) ? text(`stage.${stage}`) : stage;
  if (!total || done === undefined) return name;
  const values = { stage: name, done: grouped(done), total: grouped(total) };
  return text(stage === "fitting" ? "stage.in_epochs" : "stage.in_images", values);
}

/** Why there is nothing, and what to do. @param {import("./api.js").Nothing|null} nothing */
export function nothingText(nothing) {
  if (!nothing) return null;
  const { kind, values } = nothing;
  const shown = { ...values };
  if (values.until) shown.until = timeOfDay(values.until);
  return { reason: text(`nothing.${kind}.reason`, shown), remedy: text(`nothing.${kind}.remedy`, shown) };
}

function accuracyText({ accuracy: share, accuracy_low: low, accuracy_high: high }) {
  if (typeof low !== "number" || typeof high !== "number") return percent(share);
  return text("worker.interval", { share: percent(share), low: percent(low), high: percent(high) });
}

function isLabel(outcome) {
  return Number(outcome === "label");
}

/** Whether an answer is one of those that the batch waits for. */
function closes(outcome) {
  return Number(outcome !== "skip");
}

function clamp(value, highest) {
  return Math.max(0, Math.min(value, highest));
}
