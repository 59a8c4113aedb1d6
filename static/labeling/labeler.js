/**
 * Labeling itself: the query on screen, the answers already given, and what a press does to them.
 *
 * A press counts once its image has been painted; from then on it is exactly one answer in the outbox, and the next
 * image is shown without waiting for anything.
 */

import { newId } from "./outbox.js";
import { letGo } from "./queue.js";

const HISTORY = 30;
const LONGEST_LOOK_SECONDS = 86_400;
const TOO_QUICK = "Too quick: the next image was not visible yet, so that press was not counted.";

/**
 * @typedef {import("./queue.js").Held} Held
 * @typedef {import("./outbox.js").Entry} Entry
 * @typedef {{outcome: "label"|"skip"|"unsure"|"unusable", class_id: number|null, name: string}} Said
 */

export class Labeler {
  #queue;
  #outbox;
  #view;
  /** @type {Held|null} */
  #current = null;
  /** @type {number|null} */
  #paintedAt = null;
  #shownAs = "";
  #wasReady = false;
  #pressedAt = 0; // of the press that this image follows, until it is painted; 0 when it follows none
  /** @type {{item: Held, entry: Entry}[]} */
  #history = [];
  #isUndoing = false;
  /** @type {{reason: string, remedy: string}|null} why there is nothing, as the server said last */
  nothing = null;

  /** @param {import("./queue.js").Queue} queue @param {import("./outbox.js").Outbox} outbox @param {import("./view.js").View} view */
  constructor(queue, outbox, view) {
    this.#queue = queue;
    this.#outbox = outbox;
    this.#view = view;
  }

  get isReserve() {
    return Boolean(this.#current?.query.reserve);
  }

  /** @returns {number[]} ids of the queries held and not answered, the one on screen first */
  get heldIds() {
    return [this.#current, ...this.#queue.held].filter(Boolean).map(({ query }) => query.query_id);
  }

  /** Whether a query is on this page, held or answered, so that a claim that was under way does not bring it again. */
  knows(queryId) {
    return (
      this.heldIds.includes(queryId) ||
      this.#isAnswered(queryId) ||
      this.#history.some(({ entry }) => entry.query_id === queryId)
    );
  }

  /** @param {Said} said @param {number} pressedAt when, on the clock of `performance.now` */
  answer(said, pressedAt) {
    if (!this.#current) {
      this.#view.say("There is no image to label");
      return;
    }
    if (this.#paintedAt === null || pressedAt < this.#paintedAt) {
      this.#view.say(TOO_QUICK);
      return;
    }
    const item = this.#current;
    const entry = {
      kind: "answer",
      client_id: newId(),
      query_id: item.query.query_id,
      outcome: said.outcome,
      class_id: said.class_id,
      seconds_taken: Math.min(LONGEST_LOOK_SECONDS, Math.round(pressedAt - this.#paintedAt) / 1000),
      reserve: item.query.reserve,
      name: said.name,
    };
    this.#history = [...this.#history.slice(1 - HISTORY), { item, entry }];
    letGo(item);
    this.#current = null;
    this.#pressedAt = pressedAt;
    this.#wasReady = this.#queue.held[0]?.state === "decoded";
    this.#advance();
    this.#outbox.add(entry);
    this.#view.say(`${spoken(said)}, ${this.#current ? "next image" : "no image left for now"}`);
  }

  /** Take the latest answer back: its image is shown at once, the server hears of it after the answer. */
  undo() {
    const last = this.#history.pop();
    if (last) {
      const { client_id, query_id, outcome, reserve } = last.entry;
      this.#goBackTo(last.item);
      this.#outbox.add({ kind: "undo", client_id, query_id, outcome, reserve });
      this.#view.say(`Took back “${last.entry.name}”, its image is shown again`);
    } else if (!this.#isUndoing) {
      // given before this page was loaded: only the server knows which image it was
      this.#isUndoing = true;
      const unsent = this.#outbox.entries.findLast(({ kind }) => kind === "answer");
      this.#outbox.add({ kind: "undo", client_id: unsent?.client_id ?? null, query_id: null });
    }
  }

  get canUndo() {
    return this.#history.length > 0;
  }

  /** The server has taken an answer back. @param {import("./api.js").Query} query */
  undone(query) {
    this.#isUndoing = false;
    if (!this.heldIds.includes(query.query_id) && !this.#isAnswered(query.query_id)) {
      this.#goBackTo(this.#queue.hold(query));
      this.#view.say("Took back your latest answer, its image is shown again");
    }
  }

  /** The server would not take an answer back. @param {Entry} entry */
  undoRefused(entry) {
    this.#isUndoing = false;
    if (entry.query_id !== null) this.passedOn(new Set([entry.query_id]));
  }

  /** An answer was refused, so it cannot be taken back either. @param {Entry} entry */
  forget(entry) {
    this.#history = this.#history.filter(({ entry: { client_id } }) => client_id !== entry.client_id);
  }

  /** Somebody else has these now. @param {Set<number>} queryIds */
  passedOn(queryIds) {
    this.#queue.drop(queryIds);
    if (this.#current && queryIds.has(this.#current.query.query_id)) this.#leave();
    this.refresh();
    this.#queue.refill();
  }

  /** Everything held may have passed on. */
  startAgain() {
    this.#queue.clear();
    this.#leave();
    this.refresh();
  }

  /** Show what there is to show: call it whenever the queue has changed. */
  refresh() {
    if (!this.#current && this.#queue.held.length) this.#current = this.#queue.take();
    if (!this.#current) this.#showNone();
    else if (this.#paintedAt === null || this.#shownAs !== this.#current.state) this.#showCurrent();
  }

  #advance() {
    this.#current = this.#queue.take();
    if (this.#current) this.#showCurrent();
    else this.#showNone();
  }

  #goBackTo(item) {
    if (this.#current) this.#queue.putBack(this.#current);
    this.#pressedAt = 0;
    item.wanted = true;
    this.#current = item;
    this.#showCurrent();
  }

  #leave() {
    if (this.#current) letGo(this.#current);
    this.#current = null;
    this.#paintedAt = null;
  }

  #showCurrent() {
    const item = this.#current;
    this.#paintedAt = null;
    this.#shownAs = item.state;
    const painted = (at) => {
      if (item !== this.#current || this.#paintedAt !== null) return;
      this.#paintedAt = at;
      const name = this.#wasReady ? "key to painted" : "key to fetched and painted";
      if (this.#pressedAt) performance.measure(name, { start: this.#pressedAt, end: at });
      this.#pressedAt = 0;
    };
    this.#view.setReady(item.state !== "loading");
    if (item.state === "decoded") this.#view.showImage(item, painted);
    else if (item.state === "broken") this.#view.showBroken(item, painted);
    else this.#view.showLoading();
  }

  #showNone() {
    this.#view.setReady(false);
    if (this.nothing) this.#view.showNothing(this.nothing.reason, this.nothing.remedy);
    else this.#view.showLoading();
    this.#pressedAt = this.nothing ? 0 : this.#pressedAt; // waiting for work is not waiting for an image
  }

  #isAnswered(queryId) {
    return this.#outbox.entries.some(({ kind, query_id }) => kind === "answer" && query_id === queryId);
  }
}

function spoken({ outcome, name }) {
  if (outcome === "label") return `Labelled ${name}`;
  return { skip: "Skipped", unsure: "Marked unsure", unusable: "Marked unusable" }[outcome];
}
