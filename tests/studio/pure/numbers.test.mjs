// Times, sizes, the scale of the timeline, the buffer, J/K/L, words and files.
import assert from "node:assert/strict";
import { test } from "node:test";
import en from "../../../src/longtake/studio/static/words/en.js";
import zh from "../../../src/longtake/studio/static/words/zh.js";
import { comparable, fieldsOf } from "../../../src/longtake/studio/static/js/api/settings.js";
import { crop, emptyForm, fittedSize, formOf, requestOf } from "../../../src/longtake/studio/static/js/composer/form.js";
import { clock, duration, size } from "../../../src/longtake/studio/static/js/core/format.js";
import { preferred } from "../../../src/longtake/studio/static/js/core/words.js";
import { differing, matching } from "../../../src/longtake/studio/static/js/library/filter.js";
import { bufferedUntil, evictions, holds, overGap } from "../../../src/longtake/studio/static/js/player/buffer.js";
import { frameAt, middleOf, shuttle } from "../../../src/longtake/studio/static/js/player/shuttle.js";
import { toLines, toToml } from "../../../src/longtake/studio/static/js/timeline/files.js";
import * as scales from "../../../src/longtake/studio/static/js/timeline/scale.js";
import { scene, total } from "../../../src/longtake/studio/static/js/timeline/script.js";

test("times and sizes read as people write them", () => {
  assert.equal(clock(12.5), "0:12.50");
  assert.equal(clock(59.999), "1:00.00");
  assert.equal(clock(3723.5, 1), "1:02:03.5");
  assert.equal(clock(5, 0), "0:05");
  assert.deepEqual([0.42, 9.9, 12.2, 250, 7500].map(duration), ["0.4 s", "9.9 s", "12 s", "4 min 10 s", "2 h 5 min"]);
  assert.deepEqual([850_000, 24_000_000, 17_200_000_000, 999_999].map(size), ["850 kB", "24 MB", "17.2 GB", "1 MB"]);
});

test("every file of words has the same keys and the same places for values", () => {
  assert.deepEqual(Object.keys(zh).sort(), Object.keys(en).sort());
  const places = (text) => [...text.matchAll(/\{(\w+)\}/g)].map((found) => found[1]).sort();
  for (const key of Object.keys(en)) assert.deepEqual(places(zh[key]), places(en[key]), key);
  assert.equal(preferred(null, ["de-DE", "zh-CN"]), "zh");
  assert.equal(preferred("en", ["zh"]), "en");
  assert.equal(preferred(null, ["fr"]), "en");
});

test("the scale keeps the time under the pointer, follows the play head and never leaves the video", () => {
  const scale = { width: 1000, seconds: 100, zoom: 0, left: 0 };
  const near = scales.zoomed(scale, 3, 50);
  assert.equal(scales.perSecond(near), 80);
  assert.ok(Math.abs(scales.toX(near, 50) - scales.toX(scale, 50)) < 1e-9);
  assert.equal(scales.zoomed(scale, 1, 0).left, 0);
  const followed = scales.following(near, scales.toSecond(near, 900));
  assert.ok(Math.abs(scales.toX(followed, scales.toSecond(near, 900)) - 800) < 1e-6);
  assert.equal(scales.snapped(scale, 10.4, [10, 20]), 10);
  assert.equal(scales.snapped(scale, 13, [10, 20]), 13);
  for (const seconds of [0.5, 5, 61, 3600, 86400]) {
    const marks = scales.ticks({ ...scale, seconds }).labelled;
    assert.ok(marks.length >= 1 && marks.length <= 1000 / 60, `${seconds}: ${marks.length}`);
  }
});

test("the buffer keeps two minutes behind and drops the rest, as whole ranges", () => {
  assert.deepEqual(evictions([[0, 300]], 200), [[0, 80]]);
  assert.deepEqual(evictions([[100, 220]], 200), []);
  assert.deepEqual(evictions([[0, 10], [400, 500]], 200), [[0, 10], [400, 500]]);
  assert.equal(bufferedUntil([[0, 10], [10.05, 20]], 5), 20);
  assert.equal(holds([[0, 10]], 10), false);
  assert.equal(overGap([[0, 10], [10.1, 20]], 10.02), 10.1);
  assert.equal(overGap([[0, 10]], 5), null);
});

