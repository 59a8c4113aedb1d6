/** The card "Why this image?": fetched and shown on demand, gone with its image, and remembered where it was seen. */

export class Why {
  #panel;
  #body;
  #fetch;
  #listener;
  /** @type {Set<number>} queries whose prediction has been on screen */
  #seen = new Set();
  #wanted = 0; // the query that the card is about, 0 when it is closed

  /**
   * @param {HTMLElement} panel
   * @param {(queryId: number) => Promise<string>} fetchCard as HTML that the server has escaped; throws a Failure
   * @param {{opened: () => void, failed: (failure: import("./api.js").Failure) => void}} listener
   */
  constructor(panel, fetchCard, listener) {
    this.#panel = panel;
    this.#body = panel.querySelector("[data-part=why-body]");
    this.#fetch = fetchCard;
    this.#listener = listener;
  }

  get isOpen() {
    return !this.#panel.hidden;
  }

  /** Whether what the network believes about a query has been shown. @param {number} queryId */
  hasShown(queryId) {
    return this.#seen.has(queryId);
  }

  /** @param {number} queryId */
  async toggle(queryId) {
    if (this.isOpen || this.#wanted === queryId) {
      this.close();
      return;
    }
    this.#wanted = queryId;
    try {
      this.#show(queryId, await this.#fetch(queryId));
    } catch (failure) {
      if (this.#wanted !== queryId) return;
      this.#wanted = 0;
      this.#listener.failed(failure);
    }
  }

  close() {
    this.#wanted = 0;
    this.#panel.hidden = true;
    this.#body.replaceChildren();
  }

  #show(queryId, html) {
    if (this.#wanted !== queryId) return; // answered, or closed, meanwhile
    const card = new DOMParser().parseFromString(html, "text/html").body;
    if (card.querySelector("[data-predicts]")) this.#seen.add(queryId);
    this.#body.replaceChildren(...card.children);
    this.#panel.hidden = false;
    this.#listener.opened();
  }
}
