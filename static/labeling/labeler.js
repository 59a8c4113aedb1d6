/**
 * Labeling itself: the query to answer, one's own answers to look at again, and what a press does to them.
 *
 * A press counts once its image has been painted; from then on it is exactly one answer in the outbox, and the next
 * image is shown without waiting for anything.
 */

import { letGo } from "./held.js";
import { newId } from "./outbox.js";
import { counted, text } from "./texts.js";

const LATEST = 30; // acts that an undo finds without the server, and queries that a claim under way may still bring
const LONGEST_LOOK_SECONDS = 86_400;
const READ_AHEAD = 3; // answers before the one that is looked at, so that going back does not wait

/**
 * @typedef {import("./held.js").Held} Held
 * @typedef {import("./outbox.js").Entry} Entry
 * @typedef {import("./own_answers.js").Given} Given
 * @typedef {{outcome: "label"|"skip"|"unsure"|"unusable", class_id: number|null, reason: string|null, name: string,
 *   saw_prediction: boolean}} Said
 */

export class Labeler {
  #queue;
  #outbox;
  #answers;
  #screen;
  #view;
  /** @type {Held|null} */
  #current = null;
  /** @type {{given: Given, item: Held}|null} one's own answer that is looked at instead */
  #looking = null;
  /** @type {string[]} client ids of what was answered and corrected here, the latest last */
  #acts = [];
  /** @type {Map<string, () => void>} how to put back an answer whose taking back the server may refuse */
  #undoing = new Map();
  #isUndoingUnknown = false;
  /** @type {{reason: string, remedy: string}|null} why there is nothing, as the server said last */
  nothing = null;

  /**
   * @param {import("./queue.js").Queue} queue
   * @param {import("./outbox.js").Outbox} outbox
   * @param {import("./own_answers.js").Answers} answers
   * @param {import("./screen.js").Screen} screen
   * @param {import("./view.js").View} view
   */
  constructor(queue, outbox, answers, screen, view) {
    this.#queue = queue;
    this.#outbox = outbox;
    this.#answers = answers;
    this.#screen = screen;
    this.#view = view;
    this.#recall();
  }

