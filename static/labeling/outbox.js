/**
 * The durable outbox: what the server has not confirmed yet, in the order in which it was said: answers, undos, and
 * images that the grid puts back.
 *
 * Every entry is its own item in the storage, so that two tabs of one person never overwrite each other's. An entry
 * leaves when the server has confirmed or refused it, never before; sending one twice is harmless (client_id).
 */

import { Failure } from "./api.js";

const KINDS = new Set(["answer", "undo", "put_back"]);
const MOST_TOGETHER = 50;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;

/**
 * @typedef {{kind: "answer"|"undo"|"put_back", client_id: string|null, query_id: number|null, outcome?: string,
 *   class_id?: number|null, reason?: string|null, seconds_taken?: number, saw_prediction?: boolean, reserve?: boolean,
 *   name?: string, query?: import("./api.js").Query, corrects?: string, was?: string,
 *   query_ids?: number[], in_cluster?: true}} Entry
 *   `in_cluster` is there only for answers of a page of a cluster, since the server of the release before knows none;
 *   `corrects` is the client id of the answer that this one takes the place of, `was` that one's outcome
 * @typedef {{delivered: (entry: Entry, reply: any) => void, refused: (entry: Entry, failure: Failure) => void,
 *   changed: () => void}} Listener
 */

export class Outbox {
  #storage;
  #prefix;
  #deliver;
  #deliverTogether;
  #alone = 0; // entries that are sent one by one before several go together again
  #listener;
  /** @type {{key: string, kept: boolean, entry: Entry}[]} */
  #waiting = [];
  #running = false;
  #wake = () => {};
  #last = 0;
  #failures = 0;
  /** @type {string|null} why nothing is sent until `resume` */
  halted = null;

  /**
   * @param {Storage|null} storage where entries survive a reload; null keeps them in this page only
   * @param {string} prefix of this person's and project's items
   * @param {(entry: Entry) => Promise<any>} deliver sends one entry; throws a Failure
   * @param {Listener} listener
   * @param {((entries: Entry[]) => Promise<{reply?: any, failure?: Failure}[]>)|null} [deliverTogether] sends several
   *   answers with one request, if they may go so; throws a Failure for all of them
   */
  constructor(storage, prefix, deliver, listener, deliverTogether = null) {
    this.#storage = storage;
    this.#prefix = prefix;
    this.#deliver = deliver;
    this.#listener = listener;
    this.#deliverTogether = deliverTogether;
    this.#load();
  }

  /** @returns {Entry[]} oldest first */
  get entries() {
    return this.#waiting.map(({ entry }) => entry);
  }

  get size() {
    return this.#waiting.length;
  }

  /** Whether the last try failed and the next one waits. */
  get isRetrying() {
    return this.#failures > 0;
  }

  /** @param {...Entry} entries */
  add(...entries) {
    for (const entry of entries) {
      this.#last = Math.max(this.#last + 1, Date.now() * 1000);
      const key = `${this.#prefix}${String(this.#last).padStart(16, "0")}.${entry.client_id}`;
      this.#waiting.push({ key, kept: this.#keep(key, entry), entry });
    }
    this.#listener.changed();
    void this.#send();
  }

  /** Send nothing until `resume`. @param {string} why */
  halt(why) {
    this.halted = why;
    this.#listener.changed();
  }

  /** Send now: a connection is back, somebody signed in again, or the page has just loaded. */
  resume() {
    this.halted = null;
    this.#wake();
    void this.#send();
    this.#listener.changed();
  }

  async #send() {
    if (this.#running) return;
    this.#running = true;
    try {
      while (this.#waiting.length && !this.halted) await this.#sendNext();
    } finally {
      this.#running = false;
    }
  }

  async #sendNext() {
    const next = this.#next();
    if (!next.length) return;
    try {
      const fates = await this.#deliverAll(next.map(({ entry }) => entry));
      this.#failures = 0;
      for (const [place, { reply, failure }] of fates.entries()) {
        this.#remove(next[place]);
        if (failure) this.#listener.refused(next[place].entry, failure);
        else this.#listener.delivered(next[place].entry, reply);
      }
    } catch (failure) {
      if (!(failure instanceof Failure)) throw failure;
      await this.#afterFailure(next, failure);
    }
  }

  /** What is sent with one request: the first entry, and where several may go together, the answers that follow it. */
  #next() {
    for (const item of [...this.#waiting]) if (this.#sentByAnotherTab(item)) this.#remove(item);
    const end = this.#waiting.findIndex(({ entry }) => entry.kind !== "answer");
    const most = this.#alone ? 1 : MOST_TOGETHER;
    const answers = this.#deliverTogether ? this.#waiting.slice(0, end === -1 ? most : Math.min(end, most)) : [];
    return answers.length ? answers : this.#waiting.slice(0, 1);
  }

  async #deliverAll(entries) {
    this.#alone = Math.max(0, this.#alone - 1);
    if (entries.length > 1) return await this.#deliverTogether(entries);
    return [{ reply: await this.#deliver(entries[0]) }];
  }

  async #afterFailure(next, failure) {
    const [first] = next;
    if (failure.kind === "refused" && next.length > 1) {
      this.#alone = next.length; // one of them makes no sense to the server: that one alone is to be refused
    } else if (failure.kind === "refused") {
      this.#failures = 0;
      this.#remove(first);
      this.#listener.refused(first.entry, failure);
    } else if (failure.kind === "unreachable") {
      this.#failures += 1;
      this.#listener.changed();
      const wait = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (this.#failures - 1));
      await this.#pause(wait * (0.8 + 0.4 * Math.random())); // spread, so that a restarted server is not stampeded
    } else {
      this.halt(failure.kind);
    }
  }

  #pause(milliseconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #remove(item) {
    this.#waiting.splice(this.#waiting.indexOf(item), 1);
    if (item.kept) this.#storage.removeItem(item.key);
    this.#listener.changed();
  }

  #sentByAnotherTab(item) {
    return item.kept && this.#storage.getItem(item.key) === null;
  }

  #keep(key, entry) {
    try {
      this.#storage?.setItem(key, JSON.stringify(entry));
      return this.#storage !== null;
    } catch {
      return false; // full or forbidden: the page still holds it, and warns before leaving
    }
  }

  #load() {
    if (!this.#storage) return;
    const keys = Array.from({ length: this.#storage.length }, (_, index) => this.#storage.key(index));
    for (const key of keys.filter((key) => key?.startsWith(this.#prefix)).sort()) {
      const entry = readEntry(this.#storage.getItem(key));
      if (entry) this.#waiting.push({ key, kept: true, entry });
      else this.#storage.removeItem(key);
    }
  }
}

/** @returns {Storage|null} the browser's storage, or null where it is switched off */
export function browserStorage() {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}

/** @returns {string} a random UUID; randomUUID itself is missing on plain HTTP beyond this machine */
export function newId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

function readEntry(text) {
  try {
    const entry = JSON.parse(text);
    return KINDS.has(entry?.kind) ? entry : null;
  } catch {
    return null;
  }
}
