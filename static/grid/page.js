/** The grid's page: makes its parts and connects them. */

import { Api } from "../labeling/api.js";
import { Chooser } from "../labeling/chooser.js";
import { listenForKeys } from "../labeling/keys.js";
import { Leases } from "../labeling/leases.js";
import { listenToProject } from "../labeling/live.js";
import { OutboxNews, WorkerNews } from "../labeling/news.js";
import { Outbox, browserStorage } from "../labeling/outbox.js";
import { nothingText, progressText, projected } from "../labeling/progress.js";
import { counted, grouped, text, useTexts } from "../labeling/texts.js";
import { View } from "../labeling/view.js";
import { Board } from "./board.js";
import { DonePages } from "./done.js";
import { Grid } from "./grid.js";
import { Pages, keyOf, wishOf } from "./pages.js";
import { Sizes } from "./sizes.js";

const MOST_RENEWED = 200; // queries that one request may name
const SUMMED = {
  own: "grid.summary_own",
  skip: "grid.summary_skip",
  unsure: "grid.summary_unsure",
  unusable: "grid.summary_unusable",
  back: "grid.summary_back",
};
const SHARP = 1.25; // device pixels to a pixel, from which on larger thumbnails are worth fetching

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
const refusals = new Map();
let progress = null;
/** @type {import("../labeling/api.js").OpenClass[]} */
let openClasses = [];
/** @type {import("../labeling/api.js").OpenCluster[]} */
let openClusters = [];
/** @type {number|null} of the page of a class that was claimed last */
let lastClass = null;
/** @type {string|null} the class or cluster that the person chose, see `keyOf` */
let wanted = null;
let isAway = false;
let isLeaving = false;
let isDone = false; // everything of the page is declared below

const outbox = new Outbox(browserStorage(), `querent.outbox.${user}.${project}.`, (entry) => api.send(entry), {
  delivered(_entry, reply) {
    if (reply.progress) keepProgress(reply.progress);
    tellRefusals();
    if (!outbox.size && grid.isEmpty) pages.refillNow();
  },
  refused(entry, failure) {
    if (entry.kind === "put_back") return; // then its lease runs out
    refusals.set(failure.message, (refusals.get(failure.message) ?? 0) + 1);
    done.forget(entry.client_id);
    if (entry.kind === "undo") grid.passedOn(new Set([entry.query_id]));
    if (failure.code === "class_retired") {
      view.tellChanged();
      api.release([entry.query_id]); // to be asked one by one
    }
    if (failure.code === "budget_spent") startAgain();
    tellRefusals();
  },
  changed: showOutbox,
}, (entries) => api.answerAll(entries));

const pages = new Pages(() => api.claimPage(sizes.count, wish()), devicePixelRatio > SHARP ? 512 : 256, {
  changed: () => grid.refresh(),
  claimed(reply) {
    [openClasses, openClusters] = [reply.classes, reply.clusters];
    if (reply.cluster === null) lastClass = reply.class_id ?? lastClass;
    if (reply.class_id !== null) known.set(reply.class_id, { id: reply.class_id, name: reply.class_name }); // perhaps a new one
    // a reason that was true while answers were on their way, or images in hand, is out of date when it is shown
    grid.nothing = outbox.size || grid.heldIds.length ? null : nothingText(reply.nothing);
    if (!outbox.size) keepProgress(reply.progress); // else it may or may not count what is on its way
  },
  failed(failure) {
    if (failure.kind === "signed-out" || failure.kind === "stale-page") outbox.halt(failure.kind);
    const remedy = failure.kind === "unreachable" ? text("failure.keeps_trying") : "";
    grid.nothing = { reason: failure.message, remedy };
    grid.refresh();
  },
  isKnown: (id) => grid.knows(id),
  release: (queryIds) => api.release(queryIds),
  mayClaim: () => !isAway && !outbox.halted && document.visibilityState === "visible",
});

const done = new DonePages(sessionStorageOrNone(), `querent.grid-done.${user}.${project}`);
const board = new Board(view, { toggle: (place) => grid.toggle(place), changed: showSummary });
const known = new Map(classes.map((each) => [each.id, each]));
const grid = new Grid({ outbox, pages, board, view, done, classes: known, shown: closeDialogs });
const sizes = new Sizes(
  { count: part("count"), side: part("side") }, view.stage, browserStorage(), `querent.grid-sizes.${user}`, () => void giveBackAll(),
);
const chooser = new Chooser(part("chooser"), classes, (chosen) => grid.answer(board.active, labelOf(chosen)));

const leases = new Leases(Number(leaseSeconds), {
  held: heldOrAnswered,
  renew: (queryIds) => api.renew(queryIds),
  passedOn: (queryIds) => grid.passedOn(queryIds),
  lost(reason) {
    isAway = reason === "away";
    if (isAway) {
      api.release(grid.heldIds);
      grid.nothing = { reason: text("away.reason"), remedy: text("away.remedy") };
    }
    startAgain();
  },
});

