// A project's page: hears what happens, fetches the parts that changed, and draws the learning curve.

import { drawCurve } from "./curve.js";
import { listen } from "./live.js";

const live = document.getElementById("live");
const controls = document.getElementById("controls");

function refresh(part) {
  if (part && !part.contains(document.activeElement?.closest("input, select, textarea"))) {
    htmx.trigger(part, "querent:refresh");
  }
}

listen(live.dataset.events, (kinds) => {
  refresh(live);
  if (kinds.has("project") || kinds.has("round")) refresh(controls);
});

document.addEventListener("htmx:after:swap", (event) => {
  if (live.contains(event.target) || event.target === live) drawCurve();
});
document.addEventListener("querent:changed", () => refresh(live));
drawCurve();