  /** @returns {import("./api.js").Query|null} the query on screen */
  get query() {
    return (this.#looking?.item ?? this.#current)?.query ?? null;
  }

  get isLooking() {
    return this.#looking !== null;
  }

  get canUndo() {
    return this.#acts.length > 0 || this.isLooking;
  }

  /** @returns {number[]} ids of the queries held and not answered, the one to answer next first */
  get heldIds() {
    return [this.#current, ...this.#queue.held].filter(Boolean).map(({ query }) => query.query_id);
  }

  /** Whether a query is on this page, held or just answered, so that a claim that was under way does not bring it again. */
  knows(queryId) {
    const isLatest = (clientId) => this.#answers.find(clientId)?.query.query_id === queryId;
    return this.heldIds.includes(queryId) || this.#isAnswered(queryId) || this.#acts.some(isLatest);
  }

  /** @param {Said} said @param {number} pressedAt when, on the clock of `performance.now` */
  answer(said, pressedAt) {
    const item = this.#looking?.item ?? this.#current;
    if (!item) this.#view.say(text("said.no_image"));
    else if (!this.#screen.wasSeen(pressedAt)) this.#view.say(text("said.too_quick"));
    else if (this.#looking) this.#correct(said, pressedAt);
    else this.#give(item, said, pressedAt);
  }

  /** Take the latest answer back, or the one that is looked at: its image is shown at once, the server hears of it after. */
  undo() {
    let given = this.#looking?.given ?? null;
    while (!given && this.#acts.length) given = this.#answers.find(this.#acts.pop());
    if (given) {
      this.#takeBack(given);
    } else if (!this.#isUndoingUnknown) {
      // given before this page was loaded: only the server knows which image it was
      this.#isUndoingUnknown = true;
      this.#outbox.add({ kind: "undo", client_id: null, query_id: null });
    }
  }

  /** Look at the answer before. */
  async back() {
    const from = this.#looking?.given ?? null;
    if (this.#answers.older(from)) {
      this.#look(this.#answers.older(from));
      return;
    }
    if (this.#answers.isWhole) {
      this.#view.say(text("review.first"));
      return;
    }
    this.#view.say(text("review.fetching"));
    try {
      await this.#answers.readOlder();
    } catch {
      this.#view.say(text("review.unreachable"));
      return;
    }
    const hasMoved = from !== (this.#looking?.given ?? null);
    if (!hasMoved) await this.back();
  }

  /** Look at the answer after, or at the query that is to be answered. */
  forward() {
    if (!this.#looking) {
      this.#view.say(text("review.newest"));
      return;
    }
    const newer = this.#answers.newer(this.#looking.given);
    if (newer) this.#look(newer);
    else this.leave();
  }

  /** Stop looking at answers: show the query that is to be answered. */
  leave() {
    if (!this.#looking) return;
    this.#endLooking();
    this.#screen.follow();
    this.refresh();
    this.#view.say(text(this.#current ? "review.left" : "said.no_image"));
  }

  /** The server has taken an answer back. @param {Entry} entry @param {import("./api.js").Query} query */
  undone(entry, query) {
    this.#undoing.delete(entry.client_id);
    if (entry.query_id !== null) return;
    this.#isUndoingUnknown = false;
    const known = this.#answers.toQuery(query.query_id);
    if (known) this.#answers.takeBack(known);
    if (this.heldIds.includes(query.query_id) || this.#isAnswered(query.query_id)) return;
    this.#screen.follow();
    this.#goBackTo(this.#queue.hold(query));
    this.#view.say(text("said.undone_latest"));
  }

  /** The server would not take an answer back. @param {Entry} entry */
  undoRefused(entry) {
    if (entry.query_id === null) {
      this.#isUndoingUnknown = false;
      return;
    }
    this.#undoing.get(entry.client_id)?.();
    this.#undoing.delete(entry.client_id);
    this.passedOn(new Set([entry.query_id]));
  }

  /**
   * An answer was refused, so it cannot be corrected or taken back either; what it corrected still stands.
   *
   * @param {Entry} entry @param {boolean} isStillHeld whether the server waits for another answer to the same query
   */
  refused(entry, isStillHeld) {
    this.#acts = this.#acts.filter((clientId) => clientId !== entry.client_id);
    const given = this.#answers.find(entry.client_id);
    if (!given) return;
    if (this.#looking?.given === given) this.#endLooking();
    if (given.before) this.#answers.replace(given, given.before);
    else this.#answers.takeBack(given);
    if (!given.before && isStillHeld) this.#queue.putBack(this.#itemOf(given));
    this.refresh();
  }

  /** Somebody else has these now. @param {Set<number>} queryIds */
  passedOn(queryIds) {
    this.#queue.drop(queryIds);
    if (this.#current && queryIds.has(this.#current.query.query_id)) this.#drop();
    this.refresh();
    this.#queue.refill();
  }

  /** Everything held may have passed on. */
  startAgain() {
    this.#queue.clear();
    this.#drop();
    this.refresh();
  }

  /** Show what there is to show: call it whenever the queue or an image has changed. */
  refresh() {
    if (!this.#current && this.#queue.held.length) this.#current = this.#queue.take();
    const item = this.#looking?.item ?? this.#current;
    if (item) this.#screen.show(item);
    else this.#screen.showNone(this.nothing);
  }

  /** Know what was said on an earlier page and waits in the outbox, since the server does not know it yet. */
  #recall() {
    for (const entry of this.#outbox.entries) {
      const known = this.#answers.toQuery(entry.query_id);
      if (entry.kind === "undo" && known) this.#answers.takeBack(known);
      if (entry.kind === "undo" || !entry.query) continue;
      const fresh = given(entry, null, known);
      if (known) this.#answers.replace(known, fresh);
      else this.#answers.add(fresh);
      this.#acts.push(entry.client_id);
    }
  }

  /** @param {Held} item @param {Said} said @param {number} pressedAt */
  #give(item, said, pressedAt) {
    const entry = this.#entry(item, said, pressedAt);
    this.#answers.add(given(entry, item, null));
    this.#acts = [...this.#acts.slice(1 - LATEST), entry.client_id];
    letGo(item);
    this.#current = this.#queue.take();
    this.#screen.follow(pressedAt, this.#current?.state === "decoded");
    this.refresh();
    this.#outbox.add(entry);
    this.#view.say(text(this.#current ? "said.then_next" : "said.then_none", { said: spoken(said) }));
  }

  /** @param {Said} said @param {number} pressedAt */
  #correct(said, pressedAt) {
    const { given: old, item } = this.#looking;
    if (isSame(old, said)) {
      this.forward();
      this.#view.say(text("said.kept", { name: old.name }));
      return;
    }
    const entry = { ...this.#entry(item, said, pressedAt), corrects: old.clientId, was: old.outcome };
    const fresh = given(entry, item, old);
    this.#answers.replace(old, fresh);
    this.#acts = [...this.#acts.slice(1 - LATEST), entry.client_id];
    this.#looking.given = fresh;
    this.forward();
    this.#outbox.add(entry);
    this.#view.say(text("said.corrected", { before: old.name, name: said.name }));
  }

  #takeBack(known) {
    const { clientId, query, outcome, name } = known;
    this.#acts = this.#acts.filter((act) => act !== clientId);
    this.#undoing.set(clientId, this.#answers.takeBack(known));
    this.#screen.follow();
    this.#goBackTo(this.#itemOf(known));
    const { query_id, reserve } = query;
    this.#outbox.add({ kind: "undo", client_id: clientId, query_id, outcome, reserve });
    this.#view.say(text("said.undone", { name }));
  }

  /** @param {Given} known */
  #look(known) {
    const item = this.#itemOf(known);
    this.#looking = { given: known, item };
    this.#screen.follow();
    this.#screen.show(item);
    const shown = text("review.shown", { name: known.name });
    const back = counted("review.back", this.#answers.stepsBack(known));
    this.#view.showGiven(known, shown, back);
    this.#view.say(`${shown}, ${back}`);
    this.#answers.forgetImagesFarFrom(known);
    void this.#readAhead(known);
  }

  async #readAhead(known) {
    let older = this.#answers.older(known);
    if (older) this.#itemOf(older);
    for (let steps = 1; older && steps < READ_AHEAD; steps += 1) older = this.#answers.older(older);
    if (!older && !this.#answers.isWhole) await this.#answers.readOlder().catch(() => {}); // going back tries again
  }

  #endLooking() {
    this.#looking = null;
    this.#view.showGiven(null);
  }

  #goBackTo(item) {
    if (this.#current) this.#queue.putBack(this.#current);
    item.wanted = true;
    this.#current = item;
    this.#endLooking();
    this.#screen.show(item);
  }

  #drop() {
    if (this.#current) letGo(this.#current);
    this.#current = null;
  }

  /** The image of an answer, fetched again if it is not at hand. @param {Given} known @returns {Held} */
  #itemOf(known) {
    const isComing = known.item?.state === "loading" && known.item.wanted;
    if (known.item?.state !== "decoded" && !isComing) known.item = this.#queue.hold(known.query);
    return known.item;
  }

  /** @param {Held} item @param {Said} said @param {number} pressedAt @returns {Entry} */
  #entry({ query }, said, pressedAt) {
    const seconds = Math.round(pressedAt - this.#screen.paintedAt) / 1000;
    return {
      kind: "answer",
      client_id: newId(),
      query_id: query.query_id,
      query,
      ...said,
      seconds_taken: Math.min(LONGEST_LOOK_SECONDS, seconds),
      reserve: query.reserve,
    };
  }

  #isAnswered(queryId) {
    return this.#outbox.entries.some(({ kind, query_id }) => kind === "answer" && query_id === queryId);
  }
}

/** @param {Entry} entry @param {Held|null} item @param {Given|null} before @returns {Given} */
function given({ query, client_id, outcome, class_id, reason, name }, item, before) {
  return { query, clientId: client_id, outcome, classId: class_id, reason, name, item, before };
}

/** @param {Given} old @param {Said} said */
function isSame(old, said) {
  return old.outcome === said.outcome && old.classId === said.class_id && old.reason === said.reason;
}

function spoken({ outcome, name }) {
  return outcome === "label" ? text("said.label", { name }) : name;
}