test("J, K and L double the speed, stop, and turn round", () => {
  assert.deepEqual(["l", "l", "l", "k", "j", "j", "l"].reduce((all, key) => [...all, shuttle(all.at(-1), key)], [0]).slice(1), [1, 2, 4, 0, -1, -2, 1]);
  for (let frame = 0; frame < 500; frame += 1) assert.equal(frameAt(middleOf(frame, 23.976), 23.976), frame);
});

test("a script is written as TOML and as lines", () => {
  const script = { fps: 24, endless: false, scenes: [scene('a "red" ball', 48), scene("rain\nfalls", 36, "anchor")] };
  assert.equal(toToml(script), '[[scene]]\nprompt = "a \\"red\\" ball"\nseconds = 2\n\n[[scene]]\nprompt = "rain\\nfalls"\nseconds = 1.5\ncut = "anchor"\n');
  assert.equal(toLines(script), 'a "red" ball\nrain falls\n');
  assert.ok(!toToml({ ...script, endless: true }).includes("1.5"));
});

test("the form asks for what it shows, and is filled from what a video carries", () => {
  const model = { size: [544, 960], multiple: [16, 16] };
  const script = { fps: 24, endless: false, scenes: [scene("a", 48), scene("b", 24, true)] };
  const form = { ...emptyForm(), model: "m", steps: "20", loras: [{ name: "ink", strength: 0.5 }], strategy: "relay" };
  const body = requestOf(form, script, model);
  assert.deepEqual(body.scenes, [{ prompt: "a", seconds: 2 }, { prompt: "b", seconds: 1, cut: true }]);
  assert.deepEqual([body.num_frames, body.num_inference_steps, body.loras], [72, 20, [["ink", 0.5]]]);
  const carried = {
    model: { name: "m", sha256: "0" }, strategy: "relay", strategy_options: { overlap: 5, window: null },
    sampling: { seed: 9, num_inference_steps: 20, solver: "unipc" },
    script: { scenes: [{ prompt: "a", lora: [["ink", 0.5]] }, { prompt: "b", cut: true }], starts: [0, 48], frames: 72 },
  };
  const filled = formOf(fieldsOf(carried), 24, 72);
  assert.deepEqual(filled.script.scenes.map((one) => [one.prompt, one.frames, one.cut]), [["a", 48, false], ["b", 24, true]]);
  const again = requestOf(filled.form, filled.script, model);
  assert.deepEqual([again.seed, again.overlap, again.solver, again.num_frames], [9, 5, "unipc", 72]);
  assert.deepEqual(again.loras, [["ink", 0.5]]);
});

test("a request without lengths shares what is left, and keeps the whole", () => {
  const { script } = formOf({ model: "m", scenes: [{ prompt: "a", seconds: 1 }, { prompt: "b" }] }, 24, 96);
  assert.deepEqual(script.scenes.map((one) => one.frames), [24, 72]);
  assert.equal(total(formOf({ model: "m", prompt: "a" }, 24, 97).script), 97);
  assert.equal(formOf({ model: "m", prompt: "a" }, 24, null).script.endless, true);
});

test("an image decides the aspect, and the crop is its middle", () => {
  const fit = fittedSize(9 / 16, { size: [544, 960], multiple: [16, 16] });
  assert.ok(fit.width % 16 === 0 && fit.height % 16 === 0 && fit.width < fit.height);
  assert.deepEqual(crop({ width: 200, height: 100 }, 1), [50, 0, 100, 100]);
  assert.deepEqual(crop({ width: 100, height: 200 }, 2), [0, 75, 100, 50]);
});

test("search finds every word, and a comparison names what differs", () => {
  const videos = [{ prompt: "a red ball", model: "pocket", created: 1, made: 10, fps: 1 }, { prompt: "a blue star", model: "pocket", created: 2, made: 5, fps: 1, starred: true }];
  const find = (query) => matching(videos, { text: "", order: "newest", starred: false, ...query }).map((one) => one.created);
  assert.deepEqual(find({}), [2, 1]);
  assert.deepEqual(find({ text: "RED pocket" }), [1]);
  assert.deepEqual(find({ order: "longest" }), [1, 2]);
  assert.deepEqual(find({ starred: true }), [2]);
  const run = (seed, ...prompts) => comparable({ model: "m", sampling: { seed }, script: { scenes: prompts.map((prompt) => ({ prompt })), starts: prompts.map((_, i) => i), frames: 9 } });
  assert.deepEqual(differing(run(undefined, "a"), run(3, "a", "b")), [["prompt", "a", "a\nb"], ["seed", "0", "3"], ["borders", "–", "go on, go on"]]);
});
