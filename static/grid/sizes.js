/** How many images a page holds and how large they are: each person's own choice, remembered in this browser. */

/** @typedef {{count: number, side: number}} Sizes */

export class Sizes {
  #fields;
  #stage;
  #storage;
  #key;

  /**
   * @param {{count: HTMLSelectElement, side: HTMLSelectElement}} fields @param {HTMLElement} stage
   * @param {Storage|null} storage @param {string} key where to remember it @param {() => void} recount
   *   called when a page holds another number
   */
  constructor(fields, stage, storage, key, recount) {
    this.#fields = fields;
    this.#stage = stage;
    this.#storage = storage;
    this.#key = key;
    this.#recall();
    this.#show();
    fields.side.addEventListener("change", () => this.#show());
    fields.count.addEventListener("change", () => {
      this.#show();
      recount();
    });
  }

  /** @returns {number} images on a page */
  get count() {
    return Number(this.#fields.count.value);
  }

  #show() {
    this.#stage.style.setProperty("--tile", `${this.#fields.side.value}px`);
    try {
      const chosen = Object.entries(this.#fields).map(([name, { value }]) => [name, Number(value)]);
      this.#storage?.setItem(this.#key, JSON.stringify(Object.fromEntries(chosen)));
    } catch {
      // full or forbidden: it holds until the page is left
    }
  }

  #recall() {
    try {
      const found = JSON.parse(this.#storage?.getItem(this.#key) ?? "{}");
      for (const [name, field] of Object.entries(this.#fields)) {
        const isOffered = [...field.options].some(({ value }) => value === String(found?.[name]));
        if (isOffered) field.value = String(found[name]);
      }
    } catch {
      // what it cannot read it does not follow
    }
  }
}
