/** Queries that a page holds, each with its image: fetched and decoded, so that it can be shown in the next frame. */

import { text } from "./texts.js";

const IMAGE_TRIES = 3;
const IMAGE_WAIT_MS = 500;
const LONGEST_IMAGE_WAIT_MS = 4_000;

/**
 * @typedef {{query: import("./api.js").Query, image: HTMLImageElement, state: "loading"|"decoded"|"broken",
 *   wanted: boolean}} Held
 */

/**
 * Wrap a query and start fetching its image, unless that came along.
 *
 * @param {import("./api.js").Query} query @param {string} address of its image, perhaps of a smaller one
 * @param {() => void} changed called when the image has been decoded, or a try has failed
 * @returns {Held}
 */
export function fetchImage(query, address, changed) {
  const image = new Image();
  image.decoding = "sync"; // shown in the frame in which it is put on the page
  image.alt = text("image.alt");
  image.draggable = false;
  image.dataset.address = query.image_url;
  const item = { query, image, state: "loading", wanted: true };
  void decode(item, address, changed);
  return item;
}

/** Stop trying to fetch an image that nobody will see. @param {Held} item */
export function letGo(item) {
  item.wanted = false;
}

async function decode(item, address, changed) {
  for (let tries = 1; item.state !== "decoded" && item.wanted; tries += 1) {
    try {
      // another address after a failure, since the browser remembers for a while that the first one failed
      const again = `${address}${address.includes("?") ? "&" : "?"}try=${tries}`;
      item.image.src = tries === 1 ? (item.query.picture ?? address) : again;
      await item.image.decode();
      item.state = "decoded";
    } catch {
      if (tries >= IMAGE_TRIES && navigator.onLine) item.state = "broken";
      await new Promise((resolve) => setTimeout(resolve, Math.min(LONGEST_IMAGE_WAIT_MS, IMAGE_WAIT_MS * tries)));
    }
    changed();
  }
}
