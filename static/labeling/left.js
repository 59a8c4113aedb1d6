/** What is left to somebody who is no longer a member of a project: the answers that waited in this browser are sent. */

import { Api } from "./api.js";
import { Outbox, browserStorage } from "./outbox.js";
import { counted, useTexts } from "./texts.js";

const root = document.getElementById("left");
const { user, project, texts } = root.dataset;
useTexts(JSON.parse(texts));
const status = root.querySelector("[data-part=kept]");
const api = new Api(`/projects/${project}`, document.querySelector("meta[name=form-token]").content, user);
let kept = 0;

const outbox = new Outbox(browserStorage(), `querent.outbox.${user}.${project}.`, deliver, {
  delivered: () => location.reload(), // added again meanwhile
  refused(entry) {
    if (entry.kind === "answer") kept += 1;
    show();
  },
  changed: show,
});

/** @param {import("./outbox.js").Entry} entry */
function deliver(entry) {
  return entry.kind === "answer" ? api.answer(entry) : api.undo(entry.client_id);
}

function show() {
  if (outbox?.size) status.textContent = counted("left.waiting", outbox.size);
  else status.textContent = kept ? counted("left.kept", kept) : "";
}

outbox.resume();
