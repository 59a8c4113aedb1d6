/** Brightness and contrast of the image, by keys or two sliders; remembered for the project in this browser. */

const SMALLEST = 30;
const LARGEST = 300;
const STEP = 10;
const PLAIN = { brightness: 100, contrast: 100 };

/** @typedef {{brightness: number, contrast: number}} Percents */

export class Light {
  #panel;
  #stage;
  #storage;
  #key;
  #changed;
  /** @type {Percents} */
  #set = { ...PLAIN };

  /**
   * @param {HTMLElement} panel holds a slider called by each name @param {HTMLElement} stage
   * @param {Storage|null} storage @param {string} key where to remember it @param {(set: Percents) => void} changed
   */
  constructor(panel, stage, storage, key, changed) {
    this.#panel = panel;
    this.#stage = stage;
    this.#storage = storage;
    this.#key = key;
    this.#changed = changed;
    panel.addEventListener("input", ({ target }) => this.#put({ ...this.#set, [target.name]: Number(target.value) }));
    this.#put(this.#remembered());
  }

  /** @param {"brightness"|"contrast"} name @param {1|-1} direction */
  step(name, direction) {
    this.#put({ ...this.#set, [name]: this.#set[name] + direction * STEP });
    this.#changed(this.#set);
  }

  reset() {
    this.#put({ ...PLAIN });
    this.#changed(this.#set);
  }

  #put(wanted) {
    for (const name of Object.keys(PLAIN)) {
      this.#set[name] = Math.min(LARGEST, Math.max(SMALLEST, wanted[name]));
      this.#panel.querySelector(`input[name=${name}]`).value = String(this.#set[name]);
      this.#panel.querySelector(`output[data-of=${name}]`).textContent = `${this.#set[name]}%`;
      this.#stage.style.setProperty(`--${name}`, `${this.#set[name]}%`);
    }
    const isPlain = Object.entries(PLAIN).every(([name, value]) => this.#set[name] === value);
    this.#stage.classList.toggle("is-lit", !isPlain); // a filter that changes nothing still costs time
    this.#remember(isPlain);
  }

  #remember(isPlain) {
    try {
      if (isPlain) this.#storage?.removeItem(this.#key);
      else this.#storage?.setItem(this.#key, JSON.stringify(this.#set));
    } catch {
      // full or forbidden: it holds until the page is left
    }
  }

  #remembered() {
    try {
      const found = JSON.parse(this.#storage?.getItem(this.#key) ?? "null");
      const isWhole = Object.keys(PLAIN).every((name) => Number.isFinite(found?.[name]));
      return isWhole ? found : PLAIN;
    } catch {
      return PLAIN;
    }
  }
}
