/**
 * The labeling API of one project: requests, and what their failures mean for whoever sent them.
 *
 * Nothing here retries, except once after fetching a fresh form token. Retrying is the outbox's and the queue's work.
 */

import { hasText, text } from "./texts.js";

const REQUEST_MS = 15_000;
const REFUSED = 409;
const TRY_AGAIN = new Set([408, 425, 429]);

/**
 * What went wrong, as far as the sender has to know:
 * "unreachable": nobody can tell whether it arrived, send it again; "signed-out" and "stale-page": it did not arrive and
 * will not until the person does something; "refused": it arrived and the answer is no.
 */
export class Failure extends Error {
  /** @param {"unreachable"|"signed-out"|"stale-page"|"refused"} kind @param {string} message @param {string} [code] */
  constructor(kind, message, code = kind) {
    super(message);
    this.kind = kind;
    this.code = code;
  }
}

/**
 * @typedef {{query_id: number, image_url: string, picture: string|null, width: number, height: number, reserve: boolean,
 *   round: number}} Query
 * @typedef {{batch_answered: number, batch_size: number, labels_used: number, budget: number, own_labels: number,
 *   round_number: number, classes_version: number, stage: {stage?: string}|null}} Progress
 * @typedef {{class_id: number, name: string, count: number, in_batch: number}} OpenClass
 * @typedef {{cluster: number, count: number, in_batch: number}} OpenCluster
 * @typedef {{kind: string, values: Record<string, string|number>, wait: boolean}} Nothing
 * @typedef {{client_id: string, query: Query, outcome: string, class_id: number|null, class_name: string|null,
 *   reason: string|null}} OwnAnswer
 */

export class Api {
  #base;
  #token;
  #userId;

  /** @param {string} base path of the project @param {string} token form token @param {string} userId who is labeling */
  constructor(base, token, userId) {
    this.#base = base;
    this.#token = token;
    this.#userId = userId;
  }

  /** @param {number} count @returns {Promise<{queries: Query[], lease_seconds: number, progress: Progress, nothing: Nothing|null}>} */
  claim(count) {
    return this.#post("claim", { count });
  }

  /**
   * Take a page of one predicted class, or of one cluster.
   *
   * @param {number} count @param {{class_id?: number, cluster?: number}} wish of what, while there is any of it
   * @returns {Promise<{class_id: number|null, class_name: string|null, cluster: number|null, queries: Query[],
   *   classes: OpenClass[], clusters: OpenCluster[], progress: Progress, nothing: Nothing|null}>}
   */
  claimPage(count, wish) {
    return this.#post("grid/claim", { count, with_clusters: true, ...wish });
  }

  /** Send what waits in the outbox. @param {import("./outbox.js").Entry} entry @returns {Promise<any>} */
  async send(entry) {
    if (entry.kind === "answer") return await this.answer(entry);
    if (entry.kind === "put_back") return await this.putBack(entry.query_ids);
    try {
      return await this.undo(entry.client_id);
    } catch (failure) {
      // without the id of an answer a second try might take a second one back
      if (entry.client_id !== null || failure.kind !== "unreachable") throw failure;
      throw new Failure("refused", text("failure.perhaps_undone"));
    }
  }

  /** @param {import("./outbox.js").Entry} entry @returns {Promise<{annotation_id: number, replay: boolean, progress: Progress}>} */
  answer(entry) {
    // keepalive: an answer on its way is not cut off by leaving the page
    return this.#post("answers", bodyOf(entry), { keepalive: true });
  }

  /**
   * Send several answers with one request; each has its own fate.
   *
   * @param {import("./outbox.js").Entry[]} entries @returns {Promise<{reply?: {progress: Progress}, failure?: Failure}[]>}
   */
  async answerAll(entries) {
    const reply = await this.#post("answers/batch", { answers: entries.map(bodyOf) }, { keepalive: true });
    return reply.answers.map(({ refusal }) => {
      if (!refusal) return { reply: { progress: reply.progress } };
      return { failure: new Failure("refused", messageOf(refusal, REFUSED), refusal.error) };
    });
  }

