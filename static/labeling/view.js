/** What is seen and heard on the labeling page: this module alone writes to the document around image and panels. */

import { counted, text } from "./texts.js";

const SMALL_SIDE = 128; // images below are pixel art or tiny scans: enlarged they stay crisp
const LARGEST_PIXEL = 56; // a digit of 8 pixels is harder to read when it fills the screen
const KEEP_NOTICES = 3;

/** @typedef {import("./held.js").Held} Held */

export class View {
  #root;
  #stage;
  #parts = {};
  /** @type {string} what the stage shows, so that it is not drawn twice */
  #shown = "";
  #isReady = false;

  /** @param {HTMLElement} root */
  constructor(root) {
    this.#root = root;
    for (const part of document.querySelectorAll("[data-part]")) this.#parts[part.dataset.part] = part;
    this.#stage = this.#parts.stage;
    this.#parts.notices = document.getElementById("notice");
  }

  /** @returns {HTMLElement} */
  get stage() {
    return this.#stage;
  }

  /**
   * Put a decoded image on the stage.
   *
   * @param {Held} item @param {(at: number) => void} painted called once it can be seen, with the time
   */
  showImage(item, painted) {
    const { width, height } = item.query;
    this.#show(`image-${item.query.query_id}`);
    item.image.style.setProperty("--ratio", String(width / height));
    item.image.style.setProperty("--widest", `${width * LARGEST_PIXEL}px`);
    item.image.className = "picture";
    item.image.classList.toggle("is-crisp", Math.max(width, height) < SMALL_SIDE);
    this.#stage.replaceChildren(item.image);
    afterPaint(painted);
  }

  /** @param {Held} item its image cannot be fetched, or is none @param {(at: number) => void} painted */
  showBroken(item, painted) {
    this.showMessage(`broken-${item.query.query_id}`, text("image.broken"), text("image.broken_remedy"));
    afterPaint(painted);
  }

  /** @param {string} reason @param {string} remedy */
  showNothing(reason, remedy) {
    const isNew = this.showMessage(`nothing-${reason}-${remedy}`, sentence(reason), sentence(remedy));
    if (isNew) this.say(`${sentence(reason)} ${sentence(remedy)}`);
  }

