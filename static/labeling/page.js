/** The labeling page: makes its parts and connects them. */

import { Answers } from "./own_answers.js";
import { Api } from "./api.js";
import { Chooser } from "./chooser.js";
import { listenForKeys } from "./keys.js";
import { Labeler } from "./labeler.js";
import { Leases } from "./leases.js";
import { Light } from "./light.js";
import { listenToProject } from "./live.js";
import { OutboxNews, WorkerNews } from "./news.js";
import { Outbox, browserStorage } from "./outbox.js";
import { nothingText, progressText, projected } from "./progress.js";
import { Queue } from "./queue.js";
import { Screen } from "./screen.js";
import { percent, text, useTexts } from "./texts.js";
import { View } from "./view.js";
import { Why } from "./why.js";
import { Zoom } from "./zoom.js";

const LABELS_WAIT_MS = 1_000; // somebody else's answer may have freed a query: ask soon, but not for every one of them

const root = document.getElementById("labeling");
const { user, project, leaseSeconds, classesVersion } = root.dataset;
const { classes, opens_on_typing: opensOnTyping, texts } = JSON.parse(root.dataset.page);
useTexts(texts);
const base = `/projects/${project}`;
const part = (name) => document.querySelector(`[data-part=${name}]`);
const view = new View(root);
const api = new Api(base, document.querySelector("meta[name=form-token]").content, user);
const outboxNews = new OutboxNews(view);
const workerNews = new WorkerNews(view);
let progress = null;
let isAway = false;
let isLeaving = false;

const outbox = new Outbox(browserStorage(), `querent.outbox.${user}.${project}.`, (entry) => api.send(entry), {
  delivered(entry, reply) {
    if (entry.kind === "undo") labeler.undone(entry, reply.query);
    else if (reply.feedback) tellKnown(reply.feedback, entry.name);
    if (reply.progress) keepProgress(reply.progress);
    if (!outbox.size) queue.refill();
    if (!outbox.size && !labeler.heldIds.length) queue.refillWithin(0);
  },
  refused(entry, failure) {
    if (entry.kind === "put_back") return; // then its lease runs out
    const why = failure.message;
    view.notice(entry.kind === "undo" ? text("refused.undo", { why }) : text("refused.answer", { name: entry.name, why }));
    if (entry.kind === "undo") labeler.undoRefused(entry);
    else labeler.refused(entry, failure.code === "class_retired");
    if (failure.code === "class_retired") view.tellChanged();
    if (failure.code === "budget_spent" || failure.code === "left_project") startAgain(); // and learn that there is none
  },
  changed: showOutbox,
});

const queue = new Queue((count) => api.claim(count), {
  changed: () => labeler.refresh(),
  claimed(reply) {
    // a reason that was true while answers were on their way, or images in hand, is out of date when it is shown
    labeler.nothing = outbox.size || labeler.heldIds.length ? null : nothingText(reply.nothing);
    if (!outbox.size) keepProgress(reply.progress); // else it may or may not count what is on its way
  },
  failed(failure) {
    if (failure.kind === "signed-out" || failure.kind === "stale-page") outbox.halt(failure.kind);
    const remedy = failure.kind === "unreachable" ? text("failure.keeps_trying") : "";
    labeler.nothing = { reason: failure.message, remedy };
    labeler.refresh();
  },
  isKnown: (id) => labeler.knows(id),
  release: (queryIds) => api.release(queryIds),
  mayClaim: () => !isAway && !outbox.halted && document.visibilityState === "visible",
});

const answers = new Answers(async (before) => {
  const { answers: read, next_before: next } = await api.ownAnswers(before);
  return { answers: read.map(toGiven), next };
});
const screen = new Screen(view, () => {
  zoom.reset();
  why?.close();
  for (const name of ["reasons", "chooser"]) part(name).close(); // they were opened for another image
});
const zoom = new Zoom(view.stage, {
  zoomed: (scale) => view.say(text("zoom.said", { scale: percent(scale, 0) })),
  swiped: (direction) => (direction === "right" ? labeler.back() : labeler.forward()),
});
const labeler = new Labeler(queue, outbox, answers, screen, view);
const light = new Light(part("light"), view.stage, browserStorage(), `querent.light.${user}.${project}`, (set) => {
  view.say(text("light.said", set));
});
const chooser = new Chooser(part("chooser"), classes, (chosen, event) => {
  answer({ outcome: "label", class_id: chosen.id, name: chosen.name }, event.timeStamp);
});
/** @type {Why|null} where an admin lets people see reasons */
const why = part("why") && new Why(part("why"), (queryId) => api.why(queryId), {
  opened: () => view.say(text("why.opened")),
  failed: (failure) => view.notice(text("why.failed", { why: failure.message })),
});

const leases = new Leases(Number(leaseSeconds), {
  held: () => [...labeler.heldIds, ...answeredIds()],
  renew: (queryIds) => api.renew(queryIds),
  passedOn: (queryIds) => labeler.passedOn(queryIds),
  lost(reason) {
    isAway = reason === "away";
    if (isAway) {
      api.release(labeler.heldIds);
      labeler.nothing = { reason: text("away.reason"), remedy: text("away.remedy") };
    }
    startAgain();
  },
});

/** Tell the known answer to the image just answered; it is gone with the next one that is known. */
function tellKnown({ is_right: isRight, known }, name) {
  const words = text(isRight ? "feedback.right" : "feedback.wrong", { name, known });
  view.say(words);
  view.tellKnown(words, isRight);
}

