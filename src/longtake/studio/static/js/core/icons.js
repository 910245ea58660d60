// The icons: strokes on a grid of 20 pixels, in the colour of the text around them. All are decoration; buttons have labels.
import { svg } from "./dom.js";

const PATHS = {
  play: "M6.5 4.2v11.6L16 10z",
  pause: "M7 4.5v11M13 4.5v11",
  back: "M12.5 5 7.5 10l5 5",
  forward: "M7.5 5l5 5-5 5",
  first: "M14.5 5l-5 5 5 5M6 5v10",
  last: "M5.5 5l5 5-5 5M14 5v10",
  plus: "M10 4.5v11M4.5 10h11",
  minus: "M4.5 10h11",
  markIn: "M13.5 4H8.500v12h5M8.500 10h7",
  markOut: "M6.500 4h5v12h-5M11.500 10h-7",
  close: "M5.5 5.5l9 9M14.5 5.5l-9 9",
  check: "M4.5 10.5l3.7 3.7 7.3-8",
  lock: "M6 9V6.8a4 4 0 0 1 8 0V9M5 9h10v7.5H5z",
  unlock: "M6 9V6.8a4 4 0 0 1 7.4-2M5 9h10v7.5H5z",
  dice: "M4.5 4.5h11v11h-11zM7.6 7.6h.01M12.4 7.6h.01M10 10h.01M7.6 12.4h.01M12.4 12.4h.01",
  loop: "M5 8.5A3.5 3.5 0 0 1 8.5 5H15l-2.2-2.2M15 11.500A3.500 3.500 0 0 1 11.500 15H5l2.200 2.200",
  full: "M4.500 8V4.500H8M12 4.500h3.500V8M15.500 12v3.500H12M8 15.500H4.500V12",
  split: "M10 3.500v13M7 7l-3 3 3 3M13 7l3 3-3 3",
  copy: "M7.500 7.500h8v8h-8zM12.500 7.500v-3h-8v8h3",
  trash: "M4.500 6h11M8 6V4.500h4V6M6 6l.700 9.500h6.600L14 6M8.600 8.800v4M11.400 8.800v4",
  star: "M10 3.600l2 4.100 4.500.600-3.300 3.100.800 4.500L10 13.700l-4 2.200.800-4.500L3.500 8.300 8 7.700z",
  search: "M9 4.500a4.500 4.500 0 1 1 0 9 4.500 4.500 0 0 1 0-9M12.400 12.400l3.400 3.400",
  theme: "M10 3.500a6.500 6.500 0 1 0 0 13zM10 3.500a6.500 6.500 0 0 1 0 13",
  keys: "M3.500 6h13v8.500h-13zM6.300 8.700h.01M9 8.700h.01M11.700 8.700h.01M14 8.700h.01M7 11.800h6",
  language: "M10 3.500a6.500 6.500 0 1 0 0 13 6.500 6.500 0 0 0 0-13M3.800 10h12.400M10 3.500c-4 4-4 9 0 13M10 3.500c4 4 4 9 0 13",
  up: "M5 12l5-5 5 5",
  down: "M5 8l5 5 5-5",
  stop: "M6 6h8v8H6z",
  image: "M4 5h12v10H4zM4 13l3.500-3.500 3 3 2-2L16 14M12.300 8h.01",
  compare: "M4 5h5.500v10H4zM10.500 5H16v10h-5.500z",
  export: "M10 3.500v8.500M6.500 9l3.500 3.500L13.500 9M4.500 15.800h11",
  import: "M10 12.500V4M6.500 7.500L10 4l3.500 3.500M4.500 15.800h11",
  extend: "M4 5.500v9M7 10h9M12.500 6.500L16 10l-3.500 3.500",
  undo: "M7.500 4.500L4 8l3.500 3.500M4 8h7.500a4 4 0 0 1 0 8H9",
  redo: "M12.500 4.500L16 8l-3.500 3.500M16 8H8.500a4 4 0 0 0 0 8H11",
  fit: "M3.500 5v10M16.500 5v10M6 10h8M8 7.500L5.500 10 8 12.500M12 7.500l2.500 2.500-2.500 2.500",
  again: "M15.500 8a6 6 0 1 0 .3 3.500M15.800 4.500V8h-3.500",
  film: "M4 5h12v10H4zM7 5v10M13 5v10M4 8.300h3M4 11.700h3M13 8.300h3M13 11.700h3",
  warning: "M10 4l7 12H3zM10 8.500v3.500M10 14h.01",
  info: "M10 3.500a6.500 6.500 0 1 0 0 13 6.500 6.500 0 0 0 0-13M10 9.200v4.300M10 6.800h.01",
};
const SOLID = new Set(["play", "stop"]);

/** Draw an icon by name. */
export function icon(name, extra = "") {
  const kind = `icon ${SOLID.has(name) ? "solid" : ""} ${extra}`;
  return svg`<svg class=${kind} viewBox="0 0 20 20" aria-hidden="true" focusable="false"><path d=${PATHS[name]}></path></svg>`;
}
