// Scripts, edits, states and undo of the timeline.
import assert from "node:assert/strict";
import { test } from "node:test";
import { editsBetween, firstDifference } from "../../../src/longtake/studio/static/js/timeline/edits.js";
import { emptyHistory, noted, redone, undone } from "../../../src/longtake/studio/static/js/timeline/history.js";
import * as scripts from "../../../src/longtake/studio/static/js/timeline/script.js";
import { pace, sceneStates } from "../../../src/longtake/studio/static/js/timeline/states.js";

const make = (lengths, { endless = false, prompts = "abcdefgh" } = {}) => ({
  fps: 24,
  endless,
  scenes: lengths.map((frames, i) => scripts.scene(prompts[i], frames)),
});
const rows = (script) => scripts.joined(script).scenes.map((one) => [one.prompt, one.frames, one.cut || false]);

/** What a run does with an edit: the rules of longtake.planning.script_edits. */
function edited(script, { op, at, frames, prompt, cut }) {
  const all = script.scenes.map((one, i) => ({ ...one, at: scripts.starts(script)[i] }));
  const end = scripts.total(script);
  if (op === "add") return scripts.insertAfter(script, all.length - 1, scripts.scene(prompt, frames, cut));
  const i = all.findLastIndex((one) => one.at <= at);
  const before = at - all[i].at;
  if (op === "insert") {
    const split = before ? scripts.split(script, at) : script;
    return scripts.insertAfter(split, before ? i : i - 1, scripts.scene(prompt, frames, cut));
  }
  const scenes = before ? [{ ...all[i], frames: before }] : [];
  scenes.push(scripts.scene(prompt, (all[i + 1]?.at ?? end) - at, cut));
  return { ...script, scenes: script.scenes.toSpliced(i, 1, ...scenes) };
}

test("a border moves two neighbours and leaves the length", () => {
  const moved = scripts.moveBorder(make([48, 48, 24]), 0, 60);
  assert.deepEqual(moved.scenes.map((one) => one.frames), [60, 36, 24]);
  assert.deepEqual(scripts.moveBorder(make([48, 48]), 0, 1000, 3).scenes.map((one) => one.frames), [93, 3]);
  assert.deepEqual(scripts.moveBorder(make([48, 48]), 1, 120).scenes.map((one) => one.frames), [48, 72]);
});

test("split, duplicate, remove, reorder and length", () => {
  const one = make([48, 48]);
  assert.deepEqual(rows(scripts.split(one, 12)), rows(one)); // two halves with one prompt are one scene to a viewer
  assert.equal(scripts.split(one, 12).scenes.length, 3);
  assert.equal(scripts.split(one, 48), one);
  assert.deepEqual(scripts.duplicate(one, 0).scenes.map((s) => s.prompt), ["a", "a", "b"]);
  assert.deepEqual(rows(scripts.remove(one, 0)), [["b", 48, false]]);
  assert.deepEqual(rows(scripts.remove(one, 1, true)), [["a", 96, false]]);
  assert.deepEqual(scripts.reorder(make([1, 2, 3]), 0, 2).scenes.map((s) => s.prompt), ["b", "c", "a"]);
  assert.deepEqual(rows(scripts.withLength(one, 60)), [["a", 48, false], ["b", 12, false]]);
  assert.deepEqual(rows(scripts.withLength(one, 40)), [["a", 40, false]]);
});

test("equal scripts need no edits, whatever their scenes are split into", () => {
  const one = make([48, 48]);
  assert.equal(firstDifference(one, scripts.split(one, 60)), null);
  assert.deepEqual(editsBetween(one, scripts.split(one, 60), 96), { edits: [], refused: null });
});

test("an inserted scene is one insertion, one behind the end is one addition", () => {
  const one = make([48, 48]);
  const [insert] = editsBetween(one, scripts.insertAfter(one, 0, scripts.scene("x", 24)), 24).edits;
  assert.deepEqual([insert.op, insert.at, insert.frames, insert.prompt], ["insert", 48, 24, "x"]);
  const [add] = editsBetween(one, scripts.insertAfter(one, 1, scripts.scene("x", 24)), 96).edits;
  assert.deepEqual([add.op, add.at, add.frames], ["add", null, 24]);
});

test("what has begun is refused, and a shorter video is", () => {
  const one = make([48, 48]);
  assert.equal(editsBetween(one, scripts.change(one, 0, { prompt: "x" }), 24).refused.reason, "begun");
  assert.equal(editsBetween(one, scripts.moveBorder(one, 1, 80), 24).refused.reason, "shorter");
  assert.equal(editsBetween(one, scripts.moveBorder(one, 0, 60), 24).refused, null);
});

test("any change of what has not begun comes out of its edits", () => {
  let seed = 7;
  const random = (n) => (seed = (seed * 48271) % 2147483647) % n;
  for (let round = 0; round < 400; round += 1) {
    let before = make(Array.from({ length: 1 + random(5) }, () => 12 + random(60)));
    let after = before;
    for (let k = 0; k < 1 + random(3); k += 1) {
      const i = random(after.scenes.length);
      after = [
        () => scripts.change(after, i, { prompt: "xyz"[random(3)] }),
        () => scripts.moveBorder(after, i, scripts.starts(after)[i] + 12 + random(90), 1),
        () => scripts.duplicate(after, i),
        () => scripts.remove(after, i, true),
        () => scripts.reorder(after, i, random(after.scenes.length)),
        () => scripts.change(after, i, { cut: [false, true, "anchor", "resample"][random(4)] }),
        () => scripts.insertAfter(after, i, scripts.scene("n", 1 + random(40), true)),
      ][random(7)]();
    }
    const { edits, refused } = editsBetween(before, after, 0);
    if (refused) {
      assert.equal(refused.reason, "shorter");
      continue;
    }
    const made = edits.reduce(edited, before);
    assert.deepEqual(rows(made), rows(after), `round ${round}: ${JSON.stringify(edits)}`);
  }
});

test("four states, and the endless last scene is never made", () => {
  const states = (made, earliest, running, script = make([48, 48, 48, 48])) => sceneStates(script, made, earliest, running).map((one) => one.state);
  assert.deepEqual(states(60, 120, true), ["made", "making", "fixed", "free"]);
  assert.deepEqual(states(48, 48, false), ["made", "free", "free", "free"]);
  assert.deepEqual(states(96, 96, true, make([48], { endless: true })), ["making"]);
});

test("the rate of making and what is left follow from its marks", () => {
  assert.deepEqual(pace([[0, 0], [2000, 48]], 48, 96), { fps: 24, left: 2 });
  assert.deepEqual(pace([[0, 0], [2000, 48]], 48, null), { fps: 24, left: null });
  assert.deepEqual(pace([], 0, 96), { fps: null, left: null });
});

test("undo takes typing back as one step, and redo brings it again", () => {
  let history = noted(noted(noted(emptyHistory(), 1, "type"), 2, "type"), 3);
  const back = undone(history, 4);
  assert.equal(back.value, 3);
  const first = undone(back.history, 3);
  assert.equal(first.value, 1);
  assert.equal(undone(first.history, 1), null);
  assert.equal(redone(first.history, 1).value, 3);
});
