/** What the head of a page tells by itself: answers that are kept or on their way, and what the worker does. */

import { stageText, workerText } from "./progress.js";
import { counted, text } from "./texts.js";

const MENTION_AFTER_MS = 1_000; // answers on their way for less are not worth a word
const WORKER_NEWS_MS = 20_000;

export class OutboxNews {
  #view;
  #timer = 0;

  /** @param {import("./view.js").View} view */
  constructor(view) {
    this.#view = view;
  }

  /** @param {import("./outbox.js").Outbox} outbox */
  show(outbox) {
    this.#view.setHalted(outbox.halted, outbox.size);
    if (!outbox.size || outbox.halted) {
      clearTimeout(this.#timer);
      this.#timer = 0;
      this.#view.setOutbox("");
    } else if (outbox.isRetrying) {
      const kept = counted("outbox.kept", outbox.size);
      this.#view.setOutbox(text(navigator.onLine ? "outbox.unreachable" : "outbox.offline", { kept }));
    } else {
      this.#timer ||= setTimeout(() => {
        this.#timer = 0;
        if (outbox.size && !outbox.halted) this.#view.setOutbox(counted("outbox.on_the_way", outbox.size));
      }, MENTION_AFTER_MS);
    }
  }
}

export class WorkerNews {
  #view;
  #timer = 0;

  /** @param {import("./view.js").View} view */
  constructor(view) {
    this.#view = view;
  }

  /** What the server says the worker does now, unless there is news. @param {{stage?: string}|null} stage */
  keep(stage) {
    if (!this.#timer) this.#view.setWorker(stage ? stageText(stage) : "");
  }

  /** @param {any} event of the project */
  hear(event) {
    const words = workerText(event);
    if (words === null) return;
    this.#view.setWorker(words);
    clearTimeout(this.#timer);
    this.#timer = event.state === "done" ? setTimeout(() => this.#end(), WORKER_NEWS_MS) : 0;
  }

  #end() {
    this.#timer = 0;
    this.#view.setWorker("");
  }
}