function answeredIds() {
  return outbox.entries.filter(({ kind }) => kind === "answer").map(({ query_id }) => query_id);
}

function startAgain() {
  labeler.startAgain();
  queue.refillWithin(0);
}

/** @param {import("./api.js").OwnAnswer} own @returns {import("./own_answers.js").Given} */
function toGiven({ client_id, query, outcome, class_id, class_name, reason }) {
  const said = reason ? `[data-reason="${reason}"]` : `[data-answers=${outcome}]`;
  const name = class_name ?? document.querySelector(said).dataset.name;
  return { query, clientId: client_id, outcome, classId: class_id, reason, name, item: null, before: null };
}

const ACTIONS = {
  undo: () => labeler.undo(),
  back: () => labeler.back(),
  forward: () => labeler.forward(),
  leave: () => labeler.leave(),
  choose: () => chooser.open(),
  help: () => part("help").showModal(),
  reasons: () => (labeler.query ? part("reasons").showModal() : view.say(text("said.no_image"))),
  why: () => labeler.query && why?.toggle(labeler.query.query_id),
  "close-why": () => why?.close(),
  light: () => view.togglePanel("light"),
  "zoom-in": () => zoom.step(1),
  "zoom-out": () => zoom.step(-1),
  "zoom-reset": () => zoom.step(0),
  brighter: () => light.step("brightness", 1),
  darker: () => light.step("brightness", -1),
  "more-contrast": () => light.step("contrast", 1),
  "less-contrast": () => light.step("contrast", -1),
  "plain-light": () => light.reset(),
};

/** @param {HTMLButtonElement} button @param {Event} event */
function press(button, event) {
  const { action, answers: outcome, classId, reason = null, name } = button.dataset;
  if (action) void ACTIONS[action]();
  else if (outcome) answer({ outcome, class_id: classId ? Number(classId) : null, reason, name }, event.timeStamp);
  if (reason) part("reasons").close();
  if (event instanceof KeyboardEvent) view.flash(button);
  showProgress();
}

/** @param {{outcome: string, class_id: number|null, reason?: string|null, name: string}} said @param {number} pressedAt */
function answer(said, pressedAt) {
  const sawPrediction = Boolean(labeler.query && why?.hasShown(labeler.query.query_id));
  labeler.answer({ reason: null, ...said, saw_prediction: sawPrediction }, pressedAt);
  showProgress();
}

/** Escape closes one thing at a time, the nearest first; dialogs close by themselves. */
function escape() {
  if (!part("light").hidden) view.togglePanel("light");
  else if (why?.isOpen) why.close();
  else if (zoom.isZoomed) zoom.step(0);
  else labeler.leave();
}

function keepProgress(latest) {
  progress = latest;
  if (latest.classes_version !== Number(classesVersion)) view.tellChanged();
  showProgress();
  workerNews.keep(latest.stage);
}

function showProgress() {
  view.setUndo(labeler.canUndo || Boolean(progress?.own_labels) || outbox.size > 0);
  if (!progress) return;
  const shown = projected(progress, outbox.entries);
  const isReserve = Boolean(labeler.query?.reserve) && !labeler.isLooking;
  view.setProgress(progressText(shown, isReserve), shown.batch_answered, shown.batch_size);
}

function showOutbox() {
  showProgress();
  outboxNews.show(outbox);
}

function hear(event) {
  workerNews.hear(event);
  // what is held ahead of the image on screen goes back for the new model's queries
  if (event.kind === "round" && event.state === "done") queue.giveUpBefore(event.number);
  if (event.kind === "labels") hearLabels(event);
  else if (event.kind !== "progress") queue.refillWithin(0);
}

function hearLabels({ labels_used }) {
  queue.refillWithin(LABELS_WAIT_MS);
  if (progress && !outbox.size) keepProgress({ ...progress, labels_used });
}

/** The person is there: a press, a touch, or a look. */
function wake() {
  leases.touch();
  if (!isAway) return;
  isAway = false;
  labeler.nothing = null;
  startAgain();
}

function tryAgain() {
  if (document.visibilityState === "hidden") return;
  outbox.resume();
  queue.refillWithin(0);
}

listenForKeys(document, root, {
  press,
  first(event) {
    if (event.key !== "Escape") return zoom.moveBy(event);
    escape();
    return true;
  },
  type(letter) {
    if (opensOnTyping) chooser.open(letter);
    return opensOnTyping;
  },
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-action], button[data-answers]");
  if (button) press(button, event);
  if (event.target.closest("[data-keeps-answers]")) isLeaving = true;
});
for (const kind of ["keydown", "pointerdown", "pointermove"]) document.addEventListener(kind, wake, { passive: true });
for (const kind of ["online", "focus"]) window.addEventListener(kind, tryAgain);
window.addEventListener("offline", showOutbox);
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") wake();
  tryAgain();
});
window.addEventListener("beforeunload", (event) => {
  if (outbox.size && !isLeaving) event.preventDefault();
});
window.addEventListener("pagehide", () => {
  const held = labeler.heldIds.filter((id) => !answeredIds().includes(id));
  if (held.length) api.release(held);
});
window.addEventListener("pageshow", ({ persisted }) => {
  isLeaving = false;
  if (persisted) startAgain();
});
listenToProject(`${base}/events`, hear, () => queue.refillWithin(0));
showOutbox();
labeler.refresh();
outbox.resume();
queue.refill();
