/**
 * A closer look: zoom by wheel, keys or two fingers, moving by drag or arrows; and, while nothing is zoomed, a swipe.
 *
 * It touches nothing but the stage's custom properties, so labels stay one key; the next image starts unzoomed.
 */

const LARGEST = 16;
const STEP = 1.4;
const WHEEL_STEP = 1.0015; // for each pixel of the wheel
const PINCH_STEP = 1.01; // touchpads send their pinches as small turns of the wheel with Control
const MOVE = 64;
const SWIPE_PIXELS = 60;
const SWIPE_MS = 800;
const ARROWS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/** @typedef {{zoomed: (scale: number) => void, swiped: (direction: "right"|"left") => void}} Listener */

export class Zoom {
  #stage;
  #listener;
  #scale = 1;
  #x = 0;
  #y = 0;
  /** @type {Map<number, {x: number, y: number, startX: number, startY: number, at: number}>} fingers and buttons down */
  #pointers = new Map();
  #wasPinch = false;

  /** @param {HTMLElement} stage @param {Listener} listener */
  constructor(stage, listener) {
    this.#stage = stage;
    this.#listener = listener;
    stage.addEventListener("wheel", (event) => this.#turn(event), { passive: false });
    // else Chromium takes a swipe for a fling, and the tap after it for the finger that stops it
    stage.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
    stage.addEventListener("pointerdown", (event) => this.#down(event));
    stage.addEventListener("pointermove", (event) => this.#move(event));
    for (const kind of ["pointerup", "pointercancel"]) stage.addEventListener(kind, (event) => this.#up(event));
    window.addEventListener("resize", () => this.#apply());
  }

  get isZoomed() {
    return this.#scale > 1;
  }

  /** Show the whole image, without a word. */
  reset() {
    this.#scale = 1;
    this.#apply();
  }

  /** @param {1|-1|0} direction in, out, or back to the whole image */
  step(direction) {
    this.#zoomAt(0, 0, direction ? STEP ** direction : 1 / this.#scale);
    this.#listener.zoomed(this.#scale);
  }

  /** Move by an arrow key, if something is zoomed. @param {KeyboardEvent} event @returns {boolean} whether it did */
  moveBy(event) {
    const direction = ARROWS[event.key];
    const isModified = event.shiftKey || event.ctrlKey || event.metaKey || event.altKey;
    if (!this.isZoomed || !direction || isModified) return false;
    this.#x += direction[0] * MOVE;
    this.#y += direction[1] * MOVE;
    this.#apply();
    return true;
  }

  #turn(event) {
    event.preventDefault();
    const { x, y } = this.#fromCentre(event);
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    this.#zoomAt(x, y, (event.ctrlKey ? PINCH_STEP : WHEEL_STEP) ** (-event.deltaY * lines));
  }

  #down(event) {
    if (event.pointerType === "mouse" && event.button !== 0) return;
    if (event.target.closest("button, a, input")) return;
    const { x, y } = this.#fromCentre(event);
    this.#pointers.set(event.pointerId, { x, y, startX: x, startY: y, at: event.timeStamp });
    this.#wasPinch = this.#pointers.size > 1;
    this.#stage.setPointerCapture(event.pointerId);
  }

  #move(event) {
    const pointer = this.#pointers.get(event.pointerId);
    if (!pointer) return;
    const { x, y } = this.#fromCentre(event);
    const [dx, dy] = [x - pointer.x, y - pointer.y];
    const other = [...this.#pointers.values()].find((each) => each !== pointer);
    if (other) {
      const before = Math.hypot(pointer.x - other.x, pointer.y - other.y);
      const after = Math.hypot(x - other.x, y - other.y);
      if (before > 0) this.#zoomAt((x + other.x) / 2, (y + other.y) / 2, after / before);
      this.#x += dx / 2;
      this.#y += dy / 2;
    } else if (this.isZoomed) {
      this.#x += dx;
      this.#y += dy;
    }
    Object.assign(pointer, { x, y });
    this.#apply();
  }

  #up(event) {
    const pointer = this.#pointers.get(event.pointerId);
    if (!pointer) return;
    this.#pointers.delete(event.pointerId);
    if (event.type === "pointerup" && event.pointerType === "touch" && !this.#wasPinch && !this.isZoomed) {
      this.#swipe(pointer, event.timeStamp);
    }
    if (!this.#pointers.size) this.#wasPinch = false;
  }

  #swipe({ x, y, startX, startY, at }, endedAt) {
    const [dx, dy] = [x - startX, y - startY];
    const isSwipe = Math.abs(dx) >= SWIPE_PIXELS && Math.abs(dx) > 2 * Math.abs(dy) && endedAt - at < SWIPE_MS;
    if (isSwipe) this.#listener.swiped(dx > 0 ? "right" : "left");
  }

  /** Zoom so that what is under a point stays there; the point is measured from the stage's centre. */
  #zoomAt(x, y, factor) {
    const scale = Math.min(LARGEST, Math.max(1, this.#scale * factor));
    this.#x = x - ((x - this.#x) * scale) / this.#scale;
    this.#y = y - ((y - this.#y) * scale) / this.#scale;
    this.#scale = scale;
    this.#apply();
  }

  #apply() {
    const picture = this.#stage.querySelector(".picture");
    if (this.#scale < 1.01) this.#scale = 1;
    const roomX = this.#room(picture?.offsetWidth ?? 0);
    const roomY = this.#room(picture?.offsetHeight ?? 0);
    this.#x = Math.min(roomX, Math.max(-roomX, this.#x));
    this.#y = Math.min(roomY, Math.max(-roomY, this.#y));
    this.#stage.classList.toggle("is-zoomed", this.isZoomed);
    this.#stage.style.setProperty("--zoom", String(this.#scale));
    this.#stage.style.setProperty("--move-x", `${this.#x}px`);
    this.#stage.style.setProperty("--move-y", `${this.#y}px`);
  }

  /** How far the image may be moved: every part of it may come to the stage's centre, and none beyond. */
  #room(side) {
    return this.isZoomed ? (side * this.#scale) / 2 : 0;
  }

  #fromCentre({ clientX, clientY }) {
    const { left, top, width, height } = this.#stage.getBoundingClientRect();
    return { x: clientX - left - width / 2, y: clientY - top - height / 2 };
  }
}
