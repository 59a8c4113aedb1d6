/**
 * Keys: which press means which button, and which presses count at all.
 *
 * Every button says its key in `data-key` and further ones in `data-also`; there is no second list. While a dialog is
 * open, only its own buttons have keys. A key that is held down counts once.
 */

/**
 * @typedef {{press: (button: HTMLButtonElement, event: KeyboardEvent) => void,
 *   first: (event: KeyboardEvent) => boolean, type: (letter: string) => boolean}} Listener
 *   `first` and `type` say whether they took the press: before any button, or a letter that no button has
 */

/** @param {Document} target @param {HTMLElement} root holds the buttons of the page itself @param {Listener} listener */
export function listenForKeys(target, root, listener) {
  const known = new WeakMap();
  target.addEventListener("keydown", (event) => {
    if (event.isComposing || isTyping(event.target) || movesSlider(event)) return;
    const layer = target.querySelector("dialog[open]") ?? root;
    if (!known.has(layer)) known.set(layer, readButtons(layer));
    if (layer === root && listener.first(event)) {
      event.preventDefault();
      return;
    }
    const button = buttonFor(known.get(layer), event);
    if (button) {
      event.preventDefault();
      if (!event.repeat) listener.press(button, event);
    } else if (layer === root && isLetter(event) && !event.repeat && listener.type(event.key)) {
      event.preventDefault();
    } else if (event.repeat && isButtonKey(event) && event.target.closest("button")) {
      event.preventDefault(); // Enter held on a focused button would click it again and again
    }
  });
}

function readButtons(layer) {
  const buttons = new Map();
  for (const button of layer.querySelectorAll("button[data-key], button[data-also]")) {
    const also = button.dataset.also?.split(" ") ?? [];
    for (const chord of [button.dataset.key, ...also]) if (chord) buttons.set(chord, button);
  }
  return buttons;
}

function buttonFor(buttons, event) {
  const chord = chordOf(event);
  if (isPlain(event)) {
    const digit = /^(?:Digit|Numpad)(\d)$/.exec(event.code ?? "")?.[1];
    // where digits need Shift, as on French keyboards, the key itself is meant; with Shift it may be a sign
    const own = buttons.get(digit);
    if (own && (!event.shiftKey || !buttons.has(chord))) return own;
  }
  return buttons.get(chord) ?? null;
}

/** @returns {string} such as "z", "Control+z" or "Shift+ArrowUp"; on Apple's keyboards Command counts as Control */
function chordOf(event) {
  const isCharacter = event.key.length === 1;
  const parts = [isCharacter ? event.key.toLowerCase() : event.key];
  if (event.shiftKey && (!isCharacter || !isPlain(event))) parts.unshift("Shift");
  if (event.altKey && !isPlain(event)) parts.unshift("Alt");
  if ((event.ctrlKey || event.metaKey) && !isPlain(event)) parts.unshift("Control");
  return parts.join("+");
}

/** Whether a press types a character; AltGr does so while it looks like Control and Alt. */
function isPlain(event) {
  return event.getModifierState?.("AltGraph") || !(event.ctrlKey || event.metaKey || event.altKey);
}

function isLetter(event) {
  return isPlain(event) && /^\p{L}$/u.test(event.key);
}

function isButtonKey(event) {
  return event.key === "Enter" || event.key === " ";
}

function isTyping(element) {
  if (!(element instanceof HTMLElement)) return false;
  if (element.closest("dialog:not([open])")) return false; // just closed: it has the focus until the next frame
  return element.matches("input:not([type=range], [type=checkbox], [type=radio]), select, textarea, [contenteditable]");
}

function movesSlider(event) {
  const isSlider = event.target instanceof HTMLElement && event.target.matches("input[type=range]");
  return isSlider && !event.shiftKey && /^(Arrow|Page|Home|End)/.test(event.key);
}
