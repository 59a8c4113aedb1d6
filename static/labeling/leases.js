/**
 * Leases: renewed while the person is there, given up in time when they are not.
 *
 * The server hands a person's lease to their next page once nothing has renewed it for half of its time, and to others
 * when it has run out. So whatever this page has not renewed for half of a lease is no longer its own.
 */

const ACTIVE_MS = 5 * 60_000;
const ORPHANED_AFTER = 0.5;
const RENEWED_AFTER = 0.3;
const GIVEN_BACK_AFTER = 0.4; // while it is still this page's to give

/**
 * @typedef {{renew: (queryIds: number[]) => Promise<{query_ids: number[]}>, held: () => number[],
 *   passedOn: (queryIds: Set<number>) => void, lost: (why: "slept"|"away") => void}} Listener
 */

export class Leases {
  #listener;
  #leaseMs;
  #tickMs;
  #renewedAt = Date.now();
  #tickedAt = Date.now();
  #activeAt = Date.now();
  #busy = false;

  /** @param {number} leaseSeconds @param {Listener} listener */
  constructor(leaseSeconds, listener) {
    this.#leaseMs = leaseSeconds * 1000;
    this.#listener = listener;
    this.#tickMs = Math.min(10_000, this.#leaseMs / 12);
    setInterval(() => this.#tick(), this.#tickMs);
    document.addEventListener("visibilitychange", () => this.#tick());
  }

  /** The person did something. */
  touch() {
    this.#activeAt = Date.now();
  }

  /** Everything held was claimed just now. */
  restart() {
    this.#renewedAt = Date.now();
  }

  #tick() {
    if (document.visibilityState === "hidden") return; // so that the gap shows when it is visible again
    const now = Date.now();
    const hasSlept = now - this.#tickedAt > 3 * this.#tickMs;
    this.#tickedAt = now;
    const age = now - this.#renewedAt;
    const isActive = now - this.#activeAt < ACTIVE_MS;
    if (!this.#listener.held().length) this.restart();
    else if (hasSlept && age > this.#leaseMs * ORPHANED_AFTER) this.#give("slept");
    else if (isActive && age > this.#leaseMs * RENEWED_AFTER) void this.#renew();
    else if (!isActive && age > this.#leaseMs * GIVEN_BACK_AFTER) this.#give("away");
  }

  #give(why) {
    this.restart();
    this.#listener.lost(why);
  }

  async #renew() {
    if (this.#busy) return;
    this.#busy = true;
    const asked = this.#listener.held();
    const askedAt = Date.now();
    try {
      const { query_ids: kept } = await this.#listener.renew(asked);
      this.#renewedAt = askedAt;
      const lost = new Set(asked.filter((id) => !kept.includes(id)));
      if (lost.size) this.#listener.passedOn(lost);
    } catch {
      // unreachable or signed out: the next tick tries again, and the server decides about late answers
    } finally {
      this.#busy = false;
    }
  }
}
