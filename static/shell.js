// What every page needs from script: the form token on htmx requests, and notices that can be dismissed.

export function formToken() {
  return document.querySelector('meta[name="form-token"]').content;
}

document.addEventListener("htmx:config:request", (event) => {
  event.detail.ctx.request.headers["X-Form-Token"] = formToken();
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-dismiss]");
  if (button) button.closest(".notice").remove();
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  button.closest(".link-box").querySelector("input").select();
  await navigator.clipboard?.writeText(button.dataset.copy);
  button.textContent = "Copied";
});
