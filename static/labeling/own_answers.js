/**
 * One's own answers, as far back as they have been read: those of this page, and before them what the server has kept.
 *
 * A person has one standing answer to a query, so answers are told apart by their queries.
 */

const KEPT_IMAGES = 30;

/**
 * @typedef {import("./api.js").Query} Query
 * @typedef {{query: Query, clientId: string, outcome: string, classId: number|null, reason: string|null, name: string,
 *   item: import("./held.js").Held|null, before: Given|null}} Given
 *   `before` is the answer that this one took the place of, `item` its image while it is kept at hand
 */

export class Answers {
  #read;
  /** @type {Given[]} the oldest first */
  #list = [];
  /** @type {number|null|undefined} where to go on reading; null when all is read */
  #next = undefined;
  /** @type {Promise<void>|null} */
  #reading = null;
  #takenBack = new Set();

  /** @param {(before: number|null) => Promise<{answers: Given[], next: number|null}>} read newest first */
  constructor(read) {
    this.#read = read;
  }

  /** Whether there is nothing older on the server. */
  get isWhole() {
    return this.#next === null;
  }

  /** @param {Given} given the newest */
  add(given) {
    this.#takenBack.delete(given.query.query_id);
    this.#list.push(given);
    const old = this.#list.at(-1 - KEPT_IMAGES);
    if (old) old.item = null;
  }

  /** @param {string} clientId @returns {Given|null} */
  find(clientId) {
    return this.#list.find((given) => given.clientId === clientId) ?? null;
  }

  /** @param {number} queryId @returns {Given|null} */
  toQuery(queryId) {
    return this.#list.find(({ query }) => query.query_id === queryId) ?? null;
  }

  /** Let an answer take the place of another. @param {Given} old @param {Given} fresh */
  replace(old, fresh) {
    const place = this.#list.indexOf(old);
    if (place >= 0) this.#list[place] = fresh;
  }

  /** An answer is taken back. @param {Given} given @returns {() => void} puts it back where it was */
  takeBack(given) {
    const place = this.#list.indexOf(given);
    if (place < 0) return () => {};
    this.#list.splice(place, 1);
    this.#takenBack.add(given.query.query_id);
    return () => {
      if (this.#takenBack.delete(given.query.query_id)) this.#list.splice(place, 0, given);
    };
  }

  /** @param {Given|null} given null for what is to be answered now @returns {Given|null} */
  older(given) {
    return this.#list[(given ? this.#list.indexOf(given) : this.#list.length) - 1] ?? null;
  }

  /** @param {Given} given @returns {Given|null} null when none is newer */
  newer(given) {
    const place = this.#list.indexOf(given);
    return place < 0 ? null : (this.#list[place + 1] ?? null);
  }

  /** Let go of images that going back and forth has left behind. @param {Given} given */
  forgetImagesFarFrom(given) {
    const place = this.#list.indexOf(given);
    for (const far of [this.#list[place - KEPT_IMAGES], this.#list[place + KEPT_IMAGES]]) if (far) far.item = null;
  }

  /** How many answers back one is; 1 is the newest. @param {Given} given */
  stepsBack(given) {
    return this.#list.length - this.#list.indexOf(given);
  }

  /** Read on, until something older is found or there is none. Throws a Failure. */
  async readOlder() {
    this.#reading ??= this.#readOlder().finally(() => {
      this.#reading = null;
    });
    await this.#reading;
  }

  async #readOlder() {
    while (this.#next !== null) {
      const { answers, next } = await this.#read(this.#next ?? null);
      this.#next = next;
      const fresh = answers.filter(({ query: { query_id: id } }) => !this.#takenBack.has(id) && !this.toQuery(id));
      this.#list.unshift(...fresh.reverse());
      if (fresh.length) return;
    }
  }
}
