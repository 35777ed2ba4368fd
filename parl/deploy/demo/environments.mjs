// Twins of PARL's environments. Each is
//   {rate, reset(random), observe(state), step(state, action), draw(canvas, state)}:
// pure functions of plain states. `rate` is the steps that a second shows, `random()` gives numbers
// in [0, 1), `observe` gives arrays by the names of the policy's inputs, `action` is the policy's
// own: choices, or numbers in [-1, 1]. `step` gives {state, reward, terminated, truncated}, with a
// reward for each agent. An environment that can be pushed has push(state, direction).

const COLORS = ["#2a6fbb", "#e07b39", "#3a9a5b", "#c2455c", "#7b5ea7"];
const INK = "#222222", PALE = "#c8ccd0";
const f32 = (numbers) => Float32Array.from(numbers);
const clip = (x, low, high) => Math.max(low, Math.min(high, x));
const wrap = (angle) => angle - 2 * Math.PI * Math.round(angle / (2 * Math.PI));
const uniform = (random, reach) => f32(reach.map((high) => high * (2 * random() - 1)));

function cartPole({ maxSteps = 500, masked = false }) {
  const gravity = 9.8, poleMass = 0.1, totalMass = 1.1, half = 0.5, moment = poleMass * half;
  const timeStep = 0.02, xLimit = 2.4, angleLimit = (12 * 2 * Math.PI) / 360;
  return {
    rate: 50,
    reset: (random) => ({ physics: uniform(random, [0.05, 0.05, 0.05, 0.05]), time: 0 }),
    observe: ({ physics: [x, xDot, angle, angleDot] }) => ({
      obs: masked ? [x, angle] : [x, xDot, angle, angleDot],
    }),
    step({ physics: [x, xDot, angle, angleDot], time }, [action]) {
      const cos = Math.cos(angle), sin = Math.sin(angle), force = action === 1 ? 10 : -10;
      const push = (force + moment * angleDot ** 2 * sin) / totalMass;
      const angleAcc = (gravity * sin - cos * push)
        / (half * (4 / 3 - (poleMass * cos ** 2) / totalMass));
      const xAcc = push - (moment * angleAcc * cos) / totalMass;
      const physics = f32([
        x + timeStep * xDot, xDot + timeStep * xAcc,
        angle + timeStep * angleDot, angleDot + timeStep * angleAcc,
      ]);
      return {
        state: { physics, time: time + 1 },
        reward: [1],
        terminated: Math.abs(physics[0]) > xLimit || Math.abs(physics[2]) > angleLimit,
        truncated: time + 1 >= maxSteps,
      };
    },
    push: ({ physics: [x, xDot, angle, angleDot], time }, direction) => ({
      physics: f32([x, xDot, angle, angleDot + 0.6 * direction]), time,
    }),
    draw(canvas, { physics: [x, , angle] }) {
      canvas.world(-xLimit, xLimit);
      canvas.line([[-xLimit, 0], [xLimit, 0]], PALE, 0.03);
      canvas.polygon([[x - 0.4, -0.2], [x + 0.4, -0.2], [x + 0.4, 0.2], [x - 0.4, 0.2]], INK);
      const tip = [x + 4 * half * Math.sin(angle), 0.2 + 4 * half * Math.cos(angle)];
      canvas.line([[x, 0.2], tip], COLORS[1], 0.12);
    },
  };
}

function pendulum({ maxSteps = 200 }) {
  const gravity = 10, timeStep = 0.05, maxSpeed = 8, maxTorque = 2;
  return {
    rate: 20,
    reset: (random) => ({ physics: uniform(random, [Math.PI, 1]), time: 0 }),
    observe: ({ physics: [angle, speed] }) => ({ obs: [Math.cos(angle), Math.sin(angle), speed] }),
    step({ physics: [angle, before], time }, [action]) {
      const torque = maxTorque * clip(action, -1, 1);
      const cost = angle ** 2 + 0.1 * before ** 2 + 0.001 * torque ** 2;
      const pulled = ((3 * gravity) / 2) * Math.sin(angle) + 3 * torque;
      const speed = clip(before + pulled * timeStep, -maxSpeed, maxSpeed);
      return {
        state: { physics: f32([wrap(angle + speed * timeStep), speed]), time: time + 1 },
        reward: [-cost],
        terminated: false,
        truncated: time + 1 >= maxSteps,
      };
    },
    push: ({ physics: [angle, speed], time }, direction) => ({
      physics: f32([angle, clip(speed - 2 * direction, -maxSpeed, maxSpeed)]), time,
    }),
    draw(canvas, { physics: [angle] }) {
      canvas.world(-1.3, 1.3);
      canvas.line([[0, 0], [-Math.sin(angle), Math.cos(angle)]], COLORS[3], 0.16);
      canvas.disc([0, 0], 0.06, INK);
    },
  };
}

