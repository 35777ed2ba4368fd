// What the page does. `told` is what the page was made with, `load` gives the policy.

import { environments } from "./environments.mjs";
import { load } from "../policy.mjs";

const told = JSON.parse(document.getElementById("told").textContent);
const element = (id) => document.getElementById(id);

// Shapes in coordinates of the world, y upwards.
class Canvas {
  constructor(canvas) { this.canvas = canvas; this.pen = canvas.getContext("2d"); }

  clear() { this.pen.clearRect(0, 0, this.canvas.width, this.canvas.height); }

  world(low, high) { this.low = low; this.scale = this.canvas.width / (high - low); }

  place([x, y]) {
    return [(x - this.low) * this.scale, this.canvas.height - (y - this.low) * this.scale];
  }

  path(points) {
    this.pen.beginPath();
    for (const point of points) this.pen.lineTo(...this.place(point));
  }

  line(points, color, width) {
    this.path(points);
    this.pen.strokeStyle = color;
    this.pen.lineWidth = Math.max(1, width * this.scale);
    this.pen.lineJoin = "round";
    this.pen.stroke();
  }

  polygon(points, color) { this.path(points); this.pen.fillStyle = color; this.pen.fill(); }

  disc(centre, radius, color) {
    this.pen.beginPath();
    this.pen.arc(...this.place(centre), radius * this.scale, 0, 2 * Math.PI);
    this.pen.fillStyle = color;
    this.pen.fill();
  }

  image(picture) {
    const { width, height } = this.canvas, { naturalWidth: w, naturalHeight: h } = picture;
    const scale = Math.min(width / w, height / h);
    this.pen.drawImage(
      picture, (width - w * scale) / 2, (height - h * scale) / 2, w * scale, h * scale,
    );
  }
}

// Recorded episodes as an environment that needs no actions: one picture in every `every` steps.
function replay({ rate, every, episodes }) {
  const decoded = episodes.map(({ frames }) => frames.map((source) => {
    const picture = new Image();
    picture.src = source;
    return picture;
  }));
  let next = 0;
  return {
    rate,
    reset: () => ({ episode: next++ % episodes.length, time: 0 }),
    step({ episode, time }) {
      const { rewards, terminated } = episodes[episode], over = time + 1 >= rewards.length;
      return {
        state: { episode, time: time + 1 }, reward: [rewards[time]],
        terminated: over && terminated, truncated: over && !terminated,
      };
    },
    draw(canvas, { episode, time }) {
      const pictures = decoded[episode], last = time >= episodes[episode].rewards.length;
      const picture = last ? pictures.at(-1) : pictures[Math.floor(time / every)];
      if (picture.complete) canvas.image(picture);
      else picture.onload = show;
    },
  };
}

const policy = told.replay ? null : load();
const environment = told.replay
  ? replay(told.replay) : environments[told.environment](told.settings);
const canvas = new Canvas(element("canvas"));
const isGame = Boolean(environment.legal);
const returns = [];
let state, memory, totals, steps, over, seed, playing = true, waited = 0, before = null;

function reset() {
  state = environment.reset(Math.random);
  memory = policy ? policy.start() : {};
  [totals, steps, over, waited] = [[0], 0, false, 0];
  seed = Math.floor(Math.random() * 2 ** 32);
  if (you() >= 0) playing = true;
  show();
}

const you = () => (isGame ? Number(element("side").value) : -1);
const total = () => (isGame ? totals[Math.max(you(), 0)] : totals.reduce((a, b) => a + b, 0));

// The policy's action; its memory goes on in games, too, while somebody else is to move.
function decided() {
  if (!policy) return [];
  const drawn = element("drawn").checked;
  const outputs = policy.act(environment.observe(state), memory, drawn ? seed : null, steps);
  memory = Object.fromEntries(Object.keys(memory).map((name) => [name, outputs[name]]));
  return Array.from(outputs.action);
}

function advance(move = null) {
  const action = decided();
  if (move !== null) action[you()] = move;
  const { state: after, reward, terminated, truncated } = environment.step(state, action);
  totals = reward.map((x, i) => (totals[i] ?? 0) + x);
  [state, steps, over] = [after, steps + 1, terminated || truncated];
  if (over) { returns.push(total()); waited = 0; }
}

const words = (x) => (Number.isInteger(x) ? String(x) : x.toFixed(2));

function status() {
  if (!isGame || you() < 0) return words(total());
  if (over) return total() > 0 ? "you won" : total() < 0 ? "you lost" : "a draw";
  return state.player === you() ? "your move" : "...";
}

function show() {
  canvas.clear();
  environment.draw(canvas, state);
  element("return").textContent = status();
  element("step").textContent = steps;
  element("start").textContent = playing ? "Pause" : "Start";
  const mean = returns.reduce((a, b) => a + b, 0) / returns.length;
  if (returns.length) {
    element("episodes").textContent = `${returns.length}, mean return ${words(mean)}`;
  }
}

// Takes the steps that are due; an episode that is over stays for a second.
function tick(now) {
  const seconds = Math.min(0.25, (now - (before ?? now)) / 1000);
  before = now;
  requestAnimationFrame(tick);
  const mine = isGame && !over && state.player === you();
  if (!playing || mine) return;
  waited += seconds * Number(element("speed").value);
  if (over && you() < 0 && waited > 1) reset();
  const first = waited;
  while (!over && waited >= 1 / environment.rate && !(isGame && state.player === you())) {
    waited -= 1 / environment.rate;
    advance();
  }
  if (first !== waited) show();
}

function measure() {
  const inputs = environment.observe(state), count = 200;
  for (let i = 0; i < count; i++) policy.act(inputs, memory);
  const begin = performance.now();
  for (let i = 0; i < count; i++) policy.act(inputs, memory);
  const microseconds = (1000 * (performance.now() - begin)) / count;
  element("act").textContent = `${microseconds.toFixed(1)} microseconds, in this browser`;
}

element("title").textContent = document.title = told.title;
element("subtitle").textContent = told.subtitle;
element("origin").textContent = told.origin;
element("pushes").hidden = !environment.push;
element("sides").hidden = !isGame;
element("draws").hidden = !told.samples;
element("return-name").textContent = isGame ? "result" : "return";
element("start").onclick = () => { playing = !playing; if (playing && over) reset(); show(); };
element("reset").onclick = reset;
element("side").onchange = reset;
for (const [id, direction] of [["left", -1], ["right", 1]]) {
  element(id).onclick = () => { if (!over) { state = environment.push(state, direction); show(); } };
}
document.onkeydown = (event) => {
  const id = { ArrowLeft: "left", ArrowRight: "right" }[event.key];
  if (environment.push && id) element(id).click();
};
element("canvas").onclick = (event) => {
  if (!isGame || over || state.player !== you()) return;
  const area = element("canvas").getBoundingClientRect();
  const move = environment.cellAt(
    (event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height,
  );
  if (environment.legal(state)[move]) { waited = 0; advance(move); show(); }
};
reset();
if (policy) measure();
else for (const id of ["act", "act-name"]) element(id).hidden = true;
requestAnimationFrame(tick);