  /** One's own answers, newest first. @param {number|null} before @returns {Promise<{answers: OwnAnswer[], next_before: number|null}>} */
  async ownAnswers(before) {
    return await readJson(await this.#get(before === null ? "answers" : `answers?before=${before}`));
  }

  /** The card "Why this image?", as HTML. @param {number} queryId @returns {Promise<string>} */
  async why(queryId) {
    return await (await this.#get(`queries/${queryId}/why`)).text();
  }

  /** @param {string|null} clientId of the answer to take back @returns {Promise<{query: Query, progress: Progress}>} */
  undo(clientId) {
    return this.#post("undo", { client_id: clientId });
  }

  /** @param {number[]} queryIds @returns {Promise<{lease_seconds: number, query_ids: number[]}>} those still held */
  renew(queryIds) {
    return this.#post("renew", { query_ids: queryIds });
  }

  /** Give back images that are not of the class: they are asked one by one. @param {number[]} queryIds */
  putBack(queryIds) {
    return this.#post("grid/put-back", { query_ids: queryIds }, { keepalive: true });
  }

  /** Give queries back; the promise is kept when the server has them. @param {number[]} queryIds */
  async giveBack(queryIds) {
    await this.#post("release", { query_ids: queryIds }).catch(() => {}); // else their leases run out
  }

  /** Give queries back while the page goes away; nobody waits for the reply. @param {number[]} queryIds */
  release(queryIds) {
    void this.#post("release", { query_ids: queryIds }, { keepalive: true }).catch(() => {});
  }

  async #post(path, body, options = {}) {
    const token = this.#token;
    let response = await this.#send(path, body, options);
    if (response.status === 403 && (await errorOf(response)).error === "foreign_form") {
      if (token === this.#token) await this.#freshenToken(); // else another request has done so meanwhile
      response = await this.#send(path, body, options);
    }
    if (response.ok) return await readJson(response);
    throw await failureOf(response);
  }

  async #get(path) {
    // whoever accepts JSON gets errors as JSON, whatever a success is
    const response = await reach(`${this.#base}/${path}`, { headers: { Accept: "application/json" }, cache: "no-store" });
    if (response.ok) return response;
    throw await failureOf(response);
  }

  #send(path, body, options) {
    const headers = { "Content-Type": "application/json", Accept: "application/json", "X-Form-Token": this.#token };
    return reach(`${this.#base}/${path}`, { method: "POST", headers, body: JSON.stringify(body), ...options });
  }

  /** Signing in again changes the token; this page goes on if the same person did. */
  async #freshenToken() {
    const response = await reach(location.href, {});
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const root = page.getElementById("labeling");
    const token = page.querySelector("meta[name=form-token]")?.getAttribute("content");
    if (!root) throw new Failure("signed-out", text("failure.signed_out"));
    if (!token || root.dataset.user !== this.#userId) throw new Failure("stale-page", text("failure.stale_page"));
    this.#token = token;
  }
}

/** @param {import("./outbox.js").Entry} entry what the server is told of an answer */
function bodyOf({ client_id, query_id, outcome, class_id, reason, seconds_taken, saw_prediction, in_cluster, corrects }) {
  return { client_id, query_id, outcome, class_id, reason, seconds_taken, saw_prediction, in_cluster, corrects };
}

async function reach(address, options) {
  try {
    return await fetch(address, { signal: AbortSignal.timeout(REQUEST_MS), ...options });
  } catch {
    throw new Failure("unreachable", text("failure.unreachable"));
  }
}

async function readJson(response) {
  try {
    return await response.json();
  } catch {
    throw new Failure("unreachable", text("failure.cut_off"));
  }
}

async function errorOf(response) {
  try {
    return await response.clone().json();
  } catch {
    return {};
  }
}

async function failureOf(response) {
  const { status } = response;
  const body = await errorOf(response);
  const message = messageOf(body, status);
  if (status === 401) return new Failure("signed-out", message, body.error);
  if (status >= 500 || TRY_AGAIN.has(status)) return new Failure("unreachable", message, body.error);
  if (body.error === "foreign_form") return new Failure("stale-page", message, body.error);
  return new Failure("refused", message, body.error);
}

/** What happened, in the page's language where it knows the kind of error, else in the server's words. */
function messageOf(body, status) {
  if (hasText(`refused.${body.error}`)) return text(`refused.${body.error}`);
  return body.reason ? `${body.reason}; ${body.remedy}.` : text("failure.status", { status });
}
