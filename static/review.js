// The review page: every decision has a key, which presses its button; what was decided is read out.

const review = document.getElementById("review");
const said = document.getElementById("review-said");
let isBusy = false; // between a press and the next image: a second press must not decide about an image unseen

function pressed(event) {
  if (event.repeat || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return null;
  if (event.target.closest?.("input, select, textarea")) return null;
  const digit = /^(?:Digit|Numpad)(\d)$/.exec(event.code ?? "")?.[1];
  const keys = new Map([...review.querySelectorAll("[data-key]")].map((button) => [button.dataset.key, button]));
  return keys.get(event.key.toLowerCase()) ?? keys.get(digit) ?? null;
}

document.addEventListener("keydown", (event) => {
  const button = pressed(event);
  if (!button) return;
  event.preventDefault();
  if (isBusy) return;
  isBusy = true;
  button.click();
});
document.addEventListener("htmx:before:request", () => {
  isBusy = true;
});
document.addEventListener("htmx:after:swap", () => {
  isBusy = false;
  const shown = review.querySelector("[data-said]");
  if (shown?.dataset.said) said.textContent = shown.dataset.said;
  if (document.activeElement === document.body) review.querySelector("h2")?.focus();
});
for (const kind of ["htmx:error", "htmx:response:error"]) {
  document.addEventListener(kind, () => {
    isBusy = false;
  });
}