function acrobot({ maxSteps = 500 }) {
  const gravity = 9.8, center = 0.5, timeStep = 0.2;
  const maxSpeeds = [4 * Math.PI, 9 * Math.PI];

  function derivative([angle1, angle2, speed1, speed2], torque) {
    const cos2 = Math.cos(angle2), sin2 = Math.sin(angle2);
    const d1 = center ** 2 + (1 + center ** 2 + 2 * center * cos2) + 2;
    const d2 = center ** 2 + center * cos2 + 1;
    const phi2 = center * gravity * Math.sin(angle1 + angle2);
    const phi1 = -center * speed2 ** 2 * sin2 - 2 * center * speed2 * speed1 * sin2
      + (center + 1) * gravity * Math.sin(angle1) + phi2;
    const acc2 = (torque + (d2 / d1) * phi1 - center * speed1 ** 2 * sin2 - phi2)
      / (center ** 2 + 1 - d2 ** 2 / d1);
    return [speed1, speed2, -(d2 * acc2 + phi1) / d1, acc2];
  }

  function rungeKutta(physics, torque) {
    const along = (slope, by) => physics.map((x, i) => x + by * slope[i]);
    const k1 = derivative(physics, torque);
    const k2 = derivative(along(k1, timeStep / 2), torque);
    const k3 = derivative(along(k2, timeStep / 2), torque);
    const k4 = derivative(along(k3, timeStep), torque);
    return physics.map((x, i) => x + (timeStep / 6) * (k1[i] + 2 * k2[i] + 2 * k3[i] + k4[i]));
  }

  return {
    rate: 15,
    reset: (random) => ({ physics: uniform(random, [0.1, 0.1, 0.1, 0.1]), time: 0 }),
    observe: ({ physics: [angle1, angle2, speed1, speed2] }) => ({
      obs: [
        Math.cos(angle1), Math.sin(angle1), Math.cos(angle2), Math.sin(angle2), speed1, speed2,
      ],
    }),
    step({ physics, time }, [action]) {
      const [angle1, angle2, ...speeds] = rungeKutta([...physics], action - 1);
      const clipped = speeds.map((speed, i) => clip(speed, -maxSpeeds[i], maxSpeeds[i]));
      const after = f32([wrap(angle1), wrap(angle2), ...clipped]);
      const terminated = -Math.cos(after[0]) - Math.cos(after[1] + after[0]) > 1;
      return {
        state: { physics: after, time: time + 1 },
        reward: [terminated ? 0 : -1],
        terminated,
        truncated: time + 1 >= maxSteps,
      };
    },
    draw(canvas, { physics: [angle1, angle2] }) {
      const elbow = [Math.sin(angle1), -Math.cos(angle1)];
      const tip = [elbow[0] + Math.sin(angle1 + angle2), elbow[1] - Math.cos(angle1 + angle2)];
      canvas.world(-2.3, 2.3);
      canvas.line([[-2.3, 1], [2.3, 1]], PALE, 0.03);
      canvas.line([[0, 0], elbow], COLORS[0], 0.14);
      canvas.line([elbow, tip], COLORS[1], 0.14);
      for (const joint of [[0, 0], elbow]) canvas.disc(joint, 0.08, INK);
    },
  };
}

// States hold positions and velocities as [N, 2] in one row, and landmarks likewise.
function simpleSpread({ agents = 3, continuous = false, maxSteps = 25 }) {
  const radius = 0.15, timeStep = 0.1, damping = 0.25, contact = 100, margin = 1e-3;
  const sensitivity = 5, local = 0.5, moves = 5;
  const team = Array.from({ length: agents }, (_, i) => i);
  const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
  const offset = (from, i, to, j) => [to[2 * j] - from[2 * i], to[2 * j + 1] - from[2 * i + 1]];

  function direction(action, i) {
    if (continuous) {
      const pressed = (k) => (clip(action[i * moves + k], -1, 1) + 1) / 2;
      return [pressed(2) - pressed(1), pressed(4) - pressed(3)];
    }
    const is = (move) => Number(action[i] === move);
    return [is(2) - is(1), is(4) - is(3)];
  }

  function force(position, action, i) {
    const total = direction(action, i).map((x) => sensitivity * x);
    for (const j of team) {
      if (j === i) continue;
      const away = offset(position, j, position, i), distance = Math.hypot(...away);
      const depth = margin * softplus((2 * radius - distance) / margin);
      away.forEach((x, axis) => { total[axis] += ((contact * depth) / distance) * x; });
    }
    return total;
  }

  function rewards({ position, landmarks }) {
    const near = (l) => Math.min(...team.map((i) => Math.hypot(...offset(landmarks, l, position, i))));
    const missed = team.reduce((sum, l) => sum + near(l), 0);
    const touches = (i, j) => i !== j && Math.hypot(...offset(position, i, position, j)) < 2 * radius;
    return team.map((i) => -(1 - local) * missed - local * team.filter((j) => touches(i, j)).length);
  }

  function view({ position, velocity, landmarks }, i) {
    const others = team.filter((j) => j !== i);
    return [
      ...velocity.slice(2 * i, 2 * i + 2), ...position.slice(2 * i, 2 * i + 2),
      ...team.flatMap((l) => offset(position, i, landmarks, l)),
      ...others.flatMap((j) => offset(position, i, position, j)),
      ...others.flatMap(() => [0, 0]),
    ];
  }

  return {
    rate: 8,
    agents,
    reset(random) {
      const places = () => uniform(random, Array(2 * agents).fill(1));
      return {
        position: places(), velocity: new Float32Array(2 * agents), landmarks: places(), time: 0,
      };
    },
    observe(state) {
      const views = team.flatMap((i) => view(state, i));
      return {
        "obs.view": views, "obs.state": views, "obs.alive": Array(agents).fill(1),
        "obs.legal": Array(agents * moves).fill(1),
      };
    },
    step({ position, velocity, landmarks, time }, action) {
      const forces = team.flatMap((i) => force(position, action, i));
      const state = {
        position: position.map((x, k) => x + timeStep * velocity[k]),
        velocity: velocity.map((x, k) => (1 - damping) * x + timeStep * forces[k]),
        landmarks,
        time: time + 1,
      };
      return {
        state, reward: rewards(state), terminated: false, truncated: time + 1 >= maxSteps,
      };
    },
    draw(canvas, { position, landmarks }) {
      const reach = Math.max(1.4, ...position.map((x) => Math.abs(x) + radius));
      canvas.world(-reach, reach);
      const place = (places, i) => places.slice(2 * i, 2 * i + 2);
      for (const l of team) canvas.disc(place(landmarks, l), 0.05, INK);
      for (const i of team) canvas.disc(place(position, i), radius, COLORS[0]);
    },
  };
}