/** What must not pass on; what is being taken back is not held yet. */
function heldOrAnswered() {
  const ids = (kind) => outbox.entries.filter((entry) => entry.kind === kind).map(({ query_id }) => query_id);
  const undone = new Set(ids("undo"));
  return [...grid.heldIds, ...ids("answer")].filter((id) => !undone.has(id)).slice(0, MOST_RENEWED);
}

/** What to go on with: what the person chose, else the last class while the batch waits for it: few other questions. */
function wish() {
  if (wanted !== null) return wishOf(wanted);
  const isSame = openClasses.some(({ class_id: id, in_batch: waiting }) => id === lastClass && waiting);
  return isSame ? { class_id: lastClass } : {};
}

function startAgain() {
  grid.clear();
  grid.refresh();
  pages.refillNow();
}

/** Another class, cluster or number of images is wanted: what was marked stays marked. */
async function giveBackAll() {
  const ids = grid.clear();
  grid.nothing = null;
  grid.refresh();
  if (ids.length) await api.giveBack(ids);
  pages.refillNow();
}

const ACTIONS = {
  confirm: (event) => grid.confirm(event.timeStamp),
  undo: () => grid.undo(),
  name: () => grid.nameAgain(),
  choose: () => chooser.open(),
  help: () => part("help").showModal(),
  reasons: () => (grid.isEmpty ? view.say(text("said.no_image")) : part("reasons").showModal()),
};

/** @param {HTMLButtonElement} button @param {Event} event */
function press(button, event) {
  const { action, answers: outcome, classId, reason = null, name } = button.dataset;
  if (reason) part("reasons").close();
  if (action) ACTIONS[action](event);
  else if (outcome === "label") grid.answer(board.active, labelOf(known.get(Number(classId))));
  else if (outcome) grid.answer(board.active, { outcome, class_id: null, reason, name });
  if (event instanceof KeyboardEvent) view.flash(button);
}

/** @param {import("./grid.js").Class} chosen @returns {import("./grid.js").Said} */
function labelOf({ id, name }) {
  return { outcome: "label", class_id: id, reason: null, name };
}

/** What they were opened for is no longer on screen. */
function closeDialogs() {
  for (const name of ["reasons", "chooser"]) part(name).close();
}

/** Arrows, Space and Enter are for the board unless something that has the focus needs them. */
function first(event) {
  if (event.defaultPrevented) return true; // Enter has just chosen a class in a dialog
  const isOwn = event.target instanceof Element && event.target.closest("button, a") !== null;
  if (event.key === "Enter" || event.key === " ") {
    if (isOwn || event.ctrlKey || event.altKey || event.metaKey) return false;
    if (event.repeat) return true;
    if (event.key === "Enter") grid.confirm(event.timeStamp);
    else grid.toggle(board.active);
    return true;
  }
  return board.press(event);
}

function keepProgress(latest) {
  progress = latest;
  if (latest.classes_version !== Number(classesVersion)) view.tellChanged();
  showProgress();
  workerNews.keep(latest.stage);
}

function showProgress() {
  if (!progress) return;
  const shown = projected(progress, outbox.entries);
  view.setProgress(progressText(shown, false), shown.batch_answered, shown.batch_size);
}

/** Say what the page asks, and what confirming it would do. */
function showSummary() {
  if (!isDone) return;
  const { summary } = grid;
  part("question").textContent = summary ? text(questionOf(summary), { name: summary.name }) : "";
  showNaming(summary);
  part("confirm-text").textContent = confirmText(summary);
  const kinds = Object.entries(SUMMED).filter(([kind]) => summary?.[kind]);
  const counts = kinds.map(([kind, says]) => {
    return Object.assign(document.createElement("span"), { textContent: counted(says, summary[kind]) });
  });
  part("summary").replaceChildren(...counts.flatMap((count, place) => (place ? [" · ", count] : [count])));
  view.setReady(Boolean(summary));
  const isReady = summary && (summary.unseen || !summary.confirmed || !summary.isNaming);
  root.querySelector("[data-action=confirm]").setAttribute("aria-disabled", String(!isReady));
  view.setUndo(grid.canUndo);
  showClasses();
}

/** Say what class keys are for, and how to name another class where they are for single images. */
function showNaming(summary) {
  part("own").textContent = text(summary?.isNaming ? "grid.own_name" : "grid.own");
  const again = root.querySelector("[data-action=name]");
  again.hidden = !summary || summary.cluster === null || (summary.isNaming && summary.nameBefore === null);
  if (again.hidden) return;
  part("name-text").textContent = text(summary.isNaming ? "grid.name_kept" : "grid.name", { name: summary.nameBefore });
}

