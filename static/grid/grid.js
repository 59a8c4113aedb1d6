/**
 * The page of images on screen: which ones are not of the class, what is said of them instead, and what confirming does.
 *
 * A page is confirmed once all of it has been on screen; until then, confirming scrolls on. Each image of the class, and
 * each of which something else was said (another class, skip, unsure, unusable), is then one answer in the outbox; the
 * others go back, to be asked one by one. The next page is shown at once.
 *
 * A page of a cluster, of which nothing is believed, first wants to know its class: the next class given is that of all.
 */

import { letGo } from "../labeling/held.js";
import { newId } from "../labeling/outbox.js";
import { counted, text } from "../labeling/texts.js";
import { keyOf } from "./pages.js";

const LONGEST_LOOK_SECONDS = 86_400;
const SURPRISE_MS = 500; // nobody has looked at a page so soon: a press was meant for the one before
const LATEST = 10; // pages that can be taken back
const OTHERS = ["skip", "unsure", "unusable"]; // outcomes besides a label

/**
 * @typedef {import("../labeling/held.js").Held} Held
 * @typedef {import("../labeling/outbox.js").Entry} Entry
 * @typedef {{id: number, name: string}} Class
 * @typedef {{outcome: "label"|"skip"|"unsure"|"unusable", class_id: number|null, reason: string|null, name: string}} Said
 * @typedef {{isNot: boolean, said: Said|null}} Mark `said` is the answer to this image instead of the page's class
 * @typedef {{confirmed: number, own: number, skip: number, unsure: number, unusable: number, back: number, unseen: number,
 *   name: string, cluster: number|null, isNaming: boolean, nameBefore: string|null, isProposed: boolean}} Summary
 * @typedef {{classId: number, cluster: number|null, proposed: number|null, given: {clientId: string, query: import("../labeling/api.js").Query, mark: Mark}[]}} Done
 * @typedef {{outbox: import("../labeling/outbox.js").Outbox, pages: import("./pages.js").Pages,
 *   board: import("./board.js").Board, view: import("../labeling/view.js").View,
 *   done: import("./done.js").DonePages, classes: Map<number, Class>, shown: () => void}} Parts
 *   `shown` is called when another page is shown
 */

export class Grid {
  #parts;
  /** @type {import("./pages.js").Page|null} */
  #page = null;
  /** @type {number|null} the class of the cluster on screen before the person wanted to name another */
  #nameBefore = null;
  /** @type {Map<number, Mark>} by query: they outlive a page that is given up for one of another size */
  #marks = new Map();
  /** @type {number|null} when all of the page could be seen, on the clock of `performance.now` */
  #paintedAt = null;
  /** @type {{reason: string, remedy: string}|null} why there is nothing, as the server said last */
  nothing = null;

  /** @param {Parts} parts */
  constructor(parts) {
    this.#parts = parts;
  }

  get isEmpty() {
    return this.#page === null;
  }

  get canUndo() {
    return this.#parts.done.size > 0;
  }

  /** @returns {string|null} what the page on screen is of, see `keyOf` */
  get key() {
    return this.#page && keyOf(this.#page);
  }

