/**
 * The pages that this browser holds ahead of the one on screen: of one predicted class or one cluster each, with their
 * images decoded.
 */

import { Failure } from "../labeling/api.js";
import { fetchImage, letGo } from "../labeling/held.js";

const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 10_000;
const CLUSTER = "cluster-";

/**
 * @typedef {import("../labeling/held.js").Held} Held
 * @typedef {{classId: number|null, cluster: number|null, proposed: number|null, items: Held[]}} Page
 *   `classId` is of a cluster what the person says that it is, at first what the network believes: `proposed`
 * @typedef {{changed: () => void, claimed: (reply: any) => void, failed: (failure: Failure) => void,
 *   isKnown: (queryId: number) => boolean, mayClaim: () => boolean, release: (queryIds: number[]) => void}} Listener
 */

export class Pages {
  #claim;
  #listener;
  #side;
  #asking = false;
  #askAfter = false;
  #wait = FIRST_WAIT_MS;
  #timer = 0;
  #newestRound = 0; // whose queries are ready, as far as this page has heard
  #turn = 0; // raised when what a claim under way brings is not wanted any more
  /** @type {Page[]} the next one first */
  #ahead = [];

  /** @param {() => Promise<any>} claim @param {number} side of a thumbnail, in pixels @param {Listener} listener */
  constructor(claim, side, listener) {
    this.#claim = claim;
    this.#side = side;
    this.#listener = listener;
  }

  /** @returns {Held[]} */
  get held() {
    return this.#ahead.flatMap(({ items }) => items);
  }

  /** @param {string} key see `keyOf` @returns {number} how many images are held on pages of it */
  heldOf(key) {
    return this.#ahead.reduce((sum, page) => sum + (keyOf(page) === key ? page.items.length : 0), 0);
  }

  /** Take the next page, and ask for the one after it; null when none is held. @returns {Page|null} */
  take() {
    const next = this.#ahead.shift() ?? null;
    if (next) this.refill();
    return next;
  }

  /** Put one back in front, because an earlier one is shown again. @param {Page} page */
  putBack(page) {
    this.#ahead.unshift(page);
  }

  /** Forget everything. @returns {number[]} the queries that were held */
  clear() {
    const ids = this.held.map(({ query }) => query.query_id);
    this.held.forEach(letGo);
    this.#ahead = [];
    this.#turn += 1;
    return ids;
  }

  /** Forget queries whose leases have passed on. @param {Set<number>} queryIds */
  drop(queryIds) {
    this.#keep(({ query }) => !queryIds.has(query.query_id));
  }

  /** Give up the queries of rankings before this round's, because the new model asks better ones. @param {number} round */
  giveUpBefore(round) {
    this.#newestRound = Math.max(this.#newestRound, round);
    const old = this.#keep(({ query }) => query.round >= round);
    if (old.length) this.#listener.release(old);
  }

  /** Ask when no page is held, unless the last reply said that there is none; then a timer asks. */
  refill() {
    if (!this.#ahead.length && !this.#timer) void this.#ask();
  }

  /** Ask again now, because there may be something new. */
  refillNow() {
    if (!this.#ahead.length) void this.#ask();
  }

  /** Wrap a query whose lease this page has, and start fetching its thumbnail. @param {import("../labeling/api.js").Query} query */
  hold(query) {
    return fetchImage(query, `${query.image_url}?size=${this.#side}`, () => this.#listener.changed());
  }

  /** @param {(item: Held) => boolean} isWanted @returns {number[]} the queries that were not */
  #keep(isWanted) {
    const unwanted = this.held.filter((item) => !isWanted(item));
    unwanted.forEach(letGo);
    this.#ahead = this.#ahead
      .map((page) => ({ ...page, items: page.items.filter(isWanted) }))
      .filter(({ items }) => items.length);
    return unwanted.map(({ query }) => query.query_id);
  }

  async #ask() {
    if (!this.#listener.mayClaim()) return;
    if (this.#asking) {
      this.#askAfter = true;
      return;
    }
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#asking = true;
    this.#askAfter = false;
    const [newestRound, turn] = [this.#newestRound, this.#turn];
    try {
      const reply = await this.#claim();
      const isWanted = turn === this.#turn && newestRound === this.#newestRound;
      if (isWanted) this.#fill(reply);
      else this.#refuse(reply);
    } catch (failure) {
      if (!(failure instanceof Failure)) throw failure;
      this.#listener.failed(failure);
      if (failure.kind === "unreachable") this.#askLater();
    } finally {
      this.#asking = false;
    }
    if (this.#askAfter) this.refillNow();
  }

  #fill(reply) {
    const mine = new Set(this.held.map(({ query }) => query.query_id));
    const fresh = reply.queries.filter(({ query_id: id }) => !mine.has(id) && !this.#listener.isKnown(id));
    if (fresh.length) {
      this.#wait = FIRST_WAIT_MS;
      const { class_id: classId, cluster } = reply;
      this.#ahead.push({ classId, cluster, proposed: classId, items: fresh.map((query) => this.hold(query)) });
    } else {
      this.#askLater();
    }
    this.#listener.claimed(reply);
    this.#listener.changed();
  }

  /** A new ranking, or another wish, came meanwhile. */
  #refuse(reply) {
    const ids = reply.queries.map(({ query_id: id }) => id).filter((id) => !this.#listener.isKnown(id));
    if (ids.length) this.#listener.release(ids);
    this.#askAfter = true;
  }

  #askLater() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = 0;
      this.refill();
    }, this.#wait);
    this.#wait = Math.min(LONGEST_WAIT_MS, this.#wait * 2);
  }
}

/** @param {{classId: number|null, cluster: number|null}} page @returns {string} what it is of, as the field of choices says it */
export function keyOf({ classId, cluster }) {
  return cluster === null ? String(classId) : `${CLUSTER}${cluster}`;
}

/** @param {string} key @returns {{class_id?: number, cluster?: number}} what to ask the server for */
export function wishOf(key) {
  return key.startsWith(CLUSTER) ? { cluster: Number(key.slice(CLUSTER.length)) } : { class_id: Number(key) };
}
