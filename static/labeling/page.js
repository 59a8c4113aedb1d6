/** The labeling page: makes its parts and connects them. */

import { Api, Failure } from "./api.js";
import { listenForKeys } from "./keys.js";
import { Labeler } from "./labeler.js";
import { Leases } from "./leases.js";
import { listenToProject } from "./live.js";
import { Outbox, browserStorage } from "./outbox.js";
import { progressText, projected, stageText, workerText } from "./progress.js";
import { Queue } from "./queue.js";
import { View } from "./view.js";

const MENTION_AFTER_MS = 1_000; // answers on their way for less are not worth a word
const WORKER_NEWS_MS = 20_000;
const LABELS_WAIT_MS = 1_000; // somebody else's answer may have freed a query: ask soon, but not for every one of them
const KEEPS_TRYING = "Nothing is lost; this page keeps trying";
const AWAY = {
  reason: "You were away for a while, so your images went back to the others",
  remedy: "Press a key or touch the page to go on",
};

const root = document.getElementById("labeling");
const { user, project, leaseSeconds } = root.dataset;
const base = `/projects/${project}`;
const view = new View(root);
const api = new Api(base, document.querySelector("meta[name=form-token]").content, user);
let progress = null;
let isAway = false;
let isLeaving = false;
let mentionTimer = 0;
let newsTimer = 0;

const outbox = new Outbox(browserStorage(), `querent.outbox.${user}.${project}.`, deliver, {
  delivered(entry, reply) {
    if (entry.kind === "undo") labeler.undone(reply.query);
    keepProgress(reply.progress);
    if (!outbox.size) queue.refill();
    if (!outbox.size && !labeler.heldIds.length) queue.refillWithin(0);
  },
  refused(entry, failure) {
    view.notice(`${entry.kind === "undo" ? "Undo" : `Your answer “${entry.name}”`}: ${failure.message}`);
    if (entry.kind === "undo") labeler.undoRefused(entry);
    else labeler.forget(entry);
    if (failure.code === "budget_spent") startAgain();
  },
  changed: showOutbox,
});

const queue = new Queue((count) => api.claim(count), {
  changed: () => labeler.refresh(),
  claimed(reply) {
    // a reason that was true while answers were on their way, or images in hand, is out of date when it is shown
    labeler.nothing = outbox.size || labeler.heldIds.length ? null : reply.nothing;
    if (!outbox.size) keepProgress(reply.progress); // else it may or may not count what is on its way
  },
  failed(failure) {
    if (failure.kind === "signed-out" || failure.kind === "stale-page") outbox.halt(failure.kind);
    labeler.nothing = { reason: failure.message, remedy: failure.kind === "unreachable" ? KEEPS_TRYING : "" };
    labeler.refresh();
  },
  isKnown: (id) => labeler.knows(id),
  release: (queryIds) => api.release(queryIds),
  mayClaim: () => !isAway && !outbox.halted && document.visibilityState === "visible",
});

const labeler = new Labeler(queue, outbox, view);

const leases = new Leases(Number(leaseSeconds), {
  held: () => [...labeler.heldIds, ...answeredIds()],
  renew: (queryIds) => api.renew(queryIds),
  passedOn: (queryIds) => labeler.passedOn(queryIds),
  lost(why) {
    isAway = why === "away";
    if (isAway) {
      api.release(labeler.heldIds);
      labeler.nothing = AWAY;
    }
    startAgain();
  },
});

/** @param {import("./outbox.js").Entry} entry */
async function deliver(entry) {
  if (entry.kind === "answer") return await api.answer(entry);
  try {
    return await api.undo(entry.client_id);
  } catch (failure) {
    // without the id of an answer a second try might take a second one back
    if (entry.client_id !== null || failure.kind !== "unreachable") throw failure;
    throw new Failure("refused", "the server cannot be reached, so your latest answer was perhaps not taken back.");
  }
}

function answeredIds() {
  return outbox.entries.filter(({ kind }) => kind === "answer").map(({ query_id }) => query_id);
}

function startAgain() {
  labeler.startAgain();
  queue.refillWithin(0);
}

/** @param {HTMLButtonElement} button @param {Event} event */
function press(button, event) {
  if (button.dataset.action === "undo") {
    labeler.undo();
  } else if (button.dataset.answer) {
    const { answer: outcome, classId, name } = button.dataset;
    labeler.answer({ outcome, class_id: classId ? Number(classId) : null, name }, event.timeStamp);
  }
  if (event instanceof KeyboardEvent) view.flash(button);
  showProgress();
}

function keepProgress(latest) {
  progress = latest;
  showProgress();
  if (!newsTimer) view.setWorker(latest.stage ? stageText(latest.stage) : "");
}

function showProgress() {
  view.setUndo(labeler.canUndo || Boolean(progress?.own_labels) || outbox.size > 0);
  if (!progress) return;
  const shown = projected(progress, outbox.entries);
  view.setProgress(progressText(shown, labeler.isReserve), shown.batch_answered, shown.batch_size);
}

function showOutbox() {
  showProgress();
  view.setHalted(outbox.halted, outbox.size);
  if (!outbox.size || outbox.halted) {
    clearTimeout(mentionTimer);
    mentionTimer = 0;
    view.setOutbox("");
  } else if (outbox.isRetrying) {
    view.setOutbox(`${countOf(outbox.size)} kept, ${navigator.onLine ? "server not reached" : "no connection"}`);
  } else {
    mentionTimer ||= setTimeout(() => {
      mentionTimer = 0;
      if (outbox.size && !outbox.halted) view.setOutbox(`${countOf(outbox.size)} on the way`);
    }, MENTION_AFTER_MS);
  }
}

function countOf(count) {
  return count === 1 ? "1 answer" : `${count} answers`;
}

function hear(event) {
  const text = workerText(event);
  if (text !== null) {
    view.setWorker(text);
    clearTimeout(newsTimer);
    newsTimer = event.state === "done" ? setTimeout(endNews, WORKER_NEWS_MS) : 0;
  }
  // what is held ahead of the image on screen goes back for the new model's queries
  if (event.kind === "round" && event.state === "done") queue.giveUpBefore(event.number);
  if (event.kind === "labels") hearLabels(event);
  else if (event.kind !== "progress") queue.refillWithin(0);
}

function endNews() {
  newsTimer = 0;
  view.setWorker("");
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

listenForKeys(document, root, press);
root.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) press(button, event);
});
for (const kind of ["keydown", "pointerdown", "pointermove"]) document.addEventListener(kind, wake, { passive: true });
for (const kind of ["online", "focus"]) window.addEventListener(kind, tryAgain);
window.addEventListener("offline", showOutbox);
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") wake();
  tryAgain();
});
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-keeps-answers]")) isLeaving = true;
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
