/**
 * The queries that this page holds ahead of the one on screen, each with its image fetched and decoded.
 *
 * Order is the server's: an image that is slow to arrive is waited for, never jumped over.
 */

import { Failure } from "./api.js";
import { text } from "./texts.js";

const AHEAD = 6;
const REFILL_BELOW = 3;
const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 10_000;
const IMAGE_TRIES = 3;
const IMAGE_WAIT_MS = 500;
const LONGEST_IMAGE_WAIT_MS = 4_000;

/**
 * @typedef {import("./api.js").Query} Query
 * @typedef {{query: Query, image: HTMLImageElement, state: "loading"|"decoded"|"broken",
 *   wanted: boolean}} Held
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
    const image = new Image();
    image.decoding = "sync"; // shown in the frame in which it is put on the page
    image.alt = text("image.alt");
    image.draggable = false;
    const item = { query, image, state: "loading", wanted: true };
    void this.#fetchImage(item);
    return item;
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

  async #fetchImage(item) {
    for (let tries = 1; item.state !== "decoded" && item.wanted; tries += 1) {
      try {
        // another address after a failure, since the browser remembers for a while that the first one failed
        item.image.src = tries === 1 ? item.query.image_url : `${item.query.image_url}?try=${tries}`;
        await item.image.decode();
        item.state = "decoded";
      } catch {
        if (tries >= IMAGE_TRIES && navigator.onLine) item.state = "broken";
        await new Promise((resolve) => setTimeout(resolve, Math.min(LONGEST_IMAGE_WAIT_MS, IMAGE_WAIT_MS * tries)));
      }
      this.#listener.changed();
    }
  }
}

/** Stop trying to fetch an image that nobody will see. @param {Held} item */
export function letGo(item) {
  item.wanted = false;
}

function split(items, isFirst) {
  return [items.filter(isFirst), items.filter((item) => !isFirst(item))];
}
