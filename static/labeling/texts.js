/** What the page says, in its language: the texts that the server put on the page, and numbers as people write them. */

/** @type {Record<string, string>} */
let entries = {};

/** @param {Record<string, string>} texts by key */
export function useTexts(texts) {
  entries = texts;
}

/** @param {string} key @param {Record<string, string|number>} [values] of its placeholders @returns {string} */
export function text(key, values = {}) {
  if (!(key in entries)) throw new RangeError(key);
  return entries[key].replace(/\{(\w+)\}/g, (_whole, name) => String(values[name]));
}

/** @param {string} key @returns {boolean} whether there is a text of this key */
export function hasText(key) {
  return key in entries;
}

/** The text for one or for several. @param {string} key @param {number} count */
export function counted(key, count) {
  return text(`${key}.${count === 1 ? "one" : "other"}`, { count: grouped(count) });
}

/** @param {number} number @returns {string} with thin spaces between thousands, as on the other pages */
export function grouped(number) {
  return number.toLocaleString("en").replaceAll(",", "\u202f");
}

/** @param {number} share in [0, 1] @param {number} [digits] */
export function percent(share, digits = 1) {
  const shape = { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits };
  return share.toLocaleString(document.documentElement.lang, shape);
}

/** @param {string} at ISO 8601 @returns {string} the time of day where the person is */
export function timeOfDay(at) {
  const shape = { hour: "2-digit", minute: "2-digit", second: "2-digit" };
  return new Date(at).toLocaleTimeString(document.documentElement.lang, shape);
}
