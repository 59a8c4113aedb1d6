/**
 * The board: the images of a page as a list of options, of which those that are not of the class are selected.
 *
 * It follows the pattern of WAI-ARIA for a list with several selections: one tab stop, arrows move within it.
 */

import { text } from "../labeling/texts.js";
import { afterPaint } from "../labeling/view.js";

const HALF = 0.5; // of an image on screen is as good as seen: the rest is at the edge
const SMALL_SIDE = 128; // images below are pixel art or tiny scans: enlarged they stay crisp

/**
 * @typedef {import("../labeling/held.js").Held} Held
 * @typedef {import("./grid.js").Mark} Mark
 * @typedef {{toggle: (place: number) => void, changed: () => void}} Listener
 */

export class Board {
  #view;
  #listener;
  /** @type {HTMLElement|null} */
  #list = null;
  /** @type {Held[]} */
  #items = [];
  /** @type {(item: Held) => Mark} */
  #markOf;
  #painted = (_at) => {};
  #isWhole = false;
  #active = 0;
  #shown = 0;
  /** @type {Set<Element>} tiles that have not been on screen yet */
  #unseen = new Set();
  #watcher;
  #seenAt = 0;

  /** @param {import("../labeling/view.js").View} view @param {Listener} listener */
  constructor(view, listener) {
    this.#view = view;
    this.#listener = listener;
    view.stage.addEventListener("click", (event) => this.#click(event));
    this.#watcher = new IntersectionObserver((entries) => this.#see(entries), { root: view.stage, threshold: HALF });
  }

  /** @returns {number} the place of the image that keys are for */
  get active() {
    return this.#active;
  }

  /** @returns {number} how many images of the page have not been on screen yet */
  get unseenCount() {
    return this.#unseen.size;
  }

  /** @returns {number} when the last of them came on screen, on the clock of `performance.now` */
  get seenAt() {
    return this.#seenAt;
  }

  /** Scroll on to the first image that has not been on screen yet. */
  showUnseen() {
    const [first] = this.#unseen;
    first?.scrollIntoView({ block: "start" });
  }

  /** Whoever shows something else than the images beside the board may want to know. */
  changed() {
    this.#listener.changed();
  }

  /**
   * Show a page of images.
   *
   * @param {Held[]} items @param {string} label what they are, and which to select @param {(item: Held) => Mark} markOf
   * @param {(at: number) => void} painted called once all of them can be seen, with the time
   */
  show(items, label, markOf, painted) {
    const hadFocus = this.#list?.contains(document.activeElement) || document.activeElement === document.body;
    this.#items = items;
    this.#markOf = markOf;
    this.#painted = painted;
    this.#isWhole = false;
    this.#active = 0;
    this.#shown += 1;
    const list = document.createElement("ul");
    list.className = "board";
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-multiselectable", "true");
    list.setAttribute("aria-label", label);
    list.append(...items.map(makeTile));
    this.#list = list;
    this.#watcher.disconnect();
    this.#unseen = new Set(list.children);
    this.#view.showElement(`board-${this.#shown}`, list);
    this.#view.stage.scrollTop = 0;
    for (const tile of list.children) this.#watcher.observe(tile);
    this.refresh();
    if (hadFocus) this.#tile.focus({ preventScroll: true });
  }

  /** Show what has become of images and marks. */
  refresh() {
    if (!this.#list) return;
    for (const [place, item] of this.#items.entries()) this.#refreshTile(this.#list.children[place], item, place);
    if (this.#isWhole || this.#items.some(({ state }) => state === "loading")) return;
    this.#isWhole = true;
    const [shown, painted] = [this.#shown, this.#painted];
    afterPaint((at) => shown === this.#shown && painted(at));
  }

  /** Move, as keys say. @param {KeyboardEvent} event @returns {boolean} whether it took the press */
  press({ key, ctrlKey, altKey, metaKey }) {
    const steps = this.#steps();
    if (!this.#isShown || !(key in steps) || ctrlKey || altKey || metaKey) return false;
    const wanted = this.#active + steps[key];
    if (wanted >= 0 && wanted < this.#items.length) this.#activate(wanted);
    this.#tile.focus();
    return true;
  }

  get #isShown() {
    return Boolean(this.#list?.isConnected);
  }

  get #tile() {
    return this.#list.children[this.#active];
  }

  #steps() {
    const { direction } = getComputedStyle(this.#view.stage);
    const side = direction === "rtl" ? -1 : 1;
    const [columns, last] = [this.#columns(), this.#items.length - 1];
    return {
      ArrowRight: side, ArrowLeft: -side, ArrowDown: columns, ArrowUp: -columns,
      Home: -this.#active, End: last - this.#active,
    };
  }

  #columns() {
    const tops = [...(this.#list?.children ?? [])].map(({ offsetTop }) => offsetTop);
    const next = tops.findIndex((top) => top !== tops[0]);
    return next === -1 ? tops.length : next;
  }

  #see(entries) {
    const before = this.#unseen.size;
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting && this.#unseen.delete(target)) this.#watcher.unobserve(target);
    }
    if (this.#unseen.size === before) return;
    this.#seenAt = performance.now();
    this.changed();
  }

  #click(event) {
    const tile = event.target.closest("[role=option]");
    if (!tile) return;
    this.#activate(Number(tile.dataset.place));
    tile.focus({ preventScroll: true });
    this.#listener.toggle(this.#active);
  }

  #activate(place) {
    this.#active = place;
    for (const [other, tile] of [...this.#list.children].entries()) {
      tile.tabIndex = other === place ? 0 : -1;
      tile.classList.toggle("is-active", other === place);
    }
    this.#tile.scrollIntoView({ block: "nearest" });
  }

  #refreshTile(tile, item, place) {
    const { isNot, said } = this.#markOf(item);
    if (item.state === "decoded" && !tile.contains(item.image)) tile.querySelector(".tile-image").replaceWith(imageOf(item));
    tile.classList.toggle("is-broken", item.state === "broken");
    tile.dataset.said = said?.outcome ?? "";
    tile.setAttribute("aria-selected", String(isNot));
    const sign = tile.querySelector(".tile-sign");
    const words = said?.name ?? (isNot ? "✕" : "");
    if (sign.textContent !== words) sign.textContent = words;
    const values = { place: place + 1, count: this.#items.length, name: said?.name ?? "" };
    const named = said ? "grid.image_own" : item.state === "broken" ? "grid.image_broken" : "grid.image";
    tile.setAttribute("aria-label", text(named, values));
  }
}

/** @param {Held} _item @param {number} place */
function makeTile(_item, place) {
  const tile = document.createElement("li");
  tile.className = "tile";
  tile.classList.toggle("is-active", place === 0);
  tile.setAttribute("role", "option");
  tile.dataset.place = String(place);
  tile.tabIndex = place === 0 ? 0 : -1;
  const image = Object.assign(document.createElement("span"), { className: "tile-image" });
  const sign = Object.assign(document.createElement("span"), { className: "tile-sign" });
  sign.setAttribute("aria-hidden", "true");
  tile.append(image, sign);
  return tile;
}

/** @param {Held} item */
function imageOf({ image, query }) {
  image.className = "tile-image";
  image.alt = "";
  image.classList.toggle("is-crisp", Math.max(query.width, query.height) < SMALL_SIDE);
  return image;
}
