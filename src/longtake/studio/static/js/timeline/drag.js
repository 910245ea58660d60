// Dragging on the timeline: the play head on the ruler, borders between scenes, whole scenes to another place.
import { snapPoints } from "./view.js";
import { perSecond, snapped, toSecond } from "./scale.js";
import { moveBorder, starts } from "./script.js";
import { statesOf } from "./scenes.js";

const STILL = 6; // pixels that a pressed block may move before it is dragged

export function startDrags(root, app, timeline) {
  root.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !timeline.facts) return;
    const edge = event.target.closest("[data-edge]");
    const block = event.target.closest("[data-scene]");
    if (edge) dragBorder(event, app, timeline, edge);
    else if (block) dragScene(event, app, timeline, block);
    else if (event.target.closest("#ruler, .lane.thumbs")) dragHead(event, app, timeline);
  });
  root.addEventListener("keydown", (event) => {
    const edge = event.target.closest?.("[data-edge]");
    if (edge) keyBorder(event, app, timeline, Number(edge.dataset.edge));
  });
  root.addEventListener("wheel", (event) => onWheel(event, timeline), { passive: false });
}

/** Second of the video under the pointer. */
function secondAt(timeline, event) {
  const box = timeline.root.querySelector("#track, .track").getBoundingClientRect();
  return toSecond(timeline.scale, event.clientX - box.left);
}

/** Follow a pointer until it is let go; Esc takes everything back. */
function follow(event, element, { move, drop, cancel = () => {} }) {
  element.setPointerCapture?.(event.pointerId);
  const end = new AbortController();
  const options = { signal: end.signal };
  const finish = (act) => (last) => {
    end.abort();
    act(last);
  };
  element.addEventListener("pointermove", move, options);
  element.addEventListener("pointerup", finish(drop), options);
  element.addEventListener("pointercancel", finish(cancel), options);
  window.addEventListener("keydown", (key) => {
    if (key.key !== "Escape") return;
    key.stopPropagation();
    finish(cancel)(key);
  }, { ...options, capture: true });
}

function dragHead(event, app, timeline) {
  event.preventDefault();
  const seek = (now) => app.player.seek(secondAt(timeline, now));
  seek(event);
  follow(event, event.target.closest(".lane"), { move: seek, drop: () => {} });
}

function dragBorder(event, app, timeline, edge) {
  event.preventDefault();
  edge.focus();
  const index = Number(edge.dataset.edge);
  const { script } = timeline.facts;
  const points = snapPoints(app, timeline, index);
  edge.classList.add("moving");
  const moved = (now) => {
    const raw = secondAt(timeline, now);
    const second = timeline.snap && !now.altKey ? snapped(timeline.scale, raw, points) : raw;
    return moveBorder(script, index, second * script.fps, Math.ceil(script.fps / 8));
  };
  const end = () => {
    edge.classList.remove("moving");
    timeline.preview = null;
    timeline.draw();
  };
  follow(event, edge, {
    move: (now) => {
      timeline.preview = moved(now);
      timeline.draw();
    },
    drop: (now) => {
      const next = moved(now);
      end();
      app.timeline.apply(next, { border: index });
    },
    cancel: end,
  });
}

/** Arrow keys on a border: a frame; with Shift or PageUp/PageDown a second; Home and End to its limits. */
function keyBorder(event, app, timeline, index) {
  const { script } = timeline.facts;
  const second = script.fps;
  const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -second, PageUp: second }[event.key];
  const end = starts(script)[index] + script.scenes[index].frames;
  const limits = { Home: -Infinity, End: script.scenes[index + 1] ? Infinity : end };
  if (by === undefined && !(event.key in limits)) return;
  event.preventDefault();
  event.stopPropagation();
  const to = by === undefined ? limits[event.key] : end + (event.shiftKey && Math.abs(by) === 1 ? by * second : by);
  app.timeline.apply(moveBorder(script, index, to, Math.ceil(script.fps / 8)), { border: index, kind: `border ${index}` });
}

function dragScene(event, app, timeline, block) {
  const index = Number(block.dataset.scene);
  app.timeline.select(index);
  const { script } = timeline.facts;
  const begun = event.clientX;
  const movable = statesOf(app, script)[index].state === "free" && script.scenes.length > 1 && event.pointerType !== "touch";
  if (!movable) return;
  const first = starts(script);
  const target = (now) => {
    const frame = secondAt(timeline, now) * script.fps;
    const others = script.scenes.map((_, i) => i).filter((i) => i !== index);
    const to = others.filter((i) => first[i] + script.scenes[i].frames / 2 < frame).length;
    const after = others[to];
    return { to, mark: after === undefined ? first.at(-1) + script.scenes.at(-1).frames : first[after] };
  };
  const end = () => {
    timeline.reordering = null;
    timeline.draw();
  };
  follow(event, block, {
    move: (now) => {
      const dx = now.clientX - begun;
      if (!timeline.reordering && Math.abs(dx) < STILL) return;
      timeline.reordering = { from: index, dx, ...target(now) };
      timeline.draw();
    },
    drop: () => {
      const { reordering } = timeline;
      end();
      if (reordering) app.timeline.move(reordering.from, reordering.to);
    },
    cancel: end,
  });
}

/** Ctrl and the wheel zoom, the wheel alone scrolls sideways. */
function onWheel(event, timeline) {
  if (!event.target.closest(".lanes")) return;
  if (event.ctrlKey || event.metaKey) {
    event.preventDefault();
    timeline.zoom(event.deltaY < 0 ? 1 : -1);
  } else if (timeline.scale.zoom > 0) {
    const by = Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX : event.shiftKey ? event.deltaY : 0;
    if (!by) return;
    event.preventDefault();
    timeline.follow = false;
    timeline.scale = { ...timeline.scale, left: Math.max(0, timeline.scale.left + by / perSecond(timeline.scale)) };
    timeline.draw();
  }
}
