// Hears a project's events and says which kinds came, at most every `PAUSE` milliseconds. Survives reconnects: as soon
// as nothing is missed any more, and now and then in case something was, everything is taken as changed.

const PAUSE = 600;
const AT_LEAST_EVERY = 15000;
const RETRY = 4000;

export function listen(address, onChange) {
  let source = null;
  let pending = new Set();
  let timer = null;

  function flush() {
    timer = null;
    const kinds = pending;
    pending = new Set();
    onChange(kinds);
  }

  function note(kind) {
    pending.add(kind);
    timer ??= setTimeout(flush, PAUSE);
  }

  function connect() {
    source = new EventSource(address);
    source.onmessage = (event) => {
      const { kind } = JSON.parse(event.data);
      note(kind === "listening" ? "project" : kind);
    };
    source.onerror = () => {
      // the browser comes back by itself unless the server refused; then we try again
      if (source?.readyState === EventSource.CLOSED) setTimeout(() => !document.hidden && restart(), RETRY);
    };
  }

  function restart() {
    source?.close();
    connect();
  }

  document.addEventListener("visibilitychange", () => {
    // a hidden page holds no connection: browsers allow only six to a server
    if (document.hidden) source?.close();
    else restart();
  });
  window.addEventListener("pagehide", () => source?.close());
  window.addEventListener("pageshow", (event) => event.persisted && restart());
  setInterval(() => !document.hidden && note("check"), AT_LEAST_EVERY);
  connect();
}
