/**
 * Keys: which press means which button, and which presses count at all.
 *
 * Every button says its key in `data-key`; there is no second list. A key that is held down counts once.
 */

const UNDO = "undo";

/**
 * Call `press` for every key press that means a button.
 *
 * @param {Document} target
 * @param {HTMLElement} root holds the buttons
 * @param {(button: HTMLButtonElement, event: KeyboardEvent) => void} press
 */
export function listenForKeys(target, root, press) {
  const buttons = readButtons(root);
  const undo = root.querySelector(`[data-action=${UNDO}]`);
  target.addEventListener("keydown", (event) => {
    if (event.isComposing || isTyping(event.target)) return;
    const button = isUndo(event) ? undo : hasModifier(event) ? null : buttonFor(buttons, event);
    if (button) {
      event.preventDefault();
      if (!event.repeat) press(button, event);
    } else if (event.repeat && isButtonKey(event) && root.contains(event.target)) {
      event.preventDefault(); // Enter held on a focused button would click it again and again
    }
  });
}

function readButtons(root) {
  const buttons = new Map();
  for (const button of root.querySelectorAll("button[data-key]")) buttons.set(button.dataset.key, button);
  return buttons;
}

function buttonFor(buttons, event) {
  const digit = /^(?:Digit|Numpad)(\d)$/.exec(event.code ?? "")?.[1]; // where digits need Shift, as on French keyboards
  return buttons.get(event.key) ?? buttons.get(event.key.toLowerCase()) ?? buttons.get(digit) ?? null;
}

function isUndo(event) {
  if (event.key === "Backspace") return !hasModifier(event);
  return event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey;
}

function hasModifier(event) {
  return event.ctrlKey || event.metaKey || event.altKey;
}

function isButtonKey(event) {
  return event.key === "Enter" || event.key === " ";
}

function isTyping(element) {
  return element instanceof HTMLElement && element.matches("input, select, textarea, [contenteditable]");
}
