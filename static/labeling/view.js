/** What is seen and heard on the labeling page: this module alone writes to the document. */

const SMALL_SIDE = 128; // images below are pixel art or tiny scans: enlarged they stay crisp
const LARGEST_PIXEL = 56; // a digit of 8 pixels is harder to read when it fills the screen
const KEEP_NOTICES = 3;

/** @typedef {import("./queue.js").Held} Held */

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

  /**
   * Put a decoded image on the stage.
   *
   * @param {Held} item @param {(at: number) => void} painted called once it can be seen, with the time
   */
  showImage(item, painted) {
    const { width, height } = item.query;
    this.#show(`image ${item.query.query_id}`);
    item.image.style.setProperty("--ratio", String(width / height));
    item.image.style.setProperty("--widest", `${width * LARGEST_PIXEL}px`);
    item.image.className = Math.max(width, height) < SMALL_SIDE ? "picture is-crisp" : "picture";
    this.#stage.replaceChildren(item.image);
    afterPaint(painted);
  }

  /** @param {Held} item its image cannot be fetched, or is none @param {(at: number) => void} painted */
  showBroken(item, painted) {
    if (!this.#show(`broken ${item.query.query_id}`)) return;
    this.#message("This image cannot be shown", "Say “unusable” or skip it; it is tried again in the meantime.");
    afterPaint(painted);
  }

  showLoading() {
    if (!this.#show("loading")) return;
    this.#message("", "Fetching the next image …");
  }

  /** @param {string} reason @param {string} remedy */
  showNothing(reason, remedy) {
    if (!this.#show(`nothing ${reason} ${remedy}`)) return;
    this.#message(sentence(reason), sentence(remedy));
    this.say(`${sentence(reason)} ${sentence(remedy)}`);
  }

  /** @param {boolean} isReady whether an answer can be given */
  setReady(isReady) {
    if (isReady === this.#isReady) return;
    this.#isReady = isReady;
    for (const button of this.#root.querySelectorAll("[data-answer]")) {
      button.setAttribute("aria-disabled", String(!isReady));
    }
  }

  /** @param {boolean} canUndo */
  setUndo(canUndo) {
    this.#root.querySelector("[data-action=undo]").setAttribute("aria-disabled", String(!canUndo));
  }

  /** @param {string} text @param {number} done @param {number} total of the batch */
  setProgress(text, done, total) {
    this.#parts.progress.textContent = text;
    this.#parts.bar.max = Math.max(1, total);
    this.#parts.bar.value = done;
  }

  /** @param {string} text what the worker does */
  setWorker(text) {
    this.#parts.worker.textContent = text;
  }

  /** @param {string} text about answers on their way; "" for none */
  setOutbox(text) {
    if (this.#parts.outbox.textContent !== text) this.#parts.outbox.textContent = text;
    this.#parts.outbox.hidden = !text;
  }

  /** Show why nothing is sent, until it is; null for nothing. @param {"signed-out"|"stale-page"|null} why @param {number} count */
  setHalted(why, count) {
    const kept = count === 1 ? "Your answer is kept." : `Your ${count} answers are kept.`;
    for (const part of ["signed-out", "stale-page"]) {
      this.#parts[part].hidden = part !== why;
      const text = this.#parts[part].querySelector("[data-kept]");
      const words = count ? kept : "";
      if (text.textContent !== words) text.textContent = words;
    }
  }

  /** Flash the button that was pressed by key. @param {HTMLElement} button */
  flash(button) {
    button.classList.remove("is-pressed");
    requestAnimationFrame(() => button.classList.add("is-pressed"));
  }

  /** Tell what happened to those who do not see it. @param {string} text */
  say(text) {
    // the same words twice are read twice only if the text changes
    this.#parts.live.textContent = this.#parts.live.textContent === text ? `${text}\u00a0` : text;
  }

  /** Tell everybody something that went wrong; stays until dismissed. @param {string} text */
  notice(text) {
    const notice = this.#parts["notice-template"].content.firstElementChild.cloneNode(true);
    notice.querySelector("p").textContent = text;
    this.#parts.notices.append(notice);
    while (this.#parts.notices.children.length > KEEP_NOTICES) this.#parts.notices.firstElementChild.remove();
  }

  #show(what) {
    const isNew = this.#shown !== what;
    this.#shown = what;
    return isNew;
  }

  #message(title, text) {
    const message = this.#parts["message-template"].content.firstElementChild.cloneNode(true);
    const [heading, paragraph] = message.children;
    heading.textContent = title;
    heading.hidden = !title;
    paragraph.textContent = text;
    this.#stage.replaceChildren(message);
  }
}

function sentence(text) {
  const trimmed = text.trim();
  const start = trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return !start || /[.!?…]$/.test(start) ? start : `${start}.`;
}

function afterPaint(painted) {
  requestAnimationFrame(() => {
    const channel = new MessageChannel(); // its message comes after the frame, without the wait of a timer
    channel.port1.onmessage = () => painted(performance.now());
    channel.port2.postMessage(null);
  });
}
