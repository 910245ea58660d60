// The one event stream of the page. The browser reconnects by itself and says which event it saw last; this tells who is gone.
const GONE = 3000; // milliseconds without a stream before the page says so

/**
 * @param {string} url
 * @param {{onEvent: (name: string, data: object) => void, onAlive: (alive: boolean) => void, source?: typeof EventSource}} options
 */
export function followEvents(url, names, { onEvent, onAlive, source = globalThis.EventSource }) {
  let stream;
  let timer = 0;
  let closed = false;

  function open() {
    stream = new source(url);
    stream.onopen = () => {
      clearTimeout(timer);
      timer = 0;
      onAlive(true);
    };
    stream.onerror = () => {
      timer ||= setTimeout(() => onAlive(false), GONE);
      if (stream.readyState === 2 && !closed) setTimeout(open, GONE); // an answer that is no stream ends it for good
    };
    for (const name of names) {
      stream.addEventListener(name, (event) => onEvent(name, JSON.parse(event.data)));
    }
  }
  open();
  return () => {
    closed = true;
    clearTimeout(timer);
    stream.close();
  };
}
