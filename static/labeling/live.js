/** The project's event stream: open while the page is visible, opened again when it breaks. */

const AGAIN_MS = 5_000;

/**
 * @param {string} url
 * @param {(event: any) => void} onEvent gets the parsed event
 * @param {() => void} onListening nothing is missed from now on, and what was before may have been
 */
export function listenToProject(url, onEvent, onListening) {
  /** @type {EventSource|null} */
  let source = null;
  let timer = 0;

  function open() {
    close();
    if (document.visibilityState === "hidden") return; // a browser has only six connections to one server
    source = new EventSource(url);
    source.addEventListener("message", ({ data }) => {
      const event = parse(data);
      if (event?.kind === "listening") onListening();
      else if (event) onEvent(event);
    });
    source.addEventListener("error", () => {
      if (source?.readyState === EventSource.CLOSED) timer = setTimeout(open, AGAIN_MS); // refused: it will not retry
    });
  }

  function close() {
    clearTimeout(timer);
    source?.close();
    source = null;
  }

  document.addEventListener("visibilitychange", open);
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", ({ persisted }) => persisted && open());
  open();
}

function parse(data) {
  try {
    return JSON.parse(data);
  } catch {
    return null;
  }
}
