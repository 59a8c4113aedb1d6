/**
 * What is on screen: one query's image, since when it can be seen, and how long it took to appear.
 *
 * A press counts only once its image has been painted, so this is the one place that says whether it has.
 */

import { text } from "./texts.js";

const SURPRISE_MS = 500; // what is pressed so soon after an image came by itself was meant for the one before

/** @typedef {import("./held.js").Held} Held */

export class Screen {
  #view;
  #changed;
  /** @type {Held|null} */
  #item = null;
  #shownAs = "";
  /** @type {number|null} */
  #paintedAt = null;
  #wasReady = false;
  #isAskedFor = false;
  #wasLost = false; // what was on screen went away by itself
  #readableAt = 0; // until then, a press was meant for the image before
  #pressedAt = 0; // of the press that this image follows, until it is painted; 0 when it follows none

  /** @param {import("./view.js").View} view @param {() => void} changed called when another query is shown */
  constructor(view, changed) {
    this.#view = view;
    this.#changed = changed;
  }

  /** @returns {number|null} when the image on screen was painted, on the clock of `performance.now` */
  get paintedAt() {
    return this.#paintedAt;
  }

  /** Whether the image could be seen when something was pressed. @param {number} pressedAt */
  wasSeen(pressedAt) {
    return this.#paintedAt !== null && pressedAt >= Math.max(this.#paintedAt, this.#readableAt);
  }

  /**
   * The person asked for another image: measure how long it takes from the press.
   *
   * @param {number} [pressedAt] 0 when nobody waits for it @param {boolean} [isReady] whether it is decoded already
   */
  follow(pressedAt = 0, isReady = false) {
    this.#pressedAt = pressedAt;
    this.#wasReady = isReady;
    this.#isAskedFor = true;
  }

  /** Show a query, or what has become of its image since. @param {Held} item */
  show(item) {
    const isOther = item !== this.#item;
    if (!isOther && this.#paintedAt !== null && this.#shownAs === item.state) return;
    if (isOther) this.#change(item);
    this.#paintedAt = null;
    this.#view.setBusy(true);
    this.#shownAs = item.state;
    this.#view.setReady(item.state !== "loading");
    const painted = (at) => this.#painted(item, at);
    if (item.state === "decoded") this.#view.showImage(item, painted);
    else if (item.state === "broken") this.#view.showBroken(item, painted);
    else this.#view.showMessage("loading", "", text("image.fetching"));
  }

  /** Show that there is nothing to show, and why, as far as that is known. @param {{reason: string, remedy: string}|null} nothing */
  showNone(nothing) {
    if (this.#item) this.#change(null);
    this.#paintedAt = null;
    this.#view.setBusy(false);
    this.#view.setReady(false);
    if (nothing) this.#view.showNothing(nothing.reason, nothing.remedy);
    else this.#view.showMessage("loading", "", text("image.fetching"));
    if (nothing) this.#pressedAt = 0; // waiting for work is not waiting for an image
  }

  #change(item) {
    const goesByItself = Boolean(this.#item) && !this.#isAskedFor;
    const isSurprise = item && (goesByItself || this.#wasLost);
    this.#readableAt = isSurprise ? performance.now() + SURPRISE_MS : 0;
    this.#wasLost = !item && goesByItself;
    this.#isAskedFor = false;
    this.#item = item;
    this.#changed();
  }

  #painted(item, at) {
    if (item !== this.#item || this.#paintedAt !== null) return;
    this.#paintedAt = at;
    this.#view.setBusy(false);
    const name = this.#wasReady ? "key-to-painted" : "key-to-fetched-and-painted";
    if (this.#pressedAt) performance.measure(name, { start: this.#pressedAt, end: at });
    this.#pressedAt = 0;
  }
}