/** @param {import("./grid.js").Summary} summary @returns {string} a key */
function questionOf({ isNaming, isProposed }) {
  if (isNaming) return "grid.question_name";
  return isProposed ? "grid.question_proposed" : "grid.question";
}

function confirmText(summary) {
  if (!summary) return text("grid.confirm_nothing");
  const { confirmed, unseen, name, isNaming } = summary;
  if (unseen) return counted("grid.confirm_unseen", unseen);
  if (isNaming && confirmed) return text("grid.confirm_name");
  return text(confirmed ? "grid.confirm" : "grid.confirm_none", { count: confirmed, name });
}

/** Offer every class and cluster of which there is a page, the one on screen among them. */
function showClasses() {
  const { key, summary } = grid;
  const ofClass = openClasses.map(({ class_id: classId, name, count }) => {
    return { key: keyOf({ classId, cluster: null }), name, count };
  });
  const ofCluster = openClusters.map(({ cluster, count }) => {
    return { key: keyOf({ classId: null, cluster }), name: groupName(cluster), count };
  });
  if (key !== null && ![...ofClass, ...ofCluster].some((each) => each.key === key)) {
    if (summary.cluster === null) ofClass.unshift({ key, name: summary.name, count: 0 });
    else ofCluster.unshift({ key, name: groupName(summary.cluster), count: grid.heldOf(key) });
  }
  const field = part("classes");
  const before = [...field.options].map(({ value, text: words }) => `${value} ${words}`);
  const classOptions = ofClass.map((each) => toOption({ ...each, count: each.count + grid.heldOf(each.key) }));
  const groupOptions = ofCluster.map(toOption); // what is held is counted already: it may be on pages of classes
  const options = [...classOptions, ...groupOptions];
  if (before.join() !== options.map(({ value, text: words }) => `${value} ${words}`).join()) {
    const groups = Object.assign(document.createElement("optgroup"), { label: text("grid.groups") });
    groups.append(...groupOptions);
    field.replaceChildren(...classOptions, ...(groupOptions.length ? [groups] : []));
  }
  field.disabled = !options.length;
  field.value = key ?? "";
}

function groupName(cluster) {
  return text("grid.group", { number: cluster });
}

function toOption({ key, name, count }) {
  return new Option(text("grid.class_of", { name, count: grouped(count) }), key);
}

function showOutbox() {
  showProgress();
  outboxNews.show(outbox);
}

/** Tell once the last of a page has been sent, since one reason may hold for all of it. */
function tellRefusals() {
  if (outbox.size) return;
  for (const [why, count] of refusals) view.notice(text("grid.refused", { answers: counted("grid.answers", count), why }));
  refusals.clear();
}

function hear(event) {
  workerNews.hear(event);
  // what is held ahead of the page on screen goes back for the new model's queries
  if (event.kind === "round" && event.state === "done") pages.giveUpBefore(event.number);
  if (event.kind === "labels") hearLabels(event);
  else if (event.kind !== "progress") pages.refillNow();
}

function hearLabels({ labels_used }) {
  if (progress && !outbox.size) keepProgress({ ...progress, labels_used });
}

/** The person is there: a press, a touch, or a look. */
function wake() {
  leases.touch();
  if (!isAway) return;
  isAway = false;
  grid.nothing = null;
  startAgain();
}

function tryAgain() {
  if (document.visibilityState === "hidden") return;
  outbox.resume();
  pages.refillNow();
}

function sessionStorageOrNone() {
  try {
    return window.sessionStorage;
  } catch {
    return null;
  }
}

listenForKeys(document, root, {
  press,
  first,
  type(letter) {
    if (opensOnTyping && !grid.isEmpty) chooser.open(letter);
    return opensOnTyping;
  },
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-action], button[data-answers]");
  if (button) press(button, event);
  if (event.target.closest("[data-keeps-answers]")) isLeaving = true;
});
part("classes").addEventListener("change", ({ target }) => {
  wanted = target.value;
  void giveBackAll();
});
for (const field of root.querySelectorAll("select")) {
  let isPointed = false;
  field.addEventListener("pointerdown", () => (isPointed = true));
  field.addEventListener("keydown", () => (isPointed = false));
  field.addEventListener("change", () => isPointed && field.blur()); // the next key is for the images
}
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
  if (grid.heldIds.length) api.release(grid.heldIds);
});
window.addEventListener("pageshow", ({ persisted }) => {
  isLeaving = false;
  if (persisted) startAgain();
});
listenToProject(`${base}/events`, hear, () => pages.refillNow());
isDone = true;
showOutbox();
grid.refresh();
outbox.resume();
pages.refill();