  /** Put words where the image would be. @param {string} what @param {string} title @param {string} words */
  showMessage(what, title, words) {
    if (!this.#show(what)) return false;
    const message = this.#parts["message-template"].content.firstElementChild.cloneNode(true);
    const [heading, paragraph] = message.children;
    heading.textContent = title;
    heading.hidden = !title;
    paragraph.textContent = words;
    this.#stage.replaceChildren(message);
    return true;
  }

  /** Put something of another kind on the stage. @param {string} what @param {HTMLElement} element */
  showElement(what, element) {
    if (this.#show(what)) this.#stage.replaceChildren(element);
  }

  /** @param {boolean} isBusy whether what is on the stage cannot be seen yet */
  setBusy(isBusy) {
    this.#stage.setAttribute("aria-busy", String(isBusy));
  }

  /** @param {boolean} isReady whether an answer can be given */
  setReady(isReady) {
    if (isReady === this.#isReady) return;
    this.#isReady = isReady;
    for (const button of this.#root.querySelectorAll("[data-answers]")) {
      button.setAttribute("aria-disabled", String(!isReady));
    }
  }

  /** @param {boolean} canUndo */
  setUndo(canUndo) {
    this.#root.querySelector("[data-action=undo]").setAttribute("aria-disabled", String(!canUndo));
  }

  /**
   * Say which of one's own answers is looked at, and mark its button; null for none.
   *
   * @param {import("./own_answers.js").Given|null} given @param {string} [shown] @param {string} [back]
   */
  showGiven(given, shown = "", back = "") {
    const { review } = this.#parts;
    review.hidden = !given;
    review.querySelector("[data-shown]").textContent = shown;
    review.querySelector("[data-back]").textContent = back;
    this.#stage.classList.toggle("is-looked-at", Boolean(given));
    for (const button of this.#root.querySelectorAll("[data-answers]")) {
      const { answers, classId = null } = button.dataset;
      const isGiven = answers === given?.outcome && (classId ? Number(classId) : null) === given.classId;
      button.classList.toggle("is-given", isGiven);
      if (isGiven) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
    this.#root.querySelector("[data-action=forward]").setAttribute("aria-disabled", String(!given));
  }

  /** @param {string} words @param {number} done @param {number} total of the batch */
  setProgress(words, done, total) {
    this.#parts.progress.textContent = words;
    this.#parts.bar.max = Math.max(1, total);
    this.#parts.bar.value = done;
  }

  /** @param {string} words what the worker does */
  setWorker(words) {
    this.#parts.worker.textContent = words;
  }

  /** @param {string} words about answers on their way; "" for none */
  setOutbox(words) {
    if (this.#parts.outbox.textContent !== words) this.#parts.outbox.textContent = words;
    this.#parts.outbox.hidden = !words;
  }

  /** Show why nothing is sent, until it is; null for nothing. @param {"signed-out"|"stale-page"|null} why @param {number} count */
  setHalted(why, count) {
    for (const part of ["signed-out", "stale-page"]) {
      this.#parts[part].hidden = part !== why;
      const kept = this.#parts[part].querySelector("[data-kept]");
      const words = count ? counted("halted.kept", count) : "";
      if (kept.textContent !== words) kept.textContent = words;
    }
  }

  /** Tell that the page's buttons are no longer the project's, once. */
  tellChanged() {
    this.#parts.changed.hidden = false;
  }

  /** Open or close a panel beside the image. @param {"light"} name @returns {boolean} whether it is open now */
  togglePanel(name) {
    const panel = this.#parts[name];
    panel.hidden = !panel.hidden;
    this.#root.querySelector(`[aria-controls=${panel.id}]`).setAttribute("aria-expanded", String(!panel.hidden));
    if (!panel.hidden) panel.querySelector("input").focus();
    return !panel.hidden;
  }

  /** Flash the button that was pressed by key. @param {HTMLElement} button */
  flash(button) {
    button.classList.remove("is-pressed");
    requestAnimationFrame(() => button.classList.add("is-pressed"));
  }

  /** Tell what happened to those who do not see it. @param {string} words */
  say(words) {
    // the same words twice are read twice only if the text changes
    this.#parts.live.textContent = this.#parts.live.textContent === words ? `${words}\u00a0` : words;
  }

  /** Tell everybody something that went wrong; stays until dismissed. @param {string} words */
  notice(words) {
    const notice = this.#parts["notice-template"].content.firstElementChild.cloneNode(true);
    notice.querySelector("p").textContent = words;
    this.#parts.notices.append(notice);
    while (this.#parts.notices.children.length > KEEP_NOTICES) this.#parts.notices.firstElementChild.remove();
  }

  /** Tell what was known about an image, until something else is; it takes no key and no focus. */
  tellKnown(words, isRight) {
    const told = this.#parts.known;
    told.textContent = words;
    told.hidden = false;
    told.classList.toggle("is-bad", !isRight);
    told.classList.toggle("is-good", isRight);
  }

  #show(what) {
    const isNew = this.#shown !== what;
    this.#shown = what;
    return isNew;
  }
}

/** Call back once the next frame can be seen, with the time. @param {(at: number) => void} painted */
export function afterPaint(painted) {
  requestAnimationFrame(() => {
    const channel = new MessageChannel(); // its message comes after the frame, without the wait of a timer
    channel.port1.onmessage = () => painted(performance.now());
    channel.port2.postMessage(null);
  });
}

function sentence(words) {
  const trimmed = words.trim();
  const start = trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return !start || /[.!?…]$/.test(start) ? start : `${start}.`;
}
