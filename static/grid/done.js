/** The pages that were confirmed in this tab and can be taken back: kept in its session, so that a reload forgets none. */

/** @typedef {import("./grid.js").Done} Done */

export class DonePages {
  #storage;
  #key;
  /** @type {Done[]} the latest last */
  #pages;

  /** @param {Storage|null} storage @param {string} key */
  constructor(storage, key) {
    this.#storage = storage;
    this.#key = key;
    this.#pages = this.#remembered();
  }

  get size() {
    return this.#pages.length;
  }

  /** @param {Done} page @param {number} most pages that are kept */
  push(page, most) {
    this.#pages = [...this.#pages, page].slice(-most);
    this.#remember();
  }

  /** @returns {Done|null} */
  pop() {
    const last = this.#pages.pop() ?? null;
    this.#remember();
    return last;
  }

  /** An answer was refused, so there is nothing to take back. @param {string} clientId */
  forget(clientId) {
    this.#pages = this.#pages
      .map((page) => ({ ...page, given: page.given.filter((each) => each.clientId !== clientId) }))
      .filter(({ given }) => given.length);
    this.#remember();
  }

  #remember() {
    try {
      this.#storage?.setItem(this.#key, JSON.stringify(this.#pages));
    } catch {
      // full or forbidden: they hold until the page is left
    }
  }

  #remembered() {
    try {
      const found = JSON.parse(this.#storage?.getItem(this.#key) ?? "[]");
      return Array.isArray(found) ? found : [];
    } catch {
      return [];
    }
  }
}
