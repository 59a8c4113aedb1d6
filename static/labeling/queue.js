/**
 * The queries that this page holds ahead of the one on screen, each with its image fetched and decoded.
 *
 * Order is the server's: an image that is slow to arrive is waited for, never jumped over.
 */

import { Failure } from "./api.js";
import { fetchImage, letGo } from "./held.js";

const AHEAD = 6;
const REFILL_BELOW = 3;
const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 10_000;

/**
 * @typedef {import("./api.js").Query} Query
 * @typedef {import("./held.js").Held} Held
 * @typedef {{changed: () => void, claimed: (reply: any) => void, failed: (failure: Failure) => void,
 *   isKnown: (queryId: number) => boolean, mayClaim: () => boolean, release: (queryIds: number[]) => void}} Listener
 */

export class Queue {
  #claim;
  #listener;
  #asking = false;
  #askAfter = false;
  #wait = FIRST_WAIT_MS;
  #timer = 0;
  #due = Infinity;
  #newestRound = 0; // whose queries are ready, as far as this page has heard
  /** @type {Held[]} */
  held = [];

  /** @param {(count: number) => Promise<any>} claim @param {Listener} listener */
  constructor(claim, listener) {
    this.#claim = claim;
    this.#listener = listener;
  }

  /** Take the next query; null when none is held. @returns {Held|null} */
  take() {
    const next = this.held.shift() ?? null;
    this.refill();
    return next;
  }

  /** Put one back in front, because an earlier one is shown again. @param {Held} item */
  putBack(item) {
    this.held.unshift(item);
  }

  /** Forget everything, because the leases may have passed on. */
  clear() {
    this.held.forEach(letGo);
    this.held = [];
  }

  /** Forget queries whose leases have passed on. @param {Set<number>} queryIds */
  drop(queryIds) {
    this.held.filter(({ query }) => queryIds.has(query.query_id)).forEach(letGo);
    this.held = this.held.filter(({ wanted }) => wanted);
  }

  /**
   * Give up the queries of rankings before this round's, because the new model asks better ones; those that a claim
   * under way still brings are given up as well.
   *
   * @param {number} round
   */
  giveUpBefore(round) {
    this.#newestRound = Math.max(this.#newestRound, round);
    const old = this.held.filter(({ query }) => query.round < round);
    old.forEach(letGo);
    this.held = this.held.filter(({ wanted }) => wanted);
    if (old.length) this.#listener.release(old.map(({ query }) => query.query_id));
  }

  /** Ask when few are left, unless the last reply said that there is no more; then a timer asks. */
  refill() {
    if (this.held.length < REFILL_BELOW && this.#due === Infinity) void this.#ask();
  }

  /** Ask again within so many milliseconds, because there may be something new. @param {number} milliseconds */
  refillWithin(milliseconds) {
    if (this.held.length >= REFILL_BELOW) return;
    if (milliseconds > 0) this.#schedule(milliseconds);
    else void this.#ask();
  }

  /** Wrap a query whose lease this page has, and start fetching its image. @param {Query} query @returns {Held} */
  hold(query) {
    return fetchImage(query, query.image_url, () => this.#listener.changed());
  }

  async #ask() {
    if (!this.#listener.mayClaim()) return;
    if (this.#asking) {
      this.#askAfter = true;
      return;
    }
    this.#unschedule();
    this.#asking = true;
    this.#askAfter = false;
    const asked = AHEAD - this.held.length;
    const newestRound = this.#newestRound;
    try {
      const reply = await this.#claim(asked);
      const outOfDate = this.#newestRound > newestRound ? this.#newestRound : 0; // a new ranking came meanwhile
      this.#fill(reply, asked, outOfDate);
    } catch (failure) {
      if (!(failure instanceof Failure)) throw failure;
      this.#listener.failed(failure);
      if (failure.kind === "unreachable") this.#askLater();
    } finally {
      this.#asking = false;
    }
    if (this.#askAfter && this.held.length < REFILL_BELOW) void this.#ask();
  }

  /** @param {any} reply @param {number} asked @param {number} outOfDate queries of rounds before are given up */
  #fill(reply, asked, outOfDate) {
    const mine = new Set(this.held.map(({ query }) => query.query_id));
    const isNew = ({ query_id: id }) => !mine.has(id) && !this.#listener.isKnown(id);
    const [old, fresh] = split(reply.queries.filter(isNew), ({ round }) => round < outOfDate);
    this.held.push(...fresh.map((query) => this.hold(query)));
    if (old.length) {
      this.#listener.release(old.map(({ query_id: id }) => id));
      this.#askAfter = true;
    }
    if (fresh.length) this.#wait = FIRST_WAIT_MS;
    if (fresh.length < asked) this.#askLater();
    this.#listener.claimed(reply);
    this.#listener.changed();
  }

  #askLater() {
    this.#schedule(this.#wait);
    this.#wait = Math.min(LONGEST_WAIT_MS, this.#wait * 2);
  }

  #schedule(milliseconds) {
    const due = Date.now() + milliseconds;
    if (due >= this.#due) return;
    this.#unschedule();
    this.#due = due;
    this.#timer = setTimeout(() => {
      this.#due = Infinity;
      this.refill();
    }, milliseconds);
  }

  #unschedule() {
    clearTimeout(this.#timer);
    this.#due = Infinity;
  }
}

function split(items, isFirst) {
  return [items.filter(isFirst), items.filter((item) => !isFirst(item))];
}