  /** @returns {number[]} ids of the queries held and not answered */
  get heldIds() {
    return [...(this.#page?.items ?? []), ...this.#parts.pages.held].map(({ query }) => query.query_id);
  }

  /** @param {string} key @returns {number} how many images are held on pages of it */
  heldOf(key) {
    return (this.key === key ? this.#page.items.length : 0) + this.#parts.pages.heldOf(key);
  }

  /** @returns {Summary|null} what confirming would do now */
  get summary() {
    if (!this.#page) return null;
    const marks = this.#page.items.map((item) => this.#markOf(item));
    const count = (wanted) => marks.filter(wanted).length;
    const others = OTHERS.map((outcome) => [outcome, count(({ said }) => said?.outcome === outcome)]);
    return {
      confirmed: count(({ isNot }) => !isNot),
      own: count(({ said }) => said?.outcome === "label"),
      ...Object.fromEntries(others),
      back: count(({ isNot, said }) => isNot && !said),
      unseen: this.#parts.board.unseenCount,
      name: this.#className,
      cluster: this.#page.cluster,
      isNaming: this.#isNaming,
      nameBefore: this.#parts.classes.get(this.#nameBefore)?.name ?? null,
      isProposed: this.#page.cluster !== null && !this.#isNaming && this.#page.classId === this.#page.proposed,
    };
  }

  /** Whether a query is on this page, or just answered, so that a claim that was under way does not bring it again. */
  knows(queryId) {
    const isWaiting = ({ query_id, query_ids }) => query_id === queryId || query_ids?.includes(queryId);
    return this.heldIds.includes(queryId) || this.#parts.outbox.entries.some(isWaiting);
  }

  /** Say that an image is not of the class, or that it is after all. @param {number} place */
  toggle(place) {
    const item = this.#page?.items[place];
    if (!item) return;
    const mark = this.#markOf(item);
    const isNot = !mark.isNot || item.state === "broken"; // what cannot be shown is of no class
    if (isNot && mark.isNot && !mark.said) this.#parts.view.say(text("grid.broken"));
    else this.#put(item, place, { isNot, said: null });
  }

  /** Give one image an answer of its own: what it is, or why it gets no class. @param {number} place @param {Said} said */
  answer(place, said) {
    const item = this.#page?.items[place];
    const isLabel = said.outcome === "label";
    if (isLabel && this.#page && this.#isNaming) this.#name(said);
    else if (!item) this.#parts.view.say(text("said.no_image"));
    else if (item.state === "loading") this.#parts.view.say(text("grid.not_visible"));
    else if (item.state === "broken" && isLabel) this.#parts.view.say(text("grid.broken"));
    else if (isLabel && said.class_id === this.#page.classId) this.#put(item, place, { isNot: false, said: null });
    else this.#put(item, place, { isNot: true, said });
  }

  /** Another class for the cluster on screen, or after all the one before: the next class given is that of all. */
  nameAgain() {
    if (this.#page?.cluster == null) return;
    [this.#page.classId, this.#nameBefore] = [this.#nameBefore, this.#page.classId];
    this.#parts.board.changed();
    this.#parts.view.say(text(this.#isNaming ? "grid.question_name" : "grid.named", { name: this.#className }));
  }

  /** @param {number} pressedAt when, on the clock of `performance.now` */
  confirm(pressedAt) {
    const { board, view } = this.#parts;
    if (!this.#page) view.say(text("said.no_image"));
    else if (this.#paintedAt === null) view.say(text("grid.not_visible"));
    else if (board.unseenCount) this.#scrollOn();
    else if (this.#isNaming && this.summary.confirmed) view.say(text("grid.name_first"));
    else if (pressedAt < Math.max(this.#paintedAt, board.seenAt) + SURPRISE_MS) view.say(text("grid.too_quick"));
    else this.#confirm(pressedAt);
  }

  /** Take the answers of the page before back: it is shown again, without what went back to be asked one by one. */
  undo() {
    const { done, outbox, pages, view } = this.#parts;
    const last = done.pop();
    if (!last) {
      view.say(text("grid.nothing_to_undo"));
      return;
    }
    if (this.#page) pages.putBack(this.#page);
    const { classId, cluster, proposed } = last;
    this.#page = { classId, cluster, proposed, items: last.given.map(({ query }) => pages.hold(query)) };
    for (const { query, mark } of last.given) this.#marks.set(query.query_id, mark);
    this.#show();
    for (const { clientId, query, mark } of last.given.toReversed()) {
      const { query_id, reserve } = query;
      const outcome = mark.said?.outcome ?? "label";
      outbox.add({ kind: "undo", client_id: clientId, query_id, outcome, reserve });
    }
    view.say(counted("grid.undone", last.given.length));
  }

  /** Somebody else has these now, or they cannot be taken back. @param {Set<number>} queryIds */
  passedOn(queryIds) {
    const { pages, view } = this.#parts;
    pages.drop(queryIds);
    const lost = (this.#page?.items ?? []).filter(({ query }) => queryIds.has(query.query_id));
    if (!lost.length) return;
    lost.forEach(letGo);
    const left = this.#page.items.filter((item) => !lost.includes(item));
    const before = this.#nameBefore;
    this.#page = left.length ? { ...this.#page, items: left } : null;
    if (this.#page) this.#show(before);
    this.refresh();
    view.say(counted("grid.passed_on", lost.length));
  }

  /** Forget all that is held. @returns {number[]} the queries, for whoever gives them back */
  clear() {
    const ids = this.heldIds;
    this.#page?.items.forEach(letGo);
    this.#page = null;
    this.#paintedAt = null;
    this.#parts.pages.clear();
    return ids;
  }

  /** Show what there is to show: call it whenever pages or images have changed. */
  refresh() {
    const { board, pages, view } = this.#parts;
    if (!this.#page) {
      this.#page = pages.take();
      if (this.#page) this.#show();
    }
    if (this.#page) board.refresh();
    else if (this.nothing) view.showNothing(this.nothing.reason, this.nothing.remedy);
    else view.showMessage("loading", "", text("image.fetching"));
    if (!this.#page) view.setBusy(false);
    board.changed();
  }

  get #className() {
    return this.#parts.classes.get(this.#page.classId)?.name ?? text("grid.this_group");
  }

  get #isNaming() {
    return this.#page.classId === null;
  }

  /** @param {Held} item @returns {Mark} */
  #markOf({ query, state }) {
    return this.#marks.get(query.query_id) ?? { isNot: state === "broken", said: null };
  }

  #name({ class_id: classId }) {
    this.#page.classId = classId;
    this.#nameBefore = null;
    for (const { query } of this.#page.items) {
      if (this.#marks.get(query.query_id)?.said?.class_id === classId) this.#marks.delete(query.query_id);
    }
    this.#parts.board.refresh();
    this.#parts.board.changed();
    this.#parts.view.say(text("grid.named", { name: this.#className }));
  }

  #put(item, place, mark) {
    this.#marks.set(item.query.query_id, mark);
    this.#parts.board.refresh();
    this.#parts.board.changed();
    const values = { place: place + 1, name: mark.said?.name ?? this.#className };
    this.#parts.view.say(text(spokenOf(mark), values));
  }

  /** @param {number|null} [nameBefore] */
  #show(nameBefore = null) {
    const { board, shown, view } = this.#parts;
    const page = this.#page;
    const label = page.cluster === null ? text("grid.list", { name: this.#className }) : text("grid.list_group");
    this.#paintedAt = null;
    this.#nameBefore = nameBefore;
    shown();
    view.setBusy(true);
    board.show(page.items, label, (item) => this.#markOf(item), (at) => {
      if (page !== this.#page) return;
      this.#paintedAt = at;
      view.setBusy(false);
      board.changed();
    });
  }

  #scrollOn() {
    const { board, view } = this.#parts;
    view.say(counted("grid.scrolled_on", board.unseenCount));
    board.showUnseen();
  }

  #confirm(pressedAt) {
    const { done, outbox, view } = this.#parts;
    const { classId, cluster, proposed, items } = this.#page;
    const isClass = { outcome: "label", class_id: classId, reason: null, name: this.#className };
    // each image has its share of the time that the page was looked at, whatever was said about it
    const share = Math.round((pressedAt - this.#paintedAt) / items.length) / 1000;
    const seconds = Math.min(LONGEST_LOOK_SECONDS, share);
    const shownAs = { saw_prediction: proposed !== null, ...(cluster === null ? {} : { in_cluster: true }) };
    const answered = [];
    const back = [];
    for (const item of items) {
      const mark = this.#markOf(item);
      if (mark.isNot && !mark.said) back.push(item.query.query_id);
      else answered.push({ ...entryOf(item.query, mark.said ?? isClass, seconds), ...shownAs });
    }
    const given = answered.map(({ client_id, query }) => ({
      clientId: client_id, query, mark: this.#marks.get(query.query_id) ?? { isNot: false, said: null },
    }));
    for (const item of items) {
      letGo(item);
      this.#marks.delete(item.query.query_id);
    }
    if (given.length) done.push({ classId, cluster, proposed, given }, LATEST);
    this.#page = null;
    this.#paintedAt = null;
    this.refresh();
    const goingBack = { kind: "put_back", client_id: newId(), query_id: null, query_ids: back };
    outbox.add(...answered, ...(back.length ? [goingBack] : []));
    const said = counted("grid.given", answered.length);
    view.say(text(this.#page ? (this.#isNaming ? "grid.then_name" : "grid.then_next") : "grid.then_none", { said }));
    this.#parts.board.changed();
  }
}

/** @param {Mark} mark @returns {string} the key of what is said of an image that was marked so */
function spokenOf({ isNot, said }) {
  if (!said) return isNot ? "grid.said_not" : "grid.said_is";
  return said.outcome === "label" ? "grid.said_own" : "grid.said_other";
}

/** @param {import("../labeling/api.js").Query} query @param {Said} said @param {number} seconds @returns {Entry} */
function entryOf(query, said, seconds) {
  return {
    kind: "answer",
    client_id: newId(),
    query_id: query.query_id,
    query,
    ...said,
    seconds_taken: seconds,
    reserve: query.reserve,
  };
}