// States hold the stones of each player by cell, row-major from the top, and who is to move.
function boardGame({ rows, columns, line, falls }) {
  const cells = rows * columns, moves = falls ? columns : cells;
  const directions = [[0, 1], [1, 0], [1, 1], [1, -1]];

  function landing(taken, move) {
    if (!falls) return taken[move] ? -1 : move;
    for (let row = rows - 1; row >= 0; row--) {
      if (!taken[row * columns + move]) return row * columns + move;
    }
    return -1;
  }

  function wins(stones) {
    const holds = (row, column, [down, right]) => {
      const last = [row + down * (line - 1), column + right * (line - 1)];
      if (last[0] >= rows || last[1] < 0 || last[1] >= columns) return false;
      for (let k = 0; k < line; k++) {
        if (!stones[(row + down * k) * columns + column + right * k]) return false;
      }
      return true;
    };
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        if (directions.some((direction) => holds(row, column, direction))) return true;
      }
    }
    return false;
  }

  const takenOf = ({ stones: [first, second] }) => first.map((stone, cell) => stone | second[cell]);
  const legalOf = (state) => {
    const taken = takenOf(state);
    return Array.from({ length: moves }, (_, move) => Number(!taken[move]));
  };

  return {
    rate: 2,
    agents: 2,
    moves,
    legal: legalOf,
    reset: () => ({
      stones: [new Uint8Array(cells), new Uint8Array(cells)], player: 0, over: false,
    }),
    observe(state) {
      const { stones, player, over } = state;
      const views = [0, 1].flatMap((side) => Array.from(stones[0]).flatMap(
        (_, cell) => [stones[side][cell], stones[1 - side][cell]],
      ));
      const turn = [0, 1].map((side) => Number(side === player && !over));
      const free = legalOf(state), nothing = free.map((_, move) => Number(move === 0));
      return {
        "obs.view": views, "obs.turn": turn, "obs.alive": [1, 1],
        "obs.legal": turn.flatMap((mine) => (mine ? free : nothing)),
        "obs.state": [...views.slice(0, 2 * cells), ...turn],
      };
    },
    step(state, action) {
      const { player } = state, taken = takenOf(state);
      const cell = landing(taken, action[player]), foul = cell < 0;
      const stones = state.stones.map((own) => own.slice());
      if (!foul) stones[player][cell] = taken[cell] = 1;
      const won = wins(stones[player]), full = taken.every((stone) => stone);
      const over = won || foul || full, score = foul ? -1 : won ? 1 : 0;
      return {
        state: { stones, player: 1 - player, over },
        reward: player === 0 ? [score, 0 - score] : [0 - score, score],
        terminated: over,
        truncated: false,
      };
    },
    cellAt(canvas, x, y) {
      const side = Math.max(rows, columns), [column, row] = [x * side, y * side].map(Math.floor);
      const top = side - rows;
      if (column >= columns || row < top) return falls && column < columns ? column : -1;
      return falls ? column : (row - top) * columns + column;
    },
    draw(canvas, { stones }) {
      canvas.world(0, Math.max(rows, columns));
      for (let row = 0; row <= rows; row++) canvas.line([[0, row], [columns, row]], PALE, 0.03);
      for (let column = 0; column <= columns; column++) {
        canvas.line([[column, 0], [column, rows]], PALE, 0.03);
      }
      stones.forEach((own, side) => own.forEach((stone, cell) => {
        const row = Math.floor(cell / columns), column = cell % columns;
        if (stone) canvas.disc([column + 0.5, rows - row - 0.5], 0.4, COLORS[side]);
      }));
    },
  };
}

export const environments = { cartPole, pendulum, acrobot, simpleSpread, boardGame };
